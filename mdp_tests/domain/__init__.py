"""Tests of the pure domain: examples and properties."""
