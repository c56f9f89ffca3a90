"""The command ``mdp`` and its subcommands: arguments, help texts, exit codes.

Exit codes: 0 done; 1 it failed; 2 an argument or setting is wrong; 3 some asked slots are neither stored nor
explained; 130 interrupted. A reader of stdout who leaves early (``| head``) changes none of them. Not here: what a
command does (one module each).
"""

from __future__ import annotations

import sys

import typer
from typer.exceptions import TyperException

from mdp.cli.commands import (
    access,
    backing_up,
    collecting,
    configuring,
    doctoring,
    hosts,
    keeping,
    live,
    monitoring,
    reading,
    running,
)
from mdp.cli.streams import lasting_streams
from mdp.errors import ConfigError, InputError, MdpError, SnapshotExists, SnapshotMissing

_WRONG_INPUT = (InputError, ConfigError, SnapshotExists, SnapshotMissing)

app = typer.Typer(
    name="mdp",
    help="Crypto candles you can trust: collect, judge, resample, store and read them. Times are UTC, ranges are "
    "half-open: --end is not included.",
    epilog="Exit codes: 0 done; 1 it failed; 2 an argument or setting is wrong; 3 minutes of a backfill or a backtest "
    "are neither stored nor explained; 130 interrupted.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
for _group in (
    reading,
    collecting,
    keeping,
    backing_up,
    live,
    running,
    configuring,
    doctoring,
    access,
    hosts,
    monitoring,
):
    _group.register(app)


@app.callback(invoke_without_command=True)
def help_when_alone(context: typer.Context) -> None:
    """Print the help when no command is given."""
    if context.invoked_subcommand is None:
        sys.stdout.write(context.get_help() + "\n")


def main() -> None:
    """Run ``mdp``; errors of ours become one line on stderr and an exit code."""
    with lasting_streams():
        code = _run()
    sys.exit(code)


def _run() -> int:
    try:
        code = app(standalone_mode=False)
        sys.stdout.flush()
        return int(code or 0)
    except TyperException as error:
        said = error.format_message().replace("Value error, ", "").removesuffix(".")
        return _complain(2, f"{said} (see `mdp --help`)")
    except (typer.Abort, KeyboardInterrupt):
        return 130
    except MdpError as error:
        return _complain(2 if isinstance(error, _WRONG_INPUT) else 1, str(error), *getattr(error, "__notes__", []))
    except OSError as error:
        return _complain(1, f"{error.filename or 'output'}: {error.strerror or error}")


def _complain(code: int, *lines: str) -> int:
    for line in lines:
        sys.stderr.write(f"mdp: {line}\n")
    return code
