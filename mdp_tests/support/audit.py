"""What is wrong with the packages this project is locked to: ``make check`` runs it.

Without a network: each is pinned and hashed, what is installed is what is locked, and its licence allows our use. With
one: whether OSV (https://osv.dev) knows a vulnerability of it. Where OSV cannot be reached that is said, not skipped in
silence. Not here: choosing versions (``make lock``).
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import httpx

ROOT = Path(__file__).parents[2]
LOCK = ROOT / "requirements.lock"
DEPLOYED = ROOT / "deploy/requirements.lock"
"""What servers get: the same versions, without what only development needs."""
LOCKS = (
    LOCK,
    DEPLOYED,
    ROOT / "mdp_tests/support/bigquery/requirements.lock",
    ROOT / "mdp_tests/support/clients/requirements.lock",
    ROOT / "mdp_tests/support/linters/requirements.lock",
)
OSV = "https://api.osv.dev/v1/querybatch"

ACCEPTED: Mapping[str, str] = {}
"""Vulnerabilities that are known and do not concern us, by id: why, and until when."""

NOT_FOR_US = re.compile(r"(?i)\bA?GPL|affero|general public|proprietary|commercial|SSPL|BUSL|non-?commercial")
WEAK = re.compile(r"(?i)lesser|LGPL")
"""Copyleft of the library alone: using it as it is asks nothing of us."""

_PIN = re.compile(r"(?P<name>[A-Za-z0-9._-]+)(\[[^]]*\])?==(?P<version>[^\s;\\]+)(?P<marker>\s*;[^\\]*)?")
_HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}\b")


class Pin(NamedTuple):
    """One line of a lock, with the hashes behind it."""

    name: str
    version: str
    has_marker: bool


def read_lock(text: str) -> tuple[list[Pin], list[str]]:
    """Return what a lock pins, and what is wrong with it."""
    pins, wrong = [], []
    for entry in re.sub(r"\\\n\s*", " ", re.sub(r"(?m)^\s*#.*\n?", "", text)).splitlines():
        if not entry.strip():
            continue
        found = _PIN.match(entry)
        if found is None:
            wrong.append(f"not pinned with ==: {entry[:80]}")
            continue
        if not _HASH.search(entry):
            wrong.append(f"without a SHA-256: {found['name']}")
        pins.append(Pin(plain(found["name"]), found["version"], found["marker"] is not None))
    return pins, wrong


def plain(name: str) -> str:
    """Return the name of a package as PEP 503 spells it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def installed_differs(pins: Sequence[Pin], installed: Mapping[str, str]) -> Iterator[str]:
    """Yield what is installed in another version than is locked, is missing or is there besides."""
    locked: dict[str, list[Pin]] = {}
    for pin in pins:  # a package may be there once for each Python or system
        locked.setdefault(pin.name, []).append(pin)
    for name, choices in locked.items():
        if name not in installed:
            if not all(pin.has_marker for pin in choices):
                yield f"locked and not installed: {name}"
        elif installed[name] not in [pin.version for pin in choices]:
            yield f"locked {name} {' or '.join(pin.version for pin in choices)}, installed {installed[name]}"
    besides = installed.keys() - locked.keys() - {"mdp", "pip", "setuptools", "uv"}
    yield from (f"installed and not locked: {name}" for name in sorted(besides))


def licence_of(about: Mapping[str, str], classifiers: Sequence[str]) -> str:
    """Return what a package says of its licence: the expression, else the classifiers, else the first line of text."""
    named = [one.rpartition(" :: ")[2] for one in classifiers if one.startswith("License ::")]
    text = (about.get("License") or "").strip().splitlines()
    return about.get("License-Expression") or "; ".join(named) or (text[0] if text else "")


def is_allowed(licence: str) -> bool:
    """Tell whether a licence allows our use; where there is a choice, one of them must."""
    choices = re.split(r"(?i)\s+or\s+", licence)
    return bool(licence) and any(not NOT_FOR_US.search(one) or WEAK.search(one) for one in choices)


def vulnerabilities(pins: Sequence[Pin], http: httpx.Client) -> list[str]:
    """Return known vulnerabilities that nobody accepted.

    Raises:
        httpx.HTTPError: OSV cannot be reached.
    """
    queries = [{"package": {"name": pin.name, "ecosystem": "PyPI"}, "version": pin.version} for pin in pins]
    found = []
    for first in range(0, len(queries), 500):
        answer = http.post(OSV, json={"queries": queries[first : first + 500]})
        answer.raise_for_status()
        for pin, result in zip(pins[first : first + 500], answer.json()["results"], strict=True):
            known = [one["id"] for one in (result or {}).get("vulns", []) if one["id"] not in ACCEPTED]
            found += [f"{pin.name} {pin.version}: https://osv.dev/{one}" for one in known]
    return found


def main() -> int:
    """Audit, say what is wrong; 1: something is."""
    wrong, pins = [], []
    for path in LOCKS:
        of_lock, of_it = read_lock(path.read_text("utf-8"))
        wrong += [f"{path.relative_to(ROOT)}: {one}" for one in of_it]
        pins += of_lock
        if path == LOCK:
            here = {plain(one.metadata["Name"]): one for one in metadata.distributions()}
            wrong += installed_differs(of_lock, {name: one.version for name, one in here.items()})
            wrong += _licences({name: one for name, one in here.items() if name in {pin.name for pin in of_lock}})
    said = f"audit: {len(set(pins))} locked packages are pinned and hashed, installed as locked, and may be used"
    try:
        with httpx.Client(timeout=15) as http:
            found = vulnerabilities(sorted(set(pins)), http)
        wrong += [f"known vulnerability: {one}" for one in found]
        said += "; OSV knows no vulnerability of them"
    except (httpx.HTTPError, ValueError, KeyError) as error:
        said += f"; NOT audited for known vulnerabilities: api.osv.dev did not answer ({type(error).__name__})"
    for one in wrong:
        sys.stderr.write(f"audit: {one}\n")
    sys.stdout.write("" if wrong else said + "\n")
    return 1 if wrong else 0


def _licences(here: Mapping[str, metadata.Distribution]) -> Iterator[str]:
    for name, one in here.items():
        about = one.metadata
        licence = licence_of(dict(about.items()), about.get_all("Classifier") or [])
        if not is_allowed(licence):
            yield f"licence of {name}: {licence or 'it names none'}"


if __name__ == "__main__":
    sys.exit(main())
