"""The tests of ``mdp``: one folder for each kind, and inside it one file for each module."""
