"""What can be wrong with a Delta log, and how its library says so.

The library reads some broken logs without complaint: a commit file that was emptied or cut at the end of a line counts
as a commit of fewer changes. Therefore each commit of ours says how many lines it has.
Not here: damaged data files (``parquet``), tables of another form or version (``delta_versions``).
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import polars as pl
from deltalake.exceptions import DeltaError

from mdp.errors import StorageError, StoreCorrupt
from mdp.storage.parquet import one_line, os_reason

DELTA_FAILURES = (DeltaError, OSError, ValueError, pl.exceptions.PanicException)
"""What the library raises when it cannot do its work. A panic is not an ``Exception``."""

LINES_KEY = "mdp.lines"
"""Where a commit of ours says how many lines its file has."""

_RECENT_COMMITS = 100
"""How many of the last commits are looked at when a table is opened: what is older is in a checkpoint."""

_OS_ERROR = re.compile(r"os error (\d+)|code: (\d+), kind")


def delta_reason(error: BaseException) -> str:
    """Return why the library failed, in one line: the operating system's reason where it gives one."""
    if isinstance(error, OSError) and error.errno:
        return os_reason(error)
    found = _OS_ERROR.search(str(error))
    return os.strerror(int(found[1] or found[2])) if found else one_line(error)


def remains(directory: Path) -> str | None:
    """Return the name of a directory of data where the library finds no table; None where there is none.

    Raises:
        StorageError: the directory cannot be looked at.
    """
    try:
        return min((path.name for path in directory.iterdir() if "=" in path.name), default=None)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StorageError(f"{directory}: cannot be read: {os_reason(error)}") from error


def require_whole_commits(log_dir: Path, first: int, last: int) -> None:
    """Make sure that the commits ``first`` to ``last`` have all their lines; at most the last hundred are looked at.

    Raises:
        StoreCorrupt: names the file.
    """
    for version in range(max(first, last - _RECENT_COMMITS), last + 1):
        path = log_dir / f"{version:020d}.json"
        try:
            lines = path.read_bytes().splitlines()
        except FileNotFoundError:
            continue  # cleaned up after a checkpoint
        expected = json.loads(lines[0]).get("commitInfo", {}).get(LINES_KEY, len(lines)) if lines else 1
        if len(lines) != expected:
            raise StoreCorrupt(f"{path}: expected {expected} lines, found {len(lines)}")
