"""Provenance: the environment and the origin that a deploy records."""

from __future__ import annotations

import importlib.metadata
import platform
import sys

import pytest
from sklearn.linear_model import LogisticRegression

from mlserve_jupyter.artifacts.provenance import environment_of, kernel_id, provenance_of


def test_distributions_are_found_also_where_the_module_has_another_name() -> None:
    environment = environment_of(["numpy", "sklearn", "zmq"])
    assert environment.packages == {
        name: importlib.metadata.version(name) for name in ("numpy", "scikit-learn", "pyzmq")
    }
    assert environment.modules == ["numpy", "sklearn", "zmq"]
    assert environment.interpreter == sys.executable
    assert environment.python_version == platform.python_version()


def test_a_module_of_no_distribution_is_listed_without_a_version() -> None:
    environment = environment_of(["made_up_module"])
    assert (environment.packages, environment.modules) == ({}, ["made_up_module"])


def test_the_notebook_and_the_kernel_are_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JPY_SESSION_NAME", "work/wine.ipynb")
    monkeypatch.setattr(sys, "argv", ["ipykernel_launcher.py", "-f", "/run/kernel-1a-2b.json"])
    provenance = provenance_of(LogisticRegression(), source="`X`", by_value=["Mine"])
    assert provenance.notebook == "work/wine.ipynb"
    assert provenance.kernel_id == "1a-2b"
    assert provenance.model_class == "sklearn.linear_model._logistic.LogisticRegression"
    assert (provenance.source, provenance.by_value) == ("`X`", ["Mine"])


def test_outside_jupyter_there_is_neither(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    monkeypatch.setattr(sys, "argv", ["script.py"])
    assert kernel_id() is None
    assert provenance_of(LogisticRegression()).notebook is None


def test_a_function_goes_by_its_own_name() -> None:
    assert provenance_of(kernel_id).model_class == "mlserve_jupyter.artifacts.provenance.kernel_id"
