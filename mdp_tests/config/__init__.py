"""Tests of the settings and of the environments' files."""
