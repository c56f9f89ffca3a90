"""The reference says what is there: whoever changes a command, an error, a table or an asset reads the diff."""

from __future__ import annotations

import os

import pytest

from mdp.config.settings import PROJECT_ROOT
from mdp_tests.docs.reference import PAGES

FOLDER = PROJECT_ROOT / "docs" / "reference"


@pytest.mark.parametrize("name", PAGES)
def test_a_page_says_what_is_there(name):
    made = PAGES[name]()
    if os.environ.get("WRITE_SNAPSHOT"):
        (FOLDER / name).write_text(made, encoding="utf-8")
    assert (FOLDER / name).read_text(encoding="utf-8") == made, "`make golden`, then read the diff"


def test_each_command_has_a_help_text_and_each_of_its_options_too():
    rows = [line for line in PAGES["cli.md"]().splitlines() if line.startswith("| `")]
    assert rows
    assert [row for row in rows if row.split(" | ")[1].strip() == ""] == []
