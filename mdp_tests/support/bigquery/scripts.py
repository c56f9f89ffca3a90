"""Scripts of several statements: parameters reach each of them, a transaction is the engine's own.

A multi-statement query takes parameters as a single one does
(https://cloud.google.com/bigquery/docs/parameterized-queries), and a failing one is rolled back
(https://cloud.google.com/bigquery/docs/transactions). The emulator drops the parameters, and copies every table that a
transaction writes, which takes a test of a minute an hour.

Not here: the order of requests (``one_at_a_time``).
"""

from __future__ import annotations

import re
from contextvars import ContextVar
from functools import wraps
from typing import Any

from bqemulator.jobs import executor
from bqemulator.scripting import interpreter
from bqemulator.sql.parameters import bind_parameters

_parameters: ContextVar[list[dict[str, Any]] | None] = ContextVar("parameters", default=None)


def teach() -> None:
    """Replace the transactions of the interpreter and hand it the parameters of the job."""
    executor._run_query_body = _with_parameters(executor._run_query_body)
    interpreter.bind_parameters = lambda sql, none=None: bind_parameters(sql, _named_in(sql))
    script = interpreter.ScriptInterpreter
    script._handle_txn_statement = _transact
    script._snapshot_dml_targets = _nothing
    script._drop_txn_snapshots = _commit
    script._restore_txn_snapshots = _roll_back


def _with_parameters(run: Any) -> Any:
    @wraps(run)
    async def remember_and_run(**named: Any) -> Any:
        token = _parameters.set(named["query_params"])
        try:
            return await run(**named)
        finally:
            _parameters.reset(token)

    return remember_and_run


def _named_in(sql: str) -> list[dict[str, Any]]:
    """Return the parameters that a statement uses; the binder counts those it does not find as too many."""
    return [one for one in _parameters.get() or [] if re.search(rf"[@$]{re.escape(one.get('name', ''))}\b", sql)]


async def _transact(self: Any, operation: str) -> None:
    if operation == "BEGIN":
        if self._active_txn is None:
            self._ctx.engine.execute("BEGIN TRANSACTION")
            self._active_txn = {}
    elif operation == "COMMIT":
        await _commit(self)
    else:
        await _roll_back(self)


async def _nothing(self: Any, sql: str) -> None:
    """The engine's transaction keeps what was there."""


async def _commit(self: Any) -> None:
    if self._active_txn is not None:
        self._active_txn = None
        self._ctx.engine.execute("COMMIT")


async def _roll_back(self: Any) -> None:
    if self._active_txn is not None:
        self._active_txn = None
        self._ctx.engine.execute("ROLLBACK")
