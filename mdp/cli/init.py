"""``mdp init``: make a place ready, so that services may then start in any order and all at once.

Not here: starting them (``up``), looking whether a place is well (``doctor``).
"""

from __future__ import annotations

import os
import sys
from contextlib import redirect_stdout
from pathlib import Path

from mdp.cli.processes import dagster_environment
from mdp.config.settings import Settings
from mdp.errors import ConfigError, StorageError


def prepare(settings: Settings) -> list[str]:
    """Create the data directory, the lake and Dagster's storage, or bring an older one up to date.

    Dagster's own processes create its tables when they first need them, and two that do so at once break each other.
    Repeating it changes nothing.

    Args:
        settings: Which place, which of Dagster's instances.

    Returns:
        What was looked after, one line each.

    Raises:
        ConfigError: a setting is missing without which the storage cannot be reached.
        StorageError: the directory, the lake or Dagster's storage could not be made.
    """
    try:
        for folder in (settings.data_dir, settings.run_dir, settings.dagster_dir):
            folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        said = f"MDP_DATA_DIR {settings.data_dir}: cannot be made or written ({error.strerror})"
        raise StorageError(said) from error
    return [f"data directory: {settings.data_dir}", _prepare_store(settings), _prepare_dagster(settings)]


def _prepare_store(settings: Settings) -> str:
    from mdp.storage import open_store

    open_store(settings)
    where = settings.lake_dir if settings.store == "duckdb" else f"{settings.bigquery.project}, BigQuery"
    return f"candles: {where}"


def _prepare_dagster(settings: Settings) -> str:
    """Open Dagster's instance, which creates what is not there, and apply the migrations that it lacks."""
    from mdp.defs.launching import opened_instance
    from mdp.defs.relaunching import storage_failures

    own = settings.dagster
    if own.instance in ("postgres", "celery") and own.postgres_url is None:
        expected = f"the address of a server, which MDP_DAGSTER__INSTANCE={own.instance} needs"
        raise ConfigError("MDP_DAGSTER__POSTGRES_URL", got=None, expected=expected)
    environment = dagster_environment(settings)
    os.environ.update(environment)
    try:
        # what Dagster prints of its migrations is not what this command answers
        with redirect_stdout(sys.stderr), opened_instance(settings.run_dir) as instance:
            instance.run_storage.get_runs_count()
            instance.event_log_storage.all_asset_keys()
            if instance.schedule_storage is not None:
                instance.schedule_storage.all_instigator_state()
            instance.upgrade()
    except storage_failures() as error:
        raise StorageError(f"Dagster's storage ({own.instance}): {_why(error, settings)}") from error
    return f"Dagster's storage: {own.instance}, {Path(environment['DAGSTER_HOME']) / 'dagster.yaml'}"


def _why(error: Exception, settings: Settings) -> str:
    """Say what is wrong with a storage: of a server without its words, which may hold the address with the password."""
    if settings.dagster.instance in ("postgres", "celery"):
        return f"{type(error).__name__}; is the server there, and the password right?"
    return f"{getattr(error, 'orig', error)}; is there room in {settings.dagster_dir}, and may it be written?"
