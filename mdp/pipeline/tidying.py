"""Small files that commands and services leave in a data directory, and when nobody needs them any more.

Not here: the tables (``maintenance``), pages that wait (``storage.spool``), Dagster's storage, drafts of snapshots
(``storage``).
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from mdp.config.settings import Settings
from mdp.ports import Vacuum

_UUID = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"


@dataclass(frozen=True, slots=True)
class Rule:
    """What is left behind, and how long it stays.

    Attributes:
        name: What it is, for people.
        folder: Of the data directory.
        pattern: Of the name.
        keep: How long it stays after it was last written; None: as long as the settings say of logs.
    """

    name: str
    folder: str
    pattern: re.Pattern[str]
    keep: timedelta | None


RULES = (
    Rule("logs of commands that ended", "log", re.compile(r"(?:backfill|heal)-(?P<pid>\d+)(?:-\d+)?\.log"), None),
    Rule("older halves of logs", "log", re.compile(r".+\.log\.1"), None),
    Rule("signs of life of runs that ended", "run/watched", re.compile(rf"{_UUID}\.lock"), timedelta(days=7)),
    Rule("probes for whether the disk can be written", "run", re.compile(rf"\.{_UUID}"), timedelta(days=1)),
    Rule("restores that were broken off", ".", re.compile(r"\.restoring-[0-9a-f]{8}"), timedelta(days=1)),
)
"""Everything else stays, whatever it is: what has no rule is not ours to remove."""


@dataclass(frozen=True, slots=True)
class Leftover:
    """Something that lies there.

    Attributes:
        folder: Of the data directory.
        name: In it.
        written_at: When it was last written.
        is_in_use: Whether a process that lives has it locked, or is the one in its name.
    """

    folder: str
    name: str
    written_at: datetime
    is_in_use: bool


def rule_for(found: Leftover) -> Rule | None:
    """Return the rule that something falls under; None where it is not ours to remove."""
    return next((rule for rule in RULES if rule.folder == found.folder and rule.pattern.fullmatch(found.name)), None)


def may_go(found: Leftover, now: datetime, keep_logs: timedelta) -> bool:
    """Tell whether something may be removed: a rule names it, its time is over, and nobody uses it."""
    rule = rule_for(found)
    if rule is None or found.is_in_use:
        return False
    return now - found.written_at > (keep_logs if rule.keep is None else rule.keep)


def tidy(settings: Settings, now: datetime, *, is_dry: bool = False) -> Vacuum:
    """Remove what commands and services left in a data directory; what cannot be removed now stays until next time.

    Safe beside all of them: what somebody locked, or a process that lives wrote, stays.

    Args:
        settings: Of the place.
        now: When.
        is_dry: Only count.
    """
    keep_logs = timedelta(days=settings.maintenance.keep_logs_days)
    count = size = 0
    for path, found in _leftovers(settings.data_dir, now):
        if may_go(found, now, keep_logs):
            with suppress(OSError):
                files, room = _room(path)
                if not is_dry:
                    _remove(path)
                count, size = count + files, size + room
    return Vacuum(count, size)


def _leftovers(data_dir: Path, now: datetime) -> Iterator[tuple[Path, Leftover]]:
    for folder in dict.fromkeys(rule.folder for rule in RULES):
        with suppress(OSError):
            for path in sorted((data_dir / folder).iterdir()):
                with suppress(OSError):
                    written_at = datetime.fromtimestamp(path.lstat().st_mtime, now.tzinfo)
                    found = Leftover(folder, path.name, written_at, is_in_use=False)
                    rule = rule_for(found)
                    if rule is not None:
                        yield path, Leftover(folder, path.name, written_at, _is_in_use(rule, path))


def _is_in_use(rule: Rule, path: Path) -> bool:
    named = rule.pattern.fullmatch(path.name)
    if named is not None and "pid" in rule.pattern.groupindex:
        return _lives(int(named["pid"]))
    # Whoever restores has the directory above locked.
    return _is_locked(path.parent if path.is_dir() else path)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _is_locked(path: Path) -> bool:
    handle = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


def _room(path: Path) -> tuple[int, int]:
    files = [path] if not path.is_dir() else [one for one in path.rglob("*") if one.is_file()]
    return len(files), sum(one.lstat().st_size for one in files)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
