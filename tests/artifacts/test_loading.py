"""Loading: arrays that are mapped, modules that are missing, and files that changed."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import joblib
import numpy as np
import pytest
from sklearn.preprocessing import StandardScaler

from mlserve_jupyter.artifacts.loading import (
    MMAP_MIN_BYTES,
    MissingModule,
    UntrustedType,
    load,
    sha256_of,
)


def test_large_arrays_are_mapped_and_writing_to_them_leaves_the_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "model.joblib"
    joblib.dump(np.zeros(MMAP_MIN_BYTES, dtype=np.uint8), path)
    before = sha256_of(path)
    table = load(path, "joblib")
    assert isinstance(table, np.memmap)
    table[:] = 7
    assert int(table[5]) == 7
    assert sha256_of(path) == before


def test_small_arrays_are_read(tmp_path: Path) -> None:
    path = tmp_path / "model.joblib"
    joblib.dump(np.arange(10), path)
    assert type(load(path, "joblib")) is np.ndarray


@pytest.mark.parametrize("format", ["joblib", "cloudpickle"])
def test_a_missing_module_is_named_with_what_to_install(tmp_path: Path, format: str) -> None:
    path = tmp_path / "model"
    path.write_bytes(b"\x80\x04cskimage.feature\nhog\n.")
    with pytest.raises(MissingModule, match="pip install scikit-image") as caught:
        load(path, format)
    assert (caught.value.name, caught.value.distribution) == ("skimage", "scikit-image")


def test_a_skops_artifact_with_a_class_that_is_not_trusted_is_refused(tmp_path: Path) -> None:
    from skops.io import dump

    model = StandardScaler()
    model.extra = subprocess.CompletedProcess([], 0)
    dump(model, tmp_path / "model.skops")
    with pytest.raises(UntrustedType, match="CompletedProcess"):
        load(tmp_path / "model.skops", "skops")


def test_an_unknown_format_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.bin").touch()
    with pytest.raises(ValueError, match="'bin' is not a format"):
        load(tmp_path / "model.bin", "bin")


def test_the_sha256_is_that_of_the_whole_file(tmp_path: Path) -> None:
    content = bytes(range(256)) * 8200
    (tmp_path / "file").write_bytes(content)
    assert sha256_of(tmp_path / "file") == hashlib.sha256(content).hexdigest()


def test_loading_needs_only_the_standard_library() -> None:
    code = (
        "import sys; import mlserve_jupyter.artifacts.loading; "
        "print([m for m in ('numpy', 'joblib', 'msgspec', 'cloudpickle', 'skops', 'sklearn') "
        "if m in sys.modules])"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=root, timeout=60
    )
    assert done.stdout.strip() == "[]"
