"""``make bench``: every benchmark, or those named on the command line: ``data``, ``rest``, ``archive``, ``quota``,
``buffers``, ``live``, ``bodies``, ``streams``, ``serving``, ``scaling``.

Prints the tables of ``docs/BENCHMARKS.md`` and keeps the figures below ``data/benchmarks``. Not here: what is measured.
"""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from mdp.config.settings import PROJECT_ROOT
from mdp_tests.benchmarks import (
    api_bodies,
    data_plane,
    fetching,
    live,
    live_rebuild,
    quota_share,
    scaling,
    serving,
    streams,
)


def _data() -> Any:
    return data_plane.run()


def _rest() -> Any:
    print("\nREST: 150 days of minutes, 216 pages, no latency")
    found = fetching.measure("REST", latency_ms=0)
    print(fetching.table(found))
    return found


def _archive() -> Any:
    print(f"\nArchive: 2024, 12 monthly files, {fetching.LATENCY_MS} ms latency")
    found = fetching.measure("archive", latency_ms=fetching.LATENCY_MS)
    print(fetching.table(found))
    bare = fetching.interpreter_s()
    print(f"an interpreter that does nothing: {bare:.2f} s")
    return {**found, "interpreter_s": bare}


def _quota() -> Any:
    print(f"\nQuota: {quota_share.LATENCY_MS} ms latency, {quota_share.MEASURED_S:.0f} s measured")
    return quota_share.run_all()


def _buffers() -> Any:
    return live_rebuild.run()


def _bodies() -> Any:
    return api_bodies.run()


def _serving() -> Any:
    return serving.run()


def _streams() -> Any:
    return streams.run()


def _scaling() -> Any:
    return scaling.run()


def _live() -> Any:
    return live.run()


BENCHMARKS: dict[str, Callable[[], Any]] = {
    "data": _data, "rest": _rest, "archive": _archive, "quota": _quota, "buffers": _buffers, "live": _live,
    "bodies": _bodies, "streams": _streams, "serving": _serving,
    "scaling": _scaling,
}  # fmt: skip


def main(names: list[str]) -> None:
    """Run the named benchmarks, all without a name."""
    if unknown := set(names) - BENCHMARKS.keys():
        sys.exit(f"expected some of {', '.join(BENCHMARKS)}, got {', '.join(sorted(unknown))}")
    now = datetime.now(UTC)
    machine = {"machine": platform.machine(), "python": platform.python_version(), "cores": os.cpu_count()}
    print(f"{now:%Y-%m-%d %H:%M} UTC, {machine}, load {os.getloadavg()[0]:.1f}")
    figures = {name: BENCHMARKS[name]() for name in names or BENCHMARKS}
    kept = PROJECT_ROOT / "data" / "benchmarks" / f"{now:%Y-%m-%dT%H%M%S}.json"
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_text(json.dumps({"at": now.isoformat(), **machine, **figures}, indent=2), encoding="utf-8")
    print(f"\nkept in {kept}")


if __name__ == "__main__":
    main(sys.argv[1:])
