"""``mdp init``: a place that services may start in, in any order and all at once."""

import subprocess

import pytest

from mdp_tests.support.postgres import DATABASE, PASSWORD, USER, program, running_postgres
from mdp_tests.support.workplace import Workplace


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_place_can_be_made_ready_by_several_at_once_and_again_later(tmp_path):
    place = Workplace(tmp_path)
    started = [place.start("init") for _ in range(3)]
    assert [one.wait(120) for one in started] == [0, 0, 0], (tmp_path / "init.out").read_text()
    again = place.run("init")
    assert again.returncode == 0, again.stderr
    assert again.stdout.splitlines()[0] == f"data directory: {tmp_path}"
    assert (tmp_path / "dagster" / "history" / "runs.db").exists()


@pytest.mark.slow
def test_a_data_directory_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    failed: subprocess.CompletedProcess[str] = Workplace(tmp_path / "file" / "data").run("init")
    assert failed.returncode == 1
    assert f"MDP_DATA_DIR {tmp_path / 'file' / 'data'}" in failed.stderr


@pytest.mark.slow
def test_a_storage_of_files_that_cannot_be_used_says_why_and_nothing_of_passwords(tmp_path):
    history = tmp_path / "dagster" / "history"
    history.mkdir(parents=True)
    (history / "runs.db").write_bytes(b"no database" * 1_000)
    failed = Workplace(tmp_path).run("init")
    assert failed.returncode == 1
    assert "Dagster's storage (sqlite): file is not a database; is there room in" in failed.stderr
    assert "password" not in failed.stderr


@pytest.mark.slow
def test_a_server_that_does_not_answer_is_named_without_its_password(tmp_path):
    url = "postgresql+psycopg2://mdp:secret@127.0.0.1:1/dagster"
    extra = {"MDP_DAGSTER__INSTANCE": "postgres", "MDP_DAGSTER__POSTGRES_URL": url}
    failed = Workplace(tmp_path, extra=extra).run("init")
    assert failed.returncode == 1
    assert "Dagster's storage (postgres)" in failed.stderr
    assert "secret" not in failed.stdout + failed.stderr


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_server_of_its_own_is_made_ready_too(tmp_path):
    with running_postgres(tmp_path / "postgres") as postgres:
        extra = {"MDP_DAGSTER__INSTANCE": "postgres", "MDP_DAGSTER__POSTGRES_URL": postgres.url}
        place = Workplace(tmp_path / "data", extra=extra)
        for _ in range(2):
            made = place.run("init")
            assert made.returncode == 0, made.stderr
        asked = [str(program("psql")), "-At", "-h", postgres.host, "-p", str(postgres.port), "-U", USER, DATABASE]
        tables = subprocess.run(
            [*asked, "-c", "SELECT tablename FROM pg_tables"], env={"PGPASSWORD": PASSWORD},
            capture_output=True, text=True, check=True,
        ).stdout.split()  # fmt: skip
    assert {"runs", "event_logs", "bulk_actions", "jobs", "daemon_heartbeats"} <= set(tables)
    assert not (tmp_path / "data" / "dagster" / "history").exists()
