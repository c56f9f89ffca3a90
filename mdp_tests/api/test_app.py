"""The service put together: every error is a problem, every route describes itself, and the description is true."""

from __future__ import annotations

import json
import os
from importlib.metadata import version
from pathlib import Path

import pytest
from starlette.routing import Mount, Route

from mdp.api.problems import MEDIA_TYPE, TYPES

DOCUMENT = Path(__file__).parents[2] / "docs" / "openapi.json"
METHODS = {"get", "post", "put", "patch", "delete"}
GROUPS = {"Buffers", "History", "Quality", "Generations", "Streams", "Drop-in klines", "Service"}


@pytest.fixture(scope="module")
def document(client):
    return client.app.openapi()


@pytest.fixture(scope="module")
def operations(document):
    return {
        f"{method.upper()} {path}": operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        if method in METHODS
    }


def test_the_description_in_the_documents_is_that_of_the_routes(document):
    text = json.dumps(document | {"info": document["info"] | {"version": ""}}, indent=1, ensure_ascii=False) + "\n"
    if os.environ.get("WRITE_SNAPSHOT"):
        DOCUMENT.write_text(text, encoding="utf-8")
    assert DOCUMENT.read_text(encoding="utf-8") == text, "make golden; then read the diff"


def test_every_operation_says_what_it_is_for_and_belongs_to_a_described_group(document, operations):
    assert {tag["name"] for tag in document["tags"] if tag["description"]} == GROUPS
    for name, operation in operations.items():
        assert operation["summary"], name
        assert operation.get("description"), name
        assert set(operation["tags"]) <= GROUPS, name
        assert operation["tags"], name


def test_every_operation_names_its_problems_and_none_is_422(operations):
    for name, operation in operations.items():
        statuses = set(operation["responses"])
        assert "422" not in statuses, name
        assert {"400", "401", "429"} <= statuses, name
        if "/compat/" not in name:
            for status in statuses & {"400", "401", "403", "404"}:
                assert MEDIA_TYPE in operation["responses"][status]["content"], (name, status)


def test_every_reference_of_the_description_leads_somewhere(document):
    def references(part):
        if isinstance(part, dict):
            if isinstance(part.get("$ref"), str):
                yield part["$ref"]
            for value in part.values():
                yield from references(value)
        elif isinstance(part, list):
            for value in part:
                yield from references(value)

    schemas = document["components"]["schemas"]
    used = {reference.removeprefix("#/components/schemas/") for reference in references(document)}
    assert "ProblemDocument" in used
    assert used <= schemas.keys()
    assert "HTTPValidationError" not in schemas


def test_parameters_of_routes_say_what_they_are(operations):
    for name, operation in operations.items():
        if "/compat/" not in name:
            for parameter in operation.get("parameters", ()):
                said = parameter.get("description") or parameter.get("examples") or parameter["schema"].get("enum")
                assert said or parameter["schema"].get("examples"), (name, parameter["name"])


def test_keys_are_described_and_no_key_is_one_of_the_ways(document):
    schemes = document["components"]["securitySchemes"]
    assert {(one["type"], one.get("in"), one.get("name")) for one in schemes.values()} == {
        ("http", None, None), ("apiKey", "header", "X-API-Key"), ("apiKey", "cookie", "mdp_key"),
    }  # fmt: skip
    assert {} in document["security"]


def test_every_route_that_is_not_described_is_a_page_or_another_method_of_one_that_is(client, document):
    def routes(found):
        for route in found:
            if isinstance(route, Mount):
                yield from routes(route.routes)
            elif isinstance(route, Route):
                yield route

    pages = ("/", "/docs", "/static", "/favicon.ico", "/api/v1/openapi.json")
    for route in routes(client.app.routes):
        if route.path in document["paths"] or "HEAD" in (route.methods or ()):
            continue
        assert route.path in pages or route.path.startswith(("/static", "/compat")), route.path


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/nowhere", 404), ("GET", "/api/v1/nowhere", 404), ("DELETE", "/healthz", 405), ("GET", "/healthz/", 404),
     ("GET", "/healthz?x=1", 400), ("GET", "/api/v1/market-data/binance/BTC-USDT/buffer/1m/more", 404)],
)  # fmt: skip
def test_what_cannot_be_answered_is_a_problem_with_a_name(client, method, path, status):
    answer = client.request(method, path)
    assert (answer.status_code, answer.headers["content-type"]) == (status, MEDIA_TYPE)
    said = answer.json()
    assert said["type"].startswith(TYPES)
    assert (said["status"], said["retryable"]) == (status, False)
    assert said["title"]
    assert said["detail"]


def test_the_description_is_served_and_says_the_version(client):
    answer = client.get("/api/v1/openapi.json")
    assert (answer.status_code, answer.json()["info"]["version"]) == (200, version("mdp"))
