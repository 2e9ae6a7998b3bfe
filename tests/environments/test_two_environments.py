"""A server without scikit-learn, and a kernel in another environment with an older one."""

from __future__ import annotations

import json
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from tests.kernels import start_kernel
from tests.live import start_server

ROOT = Path(__file__).parents[2]
OLDER = Path(__file__).with_name("constraints-older.txt")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def make_environment(folder: Path, *packages: str) -> Path:
    """Make a virtual environment of its own with ``packages``; return its interpreter."""
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    done = subprocess.run(
        [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return python


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    done = subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return next(folder.glob("*.whl"))


def test_a_kernel_with_another_scikit_learn_deploys_to_a_server_without_any(
    tmp_path: Path, wheel: Path
) -> None:
    server_python = make_environment(
        tmp_path / "server-env", str(wheel), "-c", str(ROOT / "constraints.txt")
    )
    kernel_python = make_environment(
        tmp_path / "kernel-env",
        f"{wheel}[sklearn]",
        "ipykernel",
        "pandas",
        "-c",
        str(OLDER),
    )
    lacking = subprocess.run([server_python, "-c", "import sklearn"], capture_output=True)
    assert lacking.returncode != 0
    spec = tmp_path / "data" / "kernels" / "older"
    spec.mkdir(parents=True)
    (spec / "kernel.json").write_text(
        json.dumps(
            {
                "argv": [
                    str(kernel_python), "-m", "ipykernel_launcher", "-f", "{connection_file}"
                ],
                "display_name": "Older",
                "language": "python",
            }
        )
    )  # fmt: skip
    with (
        start_server(tmp_path, interpreter=str(server_python)) as server,
        start_kernel(server, "older") as kernel,
    ):
        kernel.run(
            "import sklearn; assert sklearn.__version__ == '1.5.2'\n"
            "from sklearn.datasets import load_iris\n"
            "from sklearn.ensemble import RandomForestClassifier\n"
            "X, y = load_iris(return_X_y=True, as_frame=True)\n"
            "clf = RandomForestClassifier(20, random_state=0).fit(X, y)\n"
            "%load_ext mlserve_jupyter"
        )
        shown = kernel.run("%mlserve deploy clf")
        assert "clf version 1 answers at" in shown
        expected = kernel.run("import json; print(json.dumps(clf.predict_proba(X).tolist()))")
        rows = kernel.run("print(json.dumps(X.values.tolist()))")
        response = server.request(
            "POST",
            "api/v1/predict/clf?method=predict_proba",
            json={"instances": json.loads(rows)},
        )
        assert response.json()["predictions"] == json.loads(expected)
        version = server.request("GET", "api/v1/models/clf/versions/1").json()
        assert version["environment"]["interpreter"] == str(kernel_python)
        assert version["environment"]["packages"]["scikit-learn"] == "1.5.2"
