"""A log of one's own for a test; what it changed of the whole process is as before after it."""

from __future__ import annotations

import json
import logging
import os

import pytest
import structlog

from mdp.config.settings import load_settings
from mdp.logs import configure_logs


class Said:
    """What was written."""

    def __init__(self, path) -> None:
        self.path = path

    @property
    def text(self) -> str:
        return self.path.read_text()

    @property
    def lines(self) -> list[dict]:
        return [json.loads(line) for line in self.text.splitlines()]


@pytest.fixture
def log_to(tmp_path):
    """Configure the process's log to write into a file; settings may be given."""
    root = logging.getLogger()
    before = (root.handlers[:], root.level, logging.getLoggerClass(), logging.getLogger("dagster").handlers[:])
    target = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def configure(form="json", level="info", about=None, **settings) -> Said:
        found = load_settings(data_dir=tmp_path, simulated=True, log={"form": form, "level": level}, **settings)
        configure_logs(found, target=target, **(about or {}))
        return Said(tmp_path / "log")

    yield configure
    root.handlers[:], level, class_, logging.getLogger("dagster").handlers[:] = before
    root.setLevel(level)
    logging.setLoggerClass(class_)
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()
    os.close(target)
