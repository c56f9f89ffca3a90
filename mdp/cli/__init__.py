"""What a person types: ``mdp``. One module for each command, thin over ``pipeline``, ``storage`` and ``defs``.

Not here: anything a program would want to call (``mdp.read``, the packages).
"""

from __future__ import annotations

import stamina.instrumentation as retries

from mdp.cli.app import main

__all__ = ["main"]

# The library's own report of a retry is no line for people, and may stand on stdout; a failure that stays is told once
# by the command. What asks exchanges reports in its place, to the log (``exchanges.asking``), imported before or after.
_ours = [hook for hook in retries.get_on_retry_hooks() if getattr(hook, "__module__", "").startswith("mdp.")]
retries.set_on_retry_hooks(_ours)
