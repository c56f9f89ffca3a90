"""What one market's buffers, its finished minutes and its news for storage say together, whoever brings a minute.

Not here: who asks and listens (``market_feed``), the rules of slots (``domain.buffers``), what REST must say twice
(``ledger``).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass

from mdp.domain.buffers import MarketBuffers
from mdp.domain.live import CandleState, Change, Entry, LiveCandle
from mdp.domain.live_merging import failed_rules
from mdp.domain.timeframe import Timeframe
from mdp.live.ledger import Ledger
from mdp.live.publishing import Publisher
from mdp.live.rest_minutes import answered_candles, time_of
from mdp.ports import Fetched

_log = logging.getLogger(__name__)

_LEDGER_US = 3 * Timeframe.D1.microseconds


@dataclass(slots=True)
class Tally:
    """What happened to a market since the feed began; see ``health.MarketHealth``."""

    updates: int = 0
    reconnects: int = 0
    corrections: int = 0
    absent: int = 0
    rejected: int = 0
    rest_requests: int = 0
    rest_failures: int = 0
    stored_differs: int = 0
    closed_lag_ms: float | None = None
    lag_ms: float | None = None


class Books:
    """One market's buffers and what is handed on of them.

    Args:
        buffers: Of the market.
        ledger: Its finished minutes.
        publisher: Where changes and entries go.

    Attributes:
        tally: What happened so far.
    """

    def __init__(self, buffers: MarketBuffers, ledger: Ledger, publisher: Publisher) -> None:
        self.market = buffers.market
        self.buffers = buffers
        self.ledger = ledger
        self.publisher = publisher
        self.tally = Tally()
        self._rejected: dict[int, LiveCandle] = {}
        self._said_refused = self._said_inconsistent = 0

    def take(self, candle: LiveCandle, now_us: int, *, event_us: int | None = None, requests: int = 0) -> None:
        """Take a minute, from wherever it comes, and publish what it changes."""
        if candle.state is not CandleState.FORMING and failed_rules(candle, Timeframe.M1):
            self._reject(candle, now_us, requests)
            return
        changes = self.buffers.take(candle, now_us=max(now_us, event_us or 0), event_us=event_us)
        self.publish(changes, now_us, requests)

    def publish(self, changes: Iterable[Change], now_us: int, requests: int = 0) -> None:
        """Publish changes of the buffers, and hand on the finished minutes among them that are news."""
        entries = []
        changed = tuple(changes)
        for change in changed:
            if change.timeframe is not Timeframe.M1:
                continue
            known = self.ledger.known(change.candle.open_us)
            if self.ledger.note(change.candle):
                detail = self._describe_correction(known, change.candle)
                entries.append(Entry(self.market, change.candle, (), requests, now_us, detail))
        if gone := self.buffers.lost():
            self.publisher.rewrite(gone)
        if changed or entries:
            self.publisher.push(changed, entries)

    def _describe_correction(self, known: LiveCandle | None, now: LiveCandle) -> str:
        if known is None:
            return ""
        self.tally.corrections += 1
        names = LiveCandle._fields[1:9]
        apart = [
            f"{name} {old} -> {new}" for name, old, new in zip(names, known[1:9], now[1:9], strict=True) if old != new
        ]
        detail = f"{known.source} said otherwise: {', '.join(apart)}"
        _log.warning("%s: %s corrected: %s", self.market, time_of(now.open_us), detail)
        return detail

    def _reject(self, candle: LiveCandle, now_us: int, requests: int) -> None:
        """Hand on what breaks a rule, once: storage keeps it as rejected. Buffers never show it."""
        known = self._rejected.get(candle.open_us)
        if known is not None and known.says_same(candle):
            return
        self._rejected[candle.open_us] = candle
        self.tally.rejected += 1
        rules = ", ".join(failed_rules(candle, Timeframe.M1))
        _log.warning("%s: %s is rejected: %s", self.market, time_of(candle.open_us), rules)
        self.publisher.push((), [Entry(self.market, candle, (), requests, now_us, f"breaks {rules}")])

    def say_refused(self) -> None:
        """Log what the buffers refused, and what disagreed in them, since this was asked last."""
        counts = self.buffers.counts
        if (more := counts.refused - self._said_refused) > 0:
            _log.warning("%s: %d candles were refused, the last: %s", self.market, more, self.buffers.refusals[-1])
        if (more := counts.inconsistent - self._said_inconsistent) > 0:
            _log.warning("%s: %d disagreements, the last: %s", self.market, more, self.buffers.inconsistencies[-1])
        self._said_refused, self._said_inconsistent = counts.refused, counts.inconsistent

    def heed(self, fetched: Fetched, start_us: int, settled_us: int, now: int) -> LiveCandle | None:
        """Take what REST answered for the minutes from ``start_us`` on; return the newest of them.

        A minute that had settled, that the answer lacks twice although it holds later ones, does not exist.
        """
        settle_us = self.ledger.settle_us
        candles = answered_candles(fetched.rows, Timeframe.M1, settled_us=settled_us, settle_us=settle_us)
        given = {one.open_us for one in candles if not failed_rules(one, Timeframe.M1)}
        for candle in candles:
            if candle.state is CandleState.FORMING or candle.open_us not in given:
                self.take(candle, now, requests=fetched.requests)
            else:
                self._take_finished(candle, now, fetched.requests)
        newest = candles[-1] if candles else None
        before_us = min(settled_us, newest.open_us) if newest else start_us
        for slot in self.buffers.unconfirmed(before_us, since_us=start_us):
            if slot not in given and self.ledger.is_absent(slot, now):
                self._be_absent(slot, now, fetched.requests)
        for slot in self.ledger.doubted():  # REST gives a minute no more: what is known stays, and it is asked no more
            if start_us <= slot < before_us and slot not in given:
                self.ledger.is_absent(slot, now)
        self.ledger.forget_before(now - _LEDGER_US)
        self._rejected = {slot: one for slot, one in self._rejected.items() if slot >= now - _LEDGER_US}
        return newest

    def _take_finished(self, candle: LiveCandle, now_us: int, requests: int) -> None:
        """Take a minute that REST calls finished, once it may be believed; storage that differs is told once more."""
        is_stored_otherwise = self.ledger.is_stored_otherwise(candle.open_us)
        if not self.ledger.may_take(candle, now_us):
            return
        self.take(candle, now_us, requests=requests)
        if is_stored_otherwise:  # this very answer: what came before would not outweigh what is stored
            said = "storage held it otherwise"
            self.publisher.push((), [Entry(self.market, candle, (), requests, now_us, said)])

    def may_take_stored(self, candle: LiveCandle, now_us: int) -> bool:
        """Tell whether a stored minute counts. Storage is no witness: where it differs REST is asked."""
        known = self.ledger.known(candle.open_us)
        if known is not None and not known.says_same(candle):
            self.ledger.doubt_stored(candle.open_us, now_us)
            self.tally.stored_differs += 1
            _log.warning("%s: %s is stored otherwise; REST is asked", self.market, time_of(candle.open_us))
            return False
        self.ledger.agree_stored(candle.open_us)
        return True

    def _be_absent(self, slot: int, now_us: int, requests: int) -> None:
        self.tally.absent += 1
        changes = self.buffers.absent(slot)
        said = "exists in the stream alone" if self.ledger.known(slot) else "does not exist"
        _log.warning("%s: %s %s, as REST said twice", self.market, time_of(slot), said)
        self.publish(changes, now_us, requests)
        if self.ledger.known(slot) is None and slot not in self._rejected:
            detail = "not in two answers, the settling time apart, that held later minutes"
            self.publisher.push((), [Entry(self.market, None, (slot,), requests, now_us, detail)])
