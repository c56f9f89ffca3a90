"""Generations: missing days of a market collected by a Dagster backfill, for whoever asks through the service.

Not here: collecting itself (``defs``, ``pipeline``); ``mdp backfill`` does the same from the command line.
"""

from mdp.api.generations.beginning import begin
from mdp.api.generations.routes import router
from mdp.api.generations.watching import watch

__all__ = ["begin", "router", "watch"]
