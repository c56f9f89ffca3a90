"""Every kind of fault there is, for reading them and for naming them.

Not here: the kinds themselves (``faults``, ``stream_faults``).
"""

from __future__ import annotations

from mdp.simulator.faults import Content, Page, Transport
from mdp.simulator.stream_faults import Stream

Fault = Content | Page | Transport | Stream

KINDS: tuple[str, ...] = tuple(sorted(str(kind.__struct_config__.tag) for kind in Fault.__args__))
"""Every kind, as a scenario spells it."""
