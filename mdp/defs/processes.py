"""What Dagster's own processes do when they load the definitions, which is the only moment at which they ask us.

Not here: the processes that are ours (``cli``), which do this before they load anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath

from mdp.bus.counted import Bringing, bring_counts
from mdp.config.settings import Settings

_BEGUN: list[Bringing] = []


def is_dagsters_own(arguments: Sequence[str]) -> bool:
    """Tell whether a process is one of Dagster's: a code server, a daemon, a page, or a run that one of them began.

    Args:
        arguments: Of the process; children of Dagster's processes have their parent's.

    Examples:
        >>> is_dagsters_own(["/app/.venv/bin/dagster-daemon", "run"])
        True
        >>> is_dagsters_own(["/usr/lib/python3/site-packages/dagster/__main__.py", "api", "grpc"])
        True
        >>> is_dagsters_own(["/app/.venv/bin/mdp", "backfill"])
        False
    """
    path = PurePath(arguments[0] if arguments else "")
    return (
        path.name in ("dagster", "dagit", "dg")
        or path.name.startswith("dagster-")
        or (path.name == "__main__.py" and path.parent.name.startswith("dagster"))
    )


def bring_counts_once(settings: Settings) -> None:
    """Have what this process counts brought to the bus, however often its definitions are loaded."""
    if not _BEGUN:
        _BEGUN.append(bring_counts(settings))
