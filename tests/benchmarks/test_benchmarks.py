"""What the benchmarks say can be relied on; what they measure is not tested here."""

from __future__ import annotations

import importlib
import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from benchmarks.__main__ import HELD_TO, NAMES
from benchmarks.markdown import tables
from benchmarks.open_loop import Plan, run
from benchmarks.peers.catalog import PEERS, Place
from benchmarks.report import Options, Report, Requirement
from benchmarks.throughput import ratio
from benchmarks.wrk import Load, Target

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("name", NAMES)
def test_each_benchmark_can_be_called_and_is_documented(name: str) -> None:
    assert callable(importlib.import_module(f"benchmarks.{name}").measure)
    assert f"benchmarks {name}" in "".join(path.read_text() for path in DOCS.glob("*.md"))


def test_figures_are_judged_in_their_own_direction(capsys: pytest.CaptureFixture[str]) -> None:
    report = Report("throughput", Options())
    report.figure("enough", 0.8, requirement=Requirement(0.8))
    report.figure("too little", 0.79, requirement=Requirement(0.8))
    report.figure("little enough", 99.0, "MB", Requirement(100, at_most=True))
    report.figure("too much", 101.0, "MB", Requirement(100, at_most=True))
    report.figure("with errors", 0.9, requirement=Requirement(0.8), is_spoiled=True)
    report.figure("not a number", float("nan"), "ms", Requirement(100, at_most=True))
    report.figure("not judged", 0.1)
    verdicts = [figure.verdict for figure in report.figures]
    assert verdicts == ["pass", "FAIL", "pass", "FAIL", "FAIL", "FAIL", ""]
    report.print_figures()
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2].startswith("not judged")


def test_runs_of_several_benchmarks_are_kept_in_one_file(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    for name in HELD_TO:
        report = Report(name, Options(is_quick=True), path)
        report.measured(f"{name} itself", requests_s=1234.0)
        report.figure("ratio", 1.5, requirement=Requirement(1.0))
    whole = json.loads(path.read_text())
    assert set(whole["commands"]) == set(HELD_TO)
    for result in whole["commands"].values():
        assert {"machine", "commit", "date", "versions"} <= set(result)
        assert result["figures"][0]["verdict"] == "pass"
    text = "\n".join(tables(whole, ["memory"]))
    assert "| memory itself | 1234 |" in text
    assert "kernel itself" not in text


class _Refusing(BaseHTTPRequestHandler):
    """Answers the first of four requests and refuses the others, the last without Retry-After."""

    protocol_version = "HTTP/1.1"
    n_requests = 0

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        kind = self.n_requests % 4
        _Refusing.n_requests += 1
        self.send_response(200 if kind == 0 else 503)
        if kind in (1, 2):
            self.send_header("Retry-After", "1")
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, format: str, *args: object) -> None:
        return


@contextmanager
def _refusing_server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Refusing) as server:
        server.daemon_threads = True
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/predict"
        server.shutdown()


@pytest.mark.slow
def test_the_client_of_many_connections_counts_what_it_is_answered() -> None:
    with _refusing_server() as url:
        outcome = run(Plan(Target("refusing", url, 4), 20, 40, seconds=2.0, warm_up_s=0.0))
    assert outcome.n_connected == 20
    assert outcome.n_errors == 0
    assert set(outcome.statuses) == {200, 503}
    assert outcome.statuses.total() <= outcome.n_sent <= 81
    assert len(outcome.latencies_ms) == outcome.statuses[200] > 0
    assert 0 < outcome.n_without_retry_after < outcome.statuses[503]


@pytest.mark.slow
def test_connections_that_cannot_be_made_are_errors() -> None:
    with _refusing_server() as url:
        pass
    outcome = run(Plan(Target("gone", url, 4), 6, 100, seconds=0.1))
    assert (outcome.n_connected, outcome.n_errors) == (0, 6)


@pytest.mark.parametrize("peer", PEERS.values(), ids=PEERS)
def test_each_peer_is_started_from_its_own_environment(peer: object, tmp_path: Path) -> None:
    from benchmarks.peers.catalog import Peer

    assert isinstance(peer, Peer)
    place = Place(tmp_path / "venv", tmp_path, "lr", 1234)
    assert peer.command(place)[0].startswith(str(tmp_path / "venv" / "bin"))
    assert peer.path("lr").startswith("/")
    json.dumps(peer.body([1.0, 2.0]))


def test_a_ratio_is_the_median_of_those_within_rounds() -> None:
    ours = [Load(requests_s, 1.0, 1.0, 0) for requests_s in (100.0, 50.0, 90.0, 70.0)]
    others = [Load(requests_s, 1.0, 1.0, 0) for requests_s in (50.0, 50.0, 30.0, 0.0)]
    assert ratio(ours, others) == 2.0
    assert math.isnan(ratio(ours[:1], [Load(0.0, 0.0, 0.0, 0)]))
