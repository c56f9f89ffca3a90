"""Start the process of a feed so that it survives whoever started it, with its output in a log.

Not here: when to start one (``supervising``), what it does.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from mdp.config.settings import Settings
from mdp.domain.market import Exchange

MAX_LOG_BYTES = 10_000_000
"""A log that grew larger is set aside at the next start; the one before it is dropped."""

_LAST_BYTES = 2_000


class FeedProcess:
    """A feed that was started here."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.pid = process.pid
        self._process, self._log = process, log

    def poll(self) -> int | None:
        """Return its exit code; None while it runs."""
        return self._process.poll()

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()

    def last_words(self) -> str:
        """Return the last line it wrote, and where the others are."""
        try:
            with self._log.open("rb") as file:
                file.seek(max(0, self._log.stat().st_size - _LAST_BYTES))
                lines = file.read().decode(errors="replace").strip().splitlines()
        except OSError as error:
            return f"nothing that could be read: {error}"
        return f"{lines[-1] if lines else 'nothing'} (whole log: {self._log})"

    def __del__(self) -> None:
        # it is meant to go on when we end; Python would complain that nobody waited for it
        if self._process.returncode is None:
            self._process.returncode = 0


def feed_log(settings: Settings, exchange: Exchange) -> Path:
    """Return the file to which the feed of an exchange writes."""
    return settings.data_dir / "log" / f"feed-{exchange.value}.log"


def feed_starter(settings: Settings) -> Callable[[Exchange], FeedProcess]:
    """Return what starts the feed of an exchange with the settings of this process."""
    return lambda exchange: start_detached(
        [sys.executable, "-m", "mdp.cli", "feed", exchange.value, "--while-wanted"], feed_log(settings, exchange)
    )


def start_detached(command: list[str], log: Path) -> FeedProcess:
    """Start a process in a session of its own: neither our end nor a Ctrl-C on our terminal reaches it.

    Raises:
        OSError: it cannot be started, or its log cannot be written.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    if log.exists() and log.stat().st_size > MAX_LOG_BYTES:
        log.replace(log.with_suffix(".log.1"))
    with log.open("ab") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    return FeedProcess(process, log)
