"""``mdp doctor``: what is broken on purpose is named, with what to do, and a look that hangs keeps nobody."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from http.server import HTTPServer, SimpleHTTPRequestHandler

import pytest
import redis

from mdp.bus.server import find_program
from mdp.cli.doctor import exchanges, machine, services
from mdp.cli.doctor.findings import Verdict, well
from mdp.cli.doctor.looking import LOOKS, examine
from mdp.cli.processes import free_port
from mdp.config.settings import load_settings
from mdp.domain.market import Exchange
from mdp_tests.support.simulator_process import running_simulator
from mdp_tests.support.workplace import Workplace


@pytest.fixture
def settings(tmp_path):
    return load_settings(data_dir=tmp_path, simulated=True)


def the(findings, name):
    (found,) = [one for one in findings if one.name == name]
    return found


def test_every_finding_that_is_not_well_says_what_to_do(settings):
    looks = {name: look for name, look in LOOKS.items() if not name.startswith("exchange")}
    del looks["dagster"]  # it takes seconds to import
    found = examine(settings, looks)
    assert {one.name for one in found} >= {"settings", "versions", "disk", "open files", "memory", "bus", "store"}
    assert [one for one in found if one.verdict is not Verdict.OK and not one.advice] == []
    assert [one.name for one in found if one.verdict is Verdict.FAILED] == []


def test_a_look_that_hangs_or_breaks_keeps_nobody(settings):
    def hangs(_):
        time.sleep(60)
        return []

    def breaks(_):
        raise RuntimeError("redis://me:secret@bus: what is this")

    looks = {"a": hangs, "b": breaks, "c": lambda _: [well("c", "fine")]}
    begun = time.monotonic()
    found = examine(settings, looks, patience_s=0.3)
    assert time.monotonic() - begun < 10
    assert [(one.name, one.verdict.value) for one in found] == [("a", "failed"), ("b", "failed"), ("c", "ok")]
    assert "secret" not in found[1].seen


def test_what_an_environment_lacks_is_named(tmp_path):
    lacking = load_settings(data_dir=tmp_path, env="central-dev")
    found = machine.look_at_settings(lacking)
    assert "MDP_BIGQUERY__PROJECT" in " ".join(one.seen for one in found)
    assert all(one.advice for one in found)


def test_a_directory_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    found = the(
        machine.look_at_directories(load_settings(data_dir=tmp_path / "file", simulated=True)), "data directory"
    )
    assert found.verdict is Verdict.FAILED
    assert str(tmp_path / "file") in found.seen
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


def test_keys_that_others_may_read_are_named(settings):
    settings.keys_file.parent.mkdir(parents=True)
    settings.keys_file.write_text("{}")
    settings.keys_file.chmod(0o644)
    (found,) = machine.look_at_keys(settings)
    assert (found.verdict, found.advice) == (Verdict.FAILED, f"chmod 600 {settings.keys_file}")
    settings.keys_file.chmod(0o600)
    assert machine.look_at_keys(settings)[0].verdict is Verdict.OK


def test_a_clock_that_is_wrong_is_named(monkeypatch, tmp_path):
    real = load_settings(data_dir=tmp_path, env="central-dev")
    for off_s, verdict in ((0.4, "ok"), (-3.0, "warning"), (7.0, "failed"), (None, "warning")):
        monkeypatch.setattr(exchanges, "_offset", lambda _, off_s=off_s: off_s)
        (found,) = exchanges.look_at_clock(real)
        assert found.verdict == verdict, off_s


def test_the_time_of_a_server_is_read_from_its_answer():
    with HTTPServer(("127.0.0.1", 0), SimpleHTTPRequestHandler) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        assert abs(exchanges._offset(url)) < 3
    assert exchanges._offset(url) is None


def test_a_simulator_that_is_not_there_is_to_be_started(settings):
    (found,) = exchanges.look_at_exchange(
        settings.model_copy(update={"simulator": settings.simulator.model_copy(update={"port": free_port(0)})}),
        Exchange.OKX,
    )
    assert found.verdict is Verdict.WARNING
    assert "make up" in found.advice


@pytest.mark.slow
def test_a_bus_that_may_throw_things_away_is_named(tmp_path):
    port = free_port(0)
    server = subprocess.Popen(
        [find_program(), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--maxmemory-policy", "allkeys-lru"],
        stdout=subprocess.DEVNULL,
    )
    try:
        url = f"redis://127.0.0.1:{port}/0"
        with redis.from_url(url) as bus:
            for _ in range(100):
                try:
                    bus.ping()
                    break
                except redis.ConnectionError:
                    time.sleep(0.05)
            found = services.look_at_bus(load_settings(data_dir=tmp_path, simulated=True, bus={"url": url}))
            assert found[0].verdict is Verdict.FAILED
            assert "noeviction" in found[0].advice
            bus.config_set("maxmemory-policy", "noeviction")
        found = services.look_at_bus(load_settings(data_dir=tmp_path, simulated=True, bus={"url": url}))
        assert found[0].verdict is Verdict.OK
        with redis.from_url(url) as bus:
            bus.execute_command("ACL", "SETUSER", "default", "-config")
        (found,) = services.look_at_bus(load_settings(data_dir=tmp_path, simulated=True, bus={"url": url}))
        assert (found.verdict, "noeviction" in found.advice) == (Verdict.WARNING, True), "as servers of a cloud are"
    finally:
        server.kill()
        server.wait()
    (found,) = services.look_at_bus(load_settings(data_dir=tmp_path, simulated=True, bus={"url": url}))
    assert found.verdict is Verdict.FAILED


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_service_without_feeds_answers_and_says_what_it_waits_for(tmp_path):
    port = free_port(0)
    url = f"http://127.0.0.1:{port}"
    assert services.look_at_page("service", f"{url}/readyz").verdict is Verdict.FAILED, "nobody listens"
    serving = Workplace(tmp_path, url).start("serve", "--host", "127.0.0.1", "--port", str(port))
    try:
        deadline = time.monotonic() + 60
        while (found := services.look_at_page("service", f"{url}/readyz")).verdict is Verdict.FAILED:
            assert time.monotonic() < deadline, found
            time.sleep(0.2)
    finally:
        serving.terminate()
        serving.wait()
    assert found.verdict is Verdict.WARNING
    assert "no buffer was read yet" in found.seen


def test_the_command_tells_of_everything_and_fails_where_an_exchange_does_not_let_us_in(tmp_path):
    with running_simulator("--now", "2025-01-09T00:00:00Z") as simulator:
        place = Workplace(tmp_path, simulator.url)
        place.run("init")
        done = place.run("doctor", "--json")
        found = {one["name"]: one for one in json.loads(done.stdout)}
        assert done.returncode == 0, done.stdout
        assert found["exchange okx"]["verdict"] == "ok"
        assert "3 candles of okx:BTC-USDT" in found["exchange okx"]["seen"]
        assert found["dagster's daemon"]["verdict"] == "warning"
    with running_simulator("--now", "2025-01-09T00:00:00Z", "--scenario", "geo") as simulator:
        done = Workplace(tmp_path, simulator.url).run("doctor")
        assert done.returncode == 1
        assert "this region may be refused" in " ".join(done.stdout.split())
