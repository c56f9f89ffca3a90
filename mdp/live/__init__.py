"""The feed: one exchange's stream and its REST answers become buffers, and entries for storage.

``feed`` is the process, ``market_feed`` one market in it, ``seeding`` fills buffers from the first second; ``asking``,
``ledger`` and ``backoff`` are the rules (pure), ``publishing`` and ``tenure`` the way to the bus, ``health`` what a
feed tells of itself. Not here: the streams (``exchanges``), how minutes become longer candles (``domain.buffers``), the
bus (``bus``), storing what closed (``pipeline``).
"""
