"""What things are called in BigQuery: datasets, tables, jobs.

Not here: making them (``tables``), running jobs (``jobs``).
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import re
import secrets
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from mdp.config.sections import BigQuerySettings
from mdp.domain.timeframe import Timeframe
from mdp.errors import ConfigError
from mdp.ports import DVOL, OHLCV, Slice, Table

LIVE_TABLES = frozenset({OHLCV.name, DVOL.name})
"""Tables to which single live rows are written."""

NOBODY = "mdp"
"""Writer of what no run writes: two of its additions are never taken for one."""

REPLACED = "live_rows_replaced"
"""Name of the table that says which live rows ceased to count because their slice was replaced."""


@dataclass(frozen=True, slots=True)
class Datasets:
    """The datasets of a store.

    Attributes:
        project: That they belong to.
        main: Name of the dataset of the tables.
        staging: Of what is being written.
        snapshots: Of what snapshots hold.
        location: Region of all.
    """

    project: str
    main: str
    staging: str
    snapshots: str
    location: str

    @classmethod
    def of(cls, settings: BigQuerySettings) -> Datasets:
        """Return the datasets that the settings name.

        Raises:
            ConfigError: they name no project.
        """
        if not settings.project:
            expected = "the Google Cloud project of the central store"
            raise ConfigError("MDP_BIGQUERY__PROJECT", got=settings.project, expected=expected)
        main = settings.dataset
        staging = settings.staging
        if staging == main:
            expected = "another dataset than MDP_BIGQUERY__DATASET: what it holds expires after a day"
            raise ConfigError("MDP_BIGQUERY__STAGING_DATASET", got=staging, expected=expected)
        return cls(settings.project, main, staging, f"{main}_snapshots", settings.location)

    def table(self, name: str) -> str:
        """Return the full name of one of the tables."""
        return f"{self.project}.{self.main}.{name}"

    def staged(self, name: str) -> str:
        """Return the full name of a table of the staging dataset."""
        return f"{self.project}.{self.staging}.{name}"

    def held(self, name: str) -> str:
        """Return the full name of a table of the snapshots."""
        return f"{self.project}.{self.snapshots}.{name}"


def physical_name(table: Table, timeframe: str) -> str:
    """Return the name of the table in which rows of one timeframe are kept: candles have one for each."""
    return f"{table.name}_{timeframe}" if table.name == OHLCV.name else table.name


def physical_names(table: Table, timeframes: Iterable[str] | None = None) -> list[str]:
    """Return the tables in which rows of some timeframes are kept, all of them when None; ascending by timeframe."""
    lengths = sorted({str(timeframe) for timeframe in (Timeframe if timeframes is None else timeframes)})
    return list(dict.fromkeys(physical_name(table, length) for length in lengths))


def live_name(table: Table) -> str:
    """Return the name of the table that holds the live rows of one of ours."""
    return f"{table.name}_live"


def view_name(table: Table) -> str:
    """Return the name of the view by which people read a table."""
    return table.name if table.name == OHLCV.name else f"{table.name}_view"


class JobNames:
    """Names for jobs: the same for every try of one step of one write, another for anything else. Safe for threads.

    A job that is asked for twice under one name is done once; that is how an answer that got lost does no harm.

    Args:
        writer: Who writes, such as a run and its attempt; letters, digits, ``_`` and ``-``.
    """

    def __init__(self, writer: str) -> None:
        self._run = re.sub("[^A-Za-z0-9_-]", "_", writer)[:100]
        # Several processes may work for one run.
        self._writer = f"{self._run}-{secrets.token_hex(6)}"
        self._count = itertools.count()
        self._used: set[tuple[str, int]] = set()
        self._lock = threading.Lock()

    def begin(self, table: str, part: Slice | None = None) -> str:
        """Return the name of one write, to which the names of its steps are added."""
        about = f"-{hashlib.sha256(str(part).encode()).hexdigest()[:12]}" if part is not None else ""
        return f"mdp-{self._writer}-{table}{about}-{next(self._count)}"

    @contextlib.contextmanager
    def adding(self, target: str, rows: bytes) -> Iterator[str]:
        """Name the addition of some rows inside the context.

        When the context is left by an error, the same rows of the same run have the same name again, in this process
        and in any other; what was added and is added again has another one. What no run writes is named but once.

        Args:
            target: Full name of the table, or of what several have in common.
            rows: The rows as bytes, in which equal rows are equal.
        """
        if self._run == NOBODY:
            yield self.begin(target.rpartition(".")[2])
            return
        digest = hashlib.sha256(target.encode() + b"\0" + rows).hexdigest()[:32]
        with self._lock:
            number = next(number for number in itertools.count() if (digest, number) not in self._used)
            self._used.add((digest, number))
        try:
            yield f"mdp-{self._run}-{target.rpartition('.')[2]}-{digest}-{number}"
        except BaseException:
            with self._lock:
                self._used.discard((digest, number))
            raise
