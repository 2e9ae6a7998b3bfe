from __future__ import annotations

import json
import subprocess
import sys

import pytest

FORBIDDEN = {
    "msgspec", "tornado", "sqlalchemy", "alembic", "redis", "jupyter_server", "IPython",
    "traitlets", "ipywidgets", "httpx",
}  # fmt: skip

SERVER_FORBIDDEN = {"numpy", "pandas", "scipy", "sklearn", "joblib", "cloudpickle", "IPython"}


def modules_after(*imports: str) -> set[str]:
    script = "\n".join(
        [f"import {name}" for name in imports]
        + ["import json, sys", "print(json.dumps([name.split('.')[0] for name in sys.modules]))"]
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    return set(json.loads(done.stdout))


def test_a_worker_imports_the_standard_library_and_numpy_alone() -> None:
    modules = modules_after("mlserve_jupyter.serving.supervisor", "mlserve_jupyter.serving.worker")
    assert not modules & FORBIDDEN
    assert not modules & {"pandas", "scipy", "sklearn", "joblib"}


def test_the_supervisor_runs_the_servers_copy_of_the_package_in_any_interpreter(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    from mlserve_jupyter.serving.bootstrap import command as command_of

    command = command_of(sys.executable, "supervisor._preload", "json")
    # -I: neither the environment's packages path nor the current folder may be needed.
    done = subprocess.run(
        [command[0], "-I", *command[1:]],
        capture_output=True,
        text=True,
        cwd=tmp_path_factory.mktemp("elsewhere"),
        timeout=60,
    )
    assert done.returncode == 0, done.stderr


def test_the_server_imports_no_library_that_models_need() -> None:
    modules = modules_after("mlserve_jupyter.server.extension", "mlserve_jupyter.platform")
    assert not modules & SERVER_FORBIDDEN
    assert not modules & {"sqlalchemy", "alembic"}, "the database is opened when it is needed"


def test_importing_the_package_imports_nothing_else() -> None:
    assert modules_after("mlserve_jupyter") - modules_after("typing") <= {
        "mlserve_jupyter",
        "__future__",
    }
