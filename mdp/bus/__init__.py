"""The bus: where processes meet. Today: how often all of them together may ask an exchange.

Not here: the quotas of an exchange (its ``quota``), what is asked (``exchanges``).
"""

from mdp.bus.budgets import Budgets, local_budget, open_budgets

__all__ = ["Budgets", "local_budget", "open_budgets"]
