"""The source of each exchange, put together as the settings say: archive before REST, within the shared budget.

Not here: the parts (``exchanges``, ``bus``, ``storage.spool``), what is done with candles (``pipeline``).
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache

from mdp.bus import Budgets, open_budgets
from mdp.config.services import exchange_settings, host_of
from mdp.config.settings import Settings
from mdp.domain.market import Exchange
from mdp.domain.quota import Priority
from mdp.ports import CandleSource, Clock, OpenSource, PageSpool
from mdp.storage.spool import FileSpool


def utc_now() -> datetime:
    """The clock of production: the machine's."""
    return datetime.now(UTC)


@cache
def _budgets_of_process(settings: str) -> Budgets:
    return open_budgets(Settings.model_validate_json(settings))


def process_budgets(settings: Settings) -> Budgets:
    """Return the budgets of this process: opened when first asked for, shared by all its runs.

    They close themselves at the end of the interpreter.
    """
    return _budgets_of_process(settings.model_dump_json())


def open_spool(settings: Settings, clock: Clock) -> FileSpool:
    """Return the spool of these settings; pages are kept apart by the address that answered them."""
    return FileSpool(settings.spool_dir, clock, lambda exchange: str(exchange_settings(settings, exchange).rest_url))


def source_opener(settings: Settings, clock: Clock, spool: PageSpool | None = None) -> OpenSource:
    """Return what opens the source of an exchange where the settings say it is: its bulk files first, where it has any.

    All its requests take leave from the budget that the processes of this machine share.

    Args:
        settings: Where the exchanges are, and how hard they may be asked.
        clock: Our time.
        spool: Keeps answered pages for who says when they are stored; None for who does not store them.
    """

    def open_(exchange: Exchange) -> CandleSource:
        # when needed: most processes that load the definitions ask nobody
        from mdp.exchanges import open_source, quotas_of
        from mdp.exchanges.archive_deferred import DeferredSource
        from mdp.exchanges.archive_first import with_archive

        own = exchange_settings(settings, exchange)
        budget = process_budgets(settings).of(
            exchange,
            quotas_of(exchange),
            host=host_of(own),
            rate_share=own.rate_share,
            symbol_shares=own.symbol_shares,
            timeout_s=own.timeout_s,
            priority=Priority.BACKFILL,
        )
        rest = DeferredSource(
            exchange, lambda: open_source(exchange, own, clock=clock, budget=budget, spool=spool), budget
        )
        return with_archive(rest, exchange, own, clock=clock, budget=budget)

    return open_
