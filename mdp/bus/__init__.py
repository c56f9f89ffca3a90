"""The bus: where processes meet. How often all may ask an exchange, and everything live: buffers, topics, leases.

Not here: the quotas of an exchange (its ``quota``), what is asked (``exchanges``), what is written live (``live``).
"""

from mdp.bus.budgets import Budgets, local_budget, open_budgets
from mdp.bus.buffer_reading import read_all, read_buffer
from mdp.bus.live import open_live_bus, open_live_reader

__all__ = [
    "Budgets",
    "local_budget",
    "open_budgets",
    "open_live_bus",
    "open_live_reader",
    "read_all",
    "read_buffer",
]
