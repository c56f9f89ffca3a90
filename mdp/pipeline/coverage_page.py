"""The coverage as one page that stands alone: heat map, a table of the markets, the gaps, the days not collected.

No script, no style and no picture comes from elsewhere; it opens from a disk and prints. Not here: counting
(``coverage_report``), the cells of the map (``heat_map``).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from html import escape

import polars as pl

from mdp.domain.interval import format_time
from mdp.pipeline.coverage_report import CAUSES, STRETCH_SCHEMA, MarketReport
from mdp.pipeline.heat_map_picture import percent
from mdp.pipeline.heat_map_svg import draw_charts, draw_legend

MOST_GAPS = 1_000
"""Stretches that the page lists, the longest ones; it says how many it leaves out."""

_STYLE = """
:root { color-scheme: light; }
body { margin: 24px auto; max-width: 1240px; padding: 0 16px; font: 14px/1.45 system-ui, sans-serif; color: #222;
  background: #fff; }
h1 { font-size: 22px; margin: 0 0 4px; } h2 { font-size: 17px; margin: 28px 0 8px; }
p { margin: 4px 0 12px; color: #444; }
svg { display: block; width: 100%; height: auto; margin: 6px 0; break-inside: avoid; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 12px; }
th, td { padding: 3px 10px 3px 0; text-align: left; vertical-align: top; white-space: nowrap; }
th { border-bottom: 1px solid #888; font-weight: 600; white-space: normal; vertical-align: bottom; }
td { border-bottom: 1px solid #e6e6e6; }
td.number, th.number { text-align: right; } td.words { white-space: normal; min-width: 160px; }
thead { display: table-header-group; } tr { break-inside: avoid; }
.wide { overflow-x: auto; }
@media print { body { margin: 0; max-width: none; font-size: 11px; } table { font-size: 9px; }
  .wide { overflow: visible; }
  th, td { white-space: normal; padding-right: 6px; }
  svg * { print-color-adjust: exact; -webkit-print-color-adjust: exact; } }
""".strip()


def coverage_page(reports: Sequence[MarketReport], *, generated_at: datetime) -> str:
    """Write the page.

    Args:
        reports: Of the markets, in the order of the rows.
        generated_at: UTC.

    Returns:
        An HTML document of its own.
    """
    charts = draw_charts(reports)
    map_ = "\n".join([draw_legend(), *charts]) if charts else "<p>Nothing is stored.</p>"
    return "\n".join(
        [
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>Coverage</title>\n<style>\n{_STYLE}\n</style>\n</head>\n<body>",
            "<h1>Coverage</h1>",
            f"<p>Minutes of each market and UTC day; generated {escape(format_time(generated_at))}. Point at a cell "
            "to read what is known of it. What is missing stands at its top, at least so high that it is seen.</p>",
            map_,
            "<h2>Markets</h2>",
            _markets(reports),
            "<h2>Gaps</h2>",
            _gaps(reports),
            "<h2>Days not collected</h2>",
            _failed(reports),
            "</body>\n</html>\n",
        ]
    )


def _markets(reports: Iterable[MarketReport]) -> str:
    names = ("market", "first day", "last day", "days", "expected", "present", "coverage", "idle", *CAUSES, "permanent",
             "rejected", "revised")  # fmt: skip
    rows = []
    for report in reports:
        first_last = [str(report.days["day"].min()), str(report.days["day"].max())]
        if report.days.is_empty():
            rows.append([str(report.market), "nothing known", *[""] * (len(names) - 2)])
            continue
        number = {name: f"{report.total(name):,}" for name in names[4:] if name != "coverage"}
        number["coverage"] = percent(report.total("present"), report.total("expected"))
        number |= {"idle": ""} if report.market.is_volatility_index else {}
        rows.append([str(report.market), *first_last, f"{len(report.days):,}", *(number[name] for name in names[4:])])
    return _table(names, rows, numbers=range(3, len(names)))


def _gaps(reports: Iterable[MarketReport]) -> str:
    gaps = pl.concat([STRETCH_SCHEMA.to_frame(), *(report.gaps for report in reports)])
    if gaps.is_empty():
        return "<p>No minute is missing.</p>"
    shown = gaps.sort("slots", descending=True, maintain_order=True).head(MOST_GAPS).sort("market", "start")
    left = len(gaps) - len(shown)
    said = f"The {len(shown):,} longest; {left:,} shorter ones are in <code>mdp gaps</code>. " if left else ""
    names = ("market", "start", "end (exclusive)", "minutes", "cause", "permanent", "times seen missing", "first seen",
             "last seen", "asked of", "detail")  # fmt: skip
    rows = [
        [row["market"], format_time(row["start"]), format_time(row["end"]), f"{row['slots']:,}",
         row["cause"].replace("_", " "), {True: "yes", False: "no"}.get(row["is_permanent"], ""),
         "" if row["sightings"] is None else str(row["sightings"]), _to_the_minute(row["first_seen_at"]),
         _to_the_minute(row["seen_at"]), row["source"] or "", row["detail"] or ""]
        for row in shown.iter_rows(named=True)
    ]  # fmt: skip
    return f"<p>{said}Stretches are joined over midnights where all that is known of them is the same.</p>" + _table(
        names, rows, numbers=(3, 6), words=(10,)
    )


def _failed(reports: Iterable[MarketReport]) -> str:
    rows = [
        [str(one.market), str(one.window.start.date()), f"{one.days:,}", one.error, one.message,
         "may help" if one.retryable else "will not help", _to_the_minute(one.failed_at)]
        for report in reports
        for one in report.failed
    ]  # fmt: skip
    if not rows:
        return "<p>The latest attempt at every day succeeded.</p>"
    names = ("market", "first day", "days", "error", "message", "asking again", "failed at")
    return _table(names, rows, numbers=(2,), words=(4,))


def _table(
    names: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: Iterable[int], words: Iterable[int] = ()
) -> str:
    kinds = {**dict.fromkeys(numbers, ' class="number"'), **dict.fromkeys(words, ' class="words"')}
    head = "".join(f"<th{kinds.get(at, '')}>{escape(name.replace('_', ' '))}</th>" for at, name in enumerate(names))
    body = "\n".join(
        "<tr>" + "".join(f"<td{kinds.get(at, '')}>{escape(text)}</td>" for at, text in enumerate(row)) + "</tr>"
        for row in rows
    )
    return f'<div class="wide"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>'


def _to_the_minute(moment: datetime | None) -> str:
    return "" if moment is None else f"{moment:%Y-%m-%d %H:%M}"
