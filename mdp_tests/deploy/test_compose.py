"""``deploy/compose*.yaml`` agree with the program, with each other, and with what is asked of every container.

That the services work together is shown by ``test_topology``; that the files are compose files, by ``test_linters``.
"""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path

import pytest

from mdp.cli.processes import dagster_environment
from mdp.config.settings import PROJECT_ROOT, load_settings
from mdp.domain.market import Exchange
from mdp_tests.deploy.dockerfile import DOCKERFILE, read_dockerfile
from mdp_tests.deploy.files import (
    COMPOSE,
    DEPLOY,
    MONITORING,
    WORKERS,
    documents,
    is_command,
    literal_secrets,
    ours,
    services,
    unknown_settings,
)

WORKSPACE = DEPLOY / "dagster" / "workspace.yaml"
PUBLISHED = {"webserver": 3000, "api": 8000}
IMAGE = read_dockerfile(DOCKERFILE.read_text("utf-8"))[-1]


def programs() -> set[str]:
    return {one.name for one in metadata.entry_points(group="console_scripts")} | {"celery"}


def environment(name: str) -> dict[str, str]:
    return {key: str(value) for key, value in ours()[name]["environment"].items()}


def check(service: dict) -> list[str]:
    kind, *words = service["healthcheck"]["test"]
    return words if kind == "CMD" else words[0].split()


def test_there_is_one_feed_for_each_exchange_and_every_process_of_a_deployment():
    feeds = {name for name in services() if name.startswith("feed-")}
    assert feeds == {f"feed-{exchange.value}" for exchange in Exchange}
    assert {*services()} - feeds == {
        "postgres", "valkey", "simulator", "init", "code", "daemon", "webserver", "api",
    }  # fmt: skip


@pytest.mark.parametrize("name", sorted(ours()))
def test_a_service_runs_a_command_that_exists_with_settings_that_exist(name):
    service = ours()[name]
    assert is_command(service["command"], programs()), service["command"]
    assert unknown_settings([*service["environment"]]) == []
    if "test" in service["healthcheck"]:
        assert is_command(check(service), programs()), service["healthcheck"]


def test_a_command_or_setting_that_does_not_exist_is_noticed():
    assert not is_command(["mdp", "feet", "binance"], programs())
    assert not is_command(["mdp", "simulate", "--adress", "x"], programs())
    assert not is_command(["mdp", "backup"], programs())
    assert not is_command(["python", "-m", "mdp.cli.prob"], programs())
    assert not is_command(["no-such-program"], programs())
    assert unknown_settings(["MDP_BUS__URI", "MDP_BUS__URL", "MDP_BOSS", "PATH"]) == ["MDP_BUS__URI", "MDP_BOSS"]


@pytest.mark.parametrize("name", sorted(ours()))
def test_a_service_is_of_the_one_image_and_has_no_more_rights_than_it_needs(name):
    service = ours()[name]
    assert service["image"] == "${MDP_IMAGE:-mdp:latest}"
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "user" not in service, "the image says who"
    assert service["mem_limit"]
    assert service["restart"] == ("no" if name == "init" else "unless-stopped")
    assert service["networks"], name
    assert service["volumes"] == ["data:/data"]


def test_only_pages_and_the_service_are_published_and_only_to_this_machine():
    published = {name: one["ports"] for name, one in services().items() if "ports" in one}
    assert published == {name: [f"127.0.0.1:{port}:{port}"] for name, port in PUBLISHED.items()}
    assert all(service["ports"][0].startswith("127.0.0.1:") for service in services(MONITORING).values())
    networks = documents(COMPOSE)[0]["networks"]
    assert networks["stores"] == {"internal": True}
    assert services()["postgres"]["networks"] == services()["valkey"]["networks"] == ["stores"]


def test_whoever_is_spoken_to_listens_there():
    words = {name: " ".join(map(str, one.get("command", []))) for name, one in services().items()}
    (server,) = (one["grpc_server"] for one in documents(WORKSPACE)[0]["load_from"])
    assert f"-p {server['port']} " in f"{words[server['host']]} "
    assert f"--location-name {server['location_name']}" in words[server["host"]]
    said = {name: value for one in ours() for name, value in environment(one).items()}
    addresses = re.findall(r"[@/]([a-z]+):(\d+)", " ".join(said.values()))
    assert {("simulator", "8790"), ("valkey", "6379"), ("postgres", "5432"), ("webserver", "3000")} == {*addresses}
    for host, port in addresses:
        own = {"valkey": "6379", "postgres": "5432"}.get(host)
        assert port == own or re.search(rf"(-p|--port) {port}\b", words[host]), host
    for name, one in ours().items():
        if "test" in one["healthcheck"] and (asked := re.search(r"127\.0\.0\.1:(\d+)|-p (\d+)", " ".join(check(one)))):
            assert re.search(rf"(-p|--port) {asked[1] or asked[2]}\b", words[name]), name


def test_each_service_is_told_what_the_program_itself_would_tell_dagster(tmp_path):
    """Dagster's own commands are started by nobody of ours: what ``mdp env`` prints, the file says."""
    for own, variables in (("postgres", environment("code")), ("celery", documents(WORKERS)[0]["x-many"])):
        url = "postgresql+psycopg2://mdp:x@postgres:5432/dagster"
        given = {"instance": own, "postgres_url": url, "broker_url": "redis://valkey:6379/1"}
        settings = load_settings(env="local-integration", data_dir=tmp_path, dagster=given)
        for name, value in dagster_environment(settings).items():
            here = value.replace(str(PROJECT_ROOT), "/app").replace(str(tmp_path), "/data")
            said = str((environment("code") | variables)[name])
            assert re.sub(r"\$\{\w+:-(.*?)\}", r"\1", said) == here, name


def test_what_waits_for_a_service_waits_until_it_is_well():
    for name, one in services().items():
        for other, how in one.get("depends_on", {}).items():
            needed = "service_completed_successfully" if other == "init" else "service_healthy"
            assert how["condition"] == needed, f"{name} → {other}"
            assert other == "init" or "test" in services()[other]["healthcheck"]
    assert all("init" in one["depends_on"] for name, one in ours().items() if name.startswith(("feed", "code", "api")))


def test_postgres_and_valkey_lose_nothing_and_have_volumes():
    words = services()["valkey"]["command"]
    assert words[words.index("--maxmemory-policy") + 1] == "noeviction"
    assert words[words.index("--appendonly") + 1] == "yes"
    assert "--maxmemory" in words
    assert all(services()[name]["volumes"] for name in ("postgres", "valkey"))


def test_simulated_and_real_share_no_volume():
    volumes = documents(COMPOSE)[0]["volumes"]
    assert set(volumes) == {"data", "postgres", "valkey"}
    assert all("${MDP_SIMULATED:-true}" in volume["name"] for volume in volumes.values())


def test_workers_change_only_how_runs_are_executed():
    many, services_ = documents(WORKERS)[0]["x-many"], services(WORKERS)
    assert unknown_settings([*many]) == []
    assert many["MDP_DAGSTER__INSTANCE"] == Path(many["DAGSTER_HOME"]).name == "celery"
    assert {*services_} >= {*ours()} - {"simulator"}
    assert all(one["environment"] == many for one in services_.values())
    workers = {name: one for name, one in services_.items() if name not in services()}
    assert {name: one["command"] for name, one in workers.items()} == {
        "worker": ["mdp", "worker"], "worker-live": ["mdp", "worker", "--live"],
    }  # fmt: skip
    for one in workers.values():
        assert is_command(one["command"], programs())
        assert one["extends"] == {"file": "compose.yaml", "service": "code"}
        node = "live" if "--live" in one["command"] else "work"
        assert f'-d "{node}@$$HOSTNAME"' in one["healthcheck"]["test"][1]


@pytest.mark.parametrize("path", [COMPOSE, WORKERS, MONITORING], ids=lambda path: path.name)
def test_no_secret_is_written_down(path):
    assert literal_secrets(path.read_text("utf-8")) == []


@pytest.mark.parametrize(
    "line",
    [
        "POSTGRES_PASSWORD: hunter2", "  MDP_BUS__URL: redis://:hunter2@valkey:6379/0", "password = hunter2",
        "postgresql+psycopg2://mdp:hunter2@postgres/dagster", "- SLACK_WEBHOOK=https://x", "API_KEY: 'k'",
        "-----BEGIN RSA PRIVATE KEY-----",
    ],
)  # fmt: skip
def test_a_secret_that_is_written_down_is_noticed(line):
    assert literal_secrets(line) == [line.strip()]


def test_a_variable_in_the_place_of_a_secret_is_none():
    assert (
        literal_secrets("POSTGRES_PASSWORD: ${POSTGRES_PASSWORD:?say it}\nA: redis://:${B}@c\nPOSTGRES_PASSWORD=") == []
    )


def test_every_variable_of_the_files_is_explained_in_the_example():
    example = (DEPLOY / ".env.example").read_text("utf-8")
    files = "".join(path.read_text("utf-8") for path in (COMPOSE, WORKERS, MONITORING))
    assert set(re.findall(r"\$\{(\w+)", files)) == set(re.findall(r"(?m)^([A-Z_]+)=", example))
    required = set(re.findall(r"\$\{(\w+):\?", files))
    assert {name for name in required if re.search(rf"(?m)^{name}=.", example)} == set(), (
        "a secret of an example is none"
    )
