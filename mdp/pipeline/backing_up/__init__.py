"""Backups: all that a machine would lose with its disk, in a folder that another machine can restore.

Not here: snapshots, which are to be read (``pipeline.snapshots``), looking after the tables (``pipeline.maintenance``).
"""
