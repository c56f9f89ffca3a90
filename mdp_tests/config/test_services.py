"""Where the services listen: believed only as long as the process that said so runs."""

from __future__ import annotations

import fcntl
import os
import socket
import subprocess
import sys
from contextlib import contextmanager

import pytest

from mdp.config.exchange_sections import ExchangeSettings
from mdp.config.services import (
    Services,
    exchange_settings,
    host_of,
    lock_file,
    read_services,
    require_simulator,
    services_file,
    write_services,
)
from mdp.config.settings import load_settings
from mdp.domain.market import Exchange
from mdp.errors import ConfigError


@pytest.fixture
def settings(tmp_path):
    return load_settings(data_dir=tmp_path)


def services(pid):
    return Services(pid=pid, simulator_url="http://127.0.0.1:45678", ui_url="http://127.0.0.1:45679")


def dead_pid():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


@contextmanager
def held(settings):
    settings.run_dir.mkdir(parents=True, exist_ok=True)
    with lock_file(settings).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def test_what_a_running_up_wrote_is_where_the_exchanges_are(settings):
    with held(settings):
        write_services(settings, services(os.getpid()))
        assert read_services(settings) == services(os.getpid())
        assert exchange_settings(settings, Exchange.OKX).rest_url == "http://127.0.0.1:45678/okx"


def test_nothing_was_ever_started(settings):
    assert read_services(settings) is None
    assert exchange_settings(settings, Exchange.OKX).rest_url == "http://127.0.0.1:8790/okx"


@pytest.mark.parametrize("pid", [os.getpid, dead_pid], ids=["its number is another's now", "its process is gone"])
@pytest.mark.parametrize("has_lock_file", [True, False])
def test_what_an_up_that_ended_left_behind_is_not_believed(settings, pid, has_lock_file):
    write_services(settings, services(pid()))
    if has_lock_file:
        lock_file(settings).touch()
    assert read_services(settings) is None
    assert exchange_settings(settings, Exchange.OKX).rest_url == "http://127.0.0.1:8790/okx"


def test_an_up_that_is_starting_does_not_make_the_last_one_alive(settings):
    write_services(settings, services(dead_pid()))
    with held(settings):
        assert read_services(settings) is None


def test_looking_leaves_the_lock_free(settings):
    write_services(settings, services(os.getpid()))
    with held(settings):
        pass
    assert read_services(settings) is None
    with lock_file(settings).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_lock_is_not_even_tried_when_the_process_is_gone(settings, monkeypatch):
    tried = []
    monkeypatch.setattr(fcntl, "flock", lambda *_: tried.append(1))
    write_services(settings, services(dead_pid()))
    lock_file(settings).touch()
    assert read_services(settings) is None
    assert tried == []


def test_an_address_of_its_own_wins_over_the_simulator(settings, monkeypatch):
    monkeypatch.setenv("MDP_EXCHANGES__OKX__REST_URL", "https://example.org")
    assert exchange_settings(load_settings(), Exchange.OKX).rest_url == "https://example.org"


def test_a_file_that_up_did_not_write_is_named(settings):
    settings.run_dir.mkdir(parents=True)
    services_file(settings).write_text("{}")
    with pytest.raises(ConfigError, match=r"services\.json: expected what `mdp up` writes"):
        read_services(settings)


class TestASimulatorThatDoesNotAnswer:
    @pytest.fixture
    def port(self):
        """A port at which something listens until the socket is closed."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            yield listener

    def test_the_error_says_how_to_start_it(self, tmp_path, port):
        number = port.getsockname()[1]
        settings = load_settings(data_dir=tmp_path, simulator={"port": number})
        require_simulator(settings, Exchange)
        port.close()
        with pytest.raises(ConfigError, match="start it with `make up` or `mdp simulate`, got " + str(number)):
            require_simulator(settings, Exchange)

    def test_the_error_names_the_address_where_one_was_given(self, tmp_path, port):
        number = port.getsockname()[1]
        port.close()
        settings = load_settings(data_dir=tmp_path, simulator={"url": f"http://me:secret@127.0.0.1:{number}"})
        with pytest.raises(ConfigError, match=f"got 'http://127.0.0.1:{number}'") as error:
            require_simulator(settings, Exchange)
        assert error.value.setting == "MDP_SIMULATOR__URL"

    def test_it_is_not_asked_for_exchanges_that_have_an_address(self, tmp_path, port):
        number = port.getsockname()[1]
        port.close()
        settings = load_settings(
            data_dir=tmp_path, simulator={"port": number}, exchanges={"okx": {"rest_url": "https://example.org"}}
        )
        require_simulator(settings, [Exchange.OKX])
        with pytest.raises(ConfigError):
            require_simulator(settings, [Exchange.OKX, Exchange.BYBIT])


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://api.binance.com", "api.binance.com"),
        ("https://API.binance.com:443/prefix", "api.binance.com"),
        ("https://me:secret@api.binance.com:8443", "api.binance.com:8443"),
        ("http://127.0.0.1:8790/binance", "127.0.0.1:8790"),
        ("http://[::1]:80", "[::1]"),
    ],
)
def test_the_host_of_an_exchange_is_spelled_one_way(url, host):
    assert host_of(ExchangeSettings(rest_url=url)) == host
