"""What the checks find out about stored candles: verdicts, freshness, agreement with others.

Not here: whether a table keeps its own promises (``pipeline.integrity``), telling Dagster (``defs``).
"""
