"""``python -m mdp.cli.probe URL``: is a service well? For health checks of containers, which ask every few seconds.

It loads nothing that takes time. Not here: whether a feed is well (``mdp live --require``), what is wrong (``doctor``).
"""

from __future__ import annotations

import sys
from http.client import HTTPException
from urllib.error import HTTPError
from urllib.request import HTTPRedirectHandler, ProxyHandler, build_opener

TIMEOUT_S = 4.0
"""Below that of the health checks in ``deploy``, so that what is wrong is said, not cut off."""


class _NoRedirects(HTTPRedirectHandler):
    """What sends us elsewhere says nothing of itself."""

    def redirect_request(self, *_: object) -> None:
        return None


def probe(url: str, timeout_s: float = TIMEOUT_S) -> str | None:
    """Ask a service how it is.

    Args:
        url: Where it answers ``GET``; no proxy of the environment is used.
        timeout_s: Seconds for connecting, and for each wait for an answer.

    Returns:
        What is wrong; None where it answered 2xx.
    """
    opener = build_opener(ProxyHandler({}), _NoRedirects())
    try:
        with opener.open(url, timeout=timeout_s) as answer:
            answer.read(1)
    except HTTPError as error:
        with error:
            return f"{url} answered {error.code}"
    except (OSError, HTTPException, ValueError) as error:
        return f"{url}: {error}"
    return None


def main(arguments: list[str]) -> int:
    """Ask, say what is wrong; 0: well, 1: not, 2: that is no way to ask."""
    if len(arguments) != 1 or not arguments[0].startswith("http://"):
        sys.stderr.write("usage: python -m mdp.cli.probe http://127.0.0.1:PORT/PATH\n")
        return 2
    wrong = probe(arguments[0])
    if wrong is not None:
        sys.stderr.write(f"{wrong}\n")
    return 0 if wrong is None else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
