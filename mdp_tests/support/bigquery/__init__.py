"""A BigQuery for tests: the emulator taught what the service documents, run as a process, and faults on the way to it.

Not here: our store (``mdp.storage.bigquery``), tests of it (``storage``, ``contracts``, ``integration``).
"""
