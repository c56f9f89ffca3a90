"""What Dagster loads: everything in the ``defs`` folder, for the environment that ``MDP_ENV`` names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg

from mdp.config.settings import load_settings
from mdp.defs.resources import platform_resources


def build(resources: Mapping[str, Any]) -> dg.Definitions:
    """Return all assets, checks, jobs and schedules, discovered by folder, over the given resources.

    Steps run inside the process of their run: a process for each step costs 6 to 7 s of importing.
    """
    found = dg.load_from_defs_folder(path_within_project=Path(__file__).parent / "defs")
    return dg.Definitions.merge(found, dg.Definitions(resources=resources, executor=dg.in_process_executor))


@dg.definitions
def defs() -> dg.Definitions:
    """What ``dagster dev``, ``dg`` and the workers of a backfill load."""
    return build(platform_resources(load_settings()))
