"""Stored candles and live ones as one row of slots, longer candles made of them, and where that row breaks off.

Not here: how far one question reaches (``candles``), how values become longer candles (``domain.resample``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import polars as pl

from mdp.api.compat.excuses import Excuses, Span
from mdp.api.compat.lengths import DAY_US, MINUTE_US, Ints, Length
from mdp.domain.resample import resample_to

BEGINNING_US = 1_262_304_000_000_000
"""2010: no market of ours is as old."""


def _nothing_excused(first_us: int, end_us: int) -> Iterable[Span]:
    del first_us, end_us
    return ()


@dataclass(frozen=True)
class Source:
    """Candles of one timeframe.

    Attributes:
        read: Gives the stored ones that open in ``[first_us, end_us)``, of the columns of ``live``, sorted.
        live: Those of the buffer, of columns of ``CANDLE_SCHEMA`` and ``is_closed``, sorted; may be empty.
        step_us: Their length.
        excused: Gives the stretches of ``[first_us, end_us)``, or more, in which no minute will ever be stored.
    """

    read: Callable[[int, int], pl.DataFrame]
    live: pl.DataFrame
    step_us: int
    excused: Callable[[int, int], Iterable[Span]] = _nothing_excused

    def between(self, first_us: int, end_us: int) -> pl.DataFrame:
        """Return all that open in a stretch; where both tell of a slot, what is stored counts.

        ``minutes`` are those that are known to be in a candle; of a live one, which the exchange made, all.
        """
        all_of_it = pl.lit(self.step_us // MINUTE_US, dtype=pl.Int32)
        stored = self.read(first_us, end_us)
        stored = stored.with_columns(pl.col("minutes").fill_null(all_of_it), is_closed=pl.lit(True))
        if self.live.is_empty():
            return stored
        live = self.live.filter(_opens_in(first_us, end_us)).join(stored, on="open_time", how="anti")
        if live.is_empty():
            return stored
        return pl.concat([stored, live.with_columns(minutes=all_of_it)]).sort("open_time")

    def has_before(self, end_us: int) -> bool:
        """Tell whether there is any candle that opens earlier."""
        if not self.live.is_empty() and _opened(self.live)[0] < end_us:
            return True
        span_us = DAY_US
        while end_us > BEGINNING_US:
            if not self.read(end_us - span_us, end_us).is_empty():
                return True
            # what is read is bounded, and most of it is days of which there is nothing
            end_us, span_us = end_us - span_us, min(8 * span_us, 64 * DAY_US)
        return False


@dataclass(frozen=True)
class Joined:
    """What there is of one length.

    Attributes:
        source: Of the timeframe it is made of.
        length: Of the candles to be had.
        now_us: By the market's clock.
        listed_us: When the market's first candle opened; None where nobody knows.
    """

    source: Source
    length: Length
    now_us: int
    listed_us: int | None = None

    def nothing(self) -> pl.DataFrame:
        """Return no candles."""
        return self.source.live.clear()

    def rows(self, first_us: int, end_us: int) -> pl.DataFrame:
        """Return the candles of a stretch; those that lack a minute which may still come are left out.

        Args:
            first_us: Where a slot opens.
            end_us: Where a slot opens, later.
        """
        found = self.source.between(first_us, end_us)
        if found.is_empty():
            return found
        if self.length.native is not None:
            opened_us = _opened(found)
            return self._whole(found, opened_us, opened_us + self.length.step_us)
        return self._made(found)

    def up_to_hole(self, rows: pl.DataFrame, follows_us: int) -> pl.DataFrame:
        """Return the candles before the first slot that is empty and may still be filled.

        Args:
            rows: Of :meth:`rows`; at least one.
            follows_us: Where the first of them opens unless slots before it are empty.
        """
        opened_us = _opened(rows)
        ends_us = np.append(follows_us, self.length.ends(opened_us[:-1]))
        holes = self._holes(ends_us, opened_us)
        return rows.head(int(holes[0])) if len(holes) else rows

    def from_hole(self, rows: pl.DataFrame, until_us: int | None) -> pl.DataFrame:
        """Return the candles after the last slot that is empty and may still be filled.

        Args:
            rows: Of :meth:`rows`; at least one.
            until_us: Where the last of them ends unless slots after it are empty; None: wherever it does.
        """
        opened_us = _opened(rows)
        ends_us = self.length.ends(opened_us)
        holes = self._holes(ends_us, np.append(opened_us[1:], ends_us[-1] if until_us is None else until_us))
        return rows.slice(int(holes[-1]) + 1) if len(holes) else rows

    def _holes(self, ends_us: Ints, next_us: Ints) -> Ints:
        """Return the places at which one candle does not follow another, and it is not known that none is between."""
        apart = np.flatnonzero(next_us > ends_us)
        if not len(apart):
            return apart
        ends_us, next_us = ends_us[apart], next_us[apart]
        excused_us = self._excuses(int(ends_us[0]), int(next_us[-1])).within(ends_us, next_us)
        return np.asarray(apart[excused_us < next_us - ends_us])

    def _excuses(self, first_us: int, end_us: int) -> Excuses:
        spans = list(self.source.excused(first_us, end_us))
        if self.listed_us is not None:
            spans.append((0, self.listed_us))
        return Excuses(spans)

    def _made(self, rows: pl.DataFrame) -> pl.DataFrame:
        source_us = _opened(rows)
        known_until_us = int(source_us[-1]) + self.source.step_us
        bucket_us = self.length.opens(source_us)
        made = resample_to(rows.drop("is_closed"), bucket_us, "")
        opened_us = _opened(made)
        ends_us = self.length.ends(opened_us)
        is_over = ends_us[-1] <= self.now_us or (known_until_us >= ends_us[-1] and rows["is_closed"][-1])
        made = made.with_columns(is_closed=(pl.int_range(pl.len()) < made.height - 1) | pl.lit(bool(is_over)))
        if not is_over:
            ends_us[-1] = min(known_until_us, ends_us[-1])  # of what is still to come nothing need be there
        whole = self._whole(made, opened_us, ends_us)
        return whole if is_over or self._is_kept() else whole.filter("is_closed")

    def _whole(self, rows: pl.DataFrame, opened_us: Ints, ends_us: Ints) -> pl.DataFrame:
        """Return the candles that hold each minute of their stretch, but for those that will never be stored."""
        lacking_us = ends_us - opened_us - rows["minutes"].cast(pl.Int64).to_numpy() * MINUTE_US
        if not (lacking_us > 0).any():
            return rows
        excused_us = self._excuses(int(opened_us[0]), int(ends_us[-1])).within(opened_us, ends_us)
        return rows.filter(pl.Series(excused_us >= lacking_us))

    def _is_kept(self) -> bool:
        """Tell whether a feed keeps what is forming now."""
        live = self.source.live
        return not live.is_empty() and int(_opened(live)[-1]) + 2 * self.source.step_us > self.now_us


def _opens_in(first_us: int, end_us: int) -> pl.Expr:
    opened = pl.col("open_time").to_physical()
    return (opened >= first_us) & (opened < end_us)


def _opened(rows: pl.DataFrame) -> Ints:
    return np.asarray(rows["open_time"].to_physical().to_numpy())
