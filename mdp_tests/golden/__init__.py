"""Recorded bytes in, values in that come from somewhere else than our own code."""
