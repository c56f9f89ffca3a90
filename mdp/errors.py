"""Every error this project raises on purpose, and whether a retry can help.

::

    MdpError
    ├── ConfigError              a missing or wrong setting; a person must act
    ├── InputError               a wrong argument; names the field, what came, what was expected
    ├── ExchangeError            .exchange
    │   ├── ExchangeUnavailable  time-outs, resets, 5xx                      a retry can help
    │   │   └── CircuitOpen      failed too often just now; .retry_after_s   a retry can help
    │   ├── RateLimited          429, 418, 403; .retry_after_s               a retry can help
    │   ├── RequestRejected      unknown symbol, bad range, geo block, 4xx   no
    │   └── PayloadError         200 with a body we cannot read; .is_transient decides
    ├── BusUnavailable           the bus cannot be reached now           a retry can help
    ├── LeaseHeld                another process does this already       a retry can help
    ├── DagsterUnavailable       Dagster does not answer; says what to start  a retry can help
    ├── DataError
    │   ├── SchemaMismatch       lists every differing column                no
    │   ├── InvariantViolation   .failures: rule -> rows                     no
    │   └── Incomplete           the rest is stored; .missing: what -> why   .retryable of what failed
    └── StorageError
        ├── SliceMissing         read before it was written; not "empty"     no
        ├── StoreCorrupt         a file of the store cannot be read          no
        ├── WriteConflict        another writer replaced the slice           a retry can help
        ├── StoreUnavailable     the central store does not answer now       a retry can help
        ├── OutdatedStore        its tables are of another version; says what to run  no
        ├── SnapshotExists       the name is taken                           no
        └── SnapshotMissing      no snapshot has that name                   no

Not here: how Dagster is told (``defs.failures``), how the command line says it (``cli``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence


class MdpError(Exception):
    """Anything this project raises on purpose."""

    retryable = False
    """Whether the same call may succeed when repeated a little later."""


class ConfigError(MdpError):
    """A setting is missing or wrong; a person must act.

    Attributes:
        setting: The variable that gives it.
        got: What came.
        expected: What should have come.
    """

    def __init__(self, setting: str, *, got: object, expected: str) -> None:
        super().__init__(f"{setting}: expected {expected}, got {got!r}")
        self.setting = setting
        self.got = got
        self.expected = expected


class InputError(MdpError):
    """An argument is wrong.

    Attributes:
        field: Its name.
        got: What came.
        expected: What should have come.
    """

    def __init__(self, field: str, *, got: object, expected: str) -> None:
        super().__init__(f"{field}: expected {expected}, got {got!r}")
        self.field = field
        self.got = got
        self.expected = expected


class ExchangeError(MdpError):
    """An exchange did not give what was asked.

    Attributes:
        exchange: Which one.
        failed: Requests that failed until a whole fetch was given up, by name of the error: who asks again tells of
            them too.
    """

    def __init__(self, exchange: str, message: str) -> None:
        super().__init__(f"{exchange}: {message}")
        self.exchange = exchange
        self.failed: Mapping[str, int] = {}


class ExchangeUnavailable(ExchangeError):
    """No usable answer now: time-out, reset, 5xx, maintenance."""

    retryable = True


class CircuitOpen(ExchangeUnavailable):
    """The exchange failed so often just now that it is not asked at all for a while.

    Attributes:
        retry_after_s: Seconds until it is tried again.
    """

    def __init__(self, exchange: str, message: str, *, retry_after_s: float) -> None:
        super().__init__(exchange, f"{message}; it is tried again in {retry_after_s:.0f} s")
        self.retry_after_s = retry_after_s


class RateLimited(ExchangeError):
    """We asked faster than the exchange allows.

    Attributes:
        retry_after_s: Seconds to wait before any further request, by anybody at this address.
    """

    retryable = True

    def __init__(self, exchange: str, message: str, *, retry_after_s: float) -> None:
        super().__init__(exchange, f"{message}; wait {retry_after_s:g} s")
        self.retry_after_s = retry_after_s


class RequestRejected(ExchangeError):
    """The exchange refuses this request and will refuse it again: unknown symbol, bad range, blocked region."""


class PayloadError(ExchangeError):
    """An answer with status 200 that cannot be read: HTML, a cut body, the wrong shape, ``None`` in a candle.

    Args:
        exchange: Who answered.
        message: What was expected and what was found.
        body: The answer; its first 200 characters are kept in the message.
        is_transient: True where a proxy or a broken connection may be the cause (HTML, cut or empty body), so that a
            second request is worth making; False where the exchange changed its format.
    """

    def __init__(self, exchange: str, message: str, *, body: str = "", is_transient: bool = False) -> None:
        found = f"; the answer began: {body[:200]!r}" if body else ""
        super().__init__(exchange, message + found)
        self.body = body
        self.is_transient = is_transient
        self.retryable = is_transient


class BusUnavailable(MdpError):
    """The bus cannot be reached now, or answers nothing that can be read; what was asked may have happened."""

    retryable = True


class DagsterUnavailable(MdpError):
    """Dagster's webserver or daemon does not do now what was asked of it; what to start is in the message."""

    retryable = True


class LeaseHeld(MdpError):
    """Another process holds the lease of what only one may do.

    Attributes:
        lease: Its name, such as ``feed/binance``.
        holder: Who has it.
    """

    retryable = True

    def __init__(self, lease: str, holder: str) -> None:
        super().__init__(f"{lease}: expected to be the only one, but {holder} does it already")
        self.lease = lease
        self.holder = holder


class DataError(MdpError):
    """A table is not what it promises to be."""


class SchemaMismatch(DataError):
    """A frame has other columns or types than its schema; every difference is listed."""

    def __init__(self, table: str, differences: Sequence[str]) -> None:
        super().__init__(f"{table}: {'; '.join(differences)}")
        self.table = table
        self.differences = tuple(differences)


class InvariantViolation(DataError):
    """Rows break a promise of their table.

    Attributes:
        failures: Name of each broken rule and the number of rows that break it.
    """

    def __init__(self, table: str, failures: Mapping[str, int]) -> None:
        listed = ", ".join(f"{rule}: {rows} rows" for rule, rows in failures.items())
        super().__init__(f"{table}: {listed}")
        self.table = table
        self.failures = dict(failures)


class Incomplete(DataError):
    """Part of some work could not be done; everything else was, and is stored.

    Attributes:
        missing: What could not be done, such as a slice, and why.
    """

    def __init__(self, missing: Mapping[str, str], *, retryable: bool) -> None:
        listed = "; ".join(f"{what}: {why}" for what, why in missing.items())
        super().__init__(f"not collected: {listed}; what was collected is stored")
        self.missing = dict(missing)
        self.retryable = retryable


class StorageError(MdpError):
    """The store cannot do what was asked."""


class SliceMissing(StorageError):
    """A slice was read before anything was ever written to it; an empty slice is not missing."""


class StoreCorrupt(StorageError):
    """A file of the store cannot be read; the message names it."""


class WriteConflict(StorageError):
    """Another writer replaced the same slice at the same time; nothing of ours was written."""

    retryable = True


class StoreUnavailable(StorageError):
    """The central store gives no usable answer now: overload, quota, 5xx, a connection that broke."""

    retryable = True


class OutdatedStore(StorageError):
    """The tables of the store are of another version than this program; the message says what to do."""


class SnapshotExists(StorageError):
    """There is a snapshot of that name already."""

    def __init__(self, name: str) -> None:
        super().__init__(f"snapshot {name!r}: there is one of that name already")
        self.name = name


class SnapshotMissing(StorageError):
    """There is no snapshot of that name."""

    def __init__(self, name: str, known: Sequence[str]) -> None:
        listed = ", ".join(known) or "there are none"
        super().__init__(f"snapshot {name!r}: expected one of: {listed}")
        self.name = name
