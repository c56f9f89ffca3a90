"""Manifests, Helm values and Terraform agree with the program, with Dagster's own settings and with each other.

That they are manifests, and Terraform's files HCL, is shown by ``test_linters``. No cluster was asked.
"""

from __future__ import annotations

import re
import subprocess
import tomllib
from importlib import metadata
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from mdp.config.environment_names import ENVIRONMENTS
from mdp.config.needs import needs
from mdp.config.settings import PROJECT_ROOT, load_settings
from mdp.domain.market import Exchange
from mdp_tests.deploy.files import (
    DEPLOY,
    HELM_VALUES,
    KUBERNETES,
    containers,
    documents,
    is_command,
    literal_secrets,
    manifests,
    of_kind,
    pod_of,
    unknown_settings,
)

OVERLAYS = sorted(path.name for path in (KUBERNETES / "overlays").iterdir())
SECRETS = {
    "MDP_BUS__URL": "redis://:x@valkey:6379/0",
    "MDP_ALERTS__WEBHOOK_URL": "https://hooks.example/x",
    "MDP_DAGSTER__POSTGRES_URL": "postgresql+psycopg2://mdp:x@db.example:5432/dagster",
}
"""What mdp-secrets holds, but the password of Valkey, which is no setting."""

FILLED = {"REGISTRY": "reg.example/team", "PROJECT": "some-project", "VERSION": "1.2.3", "DB_HOST": "10.0.0.5"}
"""What the document fills in."""

OURS = [(name, pod, one) for name, pod, one in containers() if one["image"] == "mdp"]
ALL = [(name, pod, one) for name, pod, one in containers()]


def programs() -> set[str]:
    return {one.name for one in metadata.entry_points(group="console_scripts")}


def named(values: list[tuple[str, Any, Any]]) -> dict[str, Any]:
    return {"argvalues": values, "ids": [name for name, _, _ in values]}


def filled(text: str) -> str:
    """Return a file or a manifest as the function in docs/deployment.md fills it."""
    (function,) = re.findall(
        r"^fill\(\) .*$", (PROJECT_ROOT / "docs" / "deployment.md").read_text("utf-8"), re.MULTILINE
    )
    done = subprocess.run(["bash", "-c", f"{function}\nfill"], input=text, env=FILLED, text=True, capture_output=True)
    assert not done.stderr
    return done.stdout


def helm() -> dict[str, Any]:
    return documents(HELM_VALUES)[0]


@pytest.mark.parametrize(("name", "pod", "container"), **named(ALL))
def test_a_container_has_no_more_rights_than_it_needs(name, pod, container):
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
    }  # fmt: skip
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    assert {"cpu", "memory"} <= set(container["resources"]["requests"])
    assert "memory" in container["resources"]["limits"]
    assert "hostPath" not in str(pod)


@pytest.mark.parametrize(("name", "pod", "container"), **named(OURS))
def test_a_container_of_ours_runs_a_command_that_exists_with_what_it_needs(name, pod, container):
    assert is_command([str(word) for word in container["command"]], programs())
    assert container["envFrom"] == [
        {"configMapRef": {"name": "mdp-settings"}}, {"secretRef": {"name": "mdp-secrets"}},
    ]  # fmt: skip
    assert unknown_settings([one["name"] for one in container.get("env", [])]) == []
    assert (pod["securityContext"]["runAsUser"], pod["securityContext"]["fsGroup"]) == (10001, 10001)
    volumes = {one["name"] for one in pod["volumes"]}
    mounts = {one["name"]: one["mountPath"] for one in container["volumeMounts"]}
    assert set(mounts) <= volumes
    assert (mounts["data"], mounts["tmp"]) == ("/data", "/tmp")
    probes = [probe for name, probe in container.items() if name.endswith("Probe") and "exec" in probe]
    assert all(is_command(probe["exec"]["command"], programs()) for probe in probes)


def test_what_is_named_is_there():
    accounts = {one["metadata"]["name"] for one in of_kind("ServiceAccount")}
    claims = {one["metadata"]["name"] for one in of_kind("PersistentVolumeClaim")}
    for _, pod, container in OURS:
        assert pod["serviceAccountName"] in accounts
        ports = {one["name"] for one in container.get("ports", [])}
        for name, probe in container.items():
            if name.endswith("Probe") and "httpGet" in probe:
                assert probe["httpGet"]["port"] in ports
        for volume in pod["volumes"]:
            assert volume.get("persistentVolumeClaim", {}).get("claimName", "mdp-data") in claims
    listed = documents(KUBERNETES / "base" / "kustomization.yaml")[0]["resources"]
    files = {path.name for path in (KUBERNETES / "base").glob("*.yaml")} - {"kustomization.yaml"}
    assert set(listed) == files


def test_there_is_never_more_than_one_feed_of_an_exchange():
    feeds = {
        one["metadata"]["labels"]["mdp/exchange"]: one
        for one in of_kind("Deployment")
        if "feed" in one["metadata"]["name"]
    }
    assert set(feeds) == {exchange.value for exchange in Exchange}
    for exchange, one in feeds.items():
        assert one["spec"]["replicas"] == 1
        assert one["spec"]["strategy"] == {"type": "Recreate"}
        (container,) = pod_of(one)["containers"]
        assert container["command"] == ["mdp", "feed", exchange, "--wait"]
        assert container["readinessProbe"]["exec"]["command"] == ["mdp", "live", "--require", exchange]


def test_services_and_policies_select_pods_that_exist_by_ports_that_they_listen_on():
    labels = [one["spec"]["template"]["metadata"]["labels"] for one in of_kind("Deployment", "StatefulSet")]
    labels += [{"component": "user-deployments"}, {"component": "dagster-webserver"}]  # those of Dagster's chart
    for one in of_kind("Service"):
        assert any(one["spec"]["selector"].items() <= label.items() for label in labels), one["metadata"]
    for policy in of_kind("NetworkPolicy"):
        for selector in re.findall(r"\{'matchLabels': (\{[^}]*\})\}", str(policy["spec"])):
            wanted = yaml.safe_load(selector.replace("'", '"'))
            of_a_namespace = {"kubernetes.io/metadata.name", "mdp/clients"} & wanted.keys()
            dagster = wanted == {"app.kubernetes.io/name": "dagster"}
            assert of_a_namespace or dagster or any(wanted.items() <= label.items() for label in labels), wanted
    for one in of_kind("Deployment", "StatefulSet"):
        assert one["spec"]["selector"]["matchLabels"].items() <= one["spec"]["template"]["metadata"]["labels"].items()
    assert {one["metadata"]["name"] for one in of_kind("NetworkPolicy") if one["spec"]["podSelector"] == {}} == {
        "nobody", "names-and-identity",
    }  # fmt: skip


def test_what_stands_for_something_else_is_filled_in_and_nothing_beside_it():
    # as kustomize prints a setting: its name and what is to be filled in are on one line
    assert filled("  MDP_BIGQUERY__PROJECT: FILL_PROJECT") == "  MDP_BIGQUERY__PROJECT: some-project"
    for path in (HELM_VALUES, *KUBERNETES.rglob("*.yaml")):
        text = path.read_text("utf-8")
        after = filled(text)
        assert "FILL_" not in after, path
        assert re.findall(r"MDP_\w+", after) == re.findall(r"MDP_\w+", text)
    assert yaml.safe_load(filled(HELM_VALUES.read_text("utf-8")))["postgresql"]["postgresqlHost"] == "10.0.0.5"


def test_pods_reach_every_port_of_the_exchanges():
    named = tomllib.loads((PROJECT_ROOT / "mdp" / "config" / "endpoints.toml").read_text("utf-8"))
    urls = [
        urlsplit(url) for kind in named.values() for one in kind.values() for url in one.values() if url is not True
    ]
    (policy,) = (one for one in of_kind("NetworkPolicy") if one["metadata"]["name"] == "work")
    (outside,) = (one for one in policy["spec"]["egress"] if one["to"] == [{"ipBlock": {"cidr": "0.0.0.0/0"}}])
    assert {one.port or 443 for one in urls} == {one["port"] for one in outside["ports"]}


def test_a_request_in_flight_is_answered_before_a_pod_of_the_service_ends():
    (api,) = (one for one in of_kind("Deployment") if one["metadata"]["name"] == "api")
    pod = pod_of(api)
    until_no_more_come = pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    drain_s = load_settings().api.drain_s
    assert pod["terminationGracePeriodSeconds"] >= until_no_more_come + drain_s + 10
    assert "replicas" not in api["spec"], "the autoscaler's"
    (budget,) = of_kind("PodDisruptionBudget")
    (scaler,) = of_kind("HorizontalPodAutoscaler")
    assert budget["spec"]["minAvailable"] < scaler["spec"]["minReplicas"]


@pytest.mark.parametrize("name", OVERLAYS)
def test_an_environment_has_all_settings_that_it_needs(name, monkeypatch, tmp_path):
    said = yaml.safe_load(filled((KUBERNETES / "overlays" / name / "kustomization.yaml").read_text("utf-8")))
    assert (
        said["namespace"]
        == f"mdp-{name}"
        == documents(KUBERNETES / "overlays" / name / "namespace.yaml")[0]["metadata"]["name"]
    )
    (base,) = (one["data"] for one in of_kind("ConfigMap"))
    (patch,) = (one["patch"] for one in said["patches"] if one["target"]["kind"] == "ConfigMap")
    added = {one["path"].removeprefix("/data/"): one["value"] for one in yaml.safe_load(patch)}
    given = {**base, **added, **SECRETS, "MDP_DATA_DIR": str(tmp_path)}
    for variable, value in given.items():
        monkeypatch.setenv(variable, value)
    settings = load_settings()
    assert settings.env == name
    assert settings.bigquery.project == "some-project"
    assert said["images"][0]["newName"] == "reg.example/team/mdp"
    assert settings.dagster.instance == "kubernetes"
    assert not settings.live.start_feeds
    assert needs(settings, is_placed=True) == []
    short = name.removeprefix("production-")
    for one in said["patches"]:
        if one["target"]["kind"] == "ServiceAccount":
            role = one["target"]["name"].removeprefix("mdp-")
            assert f"mdp-{short}-{role}@some-project.iam.gserviceaccount.com" in one["patch"]
    enforced = documents(KUBERNETES / "overlays" / name / "namespace.yaml")[0]["metadata"]["labels"]
    assert enforced["pod-security.kubernetes.io/enforce"] == "restricted"


def test_every_environment_of_kubernetes_has_an_overlay():
    of_kubernetes = {name for name in ENVIRONMENTS if load_settings(env=name).dagster.instance == "kubernetes"}
    assert of_kubernetes == set(OVERLAYS)


@pytest.mark.parametrize("part", ["nux", "run_monitoring", "run_retries", "retention", "backfills", "code_servers"])
def test_dagster_is_told_the_same_on_kubernetes_as_elsewhere(part):
    (elsewhere,) = documents(DEPLOY / "dagster" / "postgres" / "dagster.yaml")
    values = helm()
    assert values["additionalInstanceConfig"][part] == elsewhere[part]
    # the chart writes none of them itself, or they would be there twice
    assert values["retention"]["enabled"] is False
    assert values["dagsterDaemon"]["runMonitoring"] == values["dagsterDaemon"]["runRetries"] == {"enabled": False}


def test_runs_are_queued_on_kubernetes_as_elsewhere():
    (elsewhere,) = documents(DEPLOY / "dagster" / "postgres" / "dagster.yaml")
    coordinator = helm()["dagsterDaemon"]["runCoordinator"]
    assert coordinator["type"] == "CustomRunCoordinator"
    assert coordinator["config"]["customRunCoordinator"] == elsewhere["run_coordinator"]


def test_dagsters_pods_are_ours_but_for_their_command():
    values = helm()
    (server,) = values["dagster-user-deployments"]["deployments"]
    launcher = values["runLauncher"]["config"]["k8sRunLauncher"]
    pods = [values["dagsterWebserver"], values["dagsterDaemon"], server]
    assert {one["image"]["repository"] for one in pods} == {"FILL_REGISTRY/mdp"}
    assert len({one["image"]["tag"] for one in pods}) == 1
    _, pod, container = OURS[0]
    for one in (*pods, launcher):
        assert one["securityContext"] == container["securityContext"]
        assert (one["envConfigMaps"], one["envSecrets"]) == ([{"name": "mdp-settings"}], [{"name": "mdp-secrets"}])
        assert {mount["mountPath"] for mount in one["volumeMounts"]} == {"/data", "/tmp"}
        assert "memory" in one["resources"]["limits"]
    run = launcher["runK8sConfig"]["podSpecConfig"]
    assert pods[0]["podSecurityContext"] == run["securityContext"] == pod["securityContext"]
    assert run["automountServiceAccountToken"] is False
    accounts = {one["metadata"]["name"] for one in of_kind("ServiceAccount")}
    assert {values["global"]["serviceAccountName"], run["serviceAccountName"]} <= accounts
    assert server["dagsterApiGrpcArgs"] == ["--module-name", "mdp.definitions"]
    (settings,) = (one["data"] for one in of_kind("ConfigMap"))
    web = values["dagsterWebserver"]
    assert settings["MDP_API__DAGSTER_URL"] == f"http://dagster-{web['nameOverride']}:{web['service']['port']}"
    assert web["readinessProbe"]["httpGet"]["port"] == web["service"]["port"] > 1024


def test_no_secret_is_written_down():
    files = [path for path in DEPLOY.rglob("*") if path.suffix in {".yaml", ".yml", ".tf", ".example"}]
    assert len(files) > 20
    assert {path.name: found for path in files if (found := literal_secrets(path.read_text("utf-8")))} == {}
    assert not any(one["kind"] == "Secret" for one in manifests())


@pytest.mark.slow
def test_dagsters_own_classes_take_the_values():
    """What the chart makes of the values is what Dagster's Kubernetes library and its settings accept."""
    from dagster._config import validate_config
    from dagster._core.instance.config import dagster_instance_config_schema
    from dagster_k8s.container_context import K8sContainerContext

    values = helm()
    launcher = values["runLauncher"]["config"]["k8sRunLauncher"]
    snake = {re.sub(r"(?<!^)([A-Z])", r"_\1", key).lower(): value for key, value in launcher["runK8sConfig"].items()}
    context = {
        "env_config_maps": ["mdp-settings"], "env_secrets": ["mdp-secrets"], "env_vars": launcher["envVars"],
        "volumes": launcher["volumes"], "volume_mounts": launcher["volumeMounts"], "resources": launcher["resources"],
        "security_context": launcher["securityContext"], "run_k8s_config": snake,
    }  # fmt: skip
    found = K8sContainerContext.create_from_config({"k8s": context}).run_k8s_config
    assert found.pod_spec_config["service_account_name"] == "mdp-writer"
    assert found.job_spec_config["ttl_seconds_after_finished"] == 86_400
    assert found.container_config["resources"]["limits"] == {"memory": "1Gi"}
    assert {mount["mount_path"] for mount in found.container_config["volume_mounts"]} == {"/data", "/tmp"}
    outcome = validate_config(dagster_instance_config_schema(), values["additionalInstanceConfig"])
    assert outcome.success, outcome.errors
    wrong = validate_config(dagster_instance_config_schema(), {"run_retries": {"enabled": True, "max_tries": 3}})
    assert not wrong.success, "a word that Dagster does not know is noticed"
