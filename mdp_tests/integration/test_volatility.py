"""The index travels the whole platform from Deribit's wire: by the hour over years, by the minute over days."""

from __future__ import annotations

from datetime import timedelta

import polars as pl
import pytest

from mdp.bus import local_budget
from mdp.config.exchange_sections import ExchangeSettings
from mdp.config.reference import load_reference
from mdp.config.settings import load_settings
from mdp.domain.interval import DAY
from mdp.domain.market import Market
from mdp.domain.timeframe import Timeframe
from mdp.exchanges import open_source, quotas_of
from mdp.pipeline.batches import keep, parts_of
from mdp.pipeline.integrity import inspect_dvol, inspect_raw_dvol
from mdp.pipeline.volatility import collect_dvol, judge_dvol
from mdp.ports import DVOL, GAPS, RAW_DVOL, REVISIONS, Slice
from mdp.simulator.recorded_days import CARRIED
from mdp.simulator.threaded import running_in_thread
from mdp.sources import utc_now
from mdp.storage import open_store
from mdp_tests.support.builders import at, window
from mdp_tests.support.workplace import Workplace

pytestmark = pytest.mark.slow

BTC = Market.parse("deribit:BTC-DVOL")
H1, M1 = Timeframe.H1, Timeframe.M1
HISTORY = window("2021-03-24", "2023-12-18")
FEW_DAYS = window("2024-12-30", "2025-01-02")
OUTAGE = window("2024-12-31T05:00", "2024-12-31T09:00")


def recorded_closes(within):
    """The real daily closes of the index, by day."""
    real = pl.read_csv(CARRIED / "deribit" / "BTC-DVOL" / "BTC-DVOL-1d.csv.gz", try_parse_dates=True)
    days = zip(real["timestamp"].dt.date().to_list(), real["dvol"].to_list(), strict=True)
    return {day: close for day, close in days if within.start.date() <= day < within.end.date()}


class Collected:
    """A store of its own, filled from a simulator over the wire."""

    def __init__(self, folder, simulator):
        self.store = open_store(load_settings(data_dir=folder))
        self._settings = ExchangeSettings(rest_url=simulator.url_of("deribit"))

    def open_source(self, exchange):
        budget = local_budget(exchange, quotas_of(exchange), rate_share=0.8)
        return open_source(exchange, self._settings, clock=utc_now, budget=budget)

    def collect(self, whole, length):
        """Collect and judge some days; return what judging said of each, and the number of requests."""
        parts, tallies, reports = parts_of([(BTC, day.start.date()) for day in whole.days()], length), {}, {}
        for batch in collect_dvol(parts, self.open_source, utc_now, max_age_minutes=120, tallies=tallies):
            keep(self.store, batch)
        for batch in judge_dvol(parts, self.store, load_reference(), utc_now, max_age_minutes=120):
            keep(self.store, batch)
            reports |= batch.days
        for part in parts:
            for inspect in (inspect_raw_dvol, inspect_dvol):
                assert all(verdict.holds for verdict in inspect(self.store, part).values())
        return reports, tallies[BTC.exchange].requests

    def read(self, table, whole, *lengths):
        return self.store.read(table, Slice(BTC, lengths or (M1,), whole))

    def gaps(self, whole):
        return self.read(GAPS, whole, M1, H1).sort("timeframe").select("timeframe", "start", "end", "cause").rows()


@pytest.fixture(scope="module")
def simulator():
    with running_in_thread(now="2025-01-08T00:00Z") as running:
        yield running


@pytest.fixture
def collected(tmp_path, simulator):
    simulator.faults.clear()
    return Collected(tmp_path, simulator)


def closes_by_day(raw):
    """The close of the last hour of each UTC day."""
    last = raw.filter(pl.col("open_time") == pl.col("window_start") + pl.duration(hours=23))
    return dict(zip(last["open_time"].dt.date().to_list(), last["close"].to_list(), strict=True))


def test_the_whole_history_by_the_hour_closes_each_recorded_day_at_its_real_close(collected):
    reports, requests = collected.collect(HISTORY, H1)
    real = recorded_closes(HISTORY)
    assert len(real) == 236, "2023-04-26 to 2023-12-17"
    found = closes_by_day(collected.read(RAW_DVOL, HISTORY, H1))
    assert len(found) == 999
    assert {day: found[day] for day in real} == real

    minutes = collected.read(DVOL, HISTORY)
    midnights = minutes.filter(pl.col("open_time") == pl.col("open_time").dt.truncate("1d"))
    carried = dict(zip(midnights["open_time"].dt.date().to_list(), midnights["dvol"].to_list(), strict=True))
    assert [carried.get(day + DAY) for day in list(real)[:-1]] == list(real.values())[:-1]
    assert minutes["age_minutes"].equals(minutes["open_time"].dt.minute().cast(pl.Int32).rename("age_minutes"))
    assert len(minutes) == 999 * 1440 - 60
    assert sum(report.rows for report in reports.values()) == len(minutes)
    assert collected.gaps(HISTORY) == [
        ("1m", at("2021-03-24T00:00"), at("2021-03-24T01:00"), "before_listing"),
    ]
    assert requests >= 33, "one page a month, at least"


def test_days_by_the_minute_are_complete_and_close_where_their_hours_do(collected):
    reports, requests = collected.collect(FEW_DAYS, M1)
    assert [(report.rows, report.gaps, report.rejected, report.revised) for report in reports.values()] == [
        (1440, {}, {}, 0)
    ] * 3
    assert requests >= 5, "1000 candles a page"
    minutes, by_minute = collected.read(DVOL, FEW_DAYS), collected.read(RAW_DVOL, FEW_DAYS, M1)
    assert minutes["age_minutes"].unique().to_list() == [0]

    reports, _ = collected.collect(FEW_DAYS, H1)
    assert [(report.rows, report.gaps, report.revised) for report in reports.values()] == [(1440, {}, 0)] * 3
    hours = collected.read(RAW_DVOL, FEW_DAYS, H1)
    closing = by_minute.filter(pl.col("open_time").dt.minute() == 59).with_columns(
        pl.col("open_time").dt.truncate("1h")
    )
    both = hours.join(closing, on=["window_start", "open_time"], suffix="_of_minute")
    assert len(both) == len(hours) == 3 * 26
    assert both["close"].equals(both["close_of_minute"], check_names=False)
    real = recorded_closes(FEW_DAYS)
    assert len(real) == 3
    assert closes_by_day(hours) == real
    # where an hour begins, both lengths say the same: its close is that of its last minute
    on_the_hour = pl.col("open_time").dt.minute() == 0
    again = collected.read(DVOL, FEW_DAYS)
    assert again.filter(on_the_hour)["dvol"].equals(minutes.filter(on_the_hour)["dvol"])
    assert not again["dvol"].equals(minutes["dvol"])
    assert collected.read(REVISIONS, FEW_DAYS, M1, H1).is_empty()


@pytest.mark.parametrize(
    ("length", "first_absent", "back", "of_hours"),
    [
        # the last minute closed at 05:00, 120 minutes before 07:00; the first after the outage closes at 09:01
        (M1, "07:00", "09:01", []),
        # the last hour closed at 05:00; the first after the outage closes at 10:00
        (H1, "07:00", "10:00", [("1h", OUTAGE.start, OUTAGE.end, "unknown")]),
    ],
)
def test_an_outage_leaves_minutes_absent_and_none_invented(collected, simulator, length, first_absent, back, of_hours):
    simulator.faults.add(
        kind="outage", exchange="deribit", symbol="BTC-DVOL", start="2024-12-31T05:00:00Z", end="2024-12-31T09:00:00Z"
    )
    absent = window(f"2024-12-31T{first_absent}", f"2024-12-31T{back}")
    reports, _ = collected.collect(FEW_DAYS, length)
    missing = absent.duration // timedelta(minutes=1)
    assert [report.rows for report in reports.values()] == [1440, 1440 - missing, 1440]
    assert collected.gaps(FEW_DAYS) == [*of_hours, ("1m", absent.start, absent.end, "unknown")]

    with_outage = collected.read(DVOL, FEW_DAYS)
    age = with_outage.filter(pl.col("open_time").is_between(OUTAGE.start, absent.start, closed="left"))
    assert age["age_minutes"].to_list() == list(range(120))
    assert age["dvol"].n_unique() == 1

    simulator.faults.clear()
    reports, _ = collected.collect(FEW_DAYS, length)
    assert [(report.rows, report.revised) for report in reports.values()] == [(1440, 0)] * 3
    assert collected.gaps(FEW_DAYS) == []
    healed = collected.read(DVOL, FEW_DAYS)
    outside = ~pl.col("open_time").is_between(OUTAGE.start, absent.end, closed="left")
    assert healed.filter(outside).drop("ingested_at").equals(with_outage.filter(outside).drop("ingested_at"))


def test_the_command_line_collects_what_the_setting_says(tmp_path, simulator_url):
    days = ("-m", str(BTC), "--start", "2024-12-30", "--end", "2025-01-02")
    found = {}
    for resolution, length in (("1m", M1), ("1h", H1)):
        workplace = Workplace(tmp_path, simulator_url, {"MDP_DVOL__RESOLUTION": resolution})
        result = workplace.run("backfill", *days)
        assert result.returncode == 0, result.stdout + result.stderr
        store = open_store(workplace.settings)
        rows = store.read(DVOL, Slice(BTC, (M1,), FEW_DAYS))
        assert len(rows) == 3 * 1440
        found[length] = rows["age_minutes"].max()
        assert not store.read(RAW_DVOL, Slice(BTC, (length,), FEW_DAYS)).is_empty()
        assert store.read(REVISIONS, Slice(BTC, (M1, H1), FEW_DAYS)).is_empty()
    assert found == {M1: 0, H1: 59}
