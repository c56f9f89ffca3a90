"""What is counted of the work of all processes: names, and the count of this process.

Adding to it costs less than a microsecond and never waits. Not here: bringing it to where all processes' counts come
together (``bus.counted``), showing it (``reading.metrics``).
"""

from mdp.counts.catalogue import COUNTERS, LEVELS, Counter, Level
from mdp.counts.counting import COUNTS, Counts

__all__ = ["COUNTERS", "COUNTS", "LEVELS", "Counter", "Counts", "Level"]
