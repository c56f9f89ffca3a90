"""What is said of a setting that is missing or wrong.

Not here: how it is found (``isolation``, ``needs``, ``given``).
"""

from __future__ import annotations

from typing import NamedTuple


class Problem(NamedTuple):
    """A setting with which an environment cannot work as it should.

    Attributes:
        setting: The variable that gives it: ``MDP_BIGQUERY__PROJECT``.
        is_missing: Whether it was not given; else what was given is wrong.
        expected: What it should be; where it is missing, why it is needed.
        got: What came, no secret in it.
        remedy: What to do.
    """

    setting: str
    is_missing: bool
    expected: str
    got: object
    remedy: str

    @property
    def said(self) -> str:
        """What is wrong, in a sentence."""
        return self.expected if self.is_missing else f"expected {self.expected}, got {self.got!r}"


def variable(*path: str) -> str:
    """Return the environment variable of a setting.

    Examples:
        >>> variable("exchanges", "okx", "rest_url")
        'MDP_EXCHANGES__OKX__REST_URL'
    """
    return f"MDP_{'__'.join(path)}".upper()


def wrong(setting: str, *, got: object, expected: str, remedy: str) -> Problem:
    """Return the problem of a setting that was given wrongly; ``got`` is shown as it is, and so may hold no secret."""
    return Problem(setting, False, expected, got, remedy)


def missing(setting: str, *, why: str, remedy: str) -> Problem:
    """Return the problem of a setting that was not given."""
    return Problem(setting, True, why, None, remedy)


JSON_EXPECTED = 'JSON, such as ["…"] or {"…": …}'


def expected_of(kind: str, message: str) -> str:
    """Return what pydantic says of a wrong value, so that it reads well after the word "expected"."""
    if kind == "extra_forbidden":
        return "the name of a setting"
    said = message.removeprefix("Input should be ").removeprefix("Value error, ").removeprefix("expected ")
    return said.split(", got ")[0]
