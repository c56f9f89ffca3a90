"""The exchanges, simulated over HTTP: their wire formats, bounds, page sizes, errors, quotas and open candles.

Recorded days where there are any, a seeded generator elsewhere, on a simulated clock. It stands apart: it shares only
``domain`` and ``errors`` with the rest. Not here: anything that collects from an exchange (``exchanges``).
"""
