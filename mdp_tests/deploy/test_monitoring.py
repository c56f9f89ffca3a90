"""The dashboard and the alert rules speak of metrics that exist, and every alert says what to do."""

from __future__ import annotations

import json
import re
import shutil
import subprocess

import pytest
import yaml

from mdp.config.settings import PROJECT_ROOT, load_settings
from mdp_tests.reading.platform_facts import all_of_it, samples

DEPLOY = PROJECT_ROOT / "deploy"
DASHBOARD = DEPLOY / "grafana" / "dashboard.json"
PROMETHEUS = DEPLOY / "prometheus"
KNOWN_ELSEWHERE = {"up": {"job", "instance"}, "process_resident_memory_bytes": {"job", "instance"}}
SCRAPED = {"job", "instance"}
"""Labels that Prometheus itself adds."""


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """Names in an answer of /metrics, and their labels."""
    found = {name: set(labels) for name, labels in KNOWN_ELSEWHERE.items()}
    settings = load_settings(data_dir=tmp_path_factory.mktemp("data"), simulated=True)
    for name, *labels in samples(all_of_it(settings)):
        found.setdefault(name, set(SCRAPED)).update(label for label, _ in labels)
    return found


def dashboard():
    return json.loads(DASHBOARD.read_text(encoding="utf-8"))


def panels():
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def rules():
    groups = yaml.safe_load((PROMETHEUS / "alerts.yaml").read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def shown_expressions():
    return [target["expr"] for panel in panels() for target in panel["targets"]]


def problems(expression, told):
    """What an expression names that nobody tells."""
    bare = re.sub(r'"[^"]*"', '""', expression)
    names = set(re.findall(r"\b(?:mdp_\w+|process_\w+|python_\w+|up)\b", bare))
    wrong = [name for name in names if name not in told]
    labels = set(re.findall(r"[{,]\s*(\w+)\s*(?:=~|!~|!=|=)", bare))
    for group in re.findall(r"\b(?:by|on|without|ignoring)\s*\(([^)]*)\)", bare):
        labels |= {label.strip() for label in group.split(",") if label.strip()}
    return wrong + [label for label in labels if not any(label in told.get(name, ()) for name in names)]


def test_every_expression_names_only_what_exists(told):
    for expression in [*shown_expressions(), *(rule["expr"] for rule in rules())]:
        assert re.search(r"\b(mdp_|process_|up)", expression)
        assert problems(expression, told) == [], expression


@pytest.mark.parametrize("wrong", ["mdp_nothing_total", 'mdp_feed_up{venue="x"}', "sum by (venue) (mdp_feed_up)"])
def test_an_expression_that_names_something_else_is_found(told, wrong):
    assert problems(wrong, told)


def test_the_legends_and_summaries_name_labels_that_exist(told):
    for panel in panels():
        for target in panel["targets"]:
            for label in re.findall(r"{{(\w+)}}", target["legendFormat"]):
                assert not problems(f"{target['expr']} by ({label})", told), (panel["title"], label)
    for rule in rules():
        for label in re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]):
            assert not problems(f"{rule['expr']} by ({label})", told), (rule["alert"], label)


def test_the_dashboard_is_one_that_grafana_takes():
    said = dashboard()
    ids = [panel["id"] for panel in said["panels"]]
    assert len(set(ids)) == len(ids)
    assert said["uid"]
    assert said["schemaVersion"] >= 36
    assert "datasource" in {one["name"] for one in said["templating"]["list"] if one["type"] == "datasource"}
    assert {panel["datasource"]["uid"] for panel in panels()} == {"${datasource}"}
    assert "id" not in said, "of one installation"


def test_no_panel_lies_over_another():
    taken = set()
    for panel in dashboard()["panels"]:
        grid = panel["gridPos"]
        assert grid["x"] + grid["w"] <= 24
        places = {(x + grid["x"], y + grid["y"]) for x in range(grid["w"]) for y in range(grid["h"])}
        assert not places & taken, panel["title"]
        taken |= places


def test_what_people_must_watch_is_shown():
    shown = " ".join(shown_expressions())
    for name in ("feed_up", "feed_close_lag", "budget_limited", "fetch_requests", "live_backlog", "store_writes",
                 "http_request_duration", "missing_candles", "step_failures", "bus_up", "disk_free"):  # fmt: skip
        assert f"mdp_{name}" in shown


def test_every_alert_has_a_severity_a_summary_and_a_chapter_that_says_what_to_do():
    page = (PROJECT_ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    anchors = {re.sub(r"[^\w -]", "", title).strip().lower().replace(" ", "-") for title in
               re.findall(r"(?m)^#+ (.+)$", page)}  # fmt: skip
    names = [rule["alert"] for rule in rules()]
    assert len(set(names)) == len(names)
    for rule in rules():
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert rule["annotations"]["summary"].endswith(".")
        file, _, anchor = rule["annotations"]["runbook"].partition("#")
        assert file == "docs/operations.md"
        assert anchor == rule["alert"].lower()
        assert anchor in anchors
    chapters = page.split("## Alerts")[1]
    assert re.findall(r"(?m)^### (.+)$", chapters) == names, "the page has the rules in their order, and no other"


def test_every_rule_has_a_test_that_fires_and_one_that_does_not():
    tests = yaml.safe_load((PROMETHEUS / "alerts_test.yaml").read_text(encoding="utf-8"))["tests"]
    found = {(one["alertname"], bool(one["exp_alerts"])) for test in tests for one in test["alert_rule_test"]}
    assert found == {(rule["alert"], fires) for rule in rules() for fires in (True, False)}


def test_what_is_scraped_and_provisioned_fits_together():
    scraping = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text(encoding="utf-8"))
    assert scraping["rule_files"] == ["alerts.yaml"]
    (job,) = scraping["scrape_configs"]
    assert (job["job_name"], job["metrics_path"]) == ("mdp", "/metrics")
    provisioning = DEPLOY / "grafana" / "provisioning"
    source = yaml.safe_load((provisioning / "datasources" / "prometheus.yaml").read_text(encoding="utf-8"))
    assert source["datasources"][0]["type"] == "prometheus"
    (provider,) = yaml.safe_load((provisioning / "dashboards" / "mdp.yaml").read_text(encoding="utf-8"))["providers"]
    assert provider["options"]["path"].startswith("/")


def promtool(*arguments, cwd=PROMETHEUS):
    command = shutil.which("promtool")
    if command is None:
        pytest.skip("promtool is not installed (Debian: prometheus)")
    return subprocess.run([command, *arguments], cwd=cwd, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.slow
class TestByPromtool:
    def test_the_rules_can_be_read_and_do_what_their_tests_say(self):
        for words in (("check", "rules", "alerts.yaml"), ("test", "rules", "alerts_test.yaml")):
            done = promtool(*words)
            assert done.returncode == 0, done.stdout + done.stderr

    def test_a_rule_that_is_wrong_is_found(self, tmp_path):
        for name in ("alerts.yaml", "alerts_test.yaml"):
            text = (PROMETHEUS / name).read_text(encoding="utf-8")
            (tmp_path / name).write_text(text.replace("mdp_bus_up == 0", "mdp_bus_up == 7"), encoding="utf-8")
        assert promtool("test", "rules", "alerts_test.yaml", cwd=tmp_path).returncode != 0

    def test_the_expressions_of_the_dashboard_are_promql(self, tmp_path):
        variables = {"$__rate_interval": "1m", "$market": ".*"}
        found = []
        for number, expression in enumerate(shown_expressions()):
            for name, value in variables.items():
                expression = expression.replace(name, value)
            found.append({"record": f"shown:{number}", "expr": expression})
        (tmp_path / "shown.yaml").write_text(yaml.safe_dump({"groups": [{"name": "shown", "rules": found}]}))
        done = promtool("check", "rules", "shown.yaml", cwd=tmp_path)
        assert done.returncode == 0, done.stderr

    def test_the_answer_of_the_service_passes_the_linter(self, tmp_path):
        command = shutil.which("promtool") or pytest.skip("promtool is not installed (Debian: prometheus)")
        text = all_of_it(load_settings(data_dir=tmp_path, simulated=True))
        done = subprocess.run([command, "check", "metrics"], input=text, capture_output=True, text=True, timeout=60)
        ours = [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("mdp_")]
        assert ours == []

    def test_what_is_scraped_can_be_read(self, tmp_path):
        text = (PROMETHEUS / "prometheus.yml").read_text(encoding="utf-8")
        (tmp_path / "prometheus.yml").write_text(text.replace("/run/secrets/mdp_prometheus_key", str(tmp_path / "key")))
        (tmp_path / "key").write_text("x")
        shutil.copy(PROMETHEUS / "alerts.yaml", tmp_path)
        done = promtool("check", "config", "prometheus.yml", cwd=tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
