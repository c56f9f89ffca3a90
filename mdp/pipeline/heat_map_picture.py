"""The heat map as a picture, for pages that show no markup of ours: PNG.

Not here: which cells there are and what they say (``heat_map``).
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont

from mdp.pipeline.heat_map import COLOURS, SHADES, Cell, HeatMap, Kind

WIDTH = 1040
"""Pixels. Dagster shows the picture in a dialog of 80 % of the page, less its padding: 1,080 of 1,400."""

_LEFT, _RIGHT, _TOP, _ROW, _CELL = 170, 84, 62, 30, 24
_INK, _FAINT, _PAPER = "#222222", "#8a8a8a", "#ffffff"
_TEXT_SIZE, _TITLE_SIZE = 15, 18
_BY_YEAR = {"day": 1_000, "week": 1_000, "month": 36}
"""From how many columns on the years are labelled, and not the months."""


class Layout(NamedTuple):
    """Where cells stand in the picture, in pixels.

    Attributes:
        step: From one column to the next.
        width: Of a cell.
        height: Of the picture.
    """

    step: float
    width: int
    height: int

    @classmethod
    def of(cls, map_: HeatMap) -> Layout:
        """Fit the columns into the width; few of them do not fill it."""
        step = min(40.0, (WIDTH - _LEFT - _RIGHT) / len(map_.columns))
        return cls(step, max(1, int(step) - (1 if step >= 4 else 0)), _TOP + _ROW * len(map_.markets) + 92)

    def corner(self, row: int, column: int) -> tuple[int, int]:
        """Left and upper edge of a cell."""
        return _LEFT + int(column * self.step), _TOP + row * _ROW


def draw_png(map_: HeatMap) -> bytes:
    """Draw a heat map, ``WIDTH`` pixels wide, with its labels and legend.

    Returns:
        The bytes of a PNG.
    """
    layout = Layout.of(map_)
    picture = Image.new("RGB", (WIDTH, layout.height), _PAPER)
    pen = ImageDraw.Draw(picture)
    _write_frame(pen, map_, layout)
    for row, cells in enumerate(map_.cells):
        for column, cell in enumerate(cells):
            _draw_cell(pen, cell, layout.corner(row, column), layout.width)
    _write_legend(pen, layout)
    body = io.BytesIO()
    picture.save(body, "PNG", optimize=True)
    return body.getvalue()


def _draw_cell(pen: ImageDraw.ImageDraw, cell: Cell, corner: tuple[int, int], width: int) -> None:
    left, top = corner
    for colour, height in cell.bands(_CELL):
        pen.rectangle((left, top, left + width - 1, top + height - 1), fill=colour)
        if colour == COLOURS[Kind.NOT_COLLECTED]:  # white on white: a line tells where it is
            bottom = top + height - 1
            pen.line((left, bottom, left + width - 1, bottom), fill="#dddddd")
            pen.line((left, top, left + width - 1, top), fill="#dddddd")
        top += height


def _write_frame(pen: ImageDraw.ImageDraw, map_: HeatMap, layout: Layout) -> None:
    text, title = (ImageFont.load_default(size) for size in (_TEXT_SIZE, _TITLE_SIZE))
    last = map_.cells[0][-1].last
    pen.text((12, 8), f"Minutes stored, {map_.columns[0]} to {last}, by {map_.unit}", fill=_INK, font=title)
    for column, label in labels(map_, least_apart=80 / layout.step):
        left, _ = layout.corner(0, column)
        pen.line((left, _TOP - 8, left, _TOP - 2), fill=_FAINT)
        pen.text((left + 2, _TOP - 26), label, fill=_INK, font=text)
    for row, (market, cells) in enumerate(zip(map_.markets, map_.cells, strict=True)):
        _, top = layout.corner(row, 0)
        pen.text((12, top + 3), market, fill=_INK, font=text)
        present, expected = (sum(cell.counts[name] for cell in cells) for name in ("present", "expected"))
        right = layout.corner(0, len(map_.columns))[0] + 8
        pen.text((right, top + 3), percent(present, expected), fill=_INK, font=text)


def percent(present: int, expected: int) -> str:
    """Write a share so that 100 % means every minute, and 0 % none."""
    hundredths = 10_000 * present // expected if expected else 0
    if not hundredths:
        return "< 0.01 %" if present else "0 %"
    return "100 %" if expected and present == expected else f"{hundredths / 100:.2f} %"


def labels(map_: HeatMap, *, least_apart: float) -> Iterator[tuple[int, str]]:
    """Yield the columns that have a label over them: the first of each month, or of each year, so that none overlap.

    Args:
        map_: Whose columns.
        least_apart: Columns between two labels.
    """
    is_by_year = len(map_.columns) > _BY_YEAR[map_.unit]
    last, before = -least_apart, None
    for number, day in enumerate(map_.columns):
        period = (day.year,) if is_by_year else (day.year, day.month)
        if period != before and number - last >= least_apart:
            is_new_year = last < 0 or map_.columns[int(last)].year != day.year
            yield number, f"{day:%Y}" if is_by_year else f"{day:%b %Y}" if is_new_year else f"{day:%b}"
            last = number
        before = period


def _write_legend(pen: ImageDraw.ImageDraw, layout: Layout) -> None:
    text = ImageFont.load_default(_TEXT_SIZE)
    for line, (head, entries) in enumerate(
        (
            ("present", [(colour, name) for _, colour, name in SHADES]),
            ("missing", [(colour, kind.value) for kind, colour in COLOURS.items()]),
        )
    ):
        left, top = _LEFT, layout.height - 74 + 32 * line
        pen.text((12, top), head, fill=_INK, font=text)
        for colour, name in entries:
            pen.rectangle((left, top, left + 18, top + 16), fill=colour, outline=_FAINT)
            pen.text((left + 26, top), name, fill=_INK, font=text)
            left += 26 + int(pen.textlength(name, font=text)) + 28
