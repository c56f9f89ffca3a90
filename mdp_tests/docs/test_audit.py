"""The audit of packages: it finds what it is there to find, and says so where it could not look."""

from __future__ import annotations

import json

import httpx
import pytest

from mdp_tests.support import audit
from mdp_tests.support.audit import Pin, installed_differs, is_allowed, licence_of, read_lock, vulnerabilities

HASH = "--hash=sha256:" + "a" * 64


def test_every_lock_of_the_project_is_pinned_and_hashed():
    for path in audit.LOCKS:
        pins, wrong = read_lock(path.read_text("utf-8"))
        assert not wrong
        assert len(pins) > 20


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("idna>=3 " + HASH, "not pinned"),
        ("idna==3.7", "without a SHA-256: idna"),
        ("idna==3.7 --hash=md5:abc", "without a SHA-256"),
        ("git+https://example.com/x.git", "not pinned"),
        ("--index-url https://example.com", "not pinned"),
        ("-e .", "not pinned"),
    ],
)
def test_a_line_that_could_bring_anything_is_named(line, said):
    assert said in read_lock(f"# why\n{line}\n    # via x\n")[1][0]


def test_a_pin_is_read_with_its_extras_and_marker():
    text = f"Redis_X[hiredis]==8.0.1 ; sys_platform != 'win32' \\\n    {HASH} \\\n    {HASH}\n    # via mdp\n"
    assert read_lock(text) == ([Pin("redis-x", "8.0.1", True)], [])


def test_what_is_installed_otherwise_than_locked_is_named():
    pins = [Pin("a", "1", False), Pin("b", "2", False), Pin("b", "3", True), Pin("c", "1", True), Pin("d", "1", False)]
    said = list(installed_differs(pins, {"a": "1", "b": "4", "e": "1", "mdp": "1", "pip": "1"}))
    assert said == ["locked b 2 or 3, installed 4", "locked and not installed: d", "installed and not locked: e"]


@pytest.mark.parametrize("licence", ["MIT", "Apache-2.0", "LGPL-3.0-or-later", "GPL-2.0 OR MIT", "BSD 3-Clause"])
def test_a_licence_that_allows_our_use(licence):
    assert is_allowed(licence)


@pytest.mark.parametrize(
    "licence", ["GPL-3.0", "AGPL-3.0-only", "GNU General Public License v3 (GPLv3)", "", "Proprietary"]
)
def test_a_licence_that_does_not(licence):
    assert not is_allowed(licence)


def test_the_expression_of_a_licence_counts_first():
    assert licence_of({"License-Expression": "MIT", "License": "GPL"}, []) == "MIT"
    assert licence_of({"License": "x\ny"}, ["License :: OSI Approved :: MIT License"]) == "MIT License"
    assert licence_of({"License": "BSD\nlong text"}, []) == "BSD"


def test_a_known_vulnerability_is_named_and_an_accepted_one_is_not(monkeypatch):
    def osv(request):
        asked = json.loads(request.content)["queries"]
        known = {"idna": {"vulns": [{"id": "GHSA-1"}, {"id": "GHSA-2"}]}}
        return httpx.Response(200, json={"results": [known.get(one["package"]["name"], {}) for one in asked]})

    monkeypatch.setattr(audit, "ACCEPTED", {"GHSA-2": "does not concern us"})
    with httpx.Client(transport=httpx.MockTransport(osv)) as http:
        found = vulnerabilities([Pin("a", "1", False), Pin("idna", "3.7", False)], http)
    assert found == ["idna 3.7: https://osv.dev/GHSA-1"]


def test_that_nobody_could_be_asked_is_an_error_for_whoever_asks():
    with (
        httpx.Client(transport=httpx.MockTransport(lambda _: httpx.Response(503))) as http,
        pytest.raises(httpx.HTTPError),
    ):
        vulnerabilities([Pin("a", "1", False)], http)


def test_servers_get_the_versions_that_were_tested():
    tested, deployed = (
        {(pin.name, pin.version) for pin in audit.read_lock(path.read_text("utf-8"))[0]}
        for path in (audit.LOCK, audit.DEPLOYED)
    )
    assert deployed - tested == set()
    assert {"pytest", "ruff", "playwright"} & {name for name, _ in deployed} == set()
