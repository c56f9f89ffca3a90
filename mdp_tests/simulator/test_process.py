"""The simulator as a process: it says when it is ready, ends when told, and refuses bad input in one line."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from datetime import UTC, datetime

import httpx
import pytest

from mdp.errors import InputError
from mdp.simulator.__main__ import main
from mdp.simulator.clock import to_ms
from mdp.simulator.server import serve
from mdp.simulator.simulation import build_simulation
from mdp_tests.simulator.stream_client import connected, run
from mdp_tests.support.simulator_control import Control
from mdp_tests.support.simulator_process import running_simulator


class TestBadInput:
    """Refused before anything is served, so no process is needed."""

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (["--now", "tomorrow"], ["--now: expected a date such as 2024-12-30", "got 'tomorrow'"]),
            (["--now", "2025-01-08T00:00"], ["--now: expected a time with its offset", "got '2025-01-08T00:00'"]),
            (["--now", "2025-02-30"], ["--now", "2025-02-30"]),
            (["--now", "2040-01-01"], ["--now: expected a time from 2017-01-01 to before 2040-01-01"]),
            (["--now", "2016-12-31T23:59:59Z"], ["--now: expected a time from 2017-01-01"]),
            (["--data", "/nowhere/at/all"], ["--data: expected an existing folder", "'/nowhere/at/all'"]),
            (["--port", "70000"], ["--port: expected a free port", "70000"]),
            (["--speed", "0"], ["--speed: expected a number from 0.01 to 1000", "got 0.0"]),
            (["--scenario", "quiet"], ["--scenario: expected a file, or one of down, flaky, geo", "'quiet'"]),
            (["--latency-ms", "-1"], ["--latency-ms: expected milliseconds from 0 to 60000", "-1"]),
            (["--bandwidth-mbit", "0"], ["--bandwidth-mbit: expected a number above 0", "got 0.0"]),
        ],
    )
    def test_it_is_one_line_on_standard_error_and_code_2(self, capsys, arguments, words):
        assert main(["--port", "0", *arguments]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.count("\n") == 1
        for word in words:
            assert word in err

    def test_a_port_in_use_is_named(self, capsys):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            assert main(["--port", str(port)]) == 2
        assert "--port: expected a free port (" in capsys.readouterr().err

    def test_a_corrupt_folder_is_named(self, capsys, tmp_path):
        folder = tmp_path / "binance" / "BTCUSDT" / "1m"
        folder.mkdir(parents=True)
        (folder / "BTCUSDT-1m-2024-12-25.csv.gz").write_bytes(b"not gzip")
        assert main(["--data", str(tmp_path)]) == 2
        assert "BTCUSDT-1m-2024-12-25.csv.gz" in capsys.readouterr().err

    def test_callers_in_python_get_the_error(self):
        with pytest.raises(InputError, match="--now"):
            serve(0, None, datetime(2041, 1, 1, tzinfo=UTC), 1)

    def test_the_first_and_the_last_simulated_instants_are_accepted(self):
        for moment in (datetime(2017, 1, 1, tzinfo=UTC), datetime(2039, 12, 31, 23, 59, 59, tzinfo=UTC)):
            simulation = build_simulation(now=moment)
            assert 0 <= simulation.clock() - moment.timestamp() * 1_000 < 60_000


@pytest.mark.slow
class TestProcess:
    @pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
    def test_it_starts_quickly_serves_and_ends_cleanly(self, stop):
        with running_simulator("--now", "2025-01-08T00:00Z", "--seed", "5") as simulator:
            cpu_s = sum(os.times()[2:4])
            with httpx.Client(base_url=simulator.url, trust_env=False) as client:
                health = client.get("/healthz").json()
                assert health["seed"] == 5
                assert health["now"].startswith("2025-01-08T00:00")
                first, second = (client.get("/binance/api/v3/time").json()["serverTime"] for _ in range(2))
                assert second >= first
            simulator.process.send_signal(stop)
            assert simulator.process.wait(timeout=10) == 0
            assert simulator.process.stderr.read() == ""
            assert sum(os.times()[2:4]) - cpu_s < 1.5, "CPU seconds of the whole life of the process"

    def test_it_ends_cleanly_while_streams_are_open_even_half_open_ones(self):
        async def talk(simulator):
            async with connected(simulator.url, "bybit", "BTC") as one, connected(simulator.url, "okx", "BTC") as other:
                await one.candles(1)
                assert (await other.answer())["event"] == "subscribe"
                await asyncio.sleep(0.2)
                simulator.process.send_signal(signal.SIGTERM)
                await asyncio.to_thread(simulator.process.wait, 10)

        with running_simulator("--now", "2025-01-08T00:00Z", "--speed", "60") as simulator:
            Control(simulator.url).script({"kind": "stream_half_open", "exchange": "okx"})
            run(talk(simulator))
            assert simulator.process.returncode == 0
            assert simulator.process.stderr.read() == ""

    def test_another_process_can_compute_its_time_without_asking_again(self):
        with running_simulator("--now", "2025-01-08T00:00Z", "--speed", "250") as simulator:
            control = Control(simulator.url)
            first = control.clock()
            time.sleep(0.2)
            before_ns, now_ms, after_ns = time.monotonic_ns(), control.clock()["now_ms"], time.monotonic_ns()
            earliest, latest = (
                first["now_ms"] + (at_ns - first["monotonic_ns"]) * 250 / 1e6 for at_ns in (before_ns, after_ns)
            )
            assert earliest - 1.5 <= now_ms <= latest + 0.5
            control.set_clock(now="2025-03-01", speed=1)
            assert 0 <= control.now_ms() - to_ms(datetime(2025, 3, 1, tzinfo=UTC)) < 5_000

    def test_another_folder_is_served(self, tmp_path):
        from mdp.simulator.recorded_days import CARRIED

        folder = tmp_path / "binance" / "BTCUSDT" / "1m"
        folder.mkdir(parents=True)
        name = "BTCUSDT-1m-2024-12-30.csv.gz"
        (folder / name).write_bytes((CARRIED / "binance" / "BTCUSDT" / "1m" / name).read_bytes())
        with running_simulator("--data", str(tmp_path)) as simulator:
            markets = httpx.get(f"{simulator.url}/healthz", trust_env=False).json()["markets"]
            assert markets[0]["recorded"] == [{"start": "2024-12-30", "end": "2024-12-31"}]

    def test_two_processes_cannot_share_a_port(self):
        with running_simulator() as simulator:
            port = simulator.url.rpartition(":")[2]
            again = subprocess.run(
                [sys.executable, "-m", "mdp.simulator", "--port", port], capture_output=True, text=True, timeout=60
            )
            assert again.returncode == 2
            assert again.stdout == ""
            assert again.stderr.count("\n") == 1

    def test_it_needs_nothing_of_the_orchestration(self):
        code = (
            "import sys, mdp.simulator.server; print([m for m in ('dagster', 'ccxt', 'deltalake') if m in sys.modules])"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
        assert done.stdout.strip() == "[]"
