"""Other servers that the same models are measured in: how each is installed, started and called.

Each has one serving process for one model, and batches requests where it can. None of them checks a
credential, limits a rate or keeps a log of predictions here.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

Row = list[float]


@dataclass(frozen=True)
class Place:
    """Where a peer is installed and listens.

    Attributes
    ----------
    venv
        Its virtual environment.
    work_dir
        Folder for what it writes.
    """

    venv: Path
    work_dir: Path
    model: str
    port: int

    @property
    def artifact(self) -> Path:
        """The fitted model, saved under the peer's own interpreter."""
        return self.venv / "models" / f"{self.model}.joblib"

    def program(self, name: str) -> str:
        """Return the path of a program of the environment."""
        return str(self.venv / "bin" / name)

    def app(self, module: str) -> list[str]:
        """Return the command that runs a module of this folder."""
        return [self.program("python"), "-m", f"benchmarks.peers.{module}"]


@dataclass(frozen=True)
class Peer:
    """A server to compare with.

    Attributes
    ----------
    requirements
        What ``pip`` installs; the first names the distribution whose version is reported.
    command, path
        How it is started and where it answers.
    body
        The JSON body for one row.
    """

    name: str
    requirements: tuple[str, ...]
    command: Callable[[Place], list[str]]
    path: Callable[[str], str]
    body: Callable[[Row], object]

    @property
    def distribution(self) -> str:
        """Name of the distribution."""
        return self.requirements[0].partition("[")[0].partition("=")[0]


def instances(row: Row) -> object:
    """Return the body that most of them take, this project among them."""
    return {"instances": [row]}


def _tensor(row: Row) -> object:
    tensor = {"name": "predict", "shape": [1, len(row)], "datatype": "FP64", "data": row}
    return {"inputs": [tensor]}


def _mlserver(place: Place) -> list[str]:
    """Write MLServer's configuration: batches of up to 64, as many as come within 1 ms."""
    model = {
        "name": place.model,
        "implementation": "mlserver_sklearn.SKLearnModel",
        "max_batch_size": 64,
        "max_batch_time": 0.001,
        "parameters": {"uri": str(place.artifact)},
    }
    ports = {"grpc_port": place.port + 1, "metrics_port": place.port + 2}
    settings = {"http_port": place.port, **ports, "parallel_workers": 0, "debug": False}
    (place.work_dir / "model-settings.json").write_text(json.dumps(model))
    (place.work_dir / "settings.json").write_text(json.dumps(settings))
    return [place.program("mlserver"), "start", str(place.work_dir)]


def _mlflow(place: Place) -> list[str]:
    model = str(place.venv / "models" / f"mlflow-{place.model}")
    return [
        place.program("mlflow"), "models", "serve", "-m", model, "--env-manager", "local",
        "-p", str(place.port), "-w", "1",
    ]  # fmt: skip


def _bentoml(place: Place) -> list[str]:
    return [
        place.program("bentoml"), "serve", "benchmarks.peers.bentoml_app:service",
        "--port", str(place.port),
    ]  # fmt: skip


PEERS = {
    peer.name: peer
    for peer in (
        Peer(
            "fastapi",
            ("fastapi", "uvicorn[standard]"),
            lambda place: place.app("fastapi_app"),
            lambda model: "/predict",
            instances,
        ),
        Peer(
            "mlserver",
            ("mlserver", "mlserver-sklearn"),
            _mlserver,
            lambda model: f"/v2/models/{model}/infer",
            _tensor,
        ),
        Peer(
            "litserve",
            ("litserve",),
            lambda place: place.app("litserve_app"),
            lambda model: "/predict",
            instances,
        ),
        Peer("bentoml", ("bentoml",), _bentoml, lambda model: "/predict", instances),
        Peer(
            "kserve",
            ("kserve",),
            lambda place: place.app("kserve_app"),
            lambda model: f"/v1/models/{model}:predict",
            instances,
        ),
        Peer(
            "mlflow",
            ("mlflow",),
            _mlflow,
            lambda model: "/invocations",
            lambda row: {"inputs": [row]},
        ),
        Peer(
            "ray",
            ("ray[serve]",),
            lambda place: place.app("ray_app"),
            lambda model: "/predict",
            instances,
        ),
    )
}  # fmt: skip


def environment(place: Place) -> dict[str, str]:
    """Return the environment variables of a peer's processes."""
    bin_dir = str(place.venv / "bin")
    return {
        **os.environ,
        "PATH": bin_dir + os.pathsep + os.environ["PATH"],
        "PYTHONWARNINGS": "ignore",
        "MODEL": place.model,
        "ARTIFACT": str(place.artifact),
        "PORT": str(place.port),
        # One row is not worth a second thread, and would take it from the others.
        "OMP_NUM_THREADS": "1",
        "BENTOML_DO_NOT_TRACK": "True",
        "RAY_USAGE_STATS_ENABLED": "0",
    }
