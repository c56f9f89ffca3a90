"""What an environment needs that nobody gave.

Pure. Processes that do not use what is missing run without it, so nothing is refused here. Not here: settings that are
wrong (``isolation``, ``given``).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from mdp.config.problems import Problem, missing, variable

if TYPE_CHECKING:
    from mdp.config.settings import Settings


def needs(settings: Settings, *, is_placed: bool) -> list[Problem]:
    """Return every setting that is missing: which, why it is needed, how to give it.

    Args:
        settings: Of the environment.
        is_placed: Whether somebody said where data goes, rather than leaving it to the default.
    """
    return [*_of_the_store(settings), *_of_dagster(settings), *_of_hosts(settings, is_placed), *_of_people(settings)]


def _of_the_store(settings: Settings) -> Iterator[Problem]:
    if settings.store == "bigquery" and settings.bigquery.project is None:
        yield missing(
            variable("bigquery", "project"),
            why="the store is BigQuery, whose datasets belong to a Google Cloud project",
            remedy="the project's id, such as my-project-123; docs/bigquery.md says what its account may do",
        )


def _of_dagster(settings: Settings) -> Iterator[Problem]:
    instance = settings.dagster.instance
    if instance in ("postgres", "celery") and settings.dagster.postgres_url is None:
        yield missing(
            variable("dagster", "postgres_url"),
            why=f"Dagster keeps its runs in Postgres (MDP_DAGSTER__INSTANCE={instance})",
            remedy="a secret: postgresql+psycopg2://user:password@host:5432/dagster",
        )
    if instance == "celery" and settings.dagster.broker_url is None:
        yield missing(
            variable("dagster", "broker_url"),
            why="workers on several hosts take their runs from a queue (MDP_DAGSTER__INSTANCE=celery)",
            remedy="a Valkey or Redis: redis://host:6379/1",
        )


def _of_hosts(settings: Settings, is_placed: bool) -> Iterator[Problem]:
    instance = settings.dagster.instance
    if instance not in ("celery", "kubernetes"):
        return
    if settings.bus.url is None:
        yield missing(
            variable("bus", "url"),
            why=f"processes on several hosts ({instance}) share the exchanges' quotas and the live buffers there",
            remedy="a Valkey or Redis that all of them reach: redis://host:6379/0",
        )
    if not is_placed:
        yield missing(
            variable("data_dir"),
            why=f"processes on several hosts ({instance}) keep their work in a volume, not beside the program",
            remedy="where the volume is mounted, such as /data",
        )


def _of_people(settings: Settings) -> Iterator[Problem]:
    if settings.env.startswith("production") and settings.alerts.webhook_url is None:
        yield missing(
            variable("alerts", "webhook_url"),
            why="somebody must hear of it when collecting fails in production",
            remedy="a secret: the address of an incoming webhook, as Slack and Mattermost have them",
        )
