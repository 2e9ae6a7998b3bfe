"""Small models that do one thing, for tests that would otherwise have to patch something."""

from __future__ import annotations

import hashlib
import importlib
import mmap
import os
import signal
import socket
import struct
import sys
import time
import uuid
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np

from mlserve_jupyter.api.signature import Column, InputBatch, InputSpec
from mlserve_jupyter.serving.protocol import ModelRef

FEATURE = Column(name="x0", kind="float", dtype="float64", nullable=True)
ONE_FEATURE = InputSpec(
    container="ndarray", shape=(None, 1), columns=(FEATURE,), dtype="float64", n_sample_rows=1
)


class SumModel:
    """Adds the features of a row up."""

    def predict(self, X: Any) -> Any:
        return np.asarray(X).sum(axis=1)


class SleepModel:
    """Sleeps for as many seconds as the first feature says, and gives them back."""

    def predict(self, X: Any) -> Any:
        time.sleep(float(X[0][0]))
        return X[:, 0]


class ImportingModel:
    """Imports a module when it is loaded, and tells whether its process had done so before."""

    def __getstate__(self) -> dict[str, bool]:
        return {"is_imported": False}  # of an empty state nothing would be set

    def __setstate__(self, state: dict[str, bool]) -> None:
        self.is_imported = "imaplib" in sys.modules
        importlib.import_module("imaplib")

    def predict(self, X: Any) -> Any:
        return [self.is_imported] * len(X)


class GateModel:
    """Makes a file when the first feature is positive, and answers once that is gone."""

    def __init__(self, gate: Path) -> None:
        self.gate = str(gate)

    def predict(self, X: Any) -> Any:
        if X[0][0] > 0:
            open(self.gate, "w").close()
            while os.path.exists(self.gate):
                time.sleep(0.01)
        return X[:, 0]


class KillModel:
    """Kills its own process when the first feature is 13."""

    def predict(self, X: Any) -> Any:
        if X[0][0] == 13:
            os.kill(os.getpid(), signal.SIGKILL)
        return X[:, 0]


class KillAny13:
    """Kills its own process when any row is 13."""

    def predict(self, X: Any) -> Any:
        if (X == 13).any():
            os.kill(os.getpid(), signal.SIGKILL)
        return X[:, 0]


class FailsOn13(SumModel):
    """Refuses a batch with a 13 in it."""

    def predict(self, X: Any) -> Any:
        if (X == 13).any():
            raise ValueError("thirteen")
        return super().predict(X)


class CountingModel:
    """Tells how many rows it has been asked for."""

    n_rows = 0

    def predict(self, X: Any) -> Any:
        self.n_rows += len(X)
        return [self.n_rows] * len(X)


class GreedyModel:
    """Takes as many MiB as the first feature says: at once, or MiB by MiB when it is negative."""

    def predict(self, X: Any) -> Any:
        wanted = float(X[0][0])
        if wanted > 0:
            np.ones(int(wanted) * 2**17)
        taken = []
        for _ in range(int(-wanted)):
            taken.append(np.ones(2**17))
            time.sleep(0.001)
        return X[:, 0]


class PidModel:
    """Tells its process id."""

    def predict(self, X: Any) -> Any:
        return [os.getpid()] * len(X)


class BallastModel(SumModel):
    """Weighs something."""

    def __init__(self, n_bytes: int) -> None:
        self.ballast = os.urandom(n_bytes)


class ExitAtLoad:
    """Ends the process that loads it."""

    def __reduce__(self) -> Any:
        return os._exit, (3,)


class ErrorModel:
    """Raises: ValueError for a 0, ZeroDivisionError for a 1, SystemExit for a 2."""

    def predict(self, X: Any) -> Any:
        raise [ValueError, ZeroDivisionError, SystemExit][int(X[0][0])]("what it said")


class UnshowableModel:
    """Raises what is hard to put into words: which, says the first feature."""

    def predict(self, X: Any) -> Any:
        class Mute(Exception):
            def __str__(self) -> str:
                raise RuntimeError("no words")

        class Last(Exception):
            def __str__(self) -> str:
                raise SystemExit(1)

        raise [ValueError("unknown kind \ud800"), Mute(), Last()][int(X[0][0])]


class HalfNamedModel:
    """Answers with columns of which one's name is half a surrogate pair."""

    def predict(self, X: Any) -> Any:
        import pandas as pd

        return pd.DataFrame(X[:, [0, 0]], columns=pd.Index(["a\ud800", "“b” 😀"], dtype=object))


class ForkModel:
    """Leaves a child behind and tells its process id."""

    def predict(self, X: Any) -> Any:
        child = os.fork()
        if child == 0:
            time.sleep(600)
            os._exit(0)
        return [child] * len(X)


class ForkAnswerModel:
    """Forks when the first feature is 6, and both processes go on."""

    def predict(self, X: Any) -> Any:
        if X[0][0] == 6:
            os.fork()
        return X[:, 0]


class SetsidModel:
    """Leaves a grandchild behind, in a session of its own, and tells its process id."""

    def predict(self, X: Any) -> Any:
        read, write = os.pipe()
        if os.fork() == 0:
            os.setsid()
            if (grandchild := os.fork()) == 0:
                time.sleep(600)
            os.write(write, str(grandchild).encode())
            os._exit(0)
        return [int(os.read(read, 20))] * len(X)


class SharedMemoryModel:
    """Takes as many MiB of shared memory as the first feature says, or of its children's."""

    def predict(self, X: Any) -> Any:
        mib = int(X[0][0])
        if mib < 0:
            for _ in range(3):
                if os.fork() == 0:
                    np.ones(-mib * 2**17)
                    time.sleep(5)
                    os._exit(0)
            time.sleep(5)
        shared = mmap.mmap(-1, max(mib, 1) * 2**20)
        for start in range(0, max(mib, 0) * 2**20, 4096):
            shared[start] = 1
        time.sleep(1 if mib > 100 else 0)
        return X[:, 0]


class ForgingModel:
    """Writes what is not an answer to all its sockets: text for a 1, a forged frame for a 2."""

    def predict(self, X: Any) -> Any:
        forged = {1.0: b"hello, world\n" * 10, 2.0: struct.pack(">IQ", 2, 2**40) + b"{}"}
        for fd in range(3, 64):
            try:
                if forged.get(float(X[0][0])):
                    socket.socket(fileno=os.dup(fd)).send(forged[float(X[0][0])])
            except OSError:
                pass
        return X[:, 0]


class HugeAnswerModel:
    """Answers with as many characters as the first feature says."""

    def predict(self, X: Any) -> Any:
        return ["x" * int(X[0][0])] * len(X)


def write_model(model: Any, folder: Path, inputs: InputSpec = ONE_FEATURE) -> ModelRef:
    """Write a model of this module by value, as one that was defined in a notebook."""
    module = sys.modules[__name__]
    cloudpickle.register_pickle_by_value(module)
    try:
        content = cloudpickle.dumps(model)
    finally:
        cloudpickle.unregister_pickle_by_value(module)
    path = folder / f"{uuid.uuid4()}.pkl"
    path.write_bytes(content)
    return ModelRef(
        key=path.stem,
        path=str(path),
        format="cloudpickle",
        sha256=hashlib.sha256(content).hexdigest(),
        size_bytes=len(content),
        inputs=inputs,
    )


def rows(*values: float) -> InputBatch:
    """Return input of one feature."""
    return InputBatch(n_rows=len(values), rows=[[value] for value in values])
