"""Linters of what is deployed, in an environment of their own (``make linters``)."""
