"""The heat map shows of each market and day what is known, in the picture and on the page."""

from __future__ import annotations

import io
import xml.etree.ElementTree as ElementTree
from datetime import date, timedelta
from html.parser import HTMLParser
from itertools import pairwise

import pytest
from PIL import Image

from mdp.domain.market import Exchange, Market
from mdp.pipeline.coverage_page import coverage_page
from mdp.pipeline.coverage_report import DAY_SCHEMA, STRETCH_SCHEMA, MarketReport
from mdp.pipeline.failed_days import FailedDays
from mdp.pipeline.heat_map import COLOURS, LEAST_BAND, SHADES, Kind, heat_map
from mdp.pipeline.heat_map_picture import WIDTH, Layout, draw_png, labels, percent
from mdp.pipeline.heat_map_svg import draw_charts
from mdp_tests.support.builders import MARKET, NOW, at, frame, window

OTHER = Market.parse("okx:BTC-USDT")
FIRST = date(2024, 12, 27)
COMPLETE = SHADES[0][1]


def report(*days, market=MARKET, first=FIRST, gaps=(), failed=()):
    """A market whose days are given by what differs from a whole one."""
    rows = []
    for number, given in enumerate(days):
        missing = sum(
            given.get(name, 0) for name in ("unfetched", "exchange_outage", "no_trades", "before_listing", "unknown")
        )
        empty = dict.fromkeys(DAY_SCHEMA, 0)
        rows.append({**empty, "market": str(market), "day": first + timedelta(days=number), "expected": 1440,
                     "present": 1440 - missing, **given})  # fmt: skip
    return MarketReport(market, frame(rows, DAY_SCHEMA), frame(gaps, STRETCH_SCHEMA), tuple(failed))


STATES = report(
    {},
    {"before_listing": 1440},
    {"exchange_outage": 1440},
    {"unknown": 1440, "permanent": 1440},
    {"unknown": 1440},
    {"unfetched": 1440},
    {"unknown": 1},
)


def colour_at(picture, x, y):
    return "#{:02x}{:02x}{:02x}".format(*picture.getpixel((x, y)))


def test_a_day_without_data_has_the_colour_of_its_state_from_edge_to_edge():
    map_ = heat_map([STATES])
    picture = Image.open(io.BytesIO(draw_png(map_)))
    layout = Layout.of(map_)
    assert picture.size == (WIDTH, layout.height)
    kinds = [Kind.BEFORE_LISTING, Kind.EXPLAINED, Kind.EXPLAINED, Kind.UNEXPLAINED, Kind.NOT_COLLECTED]
    for column, colour in enumerate([COMPLETE, *(COLOURS[kind] for kind in kinds)]):
        left, top = layout.corner(0, column)
        for x, y in ((left + 1, top + 1), (left + layout.width // 2, top + 12), (left + layout.width - 2, top + 22)):
            assert colour_at(picture, x, y) == colour


def test_a_single_missing_minute_is_seen_at_the_top_and_the_rest_has_the_shade_of_what_is_there():
    map_ = heat_map([STATES])
    picture = Image.open(io.BytesIO(draw_png(map_)))
    left, top = Layout.of(map_).corner(0, 6)
    column = [colour_at(picture, left + 3, top + y) for y in range(24)]
    assert column == [COLOURS[Kind.UNEXPLAINED]] * LEAST_BAND + [SHADES[1][1]] * (24 - LEAST_BAND)


def test_what_a_day_is_divided_into_fills_it_exactly():
    everything = {"unfetched": 1, "exchange_outage": 2, "before_listing": 700, "unknown": 3}
    (cell,) = heat_map([report(everything)]).cells[0]
    for height in (14, 24):
        bands = cell.bands(height)
        assert sum(high for _, high in bands) == height
        assert all(high >= 1 for _, high in bands)
        assert [colour for colour, _ in bands] == [
            COLOURS[Kind.NOT_COLLECTED], COLOURS[Kind.UNEXPLAINED], COLOURS[Kind.EXPLAINED],
            COLOURS[Kind.BEFORE_LISTING], SHADES[3][1],
        ]  # fmt: skip


@pytest.mark.parametrize(
    ("days", "unit", "columns"),
    [(124, "day", 124), (125, "week", 19), (1_200, "month", 41), (3_400, "month", 113)],
)
def test_many_days_are_joined_to_weeks_and_months_and_no_minute_is_lost(days, unit, columns):
    map_ = heat_map([report(*[{"unknown": 1}] * days)])
    assert (map_.unit, len(map_.columns)) == (unit, columns)
    assert sum(cell.counts["unknown"] for cell in map_.cells[0]) == days
    assert sum(cell.counts["expected"] for cell in map_.cells[0]) == days * 1440


@pytest.mark.parametrize(
    ("days", "said"),
    [
        (10, [(0, "Dec 2024"), (5, "Jan 2025")]),
        (1_400, [(0, "2024"), (13, "2026"), (25, "2027"), (37, "2028")]),
    ],
)
def test_months_are_labelled_or_years_where_months_are_many_and_no_two_labels_overlap(days, said):
    assert list(labels(heat_map([report(*[{}] * days)]), least_apart=5)) == said


def test_a_market_of_which_less_is_known_is_not_collected_there():
    map_ = heat_map([report({}, {}, {}), report({}, market=OTHER, first=FIRST + timedelta(days=1))])
    assert [cell.minutes[Kind.NOT_COLLECTED] for cell in map_.cells[1]] == [1440, 0, 1440]
    assert [cell.minutes[Kind.PRESENT] for cell in map_.cells[1]] == [0, 1440, 0]


def test_where_nothing_is_known_there_is_no_map():
    assert heat_map([report()]) is None
    assert draw_charts([report()]) == []
    assert "Nothing is stored." in coverage_page([report()], generated_at=NOW)


def test_the_colours_stay_apart_without_their_hue():
    def lightness(colour):
        red, green, blue = (int(colour[at_ : at_ + 2], 16) for at_ in (1, 3, 5))
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    whole = sorted(map(lightness, [COMPLETE, *COLOURS.values()]))
    assert min(b - a for a, b in pairwise(whole)) > 15


@pytest.mark.parametrize(
    ("present", "expected", "text"),
    [(0, 1440, "0 %"), (1, 1_000_000, "< 0.01 %"), (1439, 1440, "99.93 %"), (999_999, 1_000_000, "99.99 %"),
     (1440, 1440, "100 %"), (0, 0, "0 %")],
)  # fmt: skip
def test_all_and_nothing_are_never_rounded_to(present, expected, text):
    assert percent(present, expected) == text


class _Page(HTMLParser):
    """Collects what a page consists of."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.words, self.links = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("src", "href", "data", "action", "onclick")]

    def handle_data(self, data):
        self.words.append(data)


EVIL = '<script>alert("1")</script>&"\''


def test_the_page_stands_alone_and_nothing_in_it_is_markup_that_should_be_text():
    row = {"market": EVIL, "start": at("2024-12-27"), "end": at("2024-12-28"), "slots": 1440, "cause": "unknown",
           "detail": EVIL, "source": EVIL, "sightings": 2, "is_permanent": True}  # fmt: skip
    one = FailedDays(MARKET, window("2024-12-27", "2024-12-28"), EVIL, EVIL, True, 3, NOW)
    page = _Page(
        coverage_page([report({}, gaps=[dict.fromkeys(STRETCH_SCHEMA) | row], failed=[one])], generated_at=NOW)
    )
    assert not {"script", "link", "img", "iframe", "object"} & set(page.tags)
    assert page.links == []
    assert page.words.count(EVIL) == 5
    assert any("generated 2026-01-02T03:04:05Z" in words for words in page.words)


def test_a_name_is_no_markup_in_a_chart():
    (chart,) = draw_charts([report({}, market=Market(Exchange.OKX, EVIL, "USDT"))])
    title = next(ElementTree.fromstring(chart).iter("{http://www.w3.org/2000/svg}title"))
    assert title.text.startswith(f"okx:{EVIL}-USDT 2024-12-27")


def test_each_market_and_day_has_a_tooltip_that_says_what_is_known_of_it():
    given = {"idle": 7, "unknown": 5, "permanent": 5, "rejected": 2, "revised": 1}
    (chart,) = draw_charts([report({}, given), report({}, {}, market=OTHER)])
    root = ElementTree.fromstring(chart)
    titles = [one.text for one in root.iter("{http://www.w3.org/2000/svg}title")]
    assert titles == [
        "binance:BTC-USDT 2024-12-27: 1,440 of 1,440 minutes",
        "binance:BTC-USDT 2024-12-28: 1,435 of 1,440 minutes, 7 of them idle, 5 unknown, 5 permanent, 2 rejected, "
        "1 revised",
        "okx:BTC-USDT 2024-12-27: 1,440 of 1,440 minutes",
        "okx:BTC-USDT 2024-12-28: 1,440 of 1,440 minutes",
    ]
    fills = {one.get("fill") for one in root.iter("{http://www.w3.org/2000/svg}rect")}
    assert fills == {COMPLETE, SHADES[1][1], COLOURS[Kind.EXPLAINED]}


def test_long_times_have_a_chart_for_each_year_in_which_days_stand_in_line():
    charts = draw_charts(
        [report(*[{}] * 400, first=date(2023, 12, 31)), report({}, market=OTHER, first=date(2024, 5, 1))]
    )
    labels = [ElementTree.fromstring(chart).get("aria-label") for chart in charts]
    assert labels == [
        "Minutes stored, 2025-01-01 to 2025-02-02",
        "Minutes stored, 2024-01-01 to 2024-12-31",
        "Minutes stored, 2023-12-31 to 2023-12-31",
    ]
    titles = [one.text for one in ElementTree.fromstring(charts[1]).iter("{http://www.w3.org/2000/svg}title")]
    assert len(titles) == 366 + 3  # before, the day itself, after
    assert titles[-1] == "okx:BTC-USDT 2024-05-02 to 2024-12-31: 0 of 351,360 minutes, 351,360 unfetched"


def test_years_in_which_nothing_is_stored_are_folded_and_the_others_are_not():
    charts = draw_charts([report(*[{"unfetched": 1440}] * 400, *[{}] * 300, first=date(2022, 12, 1))])
    assert [ElementTree.fromstring(chart).tag.rpartition("}")[2] for chart in charts] == ["svg", "details"]
    folded = charts[-1]
    assert folded.startswith("<details><summary>2022, 2023: nothing stored</summary>")
    assert folded.count("<svg") == 2
    assert len(charts) == 2


def test_the_newest_column_its_share_and_the_legend_fit_into_the_dialog_of_a_page_of_1400_pixels():
    dialog = 1400 * 80 // 100 - 2 * 20
    assert dialog >= WIDTH + 15  # the bar that scrolls down takes its place
    map_ = heat_map([report(*[{}] * 124)])
    picture = Image.open(io.BytesIO(draw_png(map_)))
    assert picture.width == WIDTH
    left, top = Layout.of(map_).corner(0, 123)
    assert colour_at(picture, left + 1, top + 3) == COMPLETE
    edge = picture.crop((WIDTH - 4, 0, WIDTH, picture.height))
    assert edge.getcolors() == [(4 * picture.height, (255, 255, 255))]


def test_a_page_lists_the_longest_gaps_and_says_how_many_it_leaves_out():
    gaps = [
        dict.fromkeys(STRETCH_SCHEMA)
        | {"market": "m", "start": at("2024-12-27"), "end": at("2024-12-28"), "slots": slots, "cause": "unknown"}
        for slots in range(1, 1_004)
    ]
    page = coverage_page([report({}, gaps=gaps)], generated_at=NOW)
    assert "The 1,000 longest; 3 shorter ones are in <code>mdp gaps</code>." in page
    assert page.count("<td>m</td>") == 1_000
