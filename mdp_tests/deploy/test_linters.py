"""What is deployed passes the linters of its kinds, and each linter notices a file that is wrong.

They are programs of other people in an environment of their own: ``make linters``. Not here: what the files say.
"""

from __future__ import annotations

import json
import re
import subprocess
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from mdp.config.isolation import SHARED, datasets
from mdp.config.settings import PROJECT_ROOT
from mdp.storage.bigquery.datasets import STAGED_FOR
from mdp_tests.deploy.files import COMPOSE, DEPLOY, KUBERNETES, MONITORING, WORKERS

pytestmark = pytest.mark.slow

LINTERS = PROJECT_ROOT / ".venv-linters" / "bin"
SUPPORT = PROJECT_ROOT / "mdp_tests" / "support" / "linters"
DOCKERFILE = DEPLOY / "Dockerfile"
MANIFESTS = sorted(
    path
    for path in (*KUBERNETES.glob("base/*.yaml"), *KUBERNETES.glob("overlays/*/*.yaml"))
    if path.name != "kustomization.yaml"
)


@pytest.fixture(autouse=True, scope="module")
def _installed() -> None:
    assert (LINTERS / "hadolint").exists(), "the linters are not installed: make linters"


def run(*words: str | Path, given: str | None = None) -> subprocess.CompletedProcess[str]:
    command = [str(LINTERS / words[0]), *map(str, words[1:])]
    return subprocess.run(command, input=given, capture_output=True, text=True, timeout=120, check=False)


def said(done: subprocess.CompletedProcess[str]) -> str:
    return done.stdout + done.stderr


def test_the_dockerfile_is_a_good_one():
    done = run("hadolint", "--no-color", DOCKERFILE)
    assert done.returncode == 0, said(done)


@pytest.mark.parametrize(
    ("wrong", "rule"),
    [
        ("FROM python:latest\nCMD [\"mdp\"]\n", "DL3007"),
        ("FROM python:3.11\nRUN cd /app && make\nCMD mdp serve\n", "DL3025"),
        ("FROM python:3.11\nUSER root\n", "DL3002"),
        ("FROM python:3.11\nRUN apt-get install curl\n", "DL3008"),
    ],
)  # fmt: skip
def test_a_bad_dockerfile_is_noticed(wrong, rule):
    done = run("hadolint", "--no-color", "-", given=wrong)
    assert done.returncode == 1
    assert rule in done.stdout


@pytest.mark.parametrize("path", [COMPOSE, WORKERS, MONITORING], ids=lambda path: path.name)
def test_compose_files_are_compose_files(path):
    done = run("python", SUPPORT / "read_compose.py", given=_plain(path.read_text("utf-8")))
    assert done.returncode == 0, said(done)


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        ("services: {a: {image: x, restrat: always}}", "restrat"),
        ("services: {a: {image: x, ports: [99999999:1]}}", "port"),
        ("services: {a: {image: x, networks: [nowhere]}}", "nowhere"),
        ("services: {a: {image: x, depends_on: {b: {condition: service_helthy}}}}", "service_helthy"),
        ("services: {a: {image: x, mem_limit: 3 elephants}}", "mem_limit"),
    ],
)
def test_what_is_no_compose_file_is_noticed(wrong, word):
    done = run("python", SUPPORT / "read_compose.py", given=wrong)
    assert done.returncode == 1
    assert word in done.stdout


def _plain(text: str) -> str:
    """Replace variables as compose does before it reads, and resolve what YAML itself resolves."""
    text = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)
    text = re.sub(r"\$\{\w+:\?[^}]*\}", "given", text)
    return yaml.safe_dump({key: value for key, value in yaml.safe_load(text).items() if not key.startswith("x-")})


def manifests_are_right(*paths: Path) -> bool:
    done = run("kubernetes-validate", "--strict", *paths)
    return done.returncode == 0 and "WARN" not in said(done)  # of a kind that it does not know it only warns


def test_manifests_are_manifests():
    assert manifests_are_right(*MANIFESTS), said(run("kubernetes-validate", "--strict", "--quiet", *MANIFESTS))
    assert len(MANIFESTS) > 10


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("readOnlyRootFilesystem: true", "readOnlyRootFileSystem: true"), ("memory: 512Mi", "memory: [512]"),
        ("replicas: 1", "replicas: one"), ("kind: Deployment", "kind: Deploiment"),
    ],
)  # fmt: skip
def test_a_manifest_that_is_wrong_is_noticed(tmp_path, right, wrong):
    text = (KUBERNETES / "base" / "feeds.yaml").read_text("utf-8")
    assert right in text
    path = tmp_path / "feeds.yaml"
    path.write_text(text.replace(right, wrong, 1), "utf-8")
    assert not manifests_are_right(path)


def test_yaml_is_well_formed_and_says_nothing_twice():
    done = run("yamllint", "--strict", "-c", DEPLOY / ".yamllint", DEPLOY)
    assert done.returncode == 0, said(done)
    done = run("yamllint", "--strict", "-c", DEPLOY / ".yamllint", "-", given="a: 1\nb: 2\na: 3\n")
    assert done.returncode != 0
    assert "duplication" in done.stdout


@pytest.fixture(scope="module")
def terraform() -> dict[str, Any]:
    done = run("python", SUPPORT / "read_terraform.py", *sorted((DEPLOY / "terraform").glob("*.tf")))
    assert done.returncode == 0, said(done)
    return json.loads(done.stdout)


def resources(terraform: dict[str, Any], kind: str) -> dict[str, dict[str, Any]]:
    found = {}
    for one in (one for file in terraform.values() for one in file.get("resource", [])):
        for of_kind, named in one.items():
            if of_kind.strip('"') == kind:
                found |= {name.strip('"'): what for name, what in named.items()}
    return found


def test_what_is_no_terraform_file_is_noticed(tmp_path):
    path = tmp_path / "wrong.tf"
    path.write_text('resource "x" "y" {\n  a = \n}\n', "utf-8")
    assert run("python", SUPPORT / "read_terraform.py", path).returncode == 1


def test_datasets_are_such_as_the_program_takes(terraform):
    found = resources(terraform, "google_bigquery_dataset")
    assert set(found) == {"data", "staging", "snapshots"}
    assert int(found["staging"]["default_table_expiration_ms"]) == STAGED_FOR / timedelta(milliseconds=1)
    for name in ("data", "snapshots"):
        assert not [key for key in found[name] if "expiration" in key], f"{name}: candles would be lost"
        assert "prevent_destroy" in str(found[name]["lifecycle"])
    (one,) = (file["locals"][0] for file in terraform.values() if "locals" in file)
    assert one["name"].strip('"') == 'market_data_${replace(var.environment, "-", "_")}'
    assert {name: f"market_data_{name.replace('-', '_')}" for name in SHARED}.items() <= datasets().items()
    suffixes = {name: what["dataset_id"].strip('"').removeprefix("${local.name}") for name, what in found.items()}
    assert (suffixes["staging"], suffixes["snapshots"]) == ("_writing", "_snapshots")


def test_accounts_may_do_no_more_than_they_must(terraform):
    in_project = {what["role"].strip('"') for what in resources(terraform, "google_project_iam_member").values()}
    assert in_project == {"roles/bigquery.jobUser"}
    roles = {
        name: what["role"].strip('"')
        for name, what in resources(terraform, "google_bigquery_dataset_iam_member").items()
    }
    assert roles == {
        "writer": "roles/bigquery.dataEditor",
        "reader": "roles/bigquery.dataViewer",
        "people": "roles/bigquery.dataViewer",
    }
    assert not resources(terraform, "google_service_account_key"), "an account with a key in a file"
    variables = {
        name.strip('"'): what
        for file in terraform.values()
        for one in file.get("variable", [])
        for name, what in one.items()
    }
    assert all(f'"{name}"' in str(variables["environment"]) for name in SHARED)
    for path in (DEPLOY / "terraform").glob("*.tfvars.example"):
        given = set(re.findall(r"(?m)^(\w+) +=", path.read_text("utf-8")))
        assert {"environment", "project"} <= given <= set(variables), path.name
