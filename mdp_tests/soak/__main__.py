"""``make soak HOURS=24 SPEED=60``: run it, print one table, end with 0 only if all of it holds.

Not here: what happens in it (``course``).
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
from pathlib import Path

from mdp_tests.soak.course import EXTRA, NOW, SCENARIO, Course, soak
from mdp_tests.soak.world import platform_at_work


def main() -> int:
    """Read the arguments, run, say what is wrong."""
    parser = argparse.ArgumentParser(prog="python -m mdp_tests.soak")
    parser.add_argument("--hours", type=float, default=24.0, help="simulated hours")
    parser.add_argument("--speed", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--every", type=float, default=30.0, help="real seconds from one kill to the next")
    parser.add_argument("--scenario", default=SCENARIO)
    given = parser.parse_args()
    print(f"{given.hours:g} simulated hours at {given.speed:g}x, seed {given.seed}, load {os.getloadavg()[0]:.1f}")
    course = Course(given.hours, given.seed, given.every)
    with (
        tempfile.TemporaryDirectory(prefix="mdp-soak-", ignore_cleanup_errors=True) as folder,
        platform_at_work(
            Path(folder), speed=given.speed, now=NOW, scenario=given.scenario or None, extra=EXTRA
        ) as world,
    ):
        found = asyncio.run(soak(world, course))
    for problem in found.wrong:
        print(f"WRONG {problem}")
    for problem in found.late:
        print(f"MISSED {problem}")
    print("all holds" if not found.wrong + found.late else f"{len(found.wrong)} wrong, {len(found.late)} missed")
    return 1 if found.wrong or found.late else 0


if __name__ == "__main__":
    sys.exit(main())
