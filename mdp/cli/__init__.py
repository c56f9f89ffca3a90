"""What a person types: ``mdp``. One module for each command, thin over ``pipeline``, ``storage`` and ``defs``.

Not here: anything a program would want to call (``mdp.read``, the packages).
"""

from __future__ import annotations

from mdp.cli.app import main

__all__ = ["main"]
