"""``mdp up``: simulator, Dagster, page and API, and two weeks of candles on this machine, until Ctrl-C.

Not here: what the services do; how processes are started and ended (``processes``).
"""

from __future__ import annotations

import fcntl
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from datetime import date
from pathlib import Path

import httpx
from rich.console import Console

from mdp.cli.backfill import Result, backfill
from mdp.cli.coverage import coverage_table
from mdp.cli.output import print_table
from mdp.cli.processes import ServiceDied, dagster_environment, free_port, last_line, start, stop
from mdp.cli.workers import NO_DAEMON, settle_dead_runs, work_without_orders
from mdp.config.services import Services, lock_file, read_services, services_file, write_services
from mdp.config.settings import PROJECT_ROOT, Settings, load_settings
from mdp.domain.interval import Interval
from mdp.errors import ConfigError
from mdp.reading import parse_markets

RECORDED_WEEKS = Interval.of_days(date(2024, 12, 25), date(2025, 1, 7))
"""Two unbroken weeks of recorded Binance minutes, which the simulator carries."""


def run_up() -> int:
    """Start what is not there, show where to look, wait for Ctrl-C, stop what was started; return the exit code.

    Raises:
        ConfigError: the environment has no simulator.
        ServiceDied: a service did not start, or ended by itself.
    """
    settings = load_settings()
    if not settings.simulated:
        expected = (
            "true, as in local-dev: `mdp up` starts simulated exchanges (docs/environments.md tells of real ones)"
        )
        raise ConfigError("MDP_SIMULATED", got=False, expected=expected)
    console = Console()
    # SIGTERM ends like Ctrl-C, through the same finally blocks; SIGINT too when a shell started us with it ignored.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.default_int_handler)
    with _only_one(settings) as is_first:
        if not is_first:
            services = read_services(settings)
            where = services and (services.api_url or services.ui_url)
            console.print(f"already running: {where or 'in another shell'}")
            return 0
        try:
            with ExitStack() as started:
                return _run(settings, console, started)
        except KeyboardInterrupt:
            console.print("stopped")
            return 0


def _run(settings: Settings, console: Console, started: ExitStack) -> int:
    services = Services(
        pid=os.getpid(),
        simulator_url=f"http://127.0.0.1:{free_port(settings.simulator.port)}",
        ui_url=f"http://127.0.0.1:{free_port(settings.dagster.port)}",
        api_url=f"http://127.0.0.1:{free_port(settings.api.port)}",
    )
    simulator = _service(
        started, settings, "simulator", ["-m", "mdp.simulator", "--port", services.simulator_url.rpartition(":")[2],
                                         "--seed", str(settings.simulator.seed)],
    )  # fmt: skip
    _wait_until_up("simulator", simulator, f"{services.simulator_url}/healthz", settings)
    write_services(settings, services)
    _prepare_dagster(settings)
    dagster = _service(
        started, settings, "dagster", ["-m", "dagster", "dev", "-w", "workspace.yaml", "-h", "127.0.0.1",
                                       "-p", services.ui_url.rpartition(":")[2]],
    )  # fmt: skip
    api_port = str(services.api_url).rpartition(":")[2]
    service = _service(
        started, settings, "serve", ["-m", "mdp.cli", "serve", "--host", "127.0.0.1", "--port", api_port]
    )
    markets = parse_markets(None, settings)
    console.print(f"Collecting {len(markets)} markets, 2024-12-25 to 2025-01-07; stored days are not asked again.")
    result = backfill(settings, markets, RECORDED_WEEKS, only_missing=True)
    _wait_until_up("serve", service, f"{services.api_url}/healthz", settings)
    _wait_until_up("dagster", dagster, f"{services.ui_url}/server_info", settings)
    _say_where_to_look(console, services, result)
    return _watch({"simulator": simulator, "dagster": dagster, "serve": service}, settings)


def _prepare_dagster(settings: Settings) -> None:
    """Before the daemon starts: create Dagster's storage, and end the runs whose process is gone.

    A worker does both, for this process does not import Dagster; without need it costs nothing. One process creates
    the storage so that Dagster's own do not race to do so.
    """
    if not (settings.dagster_dir / "schedules").exists() or _has_active_runs(settings):
        work_without_orders(settings, NO_DAEMON)
    else:
        settle_dead_runs(settings)


def _has_active_runs(settings: Settings) -> bool:
    """Tell whether a run says that it is running, which right before the daemon starts only few can rightly do."""
    runs = settings.dagster_dir / "history" / "runs.db"
    query = "SELECT 1 FROM runs WHERE status IN ('STARTING', 'STARTED', 'CANCELING') LIMIT 1"
    try:
        with closing(sqlite3.connect(f"{runs.as_uri()}?mode=ro", uri=True)) as connection:
            return connection.execute(query).fetchone() is not None
    except sqlite3.Error:
        return True  # Dagster itself will say what is wrong with its storage


def _service(started: ExitStack, settings: Settings, name: str, arguments: list[str]) -> subprocess.Popen[bytes]:
    """Start a service with its output in a log file; it is stopped when ``started`` unwinds."""
    log = _log_file(settings, name)
    log.parent.mkdir(parents=True, exist_ok=True)
    settings.dagster_dir.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        process = start(
            [sys.executable, *arguments],
            environment=dagster_environment(settings),
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=PROJECT_ROOT,
        )
    started.callback(stop, process)
    return process


def _wait_until_up(
    name: str, process: subprocess.Popen[bytes], url: str, settings: Settings, *, patience_s: float = 180
) -> None:
    deadline = time.monotonic() + patience_s
    with httpx.Client(trust_env=False, timeout=5) as client:
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise _died(name, process, settings)
            try:
                if client.get(url).status_code == httpx.codes.OK:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.2)
    raise ServiceDied(f"{name}: did not answer at {url} within {patience_s:g} s; see {_log_file(settings, name)}")


def _watch(services: dict[str, subprocess.Popen[bytes]], settings: Settings) -> int:
    """Wait until interrupted; a service that ends by itself is an error."""
    while True:
        for name, process in services.items():
            if process.poll() is not None:
                raise _died(name, process, settings)
        time.sleep(0.5)


def _died(name: str, process: subprocess.Popen[bytes], settings: Settings) -> ServiceDied:
    return ServiceDied(f"{name}: ended with code {process.returncode}; {last_line(_log_file(settings, name))}")


def _log_file(settings: Settings, name: str) -> Path:
    return settings.data_dir / "log" / f"{name}.log"


def _say_where_to_look(console: Console, services: Services, result: Result) -> None:
    command = Path(sys.argv[0])
    shown = command.relative_to(Path.cwd()) if command.is_relative_to(Path.cwd()) else command
    print_table(coverage_table(result.coverage))
    for failure in result.failures:
        console.print(f"FAILED {failure.work.market}: {failure.error}", markup=False)
    console.print(
        f"\n[bold]Page and API[/bold]  {services.api_url}\n"
        f"[bold]Dagster[/bold]       {services.ui_url}\n"
        f"[bold]Simulator[/bold]     {services.simulator_url}/healthz\n"
        f"[bold]Read[/bold]          {shown} read binance:BTC-USDT 1h --start 2024-12-30 --end 2024-12-31\n"
        f"[bold]Coverage[/bold]      {shown} coverage\n\nCtrl-C stops what was started here.",
        highlight=False,
        soft_wrap=True,
    )


@contextmanager
def _only_one(settings: Settings) -> Iterator[bool]:
    """Hold the lock of this data directory; yield whether it was free."""
    settings.run_dir.mkdir(parents=True, exist_ok=True)
    with lock_file(settings).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        services_file(settings).unlink(missing_ok=True)  # what an earlier one left says where nothing listens any more
        yield True
