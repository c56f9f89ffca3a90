"""Pages joined are one answer, and a cursor is of use for its own question alone."""

from __future__ import annotations

import base64
import io
from urllib.parse import parse_qs, urlsplit

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdp.api.paging import Cursor, read_cursor
from mdp.api.problems import Problem
from mdp_tests.support.builders import at, window

URL = "/api/v1/market-data/binance/BTC-USDT/history"
DAY = {"timeframe": "1m", "start": "2024-12-30", "end": "2024-12-31"}
WINDOW = window("2024-12-30", "2024-12-31")
CURSOR = Cursor(at("2024-12-30T10:00"), at("2024-12-31"))


def pages(client, **asked):
    """Follow the links, as any client does."""
    answer = client.get(URL, params={**DAY, **asked})
    while True:
        assert answer.status_code == 200, answer.text
        yield answer
        link = answer.headers.get("link")
        if link is None:
            assert "x-mdp-next-cursor" not in answer.headers
            return
        path, _, relation = link.partition(">; ")
        assert relation == 'rel="next"'
        assert parse_qs(urlsplit(path).query)["cursor"] == [answer.headers["x-mdp-next-cursor"]]
        answer = client.get(path.removeprefix("<"))


@pytest.mark.parametrize(
    ("asked", "count"),
    [
        ({"limit": "500"}, 3),
        ({"limit": "1439"}, 1),
        ({"limit": "1438"}, 2),
        ({"limit": "720", "as_of": "2026-02-01"}, 2),
    ],
)
def test_pages_are_exactly_one_answer(client, asked, count):
    whole = client.get(URL, params=DAY).json()
    found = [page.json() for page in pages(client, **asked)]
    assert [row for page in found for row in page["rows"]] == whole["rows"]
    assert len(found) == count
    assert {(page["start"], page["end"]) for page in found} == {(whole["start"], whole["end"])}
    assert found[-1]["next_cursor"] is None


def test_links_lead_on_in_every_form(client):
    whole = client.get(URL, params={**DAY, "timeframe": "15m"}).json()["rows"]
    found = [
        pl.read_parquet(io.BytesIO(page.content))
        for page in pages(client, timeframe="15m", limit="40", format="parquet")
    ]
    assert [len(one) for one in found] == [40, 40, len(whole) - 80]
    assert pl.concat(found)["open_time"].n_unique() == len(whole)


def test_the_size_and_form_of_a_page_may_change_on_the_way(client):
    first = client.get(URL, params={**DAY, "limit": "10"}).json()
    second = client.get(URL, params={**DAY, "limit": "3", "cursor": first["next_cursor"], "format": "csv"})
    assert second.text.splitlines()[1].startswith("2024-12-30T00:10:00Z")


def test_a_cursor_of_an_open_end_keeps_the_end_of_the_first_page(client):
    asked = {"timeframe": "1m", "start": "2024-12-30T23:58Z", "limit": "1"}
    first = client.get(URL, params=asked).json()
    second = client.get(URL, params={**asked, "cursor": first["next_cursor"]}).json()
    assert (second["end"], len(second["rows"]), second["next_cursor"]) == (first["end"], 1, None)


@pytest.mark.parametrize(
    "other", [{"timeframe": "5m"}, {"start": "2024-12-29"}, {"end": "2024-12-30T23:00Z"}, {"as_of": "2026-02-01"}]
)
def test_a_cursor_of_another_question_is_refused(client, other):
    cursor = client.get(URL, params={**DAY, "limit": "10"}).json()["next_cursor"]
    answer = client.get(URL, params={**DAY, **other, "cursor": cursor})
    assert (answer.status_code, answer.json()["errors"][0]["parameter"]) == (400, "cursor")
    elsewhere = client.get(URL.replace("BTC", "ETH"), params={**DAY, "cursor": cursor})
    assert elsewhere.status_code == 400


@pytest.mark.slow
@given(st.integers(min_value=0, max_value=37), st.sampled_from("Aa0_-="))
def test_a_cursor_that_was_tampered_with_is_refused(place, letter):
    text = CURSOR.spell("question")
    changed = text[:place] + letter + text[place + 1 :]
    if changed == text:
        assert read_cursor(text, "question", WINDOW) == CURSOR
    else:
        with pytest.raises(Problem):
            read_cursor(changed, "question", WINDOW)


@pytest.mark.slow
@given(st.binary(max_size=40) | st.text(max_size=40))
def test_what_is_no_cursor_is_refused(noise):
    text = base64.urlsafe_b64encode(noise).decode() if isinstance(noise, bytes) else noise
    with pytest.raises(Problem):
        read_cursor(text, "question", WINDOW)


def test_a_cursor_never_leads_out_of_its_window():
    for cursor in (
        Cursor(at("2024-12-29"), at("2024-12-31")),
        Cursor(at("2024-12-30"), at("2026-12-31")),
        Cursor(at("2024-12-31"), at("2024-12-31")),
    ):
        with pytest.raises(Problem):
            read_cursor(cursor.spell("question"), "question", WINDOW)
