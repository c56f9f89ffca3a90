"""Pages that hang together: each begins after the one before it ended, none comes twice, none leads elsewhere.

Not here: asking for them (``transport``), what a page holds (``tables``).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import parse_qsl, urlsplit

from mdp.client.errors import BadAnswer
from mdp.client.questions import ARROW, Question, Reply
from mdp.client.tables import as_schema, read_table
from mdp.domain.interval import Interval, format_time
from mdp.errors import InputError

if TYPE_CHECKING:
    import polars as pl

_LINK = re.compile(r'<([^>]*)>\s*((?:;\s*[\w*]+\s*=\s*(?:"[^"]*"|[^",;\s]+)\s*)*)')
_NEXT = re.compile(r';\s*rel\s*=\s*(?:"([^"]*)"|([^",;\s]+))', re.IGNORECASE)


class Page(NamedTuple):
    """One page and the question that leads on; None: it was the last."""

    rows: pl.DataFrame
    next: Question[Page] | None


class Pages:
    """Walks from page to page; ask ``question``, hand the answer to ``take``, until there is no question.

    Args:
        path: Below the address of the service.
        parameters: Of the first question.
        window: In which all open times lie.
        schema: Of the rows, loaded when the first page comes.
        same: Columns that are the same in each row and need not be sent.
    """

    def __init__(
        self,
        path: str,
        parameters: tuple[tuple[str, str], ...],
        *,
        window: Interval,
        schema: Callable[[], Mapping[str, pl.DataType]],
        same: Mapping[str, str],
    ) -> None:
        self._window = window
        self._schema = schema
        self._same = same
        self._seen: set[tuple[tuple[str, str], ...]] = set()
        self._last_us: int | None = None
        self.question: Question[Page] | None = Question(path, self._read, parameters, accept=ARROW)

    def take(self, page: Page) -> pl.DataFrame:
        """Return the rows of the page that was asked for, and go on."""
        if self.question is not None:
            self._seen.add(self.question.parameters)
        if not page.rows.is_empty():
            self._last_us = int(page.rows["open_time"].to_physical()[-1])
        self.question = page.next
        return page.rows

    def empty(self) -> pl.DataFrame:
        """Return a table without rows."""
        import polars as pl

        return pl.DataFrame(schema=pl.Schema(self._schema()))

    def wanted(self, columns: Sequence[str] | None) -> list[str]:
        """Return names of columns to give.

        Raises:
            InputError: there is no such column.
        """
        known = list(self._schema())
        for name in columns or ():
            if name not in known:
                raise InputError("columns", got=name, expected=f"some of {', '.join(known)}")
        return known if columns is None else list(columns)

    def _read(self, reply: Reply) -> Page:
        rows = as_schema(reply, read_table(reply), self._schema(), self._same)
        self._check(reply, rows)
        return Page(rows, None if self.question is None else self._next(reply, self.question))

    def _check(self, reply: Reply, rows: pl.DataFrame) -> None:
        """Refuse rows that are doubled, out of order, outside the window, or of another market."""
        if rows.is_empty():
            return
        times = rows["open_time"]
        opened = times.to_physical()
        if times.null_count() or not bool((opened.diff().drop_nulls() > 0).all()):
            raise BadAnswer(
                reply.asked, "open_time: expected each row later than the one before it", status=reply.status
            )
        if self._last_us is not None and int(opened[0]) <= self._last_us:
            said = (
                f"open_time: expected a page that goes on where the last one ended, got {format_time(times[0])} again"
            )
            raise BadAnswer(reply.asked, said, status=reply.status)
        if not (self._window.contains(times[0]) and self._window.contains(times[-1])):
            said = (
                f"open_time: expected times in {self._window}, got {format_time(times[0])} to {format_time(times[-1])}"
            )
            raise BadAnswer(reply.asked, said, status=reply.status)
        for name, text in self._same.items():
            if not bool((rows[name] == text).all()):
                raise BadAnswer(reply.asked, f"{name}: expected {text!r} in each row", status=reply.status)

    def _next(self, reply: Reply, asked: Question[Page]) -> Question[Page] | None:
        link = next_link(reply.headers.get("link", ""))
        if link is None:
            return None
        # Only the query is taken: a link can lead neither to another host, where the key would be shown, nor elsewhere.
        parameters = tuple(parse_qsl(urlsplit(link).query, keep_blank_values=True))
        if parameters == asked.parameters or parameters in self._seen:
            raise BadAnswer(reply.asked, "Link: expected a page that was not given yet", status=reply.status)
        if not urlsplit(link).path.endswith(asked.path):
            raise BadAnswer(
                reply.asked, f"Link: expected one below {asked.path}, got {link[:200]!r}", status=reply.status
            )
        return replace(asked, parameters=parameters)


def next_link(header: str) -> str | None:
    """Return where ``rel="next"`` of a ``Link`` header leads; None: nowhere.

    Source:
        RFC 8288, section 3.
    """
    for target, parameters in _LINK.findall(header):
        for quoted, bare in _NEXT.findall(parameters):
            if "next" in (quoted or bare).lower().split():
                return str(target)
    return None
