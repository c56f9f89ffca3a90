"""What holds for every test: no network beyond this machine, no settings of the person who runs it.

Not here: fixtures of one kind of test (the ``conftest`` of its folder), builders (``support``).
"""

from __future__ import annotations

import ipaddress
import os
import socket
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import settings as hypothesis_settings

pytest_plugins = ["mdp_tests.support.bigquery.fixtures"]

# few examples each time, for the suite is run all day; `--hypothesis-profile=thorough` looks longer
hypothesis_settings.register_profile("here", deadline=None, max_examples=40)
hypothesis_settings.register_profile("ci", deadline=None, max_examples=40, derandomize=True, print_blob=True)
hypothesis_settings.register_profile("thorough", deadline=None, max_examples=1_000)
hypothesis_settings.load_profile("ci" if os.environ.get("CI") else "here")


class NetworkBlocked(RuntimeError):
    """A test tried to leave this machine; deliberately no OSError, which clients would take for a bad connection."""


class _Guard:
    """Whether the test that is running now may use the network."""

    is_open = False


def _is_this_machine(host: object) -> bool:
    if host in (None, "", b"", "localhost", b"localhost", socket.gethostname()):
        return True
    text = host.decode() if isinstance(host, bytes) else str(host)
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


def _watch_sockets(event: str, arguments: tuple[Any, ...]) -> None:
    """Audit hook: sees every connection and name lookup that Python makes, whichever library asks for it."""
    if _Guard.is_open or event not in ("socket.connect", "socket.sendto", "socket.sendmsg", "socket.getaddrinfo"):
        return
    target = arguments[0] if event == "socket.getaddrinfo" else arguments[1]
    if event != "socket.getaddrinfo":
        if not isinstance(target, tuple):  # a Unix socket, or a socket that is connected already
            return
        target = target[0]
    if not _is_this_machine(target):
        raise NetworkBlocked(f"{event} to {target!r}: mark the test `live` if it must leave this machine")


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker, watch the sockets, and forget settings before anything is imported that reads them."""
    config.addinivalue_line("markers", "live: asks a real exchange; runs only with `-m live`")
    for name in _setting_names():
        del os.environ[name]
    sys.addaudithook(_watch_sockets)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip tests that ask a real exchange unless they are asked for."""
    if "live" in config.getoption("markexpr"):
        return
    for item in items:
        if item.get_closest_marker("live"):
            item.add_marker(pytest.mark.skip(reason="asks a real exchange: run it with `-m live`"))


@pytest.fixture(autouse=True)
def _network(request: pytest.FixtureRequest) -> Iterator[None]:
    _Guard.is_open = request.node.get_closest_marker("live") is not None
    yield
    _Guard.is_open = False


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in _setting_names():
        monkeypatch.delenv(name)


def _setting_names() -> list[str]:
    return [name for name in os.environ if name.upper().startswith("MDP_")]
