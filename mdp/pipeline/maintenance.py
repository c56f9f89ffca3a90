"""Looking after the tables: old evidence is dropped, small files are joined, what nobody can read any more is removed.

Not here: how a store does any of it (``storage``), when it is done (``defs.maintenance``, ``mdp maintain``).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import TypeVar

from mdp.config.sections import MaintenanceSettings
from mdp.domain.interval import Interval
from mdp.domain.market import Market
from mdp.domain.timeframe import EPOCH, Timeframe
from mdp.errors import MdpError, StorageError
from mdp.ports import TABLES, CandleStore, Compaction, DiskUse, Slice, Table, Vacuum

AGED_BY: Mapping[str, str] = {"failed_fetches": "failed_at", "rejected_ohlcv": "fetched_at"}
"""Tables of which old rows may be dropped, and the column that says how old a row is."""

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Trouble:
    """One step that failed: which, why, and whether the same step may succeed a little later."""

    step: str
    message: str
    retryable: bool


@dataclass(frozen=True, slots=True)
class Upkeep:
    """What looking after one table came to.

    Attributes:
        table: Its name.
        before: The room it took; None where that could not be told.
        after: The room it takes.
        pruned: Rows dropped because they were too old; of a dry run, those that would be.
        compaction: What joining small files came to; nothing in a dry run.
        vacuum: What was removed; of a dry run, what would be.
        troubles: Steps that failed; the others were done.
    """

    table: str
    before: DiskUse | None = None
    after: DiskUse | None = None
    pruned: int = 0
    compaction: Compaction = field(default_factory=Compaction)
    vacuum: Vacuum = field(default_factory=Vacuum)
    troubles: tuple[Trouble, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done.

    Attributes:
        settings: How long things are kept.
        now: From when.
        markets: Of which rows are counted in a dry run.
        is_dry: Whether everything stays as it is, and is only counted.
    """

    settings: MaintenanceSettings
    now: datetime
    markets: tuple[Market, ...]
    is_dry: bool = False


def maintain(store: CandleStore, plan: Plan, tables: Sequence[Table] = TABLES) -> Iterator[Upkeep]:
    """Look after tables one by one; what fails at one stops neither its other steps nor the other tables.

    Safe beside readers and writers; what a snapshot holds stays.

    Args:
        store: Where they are.
        plan: What is to be done.
        tables: Which.

    Yields:
        Each table as it is done. Ask :func:`require_maintained` at the end.
    """
    for table in tables:
        yield _maintain_one(store, plan, table)


def _maintain_one(store: CandleStore, plan: Plan, table: Table) -> Upkeep:
    troubles: list[Trouble] = []

    def attempt(step: str, work: Callable[[], Result], otherwise: Result) -> Result:
        try:
            return work()
        except (MdpError, OSError) as error:
            # what the system refuses, such as a full disk, is no better a second later: a person must act
            troubles.append(Trouble(step, str(error), retryable=getattr(error, "retryable", False)))
            return otherwise

    before = attempt("disk use", partial(store.disk_use, table), None)
    pruned = attempt("prune", partial(_prune, store, plan, table), 0)
    joined = Compaction() if plan.is_dry else attempt("compact", partial(store.compact, table), Compaction())
    keep = timedelta(hours=plan.settings.retention_hours)
    vacuum = attempt("vacuum", lambda: store.vacuum(table, keep, dry_run=plan.is_dry), Vacuum())
    after = before if plan.is_dry else attempt("disk use", partial(store.disk_use, table), None)
    return Upkeep(table.name, before, after, pruned, joined, vacuum, tuple(troubles))


def _prune(store: CandleStore, plan: Plan, table: Table) -> int:
    before = plan.settings.kept_since(table.name, plan.now)
    if before is None:
        return 0
    column = AGED_BY[table.name]
    return _older(store, plan.markets, table, before) if plan.is_dry else store.prune(table, column, before)


def _older(store: CandleStore, markets: Collection[Market], table: Table, before: datetime) -> int:
    column, ever = AGED_BY[table.name], Interval(EPOCH, before)
    parts = (Slice(market, tuple(Timeframe), ever) for market in markets)
    return sum(int((store.read(table, part, columns=[column])[column] < before).sum()) for part in parts)


def require_maintained(done: Sequence[Upkeep]) -> None:
    """Say at the end what could not be done.

    Raises:
        StorageError: names each table and step that failed, and why; ``.retryable`` where each may succeed later.
    """
    troubles = [(one.table, trouble) for one in done for trouble in one.troubles]
    if troubles:
        listed = "; ".join(f"{table}: {trouble.step}: {trouble.message}" for table, trouble in troubles)
        error = StorageError(f"not looked after: {listed}; the rest was done")
        error.retryable = all(trouble.retryable for _, trouble in troubles)
        raise error


def total_use(uses: Collection[DiskUse | None]) -> DiskUse:
    """Add up the room of tables, those left out of which it could not be told."""
    known = [use for use in uses if use is not None]
    return DiskUse(
        rows=sum(use.rows for use in known),
        files=sum(use.files for use in known),
        size_bytes=sum(use.size_bytes for use in known),
        old_bytes=sum(use.old_bytes for use in known),
    )
