"""Print Terraform files as one JSON object, by name; 1: one is no HCL, and why.

It runs in the linters' environment. Not here: what the files should say (``mdp_tests.deploy``).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import hcl2


def main(names: list[str]) -> int:
    found = {}
    for name in names:
        try:
            with Path(name).open(encoding="utf-8") as file:
                found[Path(name).name] = hcl2.load(file)
        except Exception as error:  # what the library of its grammar raises
            sys.stdout.write(f"{name}: {error}\n")
            return 1
    sys.stdout.write(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
