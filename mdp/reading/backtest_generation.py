"""Filling what a backtest's range lacks: the very backfill that people run, as a process of its own.

Not here: what a backfill does (``mdp backfill``), what is missing (``backtest_coverage``).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import IO

from mdp.config.settings import Settings
from mdp.domain.interval import Interval, format_time, merge
from mdp.domain.market import Market
from mdp.domain.timeframe import Timeframe
from mdp.errors import Incomplete, InputError
from mdp.pipeline.manifests import whole_days
from mdp.reading.backtest_coverage import Missing

_LEFT_INCOMPLETE = 3
"""The exit code with which a backfill says that minutes are neither stored nor explained."""


def generate(settings: Settings, missing: Iterable[Missing]) -> None:
    """Collect the whole days in which something is missing that is not explained; none, and nothing is started.

    It is shown on stderr how far it is, and the runs in Dagster's UI. Killed, the next call goes on where it was.

    Args:
        settings: Of the caller; the backfill gets the same.
        missing: What the range lacks.

    Raises:
        InputError: a day of it is not over yet; nothing was started.
        Incomplete: the backfill failed; what it collected is stored.
    """
    left = [one for one in missing if not one.is_explained]
    windows = merge(whole_days(one.interval) for one in left)
    if not windows:
        return
    _require_over(windows[-1], left)
    markets = list(dict.fromkeys(one.market for one in left))
    # one backfill for all: it looks for itself which days of which market are not complete
    _run(settings, markets, Interval(windows[0].start, windows[-1].end))


def _require_over(last: Interval, left: Sequence[Missing]) -> None:
    today = Timeframe.D1.floor(datetime.now(UTC))
    if last.end > today:
        asked = max(one.interval.end for one in left)
        expected = f"at most {format_time(today)}: only days that are over can be generated"
        raise InputError("end", got=format_time(asked), expected=expected)


def _run(settings: Settings, markets: Sequence[Market], window: Interval) -> None:
    command = [sys.executable, "-m", "mdp.cli", "backfill", "--missing"]
    command += ["--start", str(window.start.date()), "--end", str(window.end.date())]
    command += [part for market in markets for part in ("--market", str(market))]
    is_terminal = sys.stderr is not None and sys.stderr.isatty()
    # what it prints on stdout is not ours to print; a progress bar needs the terminal itself
    process = subprocess.Popen(
        command,
        env=environment_of(settings),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=None if is_terminal else subprocess.PIPE,
    )
    said = _pass_on(process)
    if process.returncode not in (0, _LEFT_INCOMPLETE):
        why = f"mdp backfill ended with exit code {process.returncode}{': ' + said if said else ''}"
        raise Incomplete({str(window): why}, retryable=process.returncode == 1)


def _pass_on(process: subprocess.Popen[bytes]) -> str:
    """Wait for the end of a process, pass on what it says of its progress, and return its last line."""
    lines: list[str] = []

    def read(stream: IO[bytes]) -> None:
        for line in stream:
            lines[:] = [line.decode(errors="replace").strip()]
            sys.stderr.write(lines[0] + "\n")

    reader = threading.Thread(target=read, args=[process.stderr]) if process.stderr is not None else None
    try:
        if reader is not None:
            reader.start()
        process.wait()
    except BaseException:
        process.terminate()  # a terminal's Ctrl-C reached it already; whoever else stops us stops it too
        process.wait()
        raise
    finally:
        if reader is not None:
            reader.join()
            process.stderr.close()  # type: ignore[union-attr]  # there is a reader only where there is a stream
    return lines[0] if lines else ""


def environment_of(settings: Settings) -> dict[str, str]:
    """Return the environment in which another process finds exactly these settings."""
    inherited = {name: value for name, value in os.environ.items() if not name.upper().startswith("MDP_")}
    ours = {
        f"MDP_{name.upper()}": value if isinstance(value, str) else json.dumps(value)
        for name, value in settings.model_dump(mode="json").items()
        if value is not None
    }
    return {**inherited, **ours}
