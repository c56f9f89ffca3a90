"""Commands for those who watch over it: ``metrics``.

Not here: what a command does (its module in ``mdp.cli``).
"""

from __future__ import annotations

import typer


def metrics() -> None:
    """Print what Prometheus reads: feeds, budgets, fetches, stores, gaps. The service has it at /metrics."""
    from mdp.cli.metrics import show_metrics

    show_metrics()


def register(app: typer.Typer) -> None:
    """Add the commands to ``mdp``."""
    app.command(rich_help_panel="Monitoring")(metrics)
