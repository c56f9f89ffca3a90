"""All looks side by side, each bounded in time, and what they found as a table or JSON.

Not here: the looks (``machine``, ``services``, ``exchanges``).
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Sequence
from functools import partial
from queue import Empty, SimpleQueue

from rich.table import Table
from rich.text import Text

from mdp.cli.doctor import exchanges, machine, services
from mdp.cli.doctor.findings import Finding, Look, Verdict, ill
from mdp.cli.output import print_table, shown
from mdp.config.masking import masked
from mdp.config.settings import Settings, load_settings
from mdp.domain.market import Exchange
from mdp.errors import MdpError

PATIENCE_S = 30.0
_COLOURS = {Verdict.OK: "green", Verdict.WARNING: "yellow", Verdict.FAILED: "bold red"}
_ASK_AGAIN = "look at what it is about, and ask the doctor again"

LOOKS: dict[str, Look] = {
    "settings": machine.look_at_settings,
    "versions": machine.look_at_versions,
    "directories": machine.look_at_directories,
    "disk": machine.look_at_disk,
    "limits": machine.look_at_limits,
    "keys": machine.look_at_keys,
    "clock": exchanges.look_at_clock,
    "bus": services.look_at_bus,
    "store": services.look_at_store,
    "dagster": services.look_at_dagster,
    "pages": services.look_at_pages,
    "feeds": services.look_at_feeds,
    **{f"exchange {one.value}": partial(exchanges.look_at_exchange, exchange=one) for one in Exchange},
}


def run_doctor(*, as_json: bool) -> int:
    """Look at everything; return 1 where something does not work."""
    # CCXT's modules import each other: two threads that begin with it at once would wait for each other for ever.
    import ccxt.async_support  # noqa: F401

    findings = examine(load_settings(), LOOKS)
    if as_json:
        sys.stdout.write(json.dumps([one._asdict() for one in findings], indent=2) + "\n")
    else:
        print_table(_table(findings))
    return int(any(one.verdict is Verdict.FAILED for one in findings))


def examine(settings: Settings, looks: dict[str, Look], *, patience_s: float = PATIENCE_S) -> list[Finding]:
    """Run all looks at once, in threads of their own: one that hangs keeps nobody, also not the end of the process.

    Args:
        settings: Of the place.
        looks: By name.
        patience_s: After that a look counts as failed.

    Returns:
        What they found, in their order.
    """
    found: SimpleQueue[tuple[str, Sequence[Finding]]] = SimpleQueue()
    for name, look in looks.items():
        threading.Thread(target=_take, args=(name, look, settings, found), daemon=True).start()
    answers: dict[str, Sequence[Finding]] = {}
    deadline = time.monotonic() + patience_s
    while len(answers) < len(looks):
        try:
            name, said = found.get(timeout=max(0.0, deadline - time.monotonic()))
        except Empty:
            break
        answers[name] = said
    silent = f"no answer within {patience_s:g} s"
    return [finding for name in looks for finding in answers.get(name, [ill(name, silent, _ASK_AGAIN)])]


def _take(name: str, look: Look, settings: Settings, found: SimpleQueue[tuple[str, Sequence[Finding]]]) -> None:
    try:
        said = look(settings)
    except MdpError as error:
        said = [ill(name, masked(str(error)), "wait and ask again" if error.retryable else _ASK_AGAIN)]
    except Exception as error:  # whatever it is, the other findings are still worth showing
        said = [ill(name, f"{type(error).__name__}: {masked(str(error))[:200]}", _ASK_AGAIN)]
    found.put((name, said))


def _table(findings: Sequence[Finding]) -> Table:
    table = Table(title="mdp doctor")
    for column in ("looked at", "", "seen", "what to do"):
        table.add_column(column, overflow="fold")
    for one in findings:
        verdict = Text(one.verdict.value, style=_COLOURS[one.verdict])
        table.add_row(one.name, verdict, shown(one.seen), shown(one.advice))
    return table
