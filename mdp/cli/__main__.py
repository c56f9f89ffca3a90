"""``python -m mdp.cli``: the same as ``mdp``."""

from mdp.cli.app import main

main()
