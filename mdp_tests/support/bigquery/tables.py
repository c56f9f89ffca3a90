"""Tables: columns added later, expiry, size, and what ``CREATE TABLE`` says about partitions, clusters and labels.

Columns may be added to a table (https://cloud.google.com/bigquery/docs/managing-table-schemas), a table takes the
default expiry of its dataset (https://cloud.google.com/bigquery/docs/managing-tables#updating_a_tables_expiration_time),
and its size follows from its types
(https://cloud.google.com/bigquery/docs/reference/standard-sql/data-types#data_type_sizes). A change with ``If-Match``
is refused with 412 where the table changed since, and a list of tables has their labels and expiry
(https://cloud.google.com/bigquery/docs/reference/rest/v2/tables/list). The emulator keeps the words and leaves the
table as it was.

Not here: rows.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import wraps
from typing import Any

import sqlglot
from bqemulator.api.routes import tables
from bqemulator.catalog.models import Clustering, TimePartitioning
from bqemulator.domain.errors import DomainError, ValidationError
from bqemulator.jobs import executor
from bqemulator.scripting import interpreter
from bqemulator.storage.sql_identifiers import quoted_table_ref
from bqemulator.storage.type_map import bq_schema_to_duckdb_columns
from sqlglot import exp

from mdp_tests.support.bigquery import engine

_WIDTHS = {"BOOLEAN": 1}
_WIDE = 8
_STRING_HEAD = 2


def teach() -> None:
    """Wrap how table resources are read from requests, written to answers, and made by statements."""
    tables._rest_to_table_meta = _complete(tables._rest_to_table_meta)
    tables._table_to_rest = _measured(tables._table_to_rest)
    tables._table_to_list_item = _listed(tables._table_to_list_item)
    for module in (executor, interpreter):
        module.sync_created_table = _with_options(module.sync_created_table)
    executor._maybe_create_load_destination = _load_destination(executor._maybe_create_load_destination)


def _complete(read: Any) -> Any:
    @wraps(read)
    def read_and_apply(project: str, dataset: str, body: Any, clock: Any, existing: Any = None) -> Any:
        meta = read(project, dataset, body, clock, existing)
        if existing is not None:
            _require_unchanged(existing)
            _add_columns(existing, meta)
        expiry = existing.expiration_time if existing else _default_expiry(project, dataset)
        if "expirationTime" in body:
            given = body["expirationTime"]
            expiry = None if given is None else datetime.fromtimestamp(int(given) / 1000, tz=UTC)
        return meta.model_copy(update={"expiration_time": expiry})

    return read_and_apply


class _Changed(DomainError):
    http_status = 412
    bq_reason = "conditionNotMet"
    grpc_status_name = "FAILED_PRECONDITION"


def _require_unchanged(existing: Any) -> None:
    wanted = engine.wanted_etag.get()
    if wanted is not None and wanted != existing.etag:
        raise _Changed("Precondition Failed")


def _listed(write: Any) -> Any:
    @wraps(write)
    def write_with_labels(meta: Any) -> dict[str, Any]:
        body = write(meta)
        if meta.labels:
            body["labels"] = dict(meta.labels)
        if meta.expiration_time is not None:
            body["expirationTime"] = str(round(meta.expiration_time.timestamp() * 1000))
        return body

    return write_with_labels


def _default_expiry(project: str, dataset: str) -> datetime | None:
    found = engine.context().catalog.get_dataset(project, dataset)
    lasts_ms = getattr(found, "default_table_expiration_ms", None)
    return datetime.now(UTC) + timedelta(milliseconds=int(lasts_ms)) if lasts_ms else None


def _add_columns(old: Any, new: Any) -> None:
    before = {field.name: field.type for field in old.schema_.fields}
    after = {field.name: field.type for field in new.schema_.fields}
    lost = sorted(set(before) - set(after))
    if lost:
        raise ValidationError(f"Provided Schema does not match Table {old.table_id}. Field {lost[0]} is missing")
    target = quoted_table_ref(old.project_id, old.dataset_id, old.table_id)
    added = [field for field in new.schema_.fields if field.name not in before]
    for field in added:
        if field.mode == "REQUIRED":
            raise ValidationError(f"Cannot add required field {field.name} to an existing schema")
    for name, kind in bq_schema_to_duckdb_columns([tables._field_to_rest(field) for field in added]):
        empty = " DEFAULT []" if kind.endswith("[]") else ""
        engine.context().engine.execute(f'ALTER TABLE {target} ADD COLUMN "{name}" {kind}{empty}')


def _measured(write: Any) -> Any:
    @wraps(write)
    def write_measured(meta: Any) -> dict[str, Any]:
        body = write(meta)
        if meta.expiration_time is not None:
            body["expirationTime"] = str(round(meta.expiration_time.timestamp() * 1000))
        if meta.view_query:
            body["view"] = {"query": meta.view_query, "useLegacySql": False}
        elif meta.schema_.fields:
            rows, size = _measure(meta)
            body |= {"numRows": str(rows)} | dict.fromkeys(("numBytes", "numTotalLogicalBytes"), str(size))
        return body

    return write_measured


def _measure(meta: Any) -> tuple[int, int]:
    """Return rows and logical bytes: eight for a number or a time, one for a truth, two and its length for a text."""
    sizes = ["count(*)"]
    for field in meta.schema_.fields:
        name = f'"{field.name}"'
        if field.mode == "REPEATED":
            sizes.append(f"coalesce(sum(list_sum(list_transform({name}, lambda x: {_STRING_HEAD} + strlen(x)))), 0)")
        elif field.type == "STRING":
            sizes.append(f"coalesce(sum({_STRING_HEAD} + strlen({name})), 0)")
        else:
            sizes.append(f"count({name}) * {_WIDTHS.get(field.type, _WIDE)}")
    target = quoted_table_ref(meta.project_id, meta.dataset_id, meta.table_id)
    rows, *parts = engine.context().engine.execute(f"SELECT {', '.join(sizes)} FROM {target}").fetchone()
    return rows, int(sum(parts))


def _with_options(register: Any) -> Any:
    @wraps(register)
    def register_with_options(sql: str, project_id: str, ctx: Any) -> None:
        register(sql, project_id, ctx)
        tree = sqlglot.parse_one(sql, read="bigquery") if "create" in sql.lower() else None
        if not isinstance(tree, exp.Create) or tree.kind != "TABLE":
            return
        named = tree.find(exp.Table)
        meta = ctx.catalog.get_table(named.catalog or project_id, named.db, named.name)
        if meta is not None:
            ctx.catalog.update_table(meta.model_copy(update=_options(tree, meta)))

    return register_with_options


def _options(tree: exp.Create, meta: Any) -> dict[str, Any]:
    expiry = meta.expiration_time or _default_expiry(meta.project_id, meta.dataset_id)
    found: dict[str, Any] = {"expiration_time": expiry}
    parted = tree.find(exp.PartitionedByProperty)
    if parted is not None:
        column = parted.find(exp.Column) or parted.find(exp.Identifier)
        words = {word.name.upper() for word in parted.find_all(exp.Var)} | {"DAY"}
        unit = next(unit for unit in ("MONTH", "YEAR", "HOUR", "DAY") if unit in words)
        found["time_partitioning"] = TimePartitioning(type=unit, field=column.name)
    grouped = tree.find(exp.Cluster) or tree.find(exp.ClusterProperty)
    if grouped is not None:
        found["clustering"] = Clustering(fields=tuple(column.name for column in grouped.expressions))
    for option in tree.find_all(exp.Property):
        if option.name == "labels":
            found["labels"] = {
                pair.expressions[0].name: pair.expressions[1].name for pair in option.find_all(exp.Tuple)
            }
        elif option.name == "expiration_timestamp":
            query = f"SELECT {option.args['value'].sql('duckdb')}::TIMESTAMPTZ"
            found["expiration_time"] = engine.context().engine.execute(query).fetchone()[0]
    return found


def _load_destination(create: Any) -> Any:
    """A load makes its table as the service does: with the expiry of the dataset, partitions, clusters and labels."""

    @wraps(create)
    def create_complete(**named: Any) -> None:
        create(**named)
        place = (named["dest_project"], named["dest_dataset"], named["dest_table_id"])
        meta = named["ctx"].catalog.get_table(*place)
        if meta is None:
            return
        config = named["load_config"]
        more = {
            "expiration_time": _default_expiry(*place[:2]),
            "time_partitioning": tables._rest_to_time_partitioning(config.get("timePartitioning"), meta),
            "clustering": tables._rest_to_clustering(config.get("clustering"), meta),
            "labels": (config.get("destinationTableProperties") or {}).get("labels") or {},
        }
        named["ctx"].catalog.update_table(meta.model_copy(update=more))

    return create_complete
