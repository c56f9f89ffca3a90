"""The heat map as SVG, every cell with its words: a chart for a few months, or one for each year.

Not here: the page around it (``coverage_page``), which cells there are (``heat_map``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import date, timedelta
from html import escape
from itertools import groupby

from mdp.domain.gaps import Cause
from mdp.pipeline.coverage_report import MarketReport
from mdp.pipeline.heat_map import COLOURS, SHADES, Cell, HeatMap, Kind, heat_map
from mdp.pipeline.heat_map_picture import labels, percent

_WIDTH, _LEFT, _RIGHT, _TOP, _ROW, _CELL = 1200, 150, 62, 24, 17, 14
_YEAR = 366
_MOST_DAYS = 190
"""Days that one chart shows with room to point at each; more are shown by the year."""


def draw_charts(reports: Sequence[MarketReport]) -> list[str]:
    """Draw every market and day; each cell says in a tooltip what is known of it.

    Returns:
        SVG documents, the latest first; none where nothing is known. Years in which nothing is stored are folded into
        one element that names them.
    """
    days = [day for report in reports for day in (report.days["day"].min(), report.days["day"].max())]
    known = [day for day in days if isinstance(day, date)]
    if not known:
        return []
    spans = list(_spans(min(known), max(known)))
    maps = [(span[0].year, heat_map(reports, within=span, most_columns=_YEAR)) for span in reversed(spans)]
    is_year = max(known) - min(known) >= timedelta(days=_MOST_DAYS)
    charts: list[str] = []
    for is_empty, group in groupby(maps, key=lambda one: is_year and _is_empty(one[1])):
        found = list(group)
        drawn = [_draw(map_, is_year=is_year) for _, map_ in found if map_]
        charts += [_fold([year for year, _ in found], drawn)] if is_empty else drawn
    return charts


def _is_empty(map_: HeatMap | None) -> bool:
    return map_ is None or not any(cell.counts["present"] for cells in map_.cells for cell in cells)


def _fold(years: Sequence[int], drawn: Sequence[str]) -> str:
    said = f"{', '.join(map(str, sorted(years)))}: nothing stored"
    return "\n".join([f"<details><summary>{said}</summary>", *drawn, "</details>"]) if drawn else f"<p>{said}</p>"


def _spans(first: date, last: date) -> Iterator[tuple[date, date]]:
    if (last - first).days < _MOST_DAYS:
        yield first, last
        return
    for year in range(first.year, last.year + 1):
        yield max(first, date(year, 1, 1)), min(last, date(year, 12, 31))


def _draw(map_: HeatMap, *, is_year: bool) -> str:
    """Draw one chart; that of a year has a place for each of its days, so that the charts stand in line."""
    first, last = map_.columns[0], map_.cells[0][-1].last
    places = _YEAR if is_year else len(map_.columns)
    step = min(32.0, (_WIDTH - _LEFT - _RIGHT) / places)
    gap = 1.0 if step >= 6 else 0.0
    start = _LEFT + step * ((first - first.replace(month=1, day=1)).days if is_year else 0)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_TOP + _ROW * len(map_.markets) + 6}" '
        f'role="img" aria-label="Minutes stored, {first} to {last}" font-family="sans-serif" font-size="12">'
    ]
    parts += [
        f'<text x="{start + column * step:.1f}" y="16" fill="#444">{label}</text>'
        for column, label in labels(map_, least_apart=52 / step)
    ]
    for row, (market, cells) in enumerate(zip(map_.markets, map_.cells, strict=True)):
        top = _TOP + row * _ROW
        share = percent(*(sum(cell.counts[name] for cell in cells) for name in ("present", "expected")))
        right = _LEFT + places * step + 6
        parts.append(f'<text x="0" y="{top + 11}" fill="#222">{escape(market)}</text>')
        parts.append(f'<text x="{right:.1f}" y="{top + 11}" fill="#222">{escape(share)}</text>')
        parts.append('<g shape-rendering="crispEdges">')
        parts += [
            _draw_cell(cell, start + column * step, top, columns * step - gap)
            for column, columns, cell in _joined(cells)
        ]
        parts.append("</g>")
    return "\n".join([*parts, "</svg>"])


def _joined(cells: Sequence[Cell]) -> Iterator[tuple[int, int, Cell]]:
    """Yield the column of each cell, how many it takes, and the cell; days that nobody asked for are one."""
    column = 0
    for is_unfetched, group in groupby(
        cells, key=lambda cell: cell.minutes[Kind.NOT_COLLECTED] == cell.counts["expected"]
    ):
        found = list(group)
        if is_unfetched:
            minutes = sum(cell.counts["expected"] for cell in found)
            counts = {**found[0].counts, "expected": minutes, Cause.UNFETCHED: minutes}
            yield column, len(found), replace(found[0], last=found[-1].last, counts=counts)
        else:
            yield from ((column + number, 1, cell) for number, cell in enumerate(found))
        column += len(found)


def _draw_cell(cell: Cell, left: float, top: int, width: float) -> str:
    said = escape(str(cell))
    rectangles = []
    for colour, height in cell.bands(_CELL):
        border = ' stroke="#ddd" stroke-width=".5"' if colour == COLOURS[Kind.NOT_COLLECTED] else ""
        rectangles.append(
            f'<rect x="{left:.2f}" y="{top}" width="{width:.2f}" height="{height}" fill="{colour}"{border}/>'
        )
        top += height
    return f"<g><title>{said}</title>{''.join(rectangles)}</g>"


def draw_legend() -> str:
    """Draw what the colours mean."""
    entries = [(colour, f"present, {name}") for _, colour, name in SHADES]
    entries += [(colour, f"missing, {kind.value}") for kind, colour in COLOURS.items()]
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} 44" role="img" aria-label="Legend" '
        'font-family="sans-serif" font-size="12">'
    ]
    for number, (colour, name) in enumerate(entries):
        left, top = _LEFT + 240 * (number % 4), 4 + 20 * (number // 4)
        parts.append(f'<rect x="{left}" y="{top}" width="14" height="14" fill="{colour}" stroke="#888"/>')
        parts.append(f'<text x="{left + 20}" y="{top + 11}" fill="#222">{escape(name)}</text>')
    return "\n".join([*parts, "</svg>"])
