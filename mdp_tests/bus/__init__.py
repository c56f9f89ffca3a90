"""Tests of the bus, with the real server."""
