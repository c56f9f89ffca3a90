"""Runs of Dagster on many hosts: who takes them, how it is known that a host is gone, how workers start.

Only where ``MDP_DAGSTER__INSTANCE`` is ``celery``; a laptop imports none of it. Not here: what a run does (``defs``),
how many may run at once (``defs.queue``).
"""
