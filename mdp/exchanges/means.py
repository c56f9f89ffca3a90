"""What a source needs beside its settings, given to it from outside.

Not here: who gives it (``open_source`` and its callers).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from mdp.exchanges.asking import RetryWaits
from mdp.ports import Bandwidth, Budget, Clock, PageSpool


@dataclass(frozen=True, slots=True)
class Means:
    """What a source works with.

    Attributes:
        clock: Our time.
        budget: Gives leave to ask.
        spool: Keeps answered pages; None: nobody does.
        waits: How long to wait between attempts.
        refusals_last_s: So long a market or an exchange that was refused for good is not asked again.
        bandwidth: Where the bytes of answers are counted; None: nowhere.
    """

    clock: Clock
    budget: Budget
    spool: PageSpool | None
    waits: RetryWaits
    refusals_last_s: float = math.inf
    bandwidth: Bandwidth | None = None
