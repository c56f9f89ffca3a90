"""Reading for people."""
