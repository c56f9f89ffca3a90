"""Tests of runs on many hosts, in one process and with a real broker; those with hosts are in ``deploy``."""
