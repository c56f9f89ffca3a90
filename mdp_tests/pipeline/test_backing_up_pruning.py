"""Which backups stay: the last of some days, weeks and months; and nothing but backups is removed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mdp.errors import InputError, LeaseHeld
from mdp.pipeline.backing_up.places import name_of, working_in
from mdp.pipeline.backing_up.pruning import Keep, kept, prune
from mdp.pipeline.backing_up.records import FORMAT, LISTING, MANIFEST, Manifest, encode, file_sha256, sealed

SUNDAY = datetime(2025, 3, 2, 3, 30, tzinfo=UTC)


def texts(moments):
    return sorted(f"{moment:%m-%d %H}" for moment in moments)


def test_the_last_of_each_of_the_last_days_weeks_and_months_stays():
    made = [SUNDAY - timedelta(days=day, hours=hour) for day in range(100) for hour in (0, 1)]
    stay = kept(made, Keep(daily=3, weekly=2, monthly=3))
    assert texts(stay) == ["01-31 03", "02-23 03", "02-28 03", "03-01 03", "03-02 03"]


def test_days_without_a_backup_do_not_count():
    made = [SUNDAY, SUNDAY - timedelta(days=40), SUNDAY - timedelta(days=90)]
    assert kept(made, Keep(daily=3, weekly=0, monthly=0)) == set(made)


@settings(max_examples=25)
@given(
    made=st.lists(st.integers(0, 20_000).map(lambda hours: SUNDAY - timedelta(hours=hours))),
    counts=st.tuples(*[st.integers(0, 4)] * 3).filter(any),
)
def test_the_newest_always_stays_none_is_invented_and_a_second_look_removes_nothing(made, counts):
    keep = Keep(*counts)
    stay = kept(made, keep)
    assert stay <= set(made)
    assert len(stay) <= max(1, sum(counts))
    assert not made or max(made) in stay
    assert kept(stay, keep) == stay


@pytest.mark.parametrize(("counts", "named"), [((-1, 1, 1), "keep-daily"), ((0, 0, 0), "keep-daily")])
def test_numbers_that_would_remove_everything_are_refused(counts, named):
    with pytest.raises(InputError, match=f"{named}: expected"):
        Keep(*counts)


def backup(place, at):
    folder = place / name_of(at)
    (folder / "lake").mkdir(parents=True)
    (folder / LISTING).write_bytes(b"")
    manifest = Manifest(
        format=FORMAT, created_at=at, mdp_version="1", environment="local-dev", store="duckdb", data_dir="/data",
        was_quiet=True, tables={}, parts=(), snapshots=(), dagster="none", leaves_out={}, files=0, size=0, copied=0,
        listing_sha256=file_sha256(folder / LISTING),
    )  # fmt: skip
    (folder / MANIFEST).write_bytes(encode(sealed(manifest)))
    return folder


def test_nothing_but_backups_is_removed_and_one_that_cannot_be_read_is_left_to_a_person(tmp_path):
    days = [backup(tmp_path, SUNDAY - timedelta(days=day)) for day in range(4)]
    (days[0] / MANIFEST).write_text("{")  # the newest, which must not take the place of a good one
    (tmp_path / "mine").mkdir()
    (tmp_path / "2025-01-01T033000.000000Z").mkdir()
    would = prune(tmp_path, Keep(1, 0, 0), SUNDAY, is_dry=True)
    assert sorted(path.name for path in would[1]) == sorted(path.name for path in days[2:])
    assert all(path.exists() for path in days)
    kept_, gone = prune(tmp_path, Keep(1, 0, 0), SUNDAY)
    assert set(gone) == set(days[2:])
    assert set(kept_) == set(days[:2])
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {".lock", "mine", "2025-01-01T033000.000000Z", days[0].name, days[1].name}


def test_one_of_the_future_takes_no_others_place_and_stays(tmp_path):
    ahead, yesterday, today = (backup(tmp_path, SUNDAY + timedelta(days=days)) for days in (3_650, -1, 0))
    assert prune(tmp_path, Keep(1, 0, 0), SUNDAY) == ([today, ahead], [yesterday])


def test_nothing_is_removed_while_a_backup_is_made(tmp_path):
    with working_in(tmp_path), pytest.raises(LeaseHeld):
        prune(tmp_path, Keep(1, 0, 0), SUNDAY)
