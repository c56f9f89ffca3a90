"""What can be scripted to go wrong: one type for each kind, read from a scenario file or a request to ``/control``.

Two families. A ``Change`` alters what was traded, for everybody and for good: the answers stay well formed. A
``WireFault`` spoils single answers. Not here: what goes wrong in streams (``stream_faults``), when a fault applies
(``script``), what it does (``alterations``, ``spoiled_pages``, ``wire``).
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from msgspec import Meta, Struct

from mdp.domain.market import Exchange

Channel = Literal["rest", "archive", "stream"]
Moment = Annotated[datetime, Meta(tz=True)]
Factor = Annotated[float, Meta(gt=0, le=100)]
Rows = Annotated[int, Meta(ge=1, le=1_000)]
Duration = Annotated[float, Meta(ge=0, le=86_400)]
Share = Annotated[float, Meta(ge=0, lt=1)]


class Scripted(Struct, kw_only=True, frozen=True, forbid_unknown_fields=True, omit_defaults=True, tag_field="kind"):
    """What every kind says about where and when it applies.

    Attributes:
        exchange: Whose answers.
        symbol: Only of this symbol, ``BTC-USDT``; None: of all, and where no symbol is asked for.
        channel: Only in REST answers, in bulk files, or in streams; None: in all of them.
        from_time: Simulated time from which it applies; None: always.
        until_time: Simulated time before which it applies; None: for ever.
    """

    exchange: Exchange
    symbol: str | None = None
    channel: Channel | None = None
    from_time: Moment | None = None
    until_time: Moment | None = None


class Change(Scripted, kw_only=True, frozen=True):
    """What was traded in a window, half-open, is told differently."""

    start: Moment
    end: Moment


class Outage(Change, frozen=True, tag="outage"):
    """The exchange was down: the window has no rows."""


class Flat(Change, frozen=True, tag="flat"):
    """Nobody traded: rows at the last price, with no volume and no trades."""


class Restate(Change, kw_only=True, frozen=True, tag="restate"):
    """The exchange corrected its candles: from ``from_time`` on, the window shows other values.

    Attributes:
        volume_factor: By how much amounts differ.
        price_factor: By how much prices differ.
    """

    volume_factor: Factor = 1.01
    price_factor: Factor = 1.0


class Revision(Scripted, kw_only=True, frozen=True, tag="revision"):
    """A closed minute is corrected a little later: until ``settle_s`` after its close it shows other amounts."""

    settle_s: Annotated[float, Meta(gt=0, le=86_400)] = 30.0
    volume_factor: Factor = 0.99


class ArchiveFault(Scripted, kw_only=True, frozen=True):
    """What is wrong inside a bulk file that holds minutes of the window; None: of any.

    Its checksum is right: it is that of the file as it is.
    """

    start: Moment | None = None
    end: Moment | None = None


class ArchiveHeader(ArchiveFault, frozen=True, tag="archive_header"):
    """The file begins with a line of column names."""


class ArchiveDuplicateRows(ArchiveFault, kw_only=True, frozen=True, tag="archive_duplicate_rows"):
    """The first ``rows`` rows stand twice in it."""

    rows: Rows = 3


class ArchiveOffGrid(ArchiveFault, kw_only=True, frozen=True, tag="archive_off_grid"):
    """The first ``rows`` rows open ``by_ms`` after the minute."""

    rows: Rows = 3
    by_ms: Annotated[int, Meta(ge=1, lt=60_000)] = 14_800


class ArchiveMissingRows(ArchiveFault, kw_only=True, frozen=True, tag="archive_missing_rows"):
    """The first ``rows`` rows are not in it."""

    rows: Rows = 3


class WireFault(Scripted, kw_only=True, frozen=True):
    """One answer is spoiled.

    A fault counts the requests that fit it. Of these it spoils each ``every``-th, by chance where ``probability`` is
    below 1, at most ``times``.

    Attributes:
        path: Pattern of the path below the exchange's prefix: ``*`` any text, ``?`` any character.
        times: Answers it spoils at most; None: no limit.
        every: It spoils each second, third … request that fits.
        probability: Chance that it spoils such a request.
        seed: Of that chance.
        after_s: Real seconds from when it was scripted until it begins.
        until_s: Real seconds from when it was scripted until it ends; None: never.
    """

    path: str = "*"
    times: Annotated[int, Meta(ge=1)] | None = None
    every: Annotated[int, Meta(ge=1)] = 1
    probability: Annotated[float, Meta(gt=0, le=1)] = 1.0
    seed: int = 0
    after_s: Duration = 0.0
    until_s: Annotated[float, Meta(gt=0)] | None = None


class Status(WireFault, kw_only=True, frozen=True, tag="status"):
    """Answer with an HTTP status.

    Attributes:
        status: Such as 429, 418, 403, 451, 503, 504.
        body: ``json``, ``text`` or ``html`` of the exchange, its ``geo`` block, or ``empty``; None: what the exchange
            usually sends with that status.
        retry_after_s: The header ``Retry-After``; None: not sent.
    """

    status: Annotated[int, Meta(ge=400, le=599)]
    body: Literal["json", "text", "html", "geo", "empty"] | None = None
    retry_after_s: Annotated[int, Meta(ge=0)] | None = None


class Code(WireFault, kw_only=True, frozen=True, tag="code"):
    """Answer with one of the exchange's own error codes, such as -1003, 10006, 50011 or 10028.

    Attributes:
        code: The code.
        status: HTTP status that goes with it; None: the documented one.
        reset_s: Bybit's 10006: seconds until ``X-Bapi-Limit-Reset-Timestamp``.
        retry_after_s: The header ``Retry-After``; None: not sent.
    """

    code: int
    status: Annotated[int, Meta(ge=200, le=599)] | None = None
    reset_s: Duration = 2.0
    retry_after_s: Annotated[int, Meta(ge=0)] | None = None


class Html200(WireFault, frozen=True, tag="html_200"):
    """Answer with a web page and status 200."""


class CutJson(WireFault, kw_only=True, frozen=True, tag="cut_json"):
    """Send only the first ``share`` of the body, as if that were all of it."""

    share: Share = 0.5


class CutTransfer(WireFault, kw_only=True, frozen=True, tag="cut_transfer"):
    """Close the connection after the first ``share`` of the body; the announced length is the whole one's."""

    share: Share = 0.5


class EmptyBody(WireFault, frozen=True, tag="empty_body"):
    """Send status 200 and no body."""


class JsonObject(WireFault, frozen=True, tag="json_object"):
    """Send a JSON object of another shape with status 200."""


class Hang(WireFault, kw_only=True, frozen=True, tag="hang"):
    """Send nothing for ``seconds``, then close the connection."""

    seconds: Duration = 3_600.0


class Reset(WireFault, frozen=True, tag="reset"):
    """Reset the TCP connection instead of answering."""


class Slow(WireFault, kw_only=True, frozen=True, tag="slow"):
    """Let the body trickle for ``seconds``."""

    seconds: Duration = 5.0


class ArchiveChecksum(WireFault, kw_only=True, frozen=True, tag="archive_checksum"):
    """Send a checksum file that does not fit its archive file."""

    channel: Channel | None = "archive"
    path: str = "*.CHECKSUM"


class ArchiveCut(WireFault, kw_only=True, frozen=True, tag="archive_cut"):
    """Send only the first ``share`` of an archive file, as if that were all of it."""

    channel: Channel | None = "archive"
    path: str = "*.zip"
    share: Share = 0.5


class PageFault(WireFault, kw_only=True, frozen=True):
    """One page of candles holds other rows than it should; it is well formed."""


class EmptyPage(PageFault, frozen=True, tag="empty_page"):
    """The page has no rows."""


class WrongOrder(PageFault, frozen=True, tag="wrong_order"):
    """The rows come in no order."""


class DuplicateRows(PageFault, kw_only=True, frozen=True, tag="duplicate_rows"):
    """``rows`` rows from the middle come twice."""

    rows: Rows = 3


class OffGrid(PageFault, kw_only=True, frozen=True, tag="off_grid"):
    """``rows`` rows from the middle open ``by_ms`` too late."""

    rows: Rows = 1
    by_ms: Annotated[int, Meta(ge=1, lt=60_000)] = 14_800


class MissingRows(PageFault, kw_only=True, frozen=True, tag="missing_rows"):
    """``rows`` rows from the middle are not there."""

    rows: Rows = 5


class RestLag(PageFault, kw_only=True, frozen=True, tag="rest_lag"):
    """For ``lag_s`` after a candle closed, the page ends with it as if it were still open."""

    lag_s: Annotated[float, Meta(gt=0, le=600)] = 5.0


Content = (
    Outage | Flat | Restate | Revision | ArchiveHeader | ArchiveDuplicateRows | ArchiveOffGrid | ArchiveMissingRows
)
"""What alters rows for everybody."""

Page = EmptyPage | WrongOrder | DuplicateRows | OffGrid | MissingRows | RestLag

Transport = (
    Status | Code | Html200 | CutJson | CutTransfer | EmptyBody | JsonObject | Hang | Reset | Slow
    | ArchiveChecksum | ArchiveCut
)  # fmt: skip
