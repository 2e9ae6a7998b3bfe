from __future__ import annotations

from typing import Any

import pytest

import mlserve_jupyter
from mlserve_jupyter.errors import InvalidUsage, RequestFailed
from tests.live import LiveServer


def double(X: Any) -> Any:
    return [[2 * value for value in row] for row in X]


@pytest.fixture
def notebook(live_server: LiveServer, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The package as a notebook of the shared server uses it."""
    monkeypatch.setenv("MLSERVE_URL", live_server.url)
    monkeypatch.setenv("MLSERVE_KEY", live_server.key)
    return mlserve_jupyter


def test_a_model_is_kept_in_memory_and_let_go_in_a_line(
    notebook: Any, live_server: LiveServer
) -> None:
    notebook.deploy(double, name="warm-line", sample=[[1.0]])
    assert "warm-line is kept while it is called" in str(notebook.warm("warm-line"))
    assert "kept warm" not in str(notebook.show("warm-line"))
    kept = notebook.warm("warm-line", on=True)
    assert kept.model.keep_warm
    assert "warm-line is kept in memory, called or not" in str(kept)
    assert "kept in memory" in kept._repr_html_()
    assert "kept warm" in str(notebook.show("warm-line"))
    assert live_server.request("GET", "api/v1/models/warm-line").json()["keep_warm"] is True
    assert not notebook.warm("warm-line", off=True).model.keep_warm
    events = live_server.request("GET", "api/v1/audit?action=model.keep_warm").json()["items"]
    assert [(each["target"], each["details"]) for each in events][:2] == [
        ("model owner~warm-line", {"keep_warm": False}),
        ("model owner~warm-line", {"keep_warm": True}),
    ]


def test_what_cannot_be_meant_is_refused(notebook: Any) -> None:
    with pytest.raises(InvalidUsage, match="--on and --off"):
        notebook.warm("warm-line", on=True, off=True)
    with pytest.raises(RequestFailed, match="no-such"):
        notebook.warm("no-such", on=True)
