"""The files for operators: they are valid, and name only what there is."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from mlserve_jupyter.server.exposition import exposition
from mlserve_jupyter.server.standalone.application import MLServeServer
from mlserve_jupyter.serving.measurement import Measurement
from tests.standalone.hosts import start_standalone

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "operations"
RULES = FOLDER / "alert-rules.yml"
DASHBOARD = FOLDER / "grafana-dashboard.json"
COMPOSE = FOLDER / "compose.yaml"
COLUMNS = 24
STRONG = "8vQ2-TgJ0b_kR5yXw1nC4mZ7eH9pL3sD6fA-uVoKiMx"


def metrics() -> set[str]:
    """Return the names of all series that the servers show."""
    text = exposition({"": Measurement(requests=[])}).decode()
    names = set()
    for name, kind in re.findall(r"^# TYPE (\w+) (\w+)", text, re.MULTILINE):
        names |= {f"{name}_bucket", f"{name}_sum"} if kind == "histogram" else {name}
    return names


def rules() -> list[dict[str, Any]]:
    content = yaml.safe_load(RULES.read_text())
    return [rule for group in content["groups"] for rule in group["rules"]]


def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(DASHBOARD.read_text())["panels"]
    return found


def queries() -> Iterator[str]:
    for panel in panels():
        yield from (target["expr"] for target in panel.get("targets", ()))


def run(*command: str | Path, **options: Any) -> None:
    ended = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, **options
    )
    assert ended.returncode == 0, ended.stdout


needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None,
    reason="promtool is not installed (on Debian: apt-get install prometheus)",
)


def compose_command() -> list[str]:
    """Return the command that Docker Compose is here, the second version of it first."""
    asked = ["docker", "compose", "version"]
    if shutil.which("docker") and not subprocess.run(asked, capture_output=True).returncode:
        return ["docker", "compose"]
    if shutil.which("docker-compose"):
        return ["docker-compose"]
    pytest.skip("Docker Compose is not installed (on Debian: apt-get install docker-compose)")


def test_rules_and_dashboard_ask_for_metrics_that_there_are() -> None:
    asked = [rule["expr"] for rule in rules()] + list(queries())
    assert len(asked) > 40
    for expression in asked:
        named = set(re.findall(r"\bmlserve_\w+", expression))
        assert named <= metrics(), expression
    shown = " ".join(queries())
    for name in metrics():
        base = name.removesuffix("_bucket").removesuffix("_sum")
        assert base in shown, f"the dashboard does not show {name}"


def test_each_rule_says_how_bad_it_is_and_what_has_happened() -> None:
    for rule in rules():
        assert rule["alert"].startswith("MLServe")
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert rule["annotations"]["summary"]
    tested = (FOLDER / "alert-rules.test.yml").read_text()
    assert f"value: {len(rules())}}}" in tested  # all of them fire where everything is wrong


@needs_promtool
def test_promtool_finds_the_rules_right_and_they_fire_when_they_should() -> None:
    run("promtool", "check", "config", "--syntax-only", "prometheus.yml", cwd=FOLDER)
    run("promtool", "check", "rules", RULES)
    run("promtool", "test", "rules", "alert-rules.test.yml", cwd=FOLDER)


@needs_promtool
def test_every_query_of_the_dashboard_can_be_read(tmp_path: Path) -> None:
    recorded = [
        {"record": f"query:{i}", "expr": query.replace("$__rate_interval", "5m")}
        for i, query in enumerate(queries())
    ]
    path = tmp_path / "queries.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": recorded}]}))
    run("promtool", "check", "rules", path)


def test_the_panels_of_the_dashboard_lie_side_by_side() -> None:
    taken: set[tuple[int, int]] = set()
    ids = [panel["id"] for panel in panels()]
    assert len(set(ids)) == len(ids)
    for panel in panels():
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= COLUMNS
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells
        assert panel["type"] == "row" or panel["targets"], panel["title"]


def test_the_compose_file_has_no_secret_and_no_way_in_but_one() -> None:
    services = yaml.safe_load(COMPOSE.read_text())["services"]
    assert set(services) == {"mlserve", "postgres", "redis"}
    for name, service in services.items():
        for variable, value in service["environment"].items():
            is_secret = re.search("PASSWORD|SECRET|AUTH|REDIS_URL", variable) is not None
            assert not is_secret or "${" in value, (name, variable)
    assert [name for name in services if "ports" in services[name]] == ["mlserve"]
    assert services["mlserve"]["ports"] == ["127.0.0.1:8899:8899"]
    needed = set(re.findall(r"\$\{(\w+):\?", COMPOSE.read_text()))
    given = set(re.findall(r"^(\w+)=", (FOLDER / "env.example").read_text(), re.MULTILINE))
    assert needed <= given


def test_docker_compose_reads_the_compose_file() -> None:
    needed = set(re.findall(r"\$\{(\w+):\?", COMPOSE.read_text()))
    values = dict.fromkeys(needed, "x")
    check = (*compose_command(), "-f", COMPOSE, "config", "-q")
    run(*check, env={**os.environ, **values})
    name = min(needed)
    del values[name]
    with pytest.raises(AssertionError, match="set it in .env"):
        run(*check, env={**os.environ, **values})


def test_the_image_takes_extras_files_and_settings_that_there_are() -> None:
    text = (FOLDER / "Dockerfile").read_text()
    project = (ROOT / "pyproject.toml").read_text()
    [extras] = re.findall(r"\.whl\)\[([\w,]+)\]", text)
    for extra in extras.split(","):
        assert re.search(rf"^{extra} = \[", project, re.MULTILINE), extra
    for source in re.findall(r"^COPY (docs/\S+) ", text, re.MULTILINE):
        assert (ROOT / source).exists()
    assert re.search(r"^USER mlserve$", text, re.MULTILINE)
    config = (FOLDER / "jupyter_mlserve_config.py").read_text()
    named = re.findall(r"c\.MLServeServer\.(\w+) = ", config)
    assert set(named) <= set(MLServeServer.class_traits(config=True))
    for variable in re.findall(r'environ\.get\("(\w+)"', config):
        given = COMPOSE.read_text() + (FOLDER / "Dockerfile").read_text()
        assert variable in given or variable in ("MLSERVE_WORKERS", "MLSERVE_PROXIES")


@pytest.mark.slow
def test_a_server_starts_with_the_configuration_of_the_image(tmp_path: Path) -> None:
    config = tmp_path / "config" / "jupyter_mlserve_config.py"
    config.parent.mkdir()
    shutil.copy(FOLDER / config.name, config)
    env = {
        "MLSERVE_JWT_SECRET": STRONG,
        "MLSERVE_WORKERS": "1",
        "MLSERVE_HOSTS": "models.example.org other.example.org",
    }
    with start_standalone(tmp_path, env=env) as server:
        headers = {"Host": "models.example.org"}
        assert server.request("GET", "api/v1/models", headers=headers).status_code == 200
        headers = {"Host": "evil.example.org"}
        assert server.request("GET", "api/v1/models", headers=headers).status_code == 403
    lines = [json.loads(line) for line in server.log().splitlines()]
    assert any(line.get("message") == "Ready." for line in lines)
    assert any(line.get("status") == 403 for line in lines)
