"""The commands by what they are for: their arguments, help texts and order in ``mdp --help``.

Not here: what a command does (one module each in ``mdp.cli``).
"""
