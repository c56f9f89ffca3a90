"""What a snapshot holds: the names and labels of its tables, and its rows.

Not here: making and removing them (``snapshots``).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import NamedTuple

import polars as pl
from google.cloud import bigquery

from mdp.ports import Slice, Table
from mdp.storage.bigquery import statements
from mdp.storage.bigquery.columns import restored
from mdp.storage.bigquery.jobs import UNREPEATED, Jobs
from mdp.storage.rows import timeframe_names

_PUBLISHED = re.compile("published_(?:[0-9a-f]{2})+")
_DRAFT = "mdp_draft"
_TOOK = "mdp_took_"


class Published(NamedTuple):
    """What the table that names a snapshot says.

    Attributes:
        key: With which the names of the tables begin that hold it.
        taken: Names of the tables of which it holds rows.
    """

    key: str
    taken: frozenset[str]

    def labels(self) -> dict[str, str]:
        """Return the labels of that table."""
        return {_DRAFT: self.key} | {f"{_TOOK}{name}": "" for name in sorted(self.taken)}


def held_name(key: str, table: Table) -> str:
    """Return the name of the table that holds what a draft took of one of ours."""
    return f"{key}_{table.name}"


def published(jobs: Jobs, name: str) -> Published | None:
    """Return what was published under a name; None: nothing was."""
    full = jobs.datasets.held(published_name(name))
    found = jobs.find(f"snapshot {name}", lambda: jobs.client.get_table(full, retry=UNREPEATED, timeout=jobs.timeout_s))
    return None if found is None else _said(found.labels or {})


def _said(labels: Mapping[str, str]) -> Published:
    taken = frozenset(label.removeprefix(_TOOK) for label in labels if label.startswith(_TOOK))
    return Published(labels.get(_DRAFT, ""), taken)


def of_items(listed: Collection[bigquery.table.TableListItem]) -> dict[str, Published]:
    """Return the published snapshots among listed tables, by name; what is none of ours is not among them."""
    ours = [item for item in listed if _PUBLISHED.fullmatch(item.table_id) and _DRAFT in (item.labels or {})]
    return {_name_of(item.table_id): _said(item.labels) for item in ours}


def read_held(jobs: Jobs, name: str, table: Table, part: Slice, names: list[str]) -> pl.DataFrame:
    """Return the rows of a slice from what a snapshot holds, in the order in which the store reads them.

    Raises:
        NotThere: it is not there.
    """
    if part.window.is_empty or not timeframe_names(part):
        return table.schema.to_frame().select(names)
    sql = (
        f"SELECT {statements.listed(names)} FROM `{jobs.datasets.held(name)}` AS b"
        f" WHERE {statements.in_slice(table, 'b')} ORDER BY {statements.ordered(table)}"
    )
    return restored(table, jobs.rows(f"{name} {part}", sql, statements.slice_parameters(part)), names)


def published_name(name: str) -> str:
    """Return the name of the table that names a snapshot."""
    # Tables may not be named with dots, and emulators read upper and lower case as one.
    return f"published_{name.encode().hex()}"


def _name_of(table_id: str) -> str:
    return bytes.fromhex(table_id.removeprefix("published_")).decode()
