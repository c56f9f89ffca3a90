"""The datasets in BigQuery: made where they are missing, looked at where somebody else made them.

What a dataset says of expiry befalls every table made in it, and its region cannot be changed: one that would lose rows
is refused before anything is written to it. Not here: the tables (``tables``).
"""

from __future__ import annotations

from datetime import timedelta

from google.cloud import bigquery

from mdp.errors import ConfigError
from mdp.storage.bigquery.jobs import UNREPEATED, Jobs

STAGED_FOR = timedelta(days=1)

_DATASET = "MDP_BIGQUERY__DATASET"
_STAGING = "MDP_BIGQUERY__STAGING_DATASET"


def make_datasets(jobs: Jobs) -> None:
    """Make the datasets that are not there.

    Raises:
        ConfigError: one that is there lies elsewhere, or what is kept in it would expire; or the credentials do not
            allow it.
    """
    names = jobs.datasets
    for name, is_staging in ((names.main, False), (names.staging, True), (names.snapshots, False)):
        _require_fit(jobs, _find(jobs, name) or _made(jobs, name, is_staging=is_staging), is_staging=is_staging)


def _find(jobs: Jobs, name: str) -> bigquery.Dataset | None:
    full = f"{jobs.datasets.project}.{name}"
    return jobs.find(f"dataset {full}", lambda: jobs.client.get_dataset(full, retry=UNREPEATED, timeout=jobs.timeout_s))


def _made(jobs: Jobs, name: str, *, is_staging: bool) -> bigquery.Dataset:
    full = f"{jobs.datasets.project}.{name}"
    dataset = bigquery.Dataset(full)
    dataset.location = jobs.datasets.location
    if is_staging:
        dataset.default_table_expiration_ms = int(STAGED_FOR / timedelta(milliseconds=1))
    is_ours = jobs.add(
        f"dataset {full}", lambda: jobs.client.create_dataset(dataset, retry=UNREPEATED, timeout=jobs.timeout_s)
    )
    return dataset if is_ours else _find(jobs, name) or dataset


def _require_fit(jobs: Jobs, found: bigquery.Dataset, *, is_staging: bool) -> None:
    full = f"{jobs.datasets.project}.{found.dataset_id}"
    if (found.location or "").casefold() != jobs.datasets.location.casefold():
        expected = f"the region of dataset {full}, which is {found.location} and cannot be changed"
        raise ConfigError("MDP_BIGQUERY__LOCATION", got=jobs.datasets.location, expected=expected)
    if is_staging:
        if not found.default_table_expiration_ms:
            expected = (
                "a dataset whose tables expire by default, for what is left of writes that were cut off: another "
                "one or, where nothing else is kept in this one, run "
                f"`bq update --default_table_expiration 86400 {jobs.datasets.project}:{found.dataset_id}`"
            )
            raise ConfigError(_STAGING, got=full, expected=expected)
        return
    for what, flag, lasts_ms in (
        ("table", "default_table_expiration", found.default_table_expiration_ms),
        ("partition", "default_partition_expiration", found.default_partition_expiration_ms),
    ):
        if lasts_ms:
            expected = (
                f"a dataset in which nothing expires; the default {what} expiry of {full} is "
                f"{_said(lasts_ms)}: run `bq update --{flag} 0 {jobs.datasets.project}:{found.dataset_id}`"
            )
            raise ConfigError(_DATASET, got=full, expected=expected)


def require_lasting(found: bigquery.Table) -> None:
    """Refuse a table that removes itself or its old months.

    Raises:
        ConfigError: it does.
    """
    parts = found.time_partitioning
    if found.expires is not None:
        why = f"table {found.reference} expires at {found.expires:%Y-%m-%d %H:%M} UTC"
    elif parts is not None and parts.expiration_ms:
        why = f"the partitions of table {found.reference} expire after {_said(parts.expiration_ms)}"
    else:
        return
    expected = f"a dataset in which nothing expires; {why}: take its expiry away with `bq update`"
    raise ConfigError(_DATASET, got=f"{found.project}.{found.dataset_id}", expected=expected)


def _said(lasts_ms: int) -> str:
    return f"{int(lasts_ms) / timedelta(days=1).total_seconds() / 1000:g} days"
