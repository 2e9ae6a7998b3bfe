"""``%mlserve alerts`` against a real server."""

from __future__ import annotations

import re
import uuid
from datetime import datetime, timezone

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

import mlserve_jupyter as mlserve
from mlserve_jupyter.api.alerts import DescribeAlert
from mlserve_jupyter.errors import InvalidUsage, RequestFailed
from mlserve_jupyter.magics.alerts import Alerts
from mlserve_jupyter.magics.magic import run
from tests.live import LiveServer

X_rows = np.arange(8.0).reshape(4, 2)


@pytest.fixture
def model(live_server: LiveServer, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(live_server.runtime_dir))
    monkeypatch.setenv("JPY_PARENT_PID", str(live_server.process.pid))
    name = f"model-{uuid.uuid4().hex[:8]}"
    mlserve.deploy(LogisticRegression().fit(X_rows, [0, 1, 0, 1]), name=name, sample=X_rows)
    return name


def test_without_alerts_it_says_so(model: str) -> None:
    shown = run(f"alerts {model}", {})
    assert len(shown) == 0
    assert "There is no alert." in repr(shown)
    assert "There is no alert." in shown._repr_html_()


def rows_of(shown: Alerts) -> list[list[str]]:
    return [re.split(r"\s{2,}", line) for line in repr(shown).splitlines()]


def test_the_limits_of_a_model_are_shown_and_changed(model: str) -> None:
    assert ["p95_ms", "1000", "the settings"] in rows_of(run(f"alerts {model}", {}))
    shown = rows_of(run(f"alerts {model} --limits p95_ms=200,drift=0", {}))
    assert ["p95_ms", "200", "the model"] in shown
    assert ["drift", "no alert", "the model"] in shown
    shown = rows_of(mlserve.alerts(model, limits={"p95_ms": None}))
    assert ["p95_ms", "1000", "the settings"] in shown
    assert ["drift", "no alert", "the model"] in shown


def test_a_limit_of_the_error_rate_is_a_share_or_percent(model: str) -> None:
    shown = rows_of(run(f"alerts {model} --limits error_rate=7.5%", {}))
    assert ["error_rate", "0.075 (7.5 %)", "the model"] in shown
    with pytest.raises(InvalidUsage, match="Write 0.05 or 5%"):
        run(f"alerts {model} --limits error_rate=50", {})
    with pytest.raises(RequestFailed, match="error_rate"):
        mlserve.alerts(model, limits={"error_rate": 50})
    assert ["error_rate", "0.075 (7.5 %)", "the model"] in rows_of(run(f"alerts {model}", {}))


@pytest.mark.parametrize(
    "limits", ["p95_ms", "p95_ms=", "p95_ms=quick", "=3", "p95_ms=5%", "error_rate=101%"]
)
def test_what_is_no_limit_is_said_in_one_line(model: str, limits: str) -> None:
    with pytest.raises((InvalidUsage, RequestFailed)):
        run(f"alerts {model} --limits {limits}", {})


def test_a_rule_that_there_is_not_is_answered_with_those_that_there_are(model: str) -> None:
    with pytest.raises(RequestFailed, match="no 'p95'. Did you mean 'p95_ms'"):
        run(f"alerts {model} --limits p95=200", {})
    with pytest.raises(RequestFailed, match="It takes p95_ms, error_rate, drift"):
        run(f"alerts {model} --limits queue=200", {})
    with pytest.raises(RequestFailed, match="'drift' must be a number from 0 on"):
        run(f"alerts {model} --limits drift=-1", {})


def test_limits_without_a_model_are_refused() -> None:
    with pytest.raises(InvalidUsage, match="name it"):
        mlserve.alerts(limits={"p95_ms": 1.0})


def test_a_hostile_title_is_text() -> None:
    hostile = "<img src=x onerror=alert(1)>"
    alert = DescribeAlert(
        id="1",
        rule="disk_used",
        title=hostile,
        state="firing",
        value=0.9,
        worst=0.9,
        limit=0.8,
        text=f"The disk {hostile} is over its limit",
        began_at=datetime.now(timezone.utc),
        fired_at=datetime.now(timezone.utc),
        ended_at=None,
        is_told=False,
    )
    html = Alerts((alert,))._repr_html_()
    assert "<img" not in html
    assert "&lt;img" in html
