"""How often what an exchange did not give is asked for again within one step, and how long to wait in between.

Not here: the retries of a single request, which take seconds (``exchanges``); asking (``fetching``).
"""

from __future__ import annotations

from dataclasses import dataclass

from mdp.errors import CircuitOpen, MdpError, PayloadError, RateLimited


@dataclass(frozen=True, slots=True)
class Rounds:
    """When to ask again, once everybody else was served.

    Attributes:
        more: How many rounds follow the first one.
        wait_s: Seconds to wait before each.
        longest_wait_s: An exchange that wants a longer wait is given up at once: a person may want to know.
        misreadings: How many answers of a market in a row that cannot be read end the asking for it. One bad page of
            some year shall not cost the other years; a changed format shall not be found out sixty times.
    """

    more: int = 2
    wait_s: float = 20
    longest_wait_s: float = 120
    misreadings: int = 3

    def gives_up(self, error: MdpError) -> bool:
        """Tell whether asking again within this step cannot help."""
        return not error.retryable or _asked_wait_s(error) > self.longest_wait_s

    def wait_after_s(self, error: MdpError) -> float:
        """Return the seconds to wait before what failed with ``error`` is asked for again."""
        return max(self.wait_s, _asked_wait_s(error))


def speaks_for_exchange(error: MdpError) -> bool:
    """Tell whether an error says that nothing of its exchange can be had now, rather than one market."""
    return isinstance(error, (RateLimited, CircuitOpen))


def speaks_for_slice(error: MdpError) -> bool:
    """Tell whether an error may be about one stretch of time only, so that the market's others are worth asking."""
    return isinstance(error, PayloadError) and not error.retryable


def _asked_wait_s(error: MdpError) -> float:
    return error.retry_after_s if isinstance(error, (RateLimited, CircuitOpen)) else 0.0
