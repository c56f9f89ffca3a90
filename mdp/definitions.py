"""What Dagster loads: everything in the ``defs`` folder, for the environment that ``MDP_ENV`` names."""

from pathlib import Path

import dagster as dg


@dg.definitions
def defs() -> dg.Definitions:
    """Assets, checks, jobs, schedules and resources, discovered by folder."""
    found = dg.load_from_defs_folder(path_within_project=Path(__file__).parent / "defs")
    return dg.Definitions.merge(found, dg.Definitions(executor=dg.in_process_executor))
