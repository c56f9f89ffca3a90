"""``mdp doctor``: is this place well, and if not, what to do.

``findings`` is what a look says, ``machine``, ``services`` and ``exchanges`` look, ``looking`` runs all looks side by
side and prints them. Nothing here changes anything. Not here: whether the data is right (``heal``, checks).
"""
