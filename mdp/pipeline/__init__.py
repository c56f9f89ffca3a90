"""What the platform does, once, for Dagster, live and command line alike: collect, judge, resample.

Each step turns slices into batches, each batch becomes durable as a whole. Knows the ports, not Dagster and not how
anything is stored or fetched.
"""
