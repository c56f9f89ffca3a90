"""The rules of candles: time grid, schemas, judging, gaps, resampling. Pure: stdlib, polars, numpy.

Not here: network, disk, clock, environment, Dagster. Whatever needs one of these calls in from above.
"""
