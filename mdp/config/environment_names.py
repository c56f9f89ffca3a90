"""The names of the environments, and where the file of each is.

Not here: what a file says (``settings`` reads it), what an environment refuses (``isolation``).
"""

from __future__ import annotations

from pathlib import Path

ENVIRONMENTS: tuple[str, ...] = (
    "local-dev",
    "local-integration",
    "central-dev",
    "integration-test",
    "staging",
    "production-paper",
    "production-live",
)


def environment_file(name: str) -> Path:
    """Return the TOML file of an environment."""
    return Path(__file__).parent / "environments" / f"{name}.toml"
