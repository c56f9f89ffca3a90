"""Streams: changes as they happen, over WebSocket and as server-sent events.

Not here: where changes come from (``mirror``).
"""
