"""What a process says to the script that counts, and what that answers. Spelled as the script reads it.

Not here: the script, sending (``shared``).
"""

from __future__ import annotations

from msgspec import Struct

UNTOLD = -1.0
"""Stands for a figure that an answer did not report."""


class QuotaTerms(Struct):
    """A quota and the part of it that is ours in this environment."""

    name: str
    amount: float
    window: float
    share: float
    calendar: bool


class Want(Struct):
    """A request that waits. ``costs``: number of the quota and amount; ``limits``: the symbol's own, by quota."""

    id: str
    symbol: str
    costs: list[tuple[int, float]]
    limits: list[float]


class Told(Struct):
    """What an answer reported of the quota with this number; :data:`UNTOLD` where it did not."""

    quota: int
    used: float
    left: float
    resets: float


class Answered(Struct):
    """A request that came to its end ``age`` seconds ago; ``minutes``: the windows in which it was given leave."""

    id: str
    symbol: str
    costs: list[tuple[int, float]]
    age: float
    minutes: list[int]
    told: list[Told]


class Recalled(Struct):
    """A request of earlier; ``free``: by quota, in how many seconds its room is free."""

    id: str
    symbol: str
    costs: list[tuple[int, float]]
    free: list[float]


class Cooling(Struct):
    """Nobody asks for so many seconds; counted once, however often it is repeated."""

    seconds: float
    reason: str
    is_counted: bool


class Hello(Struct):
    """The first words to a server: which one it is, since when, and a name for its count should it have none."""

    run: str
    uptime: float
    epoch: str
    is_new: bool


class Ask(Struct):
    """One call."""

    name: str
    client: str
    machine: str
    mono: float
    env: str
    timeout: float
    horizon: float
    quotas: list[QuotaTerms]
    live: bool = False
    epoch: str = ""
    ahead: float | None = None
    hello: Hello | None = None
    recalled: list[Recalled] = []
    answered: list[Answered] = []
    cooling: list[Cooling] = []
    wants: list[Want] = []
    waiting_at: list[str] = []
    waited_s: float = 0.0
    waits: int = 0
    about: str = ""


class Reply(Struct):
    """One answer.

    Attributes:
        now: The clock of the count.
        epoch: Name of the count.
        waits: For each want: leave, in so many seconds; or, below 0, ask again after so many.
        room: For each quota, how much of it was left, as we may use it.
        minutes: For each quota, the number of the present window by the server's wall clock.
        cool: Seconds that the cool-down lasts; 0: there is none.
        reason: Of the cool-down.
        young: Seconds for which the count may lack what others asked before the server was started.
        waiting_at: Scopes at which we are known to wait.
    """

    now: float
    epoch: str
    waits: list[float]
    room: list[float]
    minutes: list[int]
    cool: float
    reason: str
    young: float
    waiting_at: list[str]


class About(Struct):
    """What a process says of itself, for people who look."""

    host: str
    pid: int
    env: str
    priority: str
    waiting: int
