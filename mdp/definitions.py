"""What Dagster loads: everything in the ``defs`` folder, for the environment that ``MDP_ENV`` names."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import dagster as dg

from mdp.config.settings import load_settings
from mdp.defs.processes import bring_counts_once, is_dagsters_own
from mdp.defs.resources import platform_resources
from mdp.defs.run_workers import watched_in_process_executor
from mdp.logs import configure_logs


@cache
def discovered() -> dg.Definitions:
    """Return what the ``defs`` folder holds, without resources; the folder is read once in a process.

    As ``dg.load_from_defs_folder`` does, less the catalogue of all component types that are installed: to list them it
    imports BigQuery and pandas, which costs each process 90 MB and two seconds.
    """
    tree = dg.ComponentTree.for_project(path_within_project=Path(__file__).parent / "defs")
    with warnings.catch_warnings():  # of what is still beta, as the function above does
        for category in (dg.BetaWarning, dg.PreviewWarning):
            warnings.simplefilter("ignore", category)
        return tree.build_defs(Path())


def build(resources: Mapping[str, Any]) -> dg.Definitions:
    """Return all assets, checks, jobs and schedules over the given resources.

    Steps run inside the process of their run: a process for each step costs 6 to 7 s of importing.
    """
    return dg.Definitions.merge(discovered(), dg.Definitions(resources=resources, executor=watched_in_process_executor))


@dg.definitions
def defs() -> dg.Definitions:
    """What ``dagster dev``, ``dg`` and the workers of a backfill load."""
    settings = load_settings()
    if is_dagsters_own(sys.argv):
        configure_logs(settings)
        bring_counts_once(settings)
    return build(platform_resources(settings))
