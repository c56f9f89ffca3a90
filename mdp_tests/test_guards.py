"""The guards that stand around every test: see that they are there."""

from __future__ import annotations

import os
import socket

import pytest


def test_a_connection_beyond_this_machine_is_refused_before_it_is_tried():
    with (
        socket.socket() as tried,
        pytest.raises(RuntimeError, match=r"socket.connect to '192\.0\.2\.1': mark the test"),
    ):
        tried.connect(("192.0.2.1", 80))


def test_a_datagram_beyond_this_machine_is_refused():
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as tried,
        pytest.raises(RuntimeError, match=r"socket\.sendto"),
    ):
        tried.sendto(b"x", ("192.0.2.1", 53))


def test_the_name_of_an_exchange_is_not_even_looked_up():
    with pytest.raises(RuntimeError, match=r"socket.getaddrinfo to 'api\.binance\.com'"):
        socket.getaddrinfo("api.binance.com", 443)


def test_this_machine_can_be_reached():
    with socket.create_server(("127.0.0.1", 0)) as server:
        for host in ("127.0.0.1", "localhost"):
            with socket.create_connection((host, server.getsockname()[1])) as client:
                assert client.getpeername() == server.getsockname()


def test_no_setting_of_the_person_who_runs_the_tests_is_seen():
    assert not [name for name in os.environ if name.upper().startswith("MDP_")]


class TestBetweenTests:
    """A setting that one test makes is gone in the next."""

    @pytest.mark.parametrize("time", [1, 2])
    def test_a_setting_made_in_a_test_lives_as_long_as_the_test(self, time, monkeypatch):
        assert "MDP_WORKERS" not in os.environ
        monkeypatch.setenv("MDP_WORKERS", "3")
