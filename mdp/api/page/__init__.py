"""The page for people: a live chart, coverage, feeds and budgets, and the reference of the API; without a build step.

``static/`` is what the browser gets. Not here: the data it shows, which it asks from the API like everybody else.
"""

from __future__ import annotations

from mdp.api.page.routes import router

__all__ = ["router"]
