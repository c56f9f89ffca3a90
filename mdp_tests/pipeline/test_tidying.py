"""What is left behind is removed when its time is over, and nothing else is, ever."""

from __future__ import annotations

import fcntl
import os
from datetime import UTC, datetime, timedelta

import pytest

from mdp.config.settings import load_settings
from mdp.pipeline.tidying import Leftover, may_go, rule_for, tidy

NOW = datetime(2025, 3, 6, 9, tzinfo=UTC)
RUN = "0b6f7f2e-5c1d-4a3e-9f00-aabbccddeeff"
OF_NOBODY = 4_194_305
"""No process has this number: Linux counts to 4,194,304 at most."""


@pytest.mark.parametrize(
    ("folder", "name", "days"),
    [
        ("log", f"backfill-{OF_NOBODY}-0.log", 30),
        ("log", f"heal-{OF_NOBODY}.log", 30),
        ("log", "feed-binance.log.1", 30),
        ("run/watched", f"{RUN}.lock", 7),
        ("run", f".{RUN}", 1),
        (".", ".restoring-0123abcd", 1),
    ],
)
def test_what_a_rule_names_goes_when_its_time_is_over_and_nobody_uses_it(folder, name, days):
    age, logs = timedelta(days=days), timedelta(days=30)
    assert not may_go(Leftover(folder, name, NOW - age, is_in_use=False), NOW, logs)
    older = NOW - age - timedelta(seconds=1)
    assert may_go(Leftover(folder, name, older, is_in_use=False), NOW, logs)
    assert not may_go(Leftover(folder, name, older, is_in_use=True), NOW, logs)


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("log", "feed-binance.log"), ("log", "bus.log"), ("log", "backfill-mine.log"), ("log", "notes.txt"),
        ("run", "up.lock"), ("run", "dagster.lock"), ("run", "services.json"), ("run/runs", f"{RUN}.lock"),
        ("run/watched", "mine.lock"), (".", ".before-restore-2025-01-08T033000.000000Z"), (".", "lake"),
        (".", ".restoring-mine"), ("lake", "feed.log.1"),
    ],
)  # fmt: skip
def test_what_no_rule_names_stays_for_ever(folder, name):
    found = Leftover(folder, name, NOW - timedelta(days=10_000), is_in_use=False)
    assert rule_for(found) is None
    assert not may_go(found, NOW, timedelta(days=1))


def left(path, age_days, body="said"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(body)
    then = (NOW - timedelta(days=age_days)).timestamp()
    os.utime(path, (then, then))
    return path


def test_real_files_are_removed_as_the_settings_say_and_those_in_use_are_not(tmp_path):
    settings = load_settings(data_dir=tmp_path, maintenance={"keep_logs_days": 10})
    gone = [
        left(tmp_path / "log" / f"backfill-{OF_NOBODY}-1.log", 11),
        left(tmp_path / "run" / "watched" / f"{RUN}.lock", 8),
        left(tmp_path / ".restoring-0123abcd" / "lake" / "part", 8),
    ]
    then = (NOW - timedelta(days=8)).timestamp()
    os.utime(tmp_path / ".restoring-0123abcd", (then, then))
    locked = left(tmp_path / "run" / "watched" / f"{RUN[:-1]}0.lock", 8)
    stays = [
        locked,
        left(tmp_path / "log" / f"backfill-{OF_NOBODY}-2.log", 9),
        left(tmp_path / "log" / f"heal-{os.getpid()}.log", 400),
        left(tmp_path / "log" / "feed-okx.log", 400),
        left(tmp_path / "lake" / "ohlcv" / "part.parquet", 400),
        left(tmp_path / ".before-restore-2024-01-08T033000.000000Z" / "lake" / "part", 400),
        left(tmp_path / "mine.log.1", 400),
    ]
    with locked.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        would = tidy(settings, NOW, is_dry=True)
        assert (would.files, would.size_bytes) == (3, 12)
        assert all(path.exists() for path in gone)
        assert tidy(settings, NOW) == would
    assert not any(path.exists() for path in gone)
    assert all(path.exists() for path in stays)
    assert tidy(load_settings(data_dir=tmp_path / "nowhere"), NOW).files == 0


def test_a_restore_that_is_at_work_keeps_its_folder(tmp_path):
    left(tmp_path / ".restoring-0123abcd" / "lake" / "part", 8)
    then = (NOW - timedelta(days=8)).timestamp()
    os.utime(tmp_path / ".restoring-0123abcd", (then, then))
    handle = os.open(tmp_path, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        assert tidy(load_settings(data_dir=tmp_path), NOW).files == 0
    finally:
        os.close(handle)
    assert tidy(load_settings(data_dir=tmp_path), NOW).files == 1
