"""What processes say of their work: one way to say it for all of them, on stderr.

Modules say it by ``logging.getLogger(__name__)`` as everywhere in Python; they never configure anything. The commands
do, first thing, by :func:`configure_logs`. Not here: results (stdout), what is counted (``counts``), what Dagster keeps
of a run in its own storage.
"""

from mdp.logs.configuring import configure_logs
from mdp.logs.context import bound

__all__ = ["bound", "configure_logs"]
