"""The exchange that the fetch benchmarks ask: the simulator without quotas, in a process of its own.

``python -m mdp_tests.benchmarks.exchange NOW LATENCY_MS``. The quotas are lifted so that what is measured is the work
of asking and not a refusal; the benchmark of the quotas uses the ordinary simulator. Not here: who asks
(``contestants``).
"""

from __future__ import annotations

import sys
import time
from dataclasses import replace

from mdp.domain.interval import parse_time
from mdp.simulator.app import create_app
from mdp.simulator.lines import Line
from mdp.simulator.quotas import WeightPerMinute
from mdp.simulator.server import serve_app
from mdp.simulator.simulation import Quotas, build_simulation

UNLIMITED = 1_000_000_000

if __name__ == "__main__":
    quotas = replace(Quotas.real(), binance=WeightPerMinute(time.time, limit=UNLIMITED))
    simulation = build_simulation(now=parse_time(sys.argv[1]), quotas=quotas)
    simulation.lines.set_all(Line(latency_ms=float(sys.argv[2])))
    serve_app(0, create_app(simulation))
