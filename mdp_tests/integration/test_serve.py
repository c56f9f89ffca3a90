"""``mdp serve`` as people run it: it answers, drains, comes back after kill -9, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import subprocess
import threading
import time
from contextlib import contextmanager, suppress

import httpx
import psutil
import pytest

from mdp.bus import open_live_bus
from mdp.cli.processes import free_port
from mdp.domain.timeframe import Timeframe
from mdp_tests.bus.live_candles import BTC, candle, minute
from mdp_tests.support.workplace import Workplace

pytestmark = pytest.mark.slow

BUFFER = "/api/v1/market-data/binance/BTC-USDT/buffer/1m"
PATIENCE_S = 30
POST = (
    b"POST /api/v1/session HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: 13\r\n\r\n"
)
"""Of whose body nothing was sent so far: a request in flight."""


class KeptBus:
    """A bus that a feed of Binance keeps, as far as anybody can see."""

    def __init__(self, settings):
        self._runner = asyncio.Runner()
        self._bus = self._runner.run(open_live_bus(settings).__aenter__())
        self._lease = self._runner.run(self._bus.lease("feed/binance", "a test", for_s=600))
        self._runner.run(self._bus.rewrite(BTC, {Timeframe.M1: [candle(slot) for slot in range(101)]}))

    def publish(self, *changes):
        self._runner.run(self._bus.publish(BTC, changes))

    def end(self):
        self._runner.run(self._bus.__aexit__(None, None, None))
        self._runner.close()


@pytest.fixture
def place(tmp_path):
    return Workplace(tmp_path, extra={"MDP_API__DRAIN_S": "5", "MDP_API__WORKERS": "1"})


@pytest.fixture
def bus(place):
    kept = KeptBus(place.settings)
    yield kept
    kept.end()


def said_by(place):
    return (place.data_dir / "serve.out").read_text()


def wait_until(is_so, what, patience_s=PATIENCE_S):
    deadline = time.monotonic() + patience_s
    while not is_so():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


@contextmanager
def serving(place, *, ready="/healthz"):
    """The service, once it answers; it is killed with all its processes should a test leave it."""
    (place.data_dir / "serve.out").unlink(missing_ok=True)
    process = place.start("serve", "--port", "0")
    try:
        wait_until(lambda: "http://" in said_by(place) or process.poll() is not None, "it says where it is")
        assert process.poll() is None, said_by(place)
        url = re.search(r"http://127\.0\.0\.1:\d+", said_by(place)).group()
        wait_until(lambda: get(url + ready).status_code == 200, f"{ready}: {said_by(place)}")
        yield url, process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def get(url, **headers):
    return httpx.get(url, headers=headers, timeout=PATIENCE_S, trust_env=False)


def workers_of(process):
    """Process ids of those that answer: not Python's tracker of resources, nor who is gone and not yet buried."""
    found = []
    for child in psutil.Process(process.pid).children():
        with suppress(psutil.Error):
            if child.status() != psutil.STATUS_ZOMBIE and "resource_tracker" not in " ".join(child.cmdline()):
                found.append(child.pid)
    return found


def connected(url):
    return socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), timeout=PATIENCE_S)


def read_all(connection):
    parts = []
    while part := connection.recv(65_536):
        parts.append(part)
    return b"".join(parts)


def test_quick_answers_and_those_of_the_route_are_the_same_on_the_wire_also_one_behind_the_other(place, bus):
    asked = b"GET %b HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept-Encoding: zstd\r\n%b\r\n"
    path = BUFFER.encode()
    quick, route = asked % (path, b""), asked % (path, b"X-Request-ID: seven\r\n")
    last = asked % (b"/healthz", b"Connection: close\r\n")
    with serving(place, ready=BUFFER) as (url, _), connected(url) as connection:
        connection.sendall(quick + quick + route + quick + last)
        found = re.split(rb"(?=HTTP/1\.1 )", read_all(connection))[1:]
        answers = [dict_of(one) for one in found]
        assert [one["status"] for one in answers] == [b"200"] * 5
        names = [(one.pop(b"date"), one.pop(b"x-request-id", None))[1] for one in answers[:4]]
        assert (names[0], names[2], names[3] is None) == (None, b"seven", False), "the last one waits for the route's"
        assert answers[0] == answers[1] == answers[2] == answers[3]
        assert b"server" not in answers[2]
        assert answers[4]["body"] == b'{"status":"alive"}'


def dict_of(answer):
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *lines = head.split(b"\r\n")
    return {"status": status.split()[1], "body": body, **dict(line.split(b": ", 1) for line in lines)}


def test_a_change_on_the_bus_is_served_and_when_the_bus_is_gone_it_still_is_marked_stale(place):
    bus = KeptBus(place.settings)
    try:
        with serving(place, ready=BUFFER) as (url, _):
            before = get(url + BUFFER)
            bus.publish(minute(101, close=8.5))
            wait_until(lambda: get(url + BUFFER).json()["rows"][-1][4] == 8.5, "the change is served")
            newest = get(url + BUFFER, **{"if-none-match": before.headers["etag"]})
            assert (newest.status_code, newest.json()["is_stale"]) == (200, False)
            bus.end()
            wait_until(lambda: get(url + BUFFER).json()["is_stale"], "it is marked stale")
            stale = get(url + BUFFER, **{"if-none-match": newest.headers["etag"]})
            assert stale.status_code == 200
            assert (stale.json()["rows"], stale.headers["x-mdp-stale"]) == (newest.json()["rows"], "true")
            assert get(url + "/readyz").status_code == 200
            bus = KeptBus(place.settings)
            wait_until(lambda: not get(url + BUFFER).json()["is_stale"], "it is fresh again")
    finally:
        bus.end()


def test_a_killed_worker_is_replaced_and_nobody_is_refused_meanwhile(place, bus):
    refused, answered, done = [], [], threading.Event()

    def ask_all_the_time(url):
        while not done.is_set():
            try:
                answered.append(httpx.get(url + BUFFER, timeout=PATIENCE_S, trust_env=False).status_code)
            except httpx.ConnectError as error:
                refused.append(error)
            except httpx.TransportError:
                answered.append(0)  # whoever was connected to the killed worker

    with serving(place, ready=BUFFER) as (url, process):
        asking = [threading.Thread(target=ask_all_the_time, args=(url,)) for _ in range(3)]
        for one in asking:
            one.start()
        try:
            for _ in range(2):
                (worker,) = workers_of(process)
                os.kill(worker, signal.SIGKILL)
                wait_until(lambda gone=worker: workers_of(process) not in ([], [gone]), "it is replaced")
                count = len(answered)
                wait_until(lambda since=count: 200 in answered[since:], "it answers again")
        finally:
            done.set()
            for one in asking:
                one.join(PATIENCE_S)
        assert refused == []
        assert set(answered) <= {200, 0}, "who came while there was no worker waits for the buffers of the next one"
        wait_until(lambda: len(get(url + BUFFER).json().get("rows", ())) == 101, "full buffers")


def test_told_to_end_it_answers_what_is_in_flight_takes_nothing_new_and_ends_well(place):
    with serving(place) as (url, process), connected(url) as connection:
        connection.sendall(POST)
        time.sleep(0.3)  # it is in flight once the worker has read its head
        process.send_signal(signal.SIGTERM)
        wait_until(lambda: is_refused(url), "nothing new is taken")
        assert process.poll() is None
        connection.sendall(b'{"key":"none"}'[:13])
        answer = read_all(connection)
        assert answer.startswith(b"HTTP/1.1 4")
        assert b"connection: close" in answer.lower()
        assert process.wait(PATIENCE_S) == 0
    assert "Traceback" not in said_by(place)


def is_refused(url):
    """Whether a connection is refused at once, instead of waiting in line for nobody."""
    try:
        connected(url).close()
    except ConnectionRefusedError:
        return True
    return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_whoever_never_finishes_is_cut_off_when_the_time_to_drain_is_over(place, number):
    place.extra["MDP_API__DRAIN_S"] = "0.5"
    with serving(place) as (url, process), connected(url) as connection:
        connection.sendall(POST)
        time.sleep(0.3)
        process.send_signal(number)
        assert process.wait(PATIENCE_S) == 0
        assert b"200 OK" not in read_all(connection)


def test_no_worker_outlives_the_one_that_watches_over_it(place):
    with serving(place) as (_, process):
        (worker,) = workers_of(process)
        process.kill()
        process.wait()
        wait_until(lambda: not psutil.pid_exists(worker), "the worker ends")


def test_several_workers_answer_and_each_tells_which_one_it_is(place):
    place.extra["MDP_API__WORKERS"] = "2"
    with serving(place) as (url, process):
        wait_until(lambda: len(workers_of(process)) == 2, "two workers")
        pids = {str(pid) for pid in workers_of(process)}
        found = set()

        def ask():
            text = get(url + "/metrics").text
            found.update(re.findall(r'mdp_service_info\{[^}]*worker="(\d+)"', text))
            return found == pids

        wait_until(ask, f"both of {pids} answer, not {found}")
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0


def test_a_port_that_is_taken_is_one_line_that_names_the_setting(place):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", free_port(0)))
        taken.listen()
        port = taken.getsockname()[1]
        done = place.run("serve", "--port", str(port), timeout_s=PATIENCE_S)
    assert done.returncode != 0
    (line,) = done.stderr.strip().splitlines()
    assert "MDP_API__PORT" in line
    assert str(port) in line


def test_what_every_worker_would_stumble_over_is_one_line_at_the_beginning(place):
    place.extra["MDP_API__KEYS_FILE"] = str(place.data_dir / "keys.json")
    keys = place.data_dir / "keys.json"
    keys.write_text("no keys")
    keys.chmod(0o600)
    done = place.run("serve", "--port", "0", timeout_s=PATIENCE_S)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert "keys.json" in done.stderr


def test_it_ends_by_a_signal_that_comes_before_the_first_worker_is_there(place):
    process = place.start("serve", "--port", "0")
    try:
        wait_until(lambda: "http://" in said_by(place), "it says where it is")
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        subprocess.Popen.wait(process)
