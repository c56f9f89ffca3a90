"""Which names a new snapshot may have beside those there are.

Not here: which letters a name has, and that it is taken (``storage``).
"""

from __future__ import annotations

from mdp.errors import InputError
from mdp.ports import CandleStore


def require_distinct(store: CandleStore, name: str) -> None:
    """Refuse a name that differs from that of a snapshot only in case.

    Snapshots are folders: where a file system ignores case, both would be one, and a copy of the lake would lose one.

    Args:
        store: Where the snapshots are.
        name: Of the new one; one that is taken as it stands is for the store to refuse.

    Raises:
        InputError: names the one that is alike.
    """
    alike = [other for other in store.snapshots() if other != name and other.casefold() == name.casefold()]
    if alike:
        expected = f"a name that differs from {alike[0]!r} not only in case, or they are one where case does not count"
        raise InputError("name", got=name, expected=expected)
