"""stdout and stderr that outlive their reader: ``mdp … | head`` ends in silence and with the code of the command.

Not here: what is written to them.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from typing import Any, TextIO


class _Pipe(io.FileIO):
    """A file descriptor that takes what is written to it also when nobody reads any more."""

    def write(self, body: Any, /) -> int:
        try:
            return super().write(body)
        except BrokenPipeError:
            return len(memoryview(body).cast("B"))


@contextmanager
def lasting_streams() -> Iterator[None]:
    """Let stdout and stderr swallow what is written after their reader has left.

    A pipe without a reader would otherwise raise from whichever line writes next, and Typer and Rich would each end
    the process with a code of their own: a backfill that lacks minutes must say so whether or not anybody reads its
    table. A descriptor that the caller closed is opened to nowhere, lest a file of the lake get its number.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free: this one
    with redirect_stdout(_stream(1)) as out, redirect_stderr(_stream(2)) as errors:
        try:
            yield
        finally:
            for stream in (out, errors):
                with suppress(OSError):  # a full disk was reported by whoever wrote
                    stream.flush()


def _stream(number: int) -> TextIO:
    binary = io.BufferedWriter(_Pipe(number, "w", closefd=False))
    is_for_people = number == 2 or os.isatty(number)
    return io.TextIOWrapper(binary, encoding="utf-8", errors="backslashreplace", line_buffering=is_for_people)
