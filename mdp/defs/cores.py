"""The cores that processes of backfills may use, and that they let feeds and the service go first.

Not here: how many such processes there are (``queue``, ``cli.workers``), what they do.
"""

from __future__ import annotations

import logging
import math
import os
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path

NICENESS = 5
"""Of a process of backfills: one with 0, as feeds and the service have, gets about three times its share of a core."""

_THREADS = Path("/proc/self/task")
_AUTOGROUP = Path("/proc/self/autogroup")

_log = logging.getLogger(__name__)


def cores_of_share(cores: set[int], share: float) -> set[int]:
    """Return the cores that a share means, rounded up to whole ones: the same for every process, the last ones.

    >>> sorted(cores_of_share({0, 1, 2, 3}, 0.5))
    [2, 3]
    >>> cores_of_share({0, 1, 2, 3}, 0.6) == {1, 2, 3}
    True
    """
    # in thousandths, for 0.7 of 10 cores is 7.000000000000001 in binary
    count = math.ceil(round(len(cores) * share * 1_000) / 1_000)
    return set(sorted(cores)[-max(1, count) :])


@cache
def yield_to_others(share: float) -> None:
    """Confine this process to its share of the cores, and let all others go before it; once, whoever calls again.

    Threads that there are already, those that come later and all processes it starts are bound by it as well: libraries
    that count cores before they start their threads count these.

    Args:
        share: Of the cores it may use now, above 0 and up to 1.
    """
    os.nice(max(0, NICENESS - os.nice(0)))
    _let_other_sessions_go_first()
    if share >= 1:
        return
    if sys.platform != "linux":
        _log.warning("MDP_CPU_SHARE has no effect on %s: only Linux confines a process to some cores", sys.platform)
        return
    confine(cores_of_share(os.sched_getaffinity(0), share))


def confine(cores: set[int]) -> None:
    """Let every thread of this process run on these cores alone."""
    bound: set[str] = set()
    while new := {thread.name for thread in _THREADS.iterdir()} - bound:  # one may start another meanwhile
        for thread in new:
            with suppress(ProcessLookupError):  # it ended
                os.sched_setaffinity(int(thread), cores)
        bound |= new


def _let_other_sessions_go_first() -> None:
    """Tell the kernel where it divides the cores among sessions, where niceness counts only within each of them.

    Source: man 7 sched, "The autogroup feature".
    """
    if os.getsid(0) == os.getpid():  # otherwise it would be said of whoever shares the session
        with suppress(OSError):  # no such kernel, or a limit on changes: 10 a second
            _AUTOGROUP.write_text(str(NICENESS), encoding="ascii")
