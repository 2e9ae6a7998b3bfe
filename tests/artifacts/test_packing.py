"""Packing: the format that is chosen, what travels inside, and the words for what cannot."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import threading
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from mlserve_jupyter.artifacts.loading import load, sha256_of
from mlserve_jupyter.artifacts.packing import Packed, pack
from mlserve_jupyter.errors import InvalidRequest, NotPicklable, StorageFull

X = np.arange(80.0).reshape(20, 4) % 7
Y = np.arange(20) % 2


def defined_in_notebook(source: str, name: str) -> object:
    """Run ``source`` as the notebook's own module, ``__main__``, and return what it names."""
    namespace: dict[str, object] = {"__name__": "__main__", "np": np}
    exec(source, namespace)
    return namespace[name]


def predicted_elsewhere(packed: Packed, tmp_path: Path) -> list[float]:
    """Load the artifact in a new process in another folder, and predict ``X``."""
    code = (
        "import json, sys\n"
        "import numpy as np\n"
        "from mlserve_jupyter.artifacts.loading import load\n"
        "model = load(sys.argv[1], sys.argv[2])\n"
        "X = np.arange(80.0).reshape(20, 4) % 7\n"
        "print(json.dumps(np.asarray(model.predict(X)).tolist()))\n"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code, str(packed.path), packed.format],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    import json

    return list(json.loads(done.stdout))


def test_a_pipeline_of_installed_classes_is_written_with_joblib(tmp_path: Path) -> None:
    model = Pipeline([("scale", StandardScaler()), ("clf", LogisticRegression())]).fit(X, Y)
    packed = pack(model, tmp_path)
    assert (packed.format, packed.path.name) == ("joblib", "model.joblib")
    assert {"sklearn", "numpy", "joblib"} <= set(packed.modules)
    assert packed.by_value == ()
    assert packed.size_bytes == packed.path.stat().st_size
    assert packed.sha256 == sha256_of(packed.path)
    np.testing.assert_array_equal(load(packed.path, packed.format).predict(X), model.predict(X))


def test_a_class_of_the_notebook_travels_inside_the_artifact(tmp_path: Path) -> None:
    source = "class Doubler:\n    def predict(self, X):\n        return np.asarray(X)[:, 0] * 2\n"
    model = defined_in_notebook(source, "Doubler")()  # type: ignore[operator]
    packed = pack(model, tmp_path)
    assert packed.format == "cloudpickle"
    assert packed.by_value == ("Doubler",)
    assert predicted_elsewhere(packed, tmp_path) == (X[:, 0] * 2).tolist()


def test_a_lambda_in_a_pipeline_travels_inside_the_artifact(tmp_path: Path) -> None:
    log = defined_in_notebook("log = lambda X: np.log1p(X)", "log")
    model = Pipeline([("log", FunctionTransformer(log)), ("clf", LogisticRegression())]).fit(X, Y)
    packed = pack(model, tmp_path)
    assert (packed.format, packed.by_value) == ("cloudpickle", ("<lambda>",))
    assert predicted_elsewhere(packed, tmp_path) == model.predict(X).tolist()


def test_modules_beside_the_notebook_travel_inside_the_artifact(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    beside = tmp_path / "beside"
    beside.mkdir()
    (beside / "my_steps.py").write_text("def shift(X):\n    return X[:, 0] + 1\n")
    (beside / "my_models.py").write_text(
        "from my_steps import shift\n"
        "class Shifter:\n    def predict(self, X):\n        return shift(X)\n"
    )
    monkeypatch.syspath_prepend(beside)
    model = importlib.import_module("my_models").Shifter()
    packed = pack(model, tmp_path)
    assert packed.format == "cloudpickle"
    assert set(packed.by_value) == {"my_models.Shifter", "my_steps.shift"}
    assert not {"my_models", "my_steps"} & set(packed.modules)
    assert predicted_elsewhere(packed, tmp_path) == (X[:, 0] + 1).tolist()
    import cloudpickle

    assert not cloudpickle.list_registry_pickle_by_value()


def test_packages_in_a_folder_of_installed_ones_are_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "target" / "far_models" / "linear"
    package.mkdir(parents=True)
    (package.parents[1] / "far_models-1.0.dist-info").mkdir()
    (package.parent / "__init__.py").touch()
    (package / "__init__.py").write_text("class Far:\n    pass\n")
    monkeypatch.syspath_prepend(package.parents[1])
    packed = pack(importlib.import_module("far_models.linear").Far(), tmp_path)
    assert (packed.format, packed.by_value) == ("joblib", ())
    assert "far_models" in packed.modules


@pytest.mark.parametrize("format", ["joblib", "cloudpickle", "skops"])
def test_each_format_can_be_asked_for(tmp_path: Path, format: str) -> None:
    model = RandomForestClassifier(5, random_state=0).fit(X, Y)
    packed = pack(model, tmp_path, format)  # type: ignore[arg-type]
    assert packed.format == format
    assert format in packed.modules
    assert packed.sha256 == sha256_of(packed.path)
    answers = load(packed.path, format).predict_proba(X)
    np.testing.assert_array_equal(answers, model.predict_proba(X))


def test_an_unknown_format_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="'onnx' is not a format"):
        pack(LogisticRegression(), tmp_path, "onnx")  # type: ignore[arg-type]


@pytest.mark.parametrize("format", ["joblib", "skops"])
def test_formats_that_import_everything_refuse_what_only_the_notebook_has(
    tmp_path: Path, format: str
) -> None:
    model = defined_in_notebook("class Mine: pass", "Mine")()  # type: ignore[operator]
    with pytest.raises(InvalidRequest, match="`Mine`.*--format"):
        pack(model, tmp_path, format)  # type: ignore[arg-type]


def test_a_part_that_cannot_be_pickled_is_named_with_the_way_to_it(tmp_path: Path) -> None:
    scaler = StandardScaler()
    scaler.lock = threading.Lock()
    model = Pipeline([("scaler", scaler), ("clf", LogisticRegression())])
    with pytest.raises(NotPicklable, match="step 'scaler' → attribute `lock`: a thread lock"):
        pack(model, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_open_file_that_a_function_holds_on_to_is_named(tmp_path: Path) -> None:
    with (tmp_path / "log.txt").open("w") as log:

        def predict(rows: list[int]) -> list[int]:
            log.write(str(rows))
            return rows

        with pytest.raises(NotPicklable, match="variable `log`: an open file"):
            pack(predict, tmp_path)


def test_a_generator_is_named(tmp_path: Path) -> None:
    model = StandardScaler()
    model.rows = [(row for row in X)]
    with pytest.raises(NotPicklable, match="attribute `rows` → item 0: the generator"):
        pack(model, tmp_path)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_said_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "model.joblib").symlink_to("/dev/full")
    with pytest.raises(StorageFull, match=f"No space is left in {tmp_path}"):
        pack(LogisticRegression().fit(X, Y), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_memory_stays_flat_while_a_large_array_is_written(tmp_path: Path) -> None:
    model = StandardScaler()
    model.table = np.zeros(64 * 2**20, dtype=np.uint8)
    tracemalloc.start()
    try:
        pack(model, tmp_path)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak_bytes < 40 * 2**20
