"""What it costs to import the exchanges."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.slow
def test_ccxt_is_loaded_by_whoever_asks_an_exchange_and_by_nobody_else():
    script = "import sys, mdp.exchanges; sys.exit('ccxt' in sys.modules or 'httpx' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
