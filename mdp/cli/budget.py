"""``mdp budget``: how much of each exchange's quota all processes use now, who waits, and what must be left alone.

``--lift`` ends a cool-down. Not here: reading it from the bus (``bus.report``).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator

import msgspec
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from mdp.bus.lifting import lift_cool_down
from mdp.bus.metrics import exposition
from mdp.bus.report import BudgetReport, ExchangeUse, QuotaUse, read_report
from mdp.config.settings import load_settings
from mdp.domain.market import Exchange
from mdp.domain.quota import Priority
from mdp.errors import InputError

FORMATS = ("table", "json", "prometheus")
REFRESH_S = 1.0
_FULL = 0.9


def show_budget(format_: str, *, is_watched: bool) -> None:
    """Print the budgets once, or until interrupted.

    Args:
        format_: ``table``, ``json`` or ``prometheus``.
        is_watched: Whether the table is drawn anew each second.

    Raises:
        InputError: another format, or one that cannot be watched.
    """
    if format_ not in FORMATS:
        raise InputError("format", got=format_, expected=f"one of {', '.join(FORMATS)}")
    settings = load_settings()
    if is_watched:
        if format_ != "table":
            raise InputError("watch", got=format_, expected="the table; for machines, ask again")
        _watch(lambda: read_report(settings))
        return
    write_report(read_report(settings), format_)


def lift(name: str) -> None:
    """End the cool-down of an exchange at our address, and say which one that was.

    Args:
        name: Of the exchange.

    Raises:
        InputError: there is no such exchange.
        ConfigError: the bus does not answer.
    """
    if name not in list(Exchange):
        raise InputError("lift", got=name, expected=f"one of {', '.join(Exchange)}")
    settings = load_settings()
    lifted = lift_cool_down(settings, Exchange(name))
    for use in lifted:
        said = f"{name} may be asked again from {use.egress}: {use.cool_down_s:.0f} s were left of a cool-down"
        sys.stdout.write(f"{said}, because: {use.reason}\n")
    if lifted:
        sys.stdout.write("Processes that know of it already keep to it: end them and start them again.\n")
    else:
        sys.stdout.write(f"{name} has no cool-down at {settings.bus.egress}: nothing was lifted\n")


def write_report(report: BudgetReport, format_: str) -> None:
    """Write a report to stdout as ``table``, ``json`` or ``prometheus``."""
    if format_ == "json":
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(report)).decode() + "\n")
    elif format_ == "prometheus":
        sys.stdout.write(exposition(report))
    else:
        console = Console(file=sys.stdout)
        console.width = max(console.width, 180)  # a narrower terminal wraps the line, and no number is cut
        console.print(_page(report))


def _watch(read: Callable[[], BudgetReport]) -> None:
    with Live(_page(read()), console=Console(file=sys.stdout), auto_refresh=False) as live:
        while True:
            time.sleep(REFRESH_S)
            live.update(_page(read()), refresh=True)


def _page(report: BudgetReport) -> Group:
    return Group(*_lines(report))


def _lines(report: BudgetReport) -> Iterator[Text | Table]:
    if not report.is_running and report.problem:
        yield Text(f"bus: {report.bus}, unreachable: {report.problem}")
        yield Text("Processes that ask now count alone, each with its part of our share.")
        return
    if not report.is_running:
        yield Text(f"bus: {report.bus}, not running: nobody is asking an exchange")
        return
    yield Text(f"bus: {report.bus}, running")
    if not report.exchanges:
        yield Text("nobody has asked an exchange yet")
        return
    yield _quota_table(report.exchanges)
    yield _exchange_table(report.exchanges)
    for name in sorted({use.exchange for use in report.exchanges if use.cool_down_s}):
        yield Text(f"{name} is left alone because it said so; if that is known to be wrong: mdp budget --lift {name}")


def _quota_table(uses: list[ExchangeUse]) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    has_hosts = any(use.host for use in uses)
    for name in ("exchange", *(["host"] if has_hosts else []), "address", "quota", "env"):
        table.add_column(name, no_wrap=True)
    for name in ("limit", "window", "our share", "used now", "of share"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("", min_width=20)
    for name in ("ours", "others"):
        table.add_column(name, justify="right", no_wrap=True)
    for use in uses:
        for quota in use.quotas:
            host = [use.host] if has_hosts else []
            table.add_row(use.exchange, *host, use.egress, quota.quota, quota.env, *_figures(quota))
    return table


def _figures(quota: QuotaUse) -> list[str | ProgressBar]:
    part = quota.used_by_env / quota.share if quota.share else 0.0
    style = "red" if part > _FULL else "green"
    bar = ProgressBar(total=1, completed=min(1.0, part), width=20, complete_style=style, finished_style=style)
    held = f" held {quota.held_s:.0f} s" if quota.held_s else ""
    return [
        f"{quota.amount:g}",
        f"{quota.window_s:g} s",
        f"{quota.share:g}",
        f"{quota.used:g}",
        f"{part:.0%}",
        bar,
        f"{quota.used_by_env:g}",
        f"{quota.others:g}{held}",
    ]


def _exchange_table(uses: list[ExchangeUse]) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("exchange", no_wrap=True)
    has_hosts = any(use.host for use in uses)
    if has_hosts:
        table.add_column("host", no_wrap=True)
    for name in (
        "requests",
        "waits",
        "waited",
        "live waiting",
        "backfill waiting",
        "processes",
        "refused",
        "cool-down",
    ):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("because", no_wrap=True)
    for use in uses:
        table.add_row(
            use.exchange,
            *([use.host] if has_hosts else []),
            str(use.requests),
            str(use.waits),
            f"{use.waited_s:.1f} s",
            str(use.waiting(Priority.LIVE)),
            str(use.waiting(Priority.BACKFILL)),
            str(len(use.processes)),
            str(use.limited),
            f"{use.cool_down_s:.0f} s" if use.cool_down_s else "",
            Text(use.reason),
        )
    return table
