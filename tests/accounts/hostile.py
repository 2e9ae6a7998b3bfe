"""Artifacts that harm whoever loads them, for the tests of the catalogue's rows 17 and 18."""

from __future__ import annotations

import io
import json
import os
import pickle
import signal
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import skops.io
from sklearn.preprocessing import StandardScaler


class Runs:
    """Pickles to a call."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


def runs(function: Callable[..., Any], *arguments: Any) -> bytes:
    """Return a pickle that calls a function when it is loaded."""
    return pickle.dumps(Runs(function, *arguments))


def touches(path: Path) -> bytes:
    """Return a pickle that makes a file when it is loaded."""
    return runs(os.mkdir, str(path))


def sleeps_for_ever() -> bytes:
    return runs(time.sleep, 3600)


def kills_its_process() -> bytes:
    return runs(os.kill, Runs(os.getpid), signal.SIGKILL)


def takes_50_gb() -> bytes:
    return runs(eval, "[bytearray(b'x') * 2**20 for _ in range(50 * 1024)]")


def leaves_a_child(pid_file: Path) -> bytes:
    return runs(
        exec,
        "import os, time\n"
        "pid = os.fork()\n"
        f"if pid: open({str(pid_file)!r}, 'w').write(str(pid))\n"
        "else: time.sleep(3600)",
    )


def skops_artifact() -> bytes:
    """Return a harmless one, with arrays in it."""
    return bytes(skops.io.dumps(StandardScaler().fit([[1.0], [2.0]])))


def with_array(
    make: Callable[[], bytes] | Callable[[io.IOBase], None], *, streamed: bool = False
) -> bytes:
    """Return the harmless one with other bytes in the place of an array."""
    changed = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(skops_artifact())) as old,
        zipfile.ZipFile(changed, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as new,
    ):
        is_done = False
        for name in old.namelist():
            if not name.endswith(".npy") or is_done:
                new.writestr(name, old.read(name))
                continue
            is_done = True
            with new.open(name, "w", force_zip64=True) as member:
                if streamed:
                    make(member)  # type: ignore[call-arg]
                else:
                    member.write(make())  # type: ignore[call-arg]
        assert is_done
    return changed.getvalue()


def array_of_pickles(path: Path) -> bytes:
    """Return an array of objects, whose pickle makes a file."""
    content = io.BytesIO()
    np.save(content, np.array([Runs(os.mkdir, str(path))], dtype=object), allow_pickle=True)
    return content.getvalue()


def array_header(n_values: int) -> bytes:
    """Return the head of an array of so many float64, without them."""
    content = io.BytesIO()
    header = {"descr": "<f8", "fortran_order": False, "shape": (n_values,)}
    np.lib.format.write_array_header_1_0(content, header)  # type: ignore[arg-type]
    return content.getvalue()


def zeros(n_bytes: int) -> Callable[[io.IOBase], None]:
    """Return what writes an array of zeros, which hardly takes space in a zip file."""

    def write(member: io.IOBase) -> None:
        member.write(array_header(n_bytes // 8))
        for _ in range(n_bytes // 2**20):
            member.write(bytes(2**20))

    return write


def skops_that_names(schema: dict[str, Any]) -> bytes:
    """Return an artifact of nothing but a schema."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        head = {"protocol": 2, "_skops_version": "0.12", "__id__": 1}
        archive.writestr("schema.json", json.dumps({**head, **schema}))
    return content.getvalue()


def skops_with_pickle(pickled: bytes) -> bytes:
    """Return a zip file with a pickle in it, beside a harmless schema."""
    content = io.BytesIO(skops_artifact())
    with zipfile.ZipFile(content, "a") as archive:
        archive.writestr("model.pkl", pickled)
        archive.writestr("__main__.py", "raise SystemExit")
    return content.getvalue()
