"""How fast the service answers from its memory, beside the same server that only says hello, while feeds are at work.

``wrk`` asks both in turn, over one connection pool of the same size; ratios are of one run. And how soon the service is
back, buffers and all, after its worker was killed under load.
``python -m mdp_tests.benchmarks.serving hello PORT BYTES`` is the server that says hello. Not here: bodies of history
(``api_bodies``), streams (``streams``).
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from statistics import median
from typing import Any

import httpx
import psutil
import uvicorn

from mdp.cli.processes import free_port
from mdp_tests.benchmarks.live import feeds_at_work
from mdp_tests.support.workplace import Workplace

ROUNDS, ROUND_S, CONNECTIONS = 5, 4, 16
KILLS = 5
PATH = "/api/v1/market-data/binance/BTC-USDT/buffer/1m"
ARROW = "application/vnd.apache.arrow.stream"
CASES: dict[str, tuple[str, ...]] = {
    "JSON": (),
    "JSON, zstd": ("accept-encoding: zstd",),
    "Arrow": (f"accept: {ARROW}",),
    "not modified": ("if-none-match: *",),
}


@contextmanager
def serving(place: Workplace) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """The service, until the block ends; yields where, once it has full buffers, and its supervisor."""
    port = free_port(0)
    process = place.start("serve", "--port", str(port))
    try:
        url = f"http://127.0.0.1:{port}"
        wait_for_buffers(url)
        yield url, process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


@contextmanager
def saying_hello(size: int) -> Iterator[str]:
    """A server with the same options that answers every request with ``size`` bytes."""
    port = free_port(0)
    command = [sys.executable, "-m", "mdp_tests.benchmarks.serving", "hello", str(port), str(size)]
    process = subprocess.Popen(command)
    try:
        _wait_until_up(f"http://127.0.0.1:{port}/")
        yield f"http://127.0.0.1:{port}/"
    finally:
        process.terminate()
        process.wait(30)


def wait_for_buffers(url: str, patience_s: float = 60) -> float:
    """Return after how many seconds the service answered with a full buffer."""
    began = time.monotonic()
    while time.monotonic() - began < patience_s:
        try:
            found = httpx.get(url + PATH, timeout=5, trust_env=False)
        except httpx.TransportError:
            found = None
        if found is not None and found.status_code == httpx.codes.OK and len(found.json()["rows"]) > 100:
            return time.monotonic() - began
        time.sleep(0.02)
    raise TimeoutError(f"no full buffer at {url} within {patience_s:g} s")


def _wait_until_up(url: str) -> None:
    for _ in range(500):
        try:
            httpx.get(url, timeout=1, trust_env=False)
        except httpx.TransportError:
            time.sleep(0.02)
        else:
            return
    raise TimeoutError(url)


def ask(url: str, headers: tuple[str, ...] = ()) -> tuple[float, float]:
    """Let ``wrk`` ask for some seconds: requests a second, and the 99th percentile in milliseconds."""
    options = [part for header in headers for part in ("-H", header)]
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{ROUND_S}s", "--latency", *options, url]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in said and "if-none-match" not in str(headers):
        raise AssertionError(said)
    rate = re.search(r"Requests/sec:\s+([\d.]+)", said)
    slow = re.search(r"99%\s+([\d.]+)(us|ms|s)", said)
    assert rate is not None, said
    assert slow is not None, said
    return float(rate[1]), float(slow[1]) * {"us": 1e-3, "ms": 1.0, "s": 1e3}[slow[2]]


def measure(place: Workplace) -> dict[str, Any]:
    """Ask the buffer route in each form, and hello in turn."""
    found: dict[str, Any] = {}
    with ExitStack() as opened:
        url, _ = opened.enter_context(serving(place))
        size = len(httpx.get(url + PATH, trust_env=False).content)
        bare, same = (opened.enter_context(saying_hello(count)) for count in (5, size))
        asked = {name: (url + PATH, headers) for name, headers in CASES.items()}
        asked["JSON, by the route"] = (f"{url}{PATH}?format=json", ())
        asked |= {"hello": (bare, ()), f"hello, {size} bytes": (same, ())}
        rounds = [{name: ask(*one) for name, one in asked.items()} for _ in range(ROUNDS)]
    for name in asked:
        rates, slow = zip(*(one[name] for one in rounds), strict=True)
        ratios = [one[name][0] / one["hello"][0] for one in rounds]
        found[name] = {"per_s": median(rates), "p99_ms": median(slow), "of_hello": median(ratios)}
    return found


def measure_kills(place: Workplace) -> list[float]:
    """Kill the worker under load, again and again: seconds until a full buffer is served."""
    found = []
    with serving(place) as (url, process):
        for _ in range(KILLS):
            load = subprocess.Popen(["wrk", "-t1", f"-c{CONNECTIONS}", "-d6s", url + PATH], stdout=subprocess.DEVNULL)
            time.sleep(1)
            for worker in workers_of(process.pid):
                worker.kill()
            found.append(wait_for_buffers(url))
            load.wait(30)
    return found


def workers_of(supervisor: int) -> list[psutil.Process]:
    """Return the processes that answer, not the one that watches over them nor Python's tracker of resources."""
    children = psutil.Process(supervisor).children()
    return [child for child in children if "resource_tracker" not in " ".join(child.cmdline())]


def run() -> dict[str, Any]:
    """Measure and print."""
    with feeds_at_work(1.0) as (place, _):
        time.sleep(15)
        found, kills = measure(place), measure_kills(place)
    print(f"\n| one worker, {CONNECTIONS} connections | requests/s | of hello | p99, ms |\n|---|---:|---:|---:|")
    for name, one in found.items():
        print(f"| {name} | {one['per_s']:,.0f} | {one['of_hello']:.2f} | {one['p99_ms']:.1f} |")
    print(f"\nkilled under load, full buffers again after: {', '.join(f'{one:.2f} s' for one in kills)}")
    return {"answers": found, "killed_s": kills}


def _hello(port: int, size: int) -> None:
    body = b"h" * size
    start = {
        "type": "http.response.start",
        "status": 200,
        "headers": [(b"content-type", b"text/plain"), (b"content-length", str(size).encode())],
    }
    rest = {"type": "http.response.body", "body": body}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(start)
        await send(rest)

    uvicorn.run(
        app, port=port, log_level="warning", access_log=False, lifespan="off", loop="uvloop", http="httptools",
        server_header=False,
    )  # fmt: skip


if __name__ == "__main__":
    if sys.argv[1:2] == ["hello"]:
        _hello(int(sys.argv[2]), int(sys.argv[3]))
    else:
        run()
