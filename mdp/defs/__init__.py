"""What Dagster sees: assets, checks, jobs, schedules, partitions, resources, I/O managers. Thin shells only.

Not here: any decision about data; that is ``pipeline`` and ``domain``.
"""
