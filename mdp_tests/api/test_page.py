"""The page's files: what may be had, and how a browser may keep it."""

from __future__ import annotations

import gzip
import json
import re
from importlib import resources

import pytest

from mdp.api.page.files import load_files
from mdp.pipeline.heat_map import COLOURS, LEAST_BAND, SHADES, Kind

FILES = load_files()
SCRIPTS = sorted(name for name in FILES.files if name.endswith(".js"))


def text(name):
    return FILES.files[name].body.decode()


def test_every_address_in_a_document_is_a_file_that_is_served(client):
    for path in ("/", "/docs"):
        document = client.get(path)
        assert document.headers["content-type"] == "text/html; charset=utf-8"
        named = re.findall(r'(?:src|href)="(/static/[^"]+)"', document.text)
        assert len(named) >= 3
        assert [client.get(address).status_code for address in named] == [200] * len(named)


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_module_imports_modules_that_are_there(name):
    for imported in re.findall(r'from "\./([^"]+)"', text(name)):
        assert imported in FILES.files


def test_a_file_may_be_kept_for_good_and_a_document_is_asked_for_each_time(client):
    file, document = client.get(f"/static/{FILES.digest}/main.js"), client.get("/")
    assert file.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert document.headers["cache-control"] == "no-cache"
    for path, answer in ((f"/static/{FILES.digest}/main.js", file), ("/", document)):
        again = client.get(path, headers={"if-none-match": answer.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        assert client.get(path, headers={"if-none-match": '"other"'}).status_code == 200


def test_packed_and_plain_bytes_are_the_same_file_with_different_tags(client):
    path = f"/static/{FILES.digest}/page.css"
    packed = client.get(path, headers={"accept-encoding": "br, gzip;q=0.5"})
    plain = client.get(path, headers={"accept-encoding": "gzip;q=0, identity"})
    assert (packed.headers["content-encoding"], "content-encoding" in plain.headers) == ("gzip", False)
    assert packed.content == plain.content == gzip.decompress(FILES.files["page.css"].compressed)
    assert packed.headers["etag"] != plain.headers["etag"]
    assert packed.headers["vary"] == plain.headers["vary"] == "Accept-Encoding"


@pytest.mark.parametrize(
    "name",
    [
        "../files.py", "%2e%2e/files.py", "..%2f..%2fapp.py", "index.html", "", "/etc/passwd", "vendor", "vendor/",
        "main.js%00", "main.js/", "..\\files.py",
    ],
)  # fmt: skip
def test_what_is_not_in_the_table_is_not_found(client, name):
    answer = client.get(f"/static/{FILES.digest}/{name}")
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_file_of_another_version_of_the_page_is_not_found(client):
    assert client.get("/static/0000000000000000/main.js").status_code == 404


def test_documents_hold_no_inline_script_or_style_and_are_forbidden_any(client):
    for path in ("/", "/docs"):
        answer = client.get(path)
        assert "default-src 'self'" in answer.headers["content-security-policy"]
        assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=", answer.text)


def test_a_head_request_has_the_headers_and_no_body(client):
    asked, headed = client.get("/"), client.head("/")
    assert (headed.status_code, headed.content) == (200, b"")
    assert headed.headers["etag"] == asked.headers["etag"]


def test_everything_of_the_page_is_in_the_package_data():
    root = resources.files("mdp.api.page") / "static"
    for name in [*FILES.files, *FILES.documents]:
        assert root.joinpath(*name.split("/")).is_file()
    licence = text("vendor/lightweight-charts/LICENSE")
    assert "Apache License" in licence
    assert "TradingView" in text("vendor/lightweight-charts/NOTICE")
    assert 'href="https://www.tradingview.com/"' in FILES.documents["index.html"].body.decode()


def test_the_map_has_the_colours_of_the_coverage_report():
    script = text("coverage.js")
    missing = re.findall(r'\{ name: "([^"]+)", colour: "(#\w+)" \}', script)
    shades = re.findall(r'\{ least: ([\d.]+), name: "([^"]+)", colour: "(#\w+)" \}', script)
    assert dict(missing) == {kind.value: colour for kind, colour in COLOURS.items()}
    assert [name for name, _ in missing] == [
        Kind.NOT_COLLECTED, Kind.UNEXPLAINED, Kind.EXPLAINED, Kind.BEFORE_LISTING,
    ]  # fmt: skip
    assert [(float(least), colour, name) for least, name, colour in shades] == list(SHADES)
    assert f"LEAST_BAND = {LEAST_BAND};" in script


def test_the_service_says_what_it_is(client, settings):
    answer = client.get("/api/v1/service")
    assert answer.status_code == 200
    said = json.loads(answer.content)
    assert said["markets"] == list(settings.markets)
    assert said["timeframes"] == ["1m", "5m", "15m", "1h", "4h", "1d"]
    assert (said["mode"], said["dagster_url"]) == (settings.mode, None)
