"""Tests of ``mdp.exchanges``."""
