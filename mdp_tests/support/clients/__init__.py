"""Clients of other people, each a program that asks the drop-in klines and prints what it got as JSON.

They run in ``.venv-clients``, apart from the project: their pins are their own. Not here: what must come out
(``integration.test_compat_clients``).
"""
