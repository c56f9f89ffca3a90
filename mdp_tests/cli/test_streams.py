"""A reader who leaves changes neither the exit code nor what is written to stderr."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

MANY = "SELECT range AS n FROM range(200000)"


def run(tmp_path, *arguments, code=None, **streams):
    """Run ``mdp`` as a process, or some code instead of a command."""
    command = ["-c", code] if code else ["-m", "mdp.cli", *arguments]
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MDP_")}
    return subprocess.Popen(
        [sys.executable, *command], env={**inherited, "MDP_DATA_DIR": str(tmp_path)}, text=True, **streams
    )


def left(process):
    """Read one line, leave, and wait: the exit code and what stderr says."""
    process.stdout.readline()
    process.stdout.close()
    _, errors = process.communicate(timeout=60)
    return process.returncode, errors


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [("sql", MANY, "-f", "csv"), ("sql", MANY, "-f", "json"), ("--help",)])
def test_head_ends_in_silence(tmp_path, arguments):
    assert left(run(tmp_path, *arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE)) == (0, "")


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments", [("sql", "SELECT 1"), ("sql", MANY), ("sql", MANY, "-f", "json"), ("coverage",), ("--help",)]
)
def test_a_reader_who_was_never_there_is_no_failure(tmp_path, arguments):
    reader, writer = os.pipe()
    os.close(reader)
    process = run(tmp_path, *arguments, stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, "")


@pytest.mark.slow
@pytest.mark.parametrize("code", [0, 3])
def test_a_backfill_nobody_reads_keeps_its_exit_code(tmp_path, code):
    program = f"""
import sys
import mdp.cli.backfill
from mdp.cli.app import main
from mdp.cli.output import print_table
from rich.table import Table

def backfill(*_, **__):
    sys.stdout.write("ready\\n"); sys.stdout.flush()
    sys.stdin.readline()
    table = Table("a"); table.add_row("b")
    for _ in range(100):
        print_table(table)
        sys.stdout.write("MISSING\\n" * 10000); sys.stdout.flush()
        sys.stdout.buffer.write(b"json" * 10000); sys.stdout.buffer.flush()
    return {code}

mdp.cli.backfill.run_backfill = backfill
sys.argv = ["mdp", "backfill", "--start", "2024-12-25", "--end", "2024-12-26"]
main()
"""
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    process = run(tmp_path, code=program, **pipes)
    assert process.stdout.readline() == "ready\n"
    process.stdout.close()
    process.stdin.write("go\n")
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (code, "")


@pytest.mark.slow
def test_an_error_keeps_its_exit_code_when_nobody_reads_stderr(tmp_path):
    reader, writer = os.pipe()
    os.close(reader)
    process = run(tmp_path, "sql", "SELEC 1", stdout=subprocess.PIPE, stderr=writer)
    os.close(writer)
    assert process.wait(60) == 2
    process.stdout.close()


@pytest.mark.slow
def test_streams_that_were_closed_from_the_start_do_no_harm(tmp_path):
    """The number of a closed stdout would go to the next file that is opened, and the output into that."""
    shell = f'exec "{sys.executable}" -m mdp.cli sql "{MANY}" -f csv -o "{tmp_path}/out.csv" <&- >&- 2>&-'
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MDP_")}
    process = subprocess.run(["sh", "-c", shell], env={**inherited, "MDP_DATA_DIR": str(tmp_path)}, check=False)
    assert process.returncode == 0
    assert (tmp_path / "out.csv").read_text().count("\n") == 200_001


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no device that is always full")  # noqa: PTH110
@pytest.mark.parametrize("arguments", [("sql", MANY, "-f", "csv"), ("sql", "SELECT 1")])
def test_a_full_disk_is_one_line_and_a_failure(tmp_path, arguments):
    with open("/dev/full", "w") as full:  # noqa: PTH123
        process = run(tmp_path, *arguments, stdout=full, stderr=subprocess.PIPE)
        _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (1, "mdp: output: No space left on device\n")
