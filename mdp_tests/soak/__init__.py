"""The proof of live trading: simulated days with every fault and with processes that are killed, and what is left then.

``python -m mdp_tests.soak --hours 24 --speed 60``. Not here: tests of single faults.
"""
