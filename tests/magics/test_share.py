from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import mlserve_jupyter
from mlserve_jupyter.errors import InvalidUsage, RequestFailed
from tests.accounts.people import Person
from tests.accounts.platforms import RunningPlatform, running
from tests.live import LiveServer


def double(X: Any) -> Any:
    return [[2 * value for value in row] for row in X]


@pytest.fixture
def notebook(live_server: LiveServer, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The package as a notebook of the shared server uses it."""
    monkeypatch.setenv("MLSERVE_URL", live_server.url)
    monkeypatch.setenv("MLSERVE_KEY", live_server.key)
    return mlserve_jupyter


@pytest.fixture
def platform(live_server: LiveServer) -> Iterator[RunningPlatform]:
    with running(live_server) as platform:
        yield platform


@pytest.fixture
def ann(platform: RunningPlatform) -> Person:
    return platform.person("ann")


def test_a_model_is_shared_and_taken_back_in_a_line(notebook: Any, ann: Person) -> None:
    notebook.deploy(double, name="shared-line", sample=[[1.0]])
    shared = notebook.share("shared-line", users=["ann"])
    assert "shared-line is shared with ann" in str(shared)
    assert shared.url in str(shared)
    path = shared.url.partition("/mlserve/")[2]
    body = {"instances": [[1.0]]}
    assert ann.request("POST", path, json=body).json()["predictions"] == [[2.0]]
    assert "shared with ann" in str(notebook.show("shared-line"))
    assert "public" in str(notebook.share("shared-line", public=True))
    assert "private" in str(notebook.share("shared-line", private=True))
    assert ann.request("POST", path, json=body).status_code == 404
    assert "private" in str(notebook.share("shared-line"))


def test_another_users_model_is_called_and_listed_as_theirs(
    notebook: Any, ann: Person, live_server: LiveServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    notebook.deploy(double, name="theirs", sample=[[1.0]])
    notebook.share("theirs", public=True)
    monkeypatch.setenv("MLSERVE_KEY", ann.key)
    assert notebook.predict("owner~theirs", [[3.0]]) == [[6.0]]
    assert "owner~theirs" in str(notebook.list(scope="public"))
    assert "theirs" not in str(notebook.list())
    with pytest.raises(RequestFailed, match=r"is yours to call; to change it"):
        notebook.share("owner~theirs", private=True)
    with pytest.raises(RequestFailed, match=r"or to read its log and reports, ask 'owner'"):
        notebook.logs("owner~theirs")


def test_a_model_that_is_not_shared_is_asked_for_as_one_that_is_not_there(
    notebook: Any, ann: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    notebook.deploy(double, name="kept-back", sample=[[1.0]])
    monkeypatch.setenv("MLSERVE_KEY", ann.key)
    said = []
    for name in ("owner~kept-back", "owner~no-such"):
        with pytest.raises(RequestFailed, match=r"once they are shared with you") as caught:
            notebook.predict(name, [[1.0]])
        said.append(caught.value.message.replace(name, "…"))
    assert said[0] == said[1]
    assert "deploy" not in said[0]
    with pytest.raises(RequestFailed, match=r"You have deployed none yet"):
        notebook.predict("kept-back", [[1.0]])


def test_choices_that_contradict_each_other_are_refused(notebook: Any) -> None:
    with pytest.raises(InvalidUsage, match="Choose one"):
        notebook.share("x", public=True, private=True)
    with pytest.raises(InvalidUsage, match=r"\['ann'\]"):
        notebook.share("x", users="ann")


def test_a_user_who_is_not_there_is_named(notebook: Any) -> None:
    notebook.deploy(double, name="for-nobody", sample=[[1.0]])
    with pytest.raises(RequestFailed, match="'nobody'"):
        notebook.share("for-nobody", users=["nobody"])
