"""What a port promises, tried on every implementation of it."""
