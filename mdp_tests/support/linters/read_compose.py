"""Read a compose file from standard input by the compose specification; 1: it is none, and why.

It runs in the linters' environment. Not here: what the file should say (``mdp_tests.deploy``).
"""

from __future__ import annotations

import sys

from compose_spec import PyCompose


def main() -> int:
    try:
        file = PyCompose.from_yaml(sys.stdin.read())
        file.validate()
    except ValueError as error:
        sys.stdout.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
