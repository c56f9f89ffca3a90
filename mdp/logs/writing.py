"""Writing lines whole: each is one call to the system, so that no other process can get between its letters.

Not here: what a line looks like (``lines``).
"""

from __future__ import annotations

import logging
import os
import sys
from contextlib import suppress


class WholeLines(logging.Handler):
    """Writes each line to stderr in one piece.

    Wherever stderr leads at that moment: Dagster turns it into a file while a step runs, and back.

    Args:
        target: File descriptor to write to; None: whatever stderr is.
    """

    def __init__(self, target: int | None = None) -> None:
        super().__init__()
        self._target = target

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line; one that nobody takes is lost: a log must not stop the work."""
        try:
            line = self.format(record) + "\n"
        except Exception:  # such as a %s too many: said by the standard library, which names the place
            self.handleError(record)
            return
        self.write(line.encode(errors="backslashreplace"))

    def write(self, line: bytes) -> None:
        """Write bytes that end a line."""
        stderr = sys.stderr
        try:
            target = self._target if self._target is not None else stderr.fileno()
        except (OSError, ValueError, AttributeError):  # somebody put another object in its place, such as a test
            with suppress(OSError, ValueError, AttributeError):  # or there is none, or it was closed
                stderr.write(line.decode())
            return
        with suppress(OSError):  # nobody reads it any more, or the disk is full
            while line:
                line = line[os.write(target, line) :]
