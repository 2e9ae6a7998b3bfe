"""A dashboard of a real server: a picture, and in a real kernel one that refreshes by itself."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import mlserve_jupyter as mlserve
from mlserve_jupyter.api.manifest import encode_json
from mlserve_jupyter.api.signature import Signature
from mlserve_jupyter.errors import InvalidRequest, InvalidUsage, RequestFailed
from mlserve_jupyter.magics.magic import run
from tests import toys
from tests.kernels import start_kernel
from tests.live import LiveServer, start_server
from tests.server.manifests import manifest_of
from tests.standalone.hosts import StandaloneServer, start_standalone
from tests.tcp_proxy import TcpProxy
from tests.widgets.front_end import FrontEnd

SHOW = """
import os, threading
import mlserve_jupyter as mlserve
from mlserve_jupyter.widgets import attention
board = mlserve.dashboard({arguments})
board
"""
THREADS = "[t.name for t in threading.enumerate() if t.name == 'mlserve-dashboard']"
NO_MORE = f"while {THREADS}: threading.Event().wait(0.05)"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A Jupyter server with a model that adds up, and that refuses 13; it looks often at it."""
    folder = tmp_path_factory.mktemp("dashboard")
    with start_server(folder, "--MLServeApp.alert_every_s=0.3") as server:
        deploy(server, "sums", folder)
        yield server


@pytest.fixture(scope="module")
def notebook(server: LiveServer) -> Iterator[FrontEnd]:
    """What a notebook of the server shows that somebody has open."""
    with start_kernel(server) as kernel:
        yield FrontEnd(kernel.client)


@pytest.fixture
def front_end(notebook: FrontEnd) -> Iterator[FrontEnd]:
    """The same without a dashboard, and with the clocks that it has."""
    yield notebook
    notebook.run(f"board.close(); attention.SILENCE_S = 150.0\n{NO_MORE}")
    notebook.widgets.clear()


@pytest.fixture
def at_home(server: LiveServer, monkeypatch: pytest.MonkeyPatch) -> LiveServer:
    """Make this process one of the server's kernels, which nobody looks at."""
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(server.runtime_dir))
    monkeypatch.setenv("JPY_PARENT_PID", str(server.process.pid))
    return server


def deploy(server: LiveServer | StandaloneServer, name: str, folder: Path) -> None:
    artifact = Path(toys.write_model(toys.FailsOn13(), folder).path)
    manifest = manifest_of(name, artifact, signature=Signature(inputs=toys.ONE_FEATURE))
    deployed = server.request(
        "POST",
        "api/v1/models",
        files=[
            ("manifest", (None, encode_json(manifest))),
            ("artifact", ("model", artifact.read_bytes())),
        ],
    )
    assert deployed.status_code == 201, deployed.text


def call(server: LiveServer | StandaloneServer, *values: float) -> None:
    for value in values:
        answer = server.request("POST", "api/v1/predict/sums", json={"instances": [[value]]})
        assert answer.status_code in (200, 422)


def limit(server: LiveServer, p95_ms: float) -> None:
    path = "api/v1/models/sums/alert-limits"
    assert server.request("PATCH", path, json={"p95_ms": p95_ms}).status_code == 200


def n_requests(html: str) -> int:
    """Read from the tiles how many requests there were in the last hour."""
    found = re.search(r"([\d,]+) in 1 h<", html)
    return int(found[1].replace(",", "")) if found else -1


def show(front_end: FrontEnd, arguments: str = '"sums", every=1') -> None:
    """Show a dashboard, as a page does that has it in view."""
    front_end.run(SHOW.format(arguments=arguments))
    front_end.say(front_end.root, _view_count=1)


def wait_for_requests(front_end: FrontEnd, n: int) -> None:
    front_end.wait(lambda: n_requests(front_end.html) == n)


def test_where_nobody_looks_it_is_a_picture(at_home: LiveServer) -> None:
    before = n_requests(mlserve.dashboard("sums")._repr_html_())
    call(at_home, 1, 2, 13)
    for _ in range(200):
        shown = mlserve.dashboard("sums")
        if n_requests(shown._repr_html_()) == before + 3:
            break
    html = shown._repr_html_()
    assert n_requests(html) == before + 3
    assert "input_rejected" in html  # the status of the call with a 13
    assert "sums, the last 1 h" in repr(shown)
    assert "All models" in mlserve.dashboard()._repr_html_()


def test_what_cannot_be_shown_is_said_in_a_line(at_home: LiveServer) -> None:
    with pytest.raises(RequestFailed, match="nowhere"):
        mlserve.dashboard("nowhere")
    with pytest.raises(RequestFailed, match="7"):
        mlserve.dashboard("sums", version=7)
    with pytest.raises(InvalidRequest, match="15min"):
        mlserve.dashboard("sums", range="2 weeks")
    with pytest.raises(InvalidRequest, match="every must be"):
        mlserve.dashboard("sums", every=0)
    with pytest.raises(InvalidRequest, match="version goes with the name"):
        mlserve.dashboard(version=1)
    with pytest.raises(InvalidUsage, match="--range is one of"):
        run("dashboard sums --range 2h", {})


@pytest.mark.slow
def test_it_counts_calls_from_outside_while_a_cell_runs(
    front_end: FrontEnd, server: LiveServer, tmp_path: Path
) -> None:
    show(front_end)
    before = n_requests(front_end.html)
    end = tmp_path / "end"
    cell = front_end.start(f"import time\nwhile not os.path.exists({str(end)!r}): time.sleep(0.05)")
    call(server, 1, 2)
    wait_for_requests(front_end, before + 2)
    assert cell in front_end.running
    end.touch()
    front_end.wait(lambda: cell not in front_end.running)


@pytest.mark.slow
def test_it_rests_while_nobody_has_it_in_view(front_end: FrontEnd, server: LiveServer) -> None:
    show(front_end)
    call(server, 1)
    wait_for_requests(front_end, n_requests(front_end.html) + 1)
    front_end.say(front_end.root, _view_count=0)
    front_end.run("while board._attention.is_given: threading.Event().wait(0.05)")
    front_end.run("threading.Event().wait(1.5); of = board.page.read_at")
    front_end.run("threading.Event().wait(2.5); assert board.page.read_at == of")

    before = n_requests(front_end.html)
    call(server, 1)
    front_end.say(front_end.root, _view_count=1)
    wait_for_requests(front_end, before + 1)


@pytest.mark.slow
def test_what_is_out_of_its_limits_is_said_at_the_top_until_it_is_over(
    front_end: FrontEnd, at_home: LiveServer
) -> None:
    show(front_end)
    said = "The p95 of owner~sums is "
    limit(at_home, 0.0001)
    call(at_home, *range(20))
    front_end.wait(lambda: said in front_end.html)
    for shown in (mlserve.dashboard("sums"), mlserve.dashboard()):
        assert said in shown._repr_html_()
        assert said in repr(shown)

    limit(at_home, 1e6)
    front_end.wait(lambda: said not in front_end.html)


@pytest.mark.slow
def test_it_rests_when_its_page_beats_no_more(front_end: FrontEnd, server: LiveServer) -> None:
    front_end.run("from mlserve_jupyter.widgets import attention\nattention.SILENCE_S = 3.0")
    show(front_end)
    front_end.wait(lambda: any(state.get("playing") for state in front_end.widgets.values()))
    front_end.run("while board._attention.is_given: threading.Event().wait(0.05)")
    front_end.run("threading.Event().wait(1.5); of = board.page.read_at")
    front_end.run("threading.Event().wait(2.5); assert board.page.read_at == of")

    (pulse,) = [id for id, state in front_end.widgets.items() if "playing" in state]
    before = n_requests(front_end.html)
    call(server, 1)
    front_end.say(pulse, value=front_end.widgets[pulse]["value"] + 1)
    wait_for_requests(front_end, before + 1)


@pytest.mark.slow
def test_a_person_chooses_model_version_and_range(front_end: FrontEnd) -> None:
    show(front_end, "every=1")
    assert "All models" in front_end.html
    (models,) = [id for id, state in front_end.widgets.items() if state.get("tooltip") == "Model"]
    assert front_end.widgets[models]["_options_labels"] == ["All models", "sums"]
    front_end.say(models, index=1)
    front_end.wait(lambda: "version 1 answers" in front_end.html)

    (versions,) = [id for id, s in front_end.widgets.items() if s.get("tooltip") == "Version"]
    front_end.wait(lambda: "Version 1" in front_end.widgets[versions]["_options_labels"])
    front_end.say(versions, index=1)
    front_end.wait(lambda: "version 1 alone" in front_end.html)

    (ranges,) = [id for id, s in front_end.widgets.items() if "tooltips" in s]
    front_end.say(ranges, index=front_end.widgets[ranges]["_options_labels"].index("7 d"))
    front_end.wait(lambda: " in 7 d<" in front_end.html)


@pytest.mark.slow
def test_paused_it_stands_still_until_it_goes_on(front_end: FrontEnd, server: LiveServer) -> None:
    show(front_end)
    front_end.press("Pause")
    front_end.wait(lambda: "Paused" in front_end.html)
    front_end.run("threading.Event().wait(1.5); of = board.page.read_at")
    front_end.run("threading.Event().wait(2.5); assert board.page.read_at == of")

    before = n_requests(front_end.html)
    call(server, 1)
    front_end.press("Go on")
    wait_for_requests(front_end, before + 1)


@pytest.mark.slow
def test_closed_it_ends_and_leaves_a_picture(front_end: FrontEnd, server: LiveServer) -> None:
    show(front_end)
    assert "jp-mlserve-dash-beside" in front_end.picture
    call(server, 1)
    wait_for_requests(front_end, n_requests(front_end.html) + 1)
    last = n_requests(front_end.html)
    front_end.press("Close the dashboard")
    front_end.wait(lambda: front_end.root not in front_end.widgets)
    front_end.wait(lambda: "jp-mlserve-dash-beside" not in front_end.picture)
    assert n_requests(front_end.picture) == last
    front_end.run(NO_MORE)
    front_end.run("assert board.is_closed\nboard")
    assert "jp-mlserve-dash-beside" not in front_end.picture


@pytest.mark.slow
def test_a_cell_that_runs_again_leaves_no_second_one_behind(front_end: FrontEnd) -> None:
    show(front_end)
    front_end.run("first = board")
    front_end.say(front_end.root, _view_count=0)
    front_end.run("while not first._has_gone: threading.Event().wait(0.05)")
    show(front_end)
    front_end.run("assert first.is_closed and not board.is_closed")
    front_end.run(f"while len({THREADS}) > 1: threading.Event().wait(0.05)")


@pytest.mark.slow
def test_when_the_server_is_gone_it_says_so_and_goes_on_when_it_is_back(
    front_end: FrontEnd, tmp_path: Path
) -> None:
    with start_standalone(tmp_path, "--allow-pickle=True") as standalone:
        deploy(standalone, "sums", tmp_path)
        call(standalone, 1)
        front_end.run(f"import os; os.environ['MLSERVE_KEY'] = {standalone.key!r}")
        with TcpProxy(("127.0.0.1", standalone.port)) as proxy:
            url = f"http://127.0.0.1:{proxy.port}/mlserve/"
            show(front_end, f'"sums", every=1, to={url!r}')
            wait_for_requests(front_end, 1)
            proxy.refuse()
            front_end.wait(lambda: "No server answers" in front_end.html)
            front_end.wait(lambda: "Not refreshed" in front_end.html)
            assert n_requests(front_end.html) == 1
            proxy.heal()
            front_end.wait(lambda: "Not refreshed" not in front_end.html)
