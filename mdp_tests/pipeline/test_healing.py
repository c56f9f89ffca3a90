"""What is wrong in a store is found, made whole, and proved; what cannot be is listed."""

from __future__ import annotations

from datetime import date, timedelta

import polars as pl
import pytest

from mdp.config.reference import Outage, Reference
from mdp.domain.digests import digest
from mdp.domain.gaps import Cause
from mdp.domain.interval import Interval
from mdp.domain.market import Exchange
from mdp.domain.timeframe import Timeframe
from mdp.errors import ExchangeUnavailable, StoreCorrupt
from mdp.pipeline.batches import keep, parts_of
from mdp.pipeline.collect import Collecting, collect_candles
from mdp.pipeline.healing.ailments import Reason
from mdp.pipeline.healing.prognosis import Healing
from mdp.pipeline.healing.treatment import Means
from mdp.pipeline.judge import judge_candles
from mdp.pipeline.resampling import resample_candles
from mdp.pipeline.rounds import Rounds
from mdp.pipeline.volatility import collect_dvol, judge_dvol
from mdp.ports import DVOL as DVOL_TABLE
from mdp.ports import FETCHES, GAP_SIGHTINGS, GAPS, OHLCV, RAW_OHLCV, REJECTED_OHLCV, REVISIONS, Slice
from mdp.storage.delta import DeltaStore
from mdp.storage.memory import MemoryStore
from mdp_tests.support.builders import DVOL, MARKET, NOW, at, window
from mdp_tests.support.scripted_source import ScriptedExchanges

DAY = window("2024-12-30", "2024-12-31")
PART = parts_of([(MARKET, date(2024, 12, 30))])[0]
HOLE = ("2024-12-30T10:02", "2024-12-30T10:04")
HOUR = timedelta(hours=1)
NOTHING_KNOWN = Reference({}, ())
ALWAYS = window("2017-01-01", "2026-01-01")


def without(*spans, at_5m=lambda rows: rows):
    """Minutes missing; their 5m candles as ``at_5m`` makes them."""

    def edit(asked, rows):
        if asked[1] is Timeframe.M5:
            return at_5m(rows)
        for start, end in spans:
            rows = rows.filter(~pl.col("open_time").is_between(at(start), at(end), closed="left"))
        return rows

    return edit


class Patient:
    """A store that went through all layers once, and what heals it."""

    def __init__(self, exchanges=None, reference=NOTHING_KNOWN, market=MARKET, store=None):
        self.store, self.now, self.market = store or MemoryStore(), NOW, market
        self.exchanges = exchanges or ScriptedExchanges()
        self.reference = reference
        if market == MARKET:
            self._keep(collect_candles([PART], self.exchanges, self.clock))
            self._keep(judge_candles([PART], self.store, reference, self.clock, apart=HOUR))
            self._keep(resample_candles([PART], self.store, self.clock))
        else:
            part = Slice(DVOL, (Timeframe.H1,), DAY)
            self._keep(collect_dvol([part], self.exchanges, self.clock, max_age_minutes=120))
            self._keep(judge_dvol([part], self.store, reference, self.clock, max_age_minutes=120))
        self.exchanges.asked.clear()

    def clock(self):
        return self.now

    def _keep(self, batches):
        for batch in batches:
            keep(self.store, batch)

    def healing(self, asked=None, **means):
        how = Collecting(Rounds(more=0, wait_s=0))
        given = Means(
            self.store, self.exchanges, self.exchanges, self.reference, self.clock, how, **({"apart": HOUR} | means)
        )
        return Healing([self.market], asked, given, ALWAYS)

    def heal(self, asked=None, **means):
        healing = self.healing(asked, **means)
        for one in healing.treat():
            keep(self.store, one.batch)
        return healing.outcome()

    def read(self, table, part=PART):
        return self.store.read(table, part)

    def spoil(self, table, change, part=PART):
        self.store.replace(table, part, change(self.read(table, part)))

    def tables(self):
        return dict(self.store._tables)


def reasons(healed):
    return [one.reason for one in healed.found]


def dearer(moment):
    """A close that still lies between high and low."""
    return lambda rows: rows.with_columns(
        pl.when(pl.col("open_time") == at(moment)).then(pl.col("close") + 0.5).otherwise("close").alias("close")
    )


def test_a_store_in_which_nothing_is_wrong_is_left_alone_and_nobody_is_asked():
    patient = Patient()
    before = patient.tables()
    healed = patient.heal()
    assert (healed.found, healed.left, healed.is_whole) == ((), (), True)
    assert patient.exchanges.asked == []
    assert all(rows is before[name] for name, rows in patient.tables().items())


@pytest.mark.slow
@pytest.mark.parametrize("table", [RAW_OHLCV, OHLCV, REJECTED_OHLCV, GAPS, FETCHES], ids=lambda table: table.name)
def test_files_that_were_lost_or_damaged_are_set_aside_and_made_again(tmp_path, table):
    def spoilt(asked, rows):
        kept = without(HOLE)(asked, rows)
        return pl.concat([kept, kept.slice(7, 1).with_columns(high=pl.lit(0.0))])

    patient = Patient(ScriptedExchanges(edit=spoilt), store=DeltaStore(tmp_path / "lake"))
    whole = Slice(MARKET, tuple(Timeframe), DAY)

    def content():
        layers = [digest(patient.read(layer, whole)) for layer in (RAW_OHLCV, OHLCV, REJECTED_OHLCV)]
        return layers, patient.read(GAPS, whole)["start", "end", "slots"].rows()

    good = content()
    files = [patient.store.directory(table) / file.path for file in patient.store.live_files(table)]
    for number, file in enumerate(files):
        file.unlink() if number % 2 else file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(StoreCorrupt) as caught:
        patient.read(table, whole)
    assert "mdp heal" in caught.value.__notes__[0]
    healed = patient.heal()
    assert len(healed.set_aside) == len(files)
    assert content() == good
    again = patient.heal()
    assert again.set_aside == ()
    assert set(reasons(again)) <= {Reason.GAP}


def test_rejected_rows_that_were_lost_are_made_again_without_asking():
    def doubled(asked, rows):
        return pl.concat([rows, rows.slice(7, 1).with_columns(high=pl.lit(0.0))])

    patient = Patient(ScriptedExchanges(edit=doubled))
    rejected = patient.read(REJECTED_OHLCV)
    assert len(rejected) == 1
    patient.store.replace(REJECTED_OHLCV, PART, rejected.clear())
    healed = patient.heal()
    assert reasons(healed) == [Reason.REJECTED_NOT_OF_RAW]
    assert patient.exchanges.asked == []
    assert patient.read(REJECTED_OHLCV).equals(rejected)
    assert reasons(patient.heal()) == []


def test_a_close_that_was_changed_between_high_and_low_is_found_and_revised_back_without_asking():
    patient = Patient()
    good = patient.read(OHLCV)
    patient.spoil(OHLCV, dearer("2024-12-30T12:04"))
    healed = patient.heal()
    assert reasons(healed) == [Reason.NOT_OF_RAW, Reason.NOT_OF_MINUTES]
    assert healed.found[0].count == 1
    assert healed.is_whole
    assert patient.exchanges.asked == [], "the raw rows are those received"
    assert patient.read(OHLCV).equals(good)
    (revision,) = patient.read(REVISIONS).rows(named=True)
    assert (revision["old_close"], revision["new_close"]) == (104.5, 104.0)
    assert healed.markets[0].revised == 1


@pytest.mark.slow
def test_raw_rows_that_were_changed_are_asked_for_again():
    patient = Patient()
    good = patient.read(OHLCV)
    for table in (RAW_OHLCV, OHLCV):
        patient.spoil(table, dearer("2024-12-30T12:04"))
    healed = patient.heal()
    assert reasons(healed) == [Reason.RAW_CHANGED, Reason.NOT_OF_MINUTES]
    assert [asked[1:] for asked in patient.exchanges.asked] == [(Timeframe.M1, DAY)]
    assert healed.is_whole
    assert patient.read(OHLCV).equals(good)
    assert healed.markets[0].revised == 1


@pytest.mark.slow
def test_a_day_that_stands_there_twice_stands_there_once_again():
    patient = Patient()
    good = patient.read(OHLCV)
    patient.spoil(OHLCV, lambda rows: pl.concat([rows, rows]))
    healed = patient.heal()
    assert Reason.REPEATED in reasons(healed)
    assert healed.is_whole
    assert patient.read(OHLCV).equals(good)
    assert patient.read(REVISIONS).is_empty(), "no value was another one"


@pytest.mark.slow
def test_a_changed_close_that_stands_there_twice_is_one_revision():
    patient = Patient()
    patient.spoil(OHLCV, lambda rows: pl.concat([dearer("2024-12-30T12:04")(rows)] * 2))
    assert patient.heal().is_whole
    assert patient.read(REVISIONS).height == 1


@pytest.mark.slow
def test_a_second_opinion_that_says_what_is_known_is_no_new_evidence():
    patient = Patient(ScriptedExchanges(edit=without(HOLE, at_5m=lambda rows: rows.clear())))
    patient.now += timedelta(hours=1)
    patient.heal()
    evidence = patient.read(GAP_SIGHTINGS)
    assert evidence["finding"].to_list().count("absent_at_5m") == 1
    patient.spoil(OHLCV, dearer("2024-12-30T12:04"))
    assert patient.heal().is_whole
    assert patient.read(GAP_SIGHTINGS).equals(evidence)


@pytest.mark.slow
def test_minutes_that_were_lost_are_made_again_and_longer_candles_with_them():
    patient = Patient()
    hourly = Slice(MARKET, (Timeframe.H1,), DAY)
    good = patient.read(OHLCV), patient.read(OHLCV, hourly)
    patient.spoil(OHLCV, lambda rows: rows.head(700))
    patient.spoil(OHLCV, lambda rows: rows.head(11), hourly)
    healed = patient.heal()
    assert set(reasons(healed)) == {Reason.NOT_OF_RAW, Reason.LOST, Reason.NOT_OF_MINUTES}
    assert (healed.markets[0].before.present, healed.markets[0].after.present) == (700, 1440)
    assert healed.is_whole
    assert patient.read(OHLCV).equals(good[0])
    assert patient.read(OHLCV, hourly).equals(good[1])


@pytest.mark.slow
def test_days_nobody_asked_for_are_asked_for_when_they_are_wanted():
    patient = Patient()
    healed = patient.heal(window("2024-12-29", "2024-12-31"))
    assert [(one.reason, one.count) for one in healed.found] == [(Reason.UNFETCHED, 1440)]
    assert healed.is_whole
    assert healed.markets[0].after.present == 2880


@pytest.mark.slow
def test_a_gap_is_filled_when_the_exchange_gives_its_candles_later():
    patient = Patient(ScriptedExchanges(edit=without(HOLE)))
    assert not patient.heal().is_whole
    assert patient.exchanges.asked == [], "asking within the hour tells nothing new"
    patient.now += timedelta(hours=1)
    patient.exchanges.edit = without()
    healed = patient.heal()
    assert reasons(healed) == [Reason.GAP]
    assert (healed.is_whole, healed.markets[0].after.present) == (True, 1440)
    assert patient.read(GAPS).is_empty()


def test_a_gap_that_stays_is_permanent_after_a_second_sighting_and_is_not_asked_for_again():
    patient = Patient(ScriptedExchanges(edit=without(HOLE, at_5m=lambda rows: rows.clear())))
    first = patient.heal()
    (left,) = first.to_do
    assert (left.interval, left.ask_from) == (window(*HOLE), NOW + timedelta(hours=1))
    patient.now += timedelta(hours=1)
    healed = patient.heal()
    assert healed.is_whole
    (gap,) = patient.read(GAPS).rows(named=True)
    assert (gap["cause"], gap["sightings"], gap["is_permanent"]) == ("unknown", 2, True)
    assert (gap["first_seen_at"], gap["seen_at"]) == (NOW, NOW + timedelta(hours=1))
    assert gap["detail"] == "the exchange has no 5m candle there either"
    patient.now += timedelta(days=9)
    before, asked = patient.tables(), len(patient.exchanges.asked)
    assert patient.heal().found == ()
    assert len(patient.exchanges.asked) == asked
    assert all(rows is before[name] for name, rows in patient.tables().items())


def five_minutes(volume):
    return lambda rows: rows.with_columns(volume=pl.lit(volume), open=100.0, close=104.0, high=105.0, low=99.0)


@pytest.mark.slow
@pytest.mark.parametrize(("volume", "cause"), [(3.0, Cause.NO_TRADES), (3.1, Cause.UNKNOWN)])
def test_the_exchanges_own_longer_candle_tells_whether_a_missing_minute_had_trades(volume, cause):
    exchanges = ScriptedExchanges(
        price=lambda market, moment: 100.0 + moment.minute % 5, edit=without(HOLE, at_5m=five_minutes(volume))
    )
    patient = Patient(exchanges)
    patient.now += timedelta(hours=1)
    healed = patient.heal()
    (gap,) = patient.read(GAPS).rows(named=True)
    assert gap["cause"] == cause
    assert f"has volume {volume}" in gap["detail"]
    assert healed.markets[0].after.missing == {cause: 2}
    findings = patient.read(GAP_SIGHTINGS)["finding"].to_list()
    assert sorted(findings) == ["absent", "absent", "no_trades" if cause is Cause.NO_TRADES else "traded"]


@pytest.mark.slow
def test_an_exchange_that_gives_no_second_opinion_is_named_and_the_rest_is_healed():
    def refuse(rows):
        raise ExchangeUnavailable("binance", "503")

    patient = Patient(ScriptedExchanges(edit=without(HOLE, at_5m=refuse)))
    patient.now += timedelta(hours=1)
    healed = patient.heal()
    assert "503" in healed.silent[MARKET]
    assert patient.read(GAPS)["sightings"].to_list() == [2]


@pytest.mark.slow
def test_an_outage_seen_once_is_asked_for_once_more_but_is_nothing_to_worry_about():
    known = Reference({}, (Outage(Exchange.BINANCE, "", window("2024-12-30T10:00", "2024-12-30T11:00"), "a notice"),))
    patient = Patient(ScriptedExchanges(edit=without(HOLE)), known)
    assert patient.heal().is_whole
    (gap,) = patient.read(GAPS).rows(named=True)
    assert (gap["cause"], gap["detail"], gap["is_permanent"]) == ("exchange_outage", "a notice", False)
    patient.now += timedelta(hours=1)
    assert patient.heal().is_whole
    assert patient.read(GAPS)["is_permanent"].to_list() == [True]


@pytest.mark.slow
def test_an_exchange_that_is_down_leaves_what_was_wrong_listed_and_what_is_stored_untouched():
    patient = Patient()
    patient.spoil(RAW_OHLCV, dearer("2024-12-30T12:04"))

    def down(asked, rows):
        raise ExchangeUnavailable("binance", "503")

    patient.exchanges.edit = down
    patient.now += timedelta(minutes=1)
    before = patient.read(OHLCV)
    healed = patient.heal()
    assert Reason.FAILED in [one.reason for one in healed.to_do]
    assert Reason.RAW_CHANGED in [one.reason for one in healed.to_do]
    assert patient.read(OHLCV).equals(before)
    patient.exchanges.edit = without()
    patient.now += timedelta(minutes=1)
    assert patient.heal().is_whole


@pytest.mark.slow
def test_a_value_of_an_index_that_is_not_its_candles_is_made_again():
    patient = Patient(market=DVOL)
    part = Slice(DVOL, (Timeframe.M1,), DAY)
    good = patient.read(DVOL_TABLE, part)
    patient.spoil(DVOL_TABLE, lambda rows: rows.with_columns(dvol=pl.col("dvol") + 0.01).tail(1430), part)
    healed = patient.heal()
    assert reasons(healed) == [Reason.INDEX]
    assert healed.is_whole
    assert patient.exchanges.asked == []
    assert patient.read(DVOL_TABLE, part).equals(good)


@pytest.mark.slow
def test_a_market_of_which_nothing_is_known_has_nothing_to_heal():
    patient = Patient()
    patient.market = DVOL
    healed = patient.heal()
    assert (healed.found, healed.markets[0].window) == ((), None)
    assert healed.markets[0].before.expected == 0
    assert not healed.is_whole, "nothing is not all"


@pytest.mark.slow
def test_whole_days_are_looked_at_whatever_market_they_are_of():
    patient = Patient()
    assert patient.heal(Interval(DAY.start, DAY.end)).is_whole


def only_at_1m(edit):
    return lambda asked, rows: edit(rows) if asked[1] is Timeframe.M1 else rows


@pytest.mark.slow
def test_a_gap_is_not_permanent_in_the_night_after_it_was_collected_and_the_exchange_is_asked_the_night_after():
    patient = Patient(ScriptedExchanges(edit=without(HOLE, at_5m=lambda rows: rows.clear())))
    day = timedelta(days=1)
    patient.now += timedelta(minutes=70)
    assert not patient.heal(apart=day).is_whole
    assert patient.read(GAPS).select("sightings", "is_permanent").rows() == [(1, False)]
    asked = len(patient.exchanges.asked)
    patient.now += timedelta(minutes=59)
    assert not patient.heal(apart=day).is_whole
    assert len(patient.exchanges.asked) == asked, "it was asked within the hour, whatever was recorded of it"
    patient.now += day
    patient.exchanges.edit = without()
    assert patient.heal(apart=day).markets[0].after.present == 1440


@pytest.mark.slow
def test_a_gap_the_exchange_itself_says_was_traded_is_never_whole_and_is_asked_for_again():
    patient = Patient(ScriptedExchanges(edit=without(HOLE, at_5m=five_minutes(50.0))))
    for _ in range(3):
        patient.now += 2 * HOUR
        healed = patient.heal()
        assert not healed.is_whole
        assert [(one.interval, one.ask_from) for one in healed.to_do] == [(window(*HOLE), patient.now + HOUR)]
    assert patient.read(GAPS).select("sightings", "is_permanent").rows() == [(4, False)]
    assert not healed.markets[0].after.is_complete


@pytest.mark.slow
def test_a_minute_whose_row_was_rejected_names_the_rule_and_is_never_permanent():
    at_hole = pl.col("open_time") == at(HOLE[0])
    spoil = only_at_1m(lambda rows: rows.with_columns(high=pl.when(at_hole).then(1.0).otherwise("high")))
    patient = Patient(ScriptedExchanges(edit=spoil))
    for _ in range(2):
        patient.now += 2 * HOUR
        assert not patient.heal().is_whole
    (gap,) = patient.read(GAPS).rows(named=True)
    assert (gap["sightings"], gap["is_permanent"], gap["cause"]) == (0, False, "unknown")
    assert gap["detail"] == "given, and rejected: high_is_highest"
    assert patient.read(GAP_SIGHTINGS)["finding"].to_list() == ["rejected"], "the same again is no news"
    assert not any(timeframe is Timeframe.M5 for _, timeframe, _ in patient.exchanges.asked)
    assert patient.heal().found == patient.heal().left, "what is recorded is what is found"


@pytest.mark.slow
def test_only_days_of_which_anything_is_known_are_looked_at_and_those_between_are_named():
    patient = Patient()
    far = parts_of([(MARKET, date(2021, 4, 25))])[0]
    patient._keep(collect_candles([far], patient.exchanges, patient.clock))
    patient._keep(judge_candles([far], patient.store, NOTHING_KNOWN, patient.clock))
    patient._keep(resample_candles([far], patient.store, patient.clock))
    healed = patient.heal()
    assert (healed.found, healed.is_whole) == ((), True)
    assert healed.markets[0].windows == (far.window, DAY)
    assert healed.markets[0].unasked == (Interval(far.window.end, DAY.start),)
    assert healed.markets[0].before.expected == 2880


def test_what_was_collected_and_is_lost_from_every_other_table_is_known():
    patient = Patient()
    for table in (OHLCV, RAW_OHLCV):
        patient.spoil(table, lambda rows: rows.clear())
    assert [one.reason for one in patient.healing().found][:1] == [Reason.RAW_CHANGED]


def test_today_is_no_day_to_heal():
    patient = Patient()
    patient.now = at("2024-12-31T01:20")
    patient.store.append(OHLCV, patient.read(OHLCV).head(5).with_columns(pl.col("open_time") + timedelta(days=1)))
    assert patient.healing().found == ()
    assert patient.healing(window("2024-12-30", "2025-01-02")).found == ()


def test_a_window_is_looked_at_to_its_end_though_nothing_is_known_there():
    patient = Patient()
    found = patient.healing(window("2024-12-30", "2025-01-20")).found
    assert [(one.reason, one.interval) for one in found] == [(Reason.UNFETCHED, window("2024-12-31", "2025-01-20"))]


@pytest.mark.slow
def test_facts_that_change_reach_gaps_that_are_permanent_and_rows_that_were_altered_are_made_again():
    patient = Patient(ScriptedExchanges(edit=without(HOLE, at_5m=lambda rows: rows.clear())))
    patient.now += HOUR
    assert patient.heal().is_whole
    good = patient.read(GAPS)
    for change in (
        lambda rows: rows.with_columns(cause=pl.lit("no_trades")),
        lambda rows: rows.with_columns(is_permanent=False),
    ):
        patient.spoil(GAPS, change)
        assert Reason.GAP_CHANGED in reasons(patient.heal())
        assert patient.read(GAPS).equals(good)
    outage = Outage(Exchange.BINANCE, "", window("2024-12-30T10:00", "2024-12-30T11:00"), "a notice")
    patient.reference, patient.exchanges.asked[:] = Reference({}, (outage,)), []
    healed = patient.heal()
    assert [(one.reason, one.count) for one in healed.found] == [(Reason.GAP_CHANGED, 2)]
    assert healed.markets[0].after.missing == {Cause.EXCHANGE_OUTAGE: 2}
    assert patient.exchanges.asked == []


@pytest.mark.slow
def test_gap_rows_that_are_doubled_or_lie_over_minutes_are_found_and_made_again():
    patient = Patient(ScriptedExchanges(edit=without(HOLE)))
    where = ("start", "end", "slots")
    good = patient.read(GAPS).select(where)
    patient.spoil(GAPS, lambda rows: pl.concat([rows, rows]))
    assert Reason.NEEDLESS_GAP in reasons(patient.heal())
    assert patient.read(GAPS).select(where).equals(good)
    patient.spoil(GAPS, lambda rows: rows.with_columns(pl.col("end") + HOUR, slots=pl.lit(62, dtype=pl.Int64)))
    healed = patient.heal()
    assert [one.count for one in healed.found if one.reason is Reason.NEEDLESS_GAP] == [60]
    assert patient.read(GAPS).select(where).equals(good)


@pytest.mark.slow
def test_what_needs_no_asking_is_healed_though_the_exchange_is_down():
    patient = Patient(ScriptedExchanges(edit=without(HOLE)))
    good = patient.read(OHLCV)
    patient.spoil(OHLCV, dearer("2024-12-30T12:04"))
    patient.now += 2 * HOUR

    def down(asked, rows):
        raise ExchangeUnavailable("binance", "503")

    patient.exchanges.edit = down
    healed = patient.heal()
    assert patient.read(OHLCV).equals(good)
    assert (healed.markets[0].revised, healed.is_whole) == (1, False)


@pytest.mark.slow
def test_an_index_made_of_hours_is_asked_for_by_the_minute_when_that_is_its_resolution_now():
    patient = Patient(market=DVOL)
    part = Slice(DVOL, (Timeframe.M1,), DAY)
    patient.spoil(DVOL_TABLE, lambda rows: rows.tail(1430), part)
    healed = patient.heal(index_length=Timeframe.M1)
    assert reasons(healed) == [Reason.INDEX]
    assert {timeframe for _, timeframe, _ in patient.exchanges.asked} == {Timeframe.M1}
    assert (healed.is_whole, patient.read(DVOL_TABLE, part).height) == (True, 1440)
