"""The source of each exchange, put together as the settings say: archive before REST, within the shared budget.

Also what live trading asks: REST alone, before all backfills, and the market's clock. Not here: the parts
(``exchanges``, ``bus``, ``storage.spool``), what is done with candles (``pipeline``), the clock itself
(``exchanges.simulated_clock``).
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache

from mdp.bus import Budgets, open_budgets
from mdp.bus.bandwidth import open_bandwidth
from mdp.config.exchange_sections import ExchangeSettings
from mdp.config.services import exchange_settings, host_of
from mdp.config.settings import Settings
from mdp.config.worlds import claim_data_dir
from mdp.domain.market import Exchange, Market
from mdp.domain.quota import Priority
from mdp.ports import Budget, CandleSource, Clock, MarketClock, OpenSource, PageSpool
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

    All its requests take leave from the budget that the processes of this machine share, and what they bring counts as
    bandwidth of the backfills, where that is limited.

    Args:
        settings: Where the exchanges are, and how hard they may be asked.
        clock: Our time.
        spool: Keeps answered pages for who says when they are stored; None for who does not store them.
    """

    def open_(exchange: Exchange) -> CandleSource:
        # when needed: most processes that load the definitions ask nobody
        from mdp.exchanges import open_source
        from mdp.exchanges.archive_deferred import DeferredSource
        from mdp.exchanges.archive_first import with_archive

        claim_data_dir(settings)
        own = exchange_settings(settings, exchange)
        budget = _budget(settings, exchange, own, Priority.BACKFILL)
        bandwidth = open_bandwidth(settings, exchange)
        rest = DeferredSource(
            exchange,
            lambda: open_source(exchange, own, clock=clock, budget=budget, spool=spool, bandwidth=bandwidth),
            budget,
        )
        return with_archive(rest, exchange, own, clock=clock, budget=budget, bandwidth=bandwidth)

    return open_


LIVE_ATTEMPTS, LIVE_TIMEOUT_S, LIVE_PROBE_S = 2, 5.0, 2.0
"""A live question is worth little later: it is asked again with what has become due meanwhile."""


def live_source(settings: Settings, exchange: Exchange, clock: Clock) -> CandleSource:
    """Return the REST source of an exchange for live trading; use it inside ``async with``.

    Its requests go before those of any backfill, and no bandwidth holds them back. No archive is asked, no page is
    kept, and what was refused may be asked again: the feed itself waits, ever longer.

    Args:
        settings: Where the exchange is, and how hard it may be asked.
        exchange: Which one.
        clock: The market's time.

    Raises:
        ConfigError: nobody knows where the exchange is.
    """
    from mdp.exchanges import open_source

    claim_data_dir(settings)
    own = exchange_settings(settings, exchange)
    own = own.model_copy(
        update={
            "attempts": min(own.attempts, LIVE_ATTEMPTS),
            "timeout_s": min(own.timeout_s, LIVE_TIMEOUT_S),
            "probe_after_s": min(own.probe_after_s, LIVE_PROBE_S),
        }
    )
    budget = _budget(settings, exchange, own, Priority.LIVE)
    return open_source(exchange, own, clock=clock, budget=budget, refusals_last_s=0.0)


def _budget(settings: Settings, exchange: Exchange, own: ExchangeSettings, priority: Priority) -> Budget:
    from mdp.exchanges import quotas_of

    return process_budgets(settings).of(
        exchange,
        quotas_of(exchange),
        host=host_of(own),
        rate_share=own.rate_share,
        symbol_shares=own.symbol_shares,
        timeout_s=own.timeout_s,
        priority=priority,
    )


def market_clock(settings: Settings, exchange: Exchange | None = None) -> MarketClock:
    """Return the time in which candles open and close: the simulator's where exchanges are simulated, else ours.

    Args:
        settings: Where the exchanges are.
        exchange: Whose simulator; None: that of the first market of the settings.

    Raises:
        ExchangeUnavailable: the simulator does not answer.
        ConfigError: nobody knows where the exchange is.
    """
    from mdp.exchanges.simulated_clock import MachineClock, read_simulated_clock

    if not settings.simulated:
        return MachineClock()
    asked = exchange or Market.parse(settings.markets[0]).exchange
    return read_simulated_clock(asked, str(exchange_settings(settings, asked).rest_url))
