"""The job that heals: what is wrong with what is stored is found, made whole and proved, as one run.

Not here: what is wrong and how it is healed (``pipeline.healing``), what people type (``cli.heal``).
"""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import dagster as dg
from pydantic import Field

from mdp.config.reference import Reference
from mdp.config.settings import Settings
from mdp.defs.failures import as_failure
from mdp.defs.metadata import day_metadata, records_table, tallies_metadata
from mdp.defs.partitions import key_of
from mdp.defs.queue import PLACE_TAG, WORK
from mdp.defs.run_workers import watched_in_process_executor
from mdp.domain.interval import Interval, format_time
from mdp.domain.market import Market
from mdp.domain.timeframe import Timeframe
from mdp.errors import InputError
from mdp.pipeline.batches import keep
from mdp.pipeline.collect import Collecting
from mdp.pipeline.healing.ailments import Ailment
from mdp.pipeline.healing.prognosis import Healed, Healing
from mdp.pipeline.healing.telling import healed_json
from mdp.pipeline.healing.treatment import Means, Treated
from mdp.ports import REJECTED_OHLCV, CandleStore, Clock, OpenSource
from mdp.reading import FIRST_DAY, parse_days, parse_markets

REPORT = "report"
"""What the run came to, as JSON, in the metadata of its step."""

_LISTED = 500
"""Rows that a table in the metadata has at most; the report has all of them."""


class HealConfig(dg.Config):
    """What is healed.

    Attributes:
        markets: Such as ``binance:BTC-USDT``; empty: all of this environment.
        start: First day that should be stored, included: ``2024-12-25``. With ``end`` or not at all; then each market
            is healed on the days of which anything is known.
        end: Day after the last.
        last_days: Without ``start``: the last days that are over, so many, all of which should be stored.
    """

    markets: list[str] = Field(default=[])
    start: str = ""
    end: str = ""
    last_days: int = 0


@dg.op(out=dg.Out(dg.Nothing))
def heal(
    context: dg.OpExecutionContext,
    config: HealConfig,
    store: dg.ResourceParam[CandleStore],
    sources: dg.ResourceParam[OpenSource],
    native_sources: dg.ResourceParam[OpenSource],
    reference: dg.ResourceParam[Reference],
    clock: dg.ResourceParam[Clock],
    collecting: dg.ResourceParam[Collecting],
    settings: dg.ResourceParam[Settings],
) -> Iterator[Any]:
    """Find what is wrong, heal it, report each partition when it is durable, and compare before with after."""
    means = Means(
        store, sources, native_sources, reference, clock, collecting, settings.gaps.apart, settings.gaps.ask_again,
        Timeframe(settings.dvol.resolution), settings.dvol.max_age_minutes, context.run.run_id,
        settings.maintenance.kept_since(REJECTED_OHLCV.name, clock()),
    )  # fmt: skip
    with as_failure():
        markets, window = _asked(config, settings, clock)
        healing = Healing(markets, window, means, Interval(FIRST_DAY, clock()))
        for damaged in healing.set_aside:
            context.log.warning(f"set aside: {damaged}")
        context.log.info(f"found wrong: {len(healing.found)}, in {len(markets)} markets")
        for treated in healing.treat():
            keep(store, treated.batch)
            context.log.info(f"stored {treated.layer or 'evidence'}: {treated.batch.part}")
            yield from _materialized(treated)
        healed = healing.outcome()
    metadata = {**healed_metadata(healed), **tallies_metadata(healing.course.tallies)}
    if healing.course.failures:
        listed = "; ".join(f"{one}: {one.message}" for one in healing.course.failures[:20])
        raise dg.Failure(f"could not be collected: {listed}", metadata=metadata, allow_retries=False)
    yield dg.Output(None, metadata=metadata)


@dg.job(
    name="heal_job",
    executor_def=watched_in_process_executor,
    tags={PLACE_TAG: WORK},
    description="Find what is missing, damaged or no longer made of the layer below, heal it from all sources, and "
    "compare before with after.",
)
def heal_job() -> None:
    """One step: what is found decides what is done."""
    heal()


@dg.schedule(job=heal_job, cron_schedule="20 1 * * *", execution_timezone="UTC")
def daily_heal(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
    """Every night at 01:20 UTC: the last 31 days, once what is new was collected and compared."""
    day = (context.scheduled_execution_time - timedelta(days=1)).date()
    return dg.RunRequest(run_key=f"heal-{day}", run_config=dg.RunConfig(ops={"heal": HealConfig(last_days=31)}))


def _asked(config: HealConfig, settings: Settings, clock: Clock) -> tuple[list[Market], Interval | None]:
    """The markets, and the days that should be stored, or None for those that are."""
    now = clock()
    if bool(config.start) != bool(config.end):
        given = f"start {config.start or 'nothing'}, end {config.end or 'nothing'}"
        raise InputError("start, end", got=given, expected="both, or neither for all that is stored")
    window = parse_days(config.start, config.end, now) if config.start else None
    if window is None and config.last_days:
        today = Timeframe.D1.floor(now)
        window = Interval(max(FIRST_DAY, today - timedelta(days=config.last_days)), today)
    return parse_markets(config.markets, settings), window


def _materialized(treated: Treated) -> Iterator[dg.AssetMaterialization]:
    for day, report in treated.batch.days.items() if treated.layer else ():
        yield dg.AssetMaterialization(
            str(treated.layer),
            partition=key_of(treated.batch.part.market, day),
            metadata=day_metadata(report),
            tags={"dagster/data_version": report.digest[:16]},
        )


def healed_metadata(healed: Healed) -> dict[str, Any]:
    """Return what healing came to as tables that the UI shows, and all of it as JSON."""
    rows = [
        (str(one.market), str(one.window or ""), one.after.expected, one.before.present, one.after.present,
         one.before.unexplained, one.after.unexplained, one.after.permanent, one.revised)
        for one in healed.markets
    ]  # fmt: skip
    columns = ("market", "window", "expected", "present_before", "present_after", "unexplained_before",
               "unexplained_after", "permanent", "revised")  # fmt: skip
    return {
        "whole": healed.is_whole,
        "coverage": records_table(columns, rows),
        "ailments": _ailments_table(healed.found),
        "left": _ailments_table(healed.left),
        "set_aside": records_table(("file",), [(one,) for one in healed.set_aside[:_LISTED]]),
        "revisions": sum(one.revised for one in healed.markets),
        REPORT: dg.MetadataValue.json(healed_json(healed)),
    }


def _ailments_table(ailments: tuple[Ailment, ...]) -> dg.TableMetadataValue:
    columns = ("market", "start", "end", "reason", "count", "detail", "ask_from")
    return records_table(
        columns,
        [
            (str(one.market), format_time(one.interval.start), format_time(one.interval.end), one.reason.value,
             one.count, one.detail, format_time(one.ask_from) if one.ask_from else "")
            for one in ailments[:_LISTED]
        ],
    )  # fmt: skip
