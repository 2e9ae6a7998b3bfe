"""``%mlserve show NAME``: one model with its versions, its signature and what was verified."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any
from urllib.parse import urljoin

from mlserve_jupyter.api.resources import DescribeCacheUse, DescribeModel, DescribeVersion
from mlserve_jupyter.api.signature import Column, InputSpec
from mlserve_jupyter.client.http import connect
from mlserve_jupyter.magics.arguments import TARGET, Argument, Usage
from mlserve_jupyter.magics.display import (
    Display,
    ago,
    counted,
    html_details,
    html_inline_code,
    html_paragraph,
    html_table,
    html_text,
    size,
    text_facts,
    text_table,
)
from mlserve_jupyter.magics.policy_words import policy_words
from mlserve_jupyter.magics.share import visibility_words

USAGE = Usage(
    "show",
    "Show a model: versions, signature, what was verified.",
    (Argument("NAME", "The model's name.", completes="models"), TARGET),
)

MAX_COMPILING = timedelta(minutes=10)
"""Within this, what is not known about a version's graph will be."""

_VERSIONS_HEADER = ("version", "status", "deployed", "class", "size", "methods", "note")
_COLUMNS_HEADER = ("column", "dtype", "missing", "values")


@dataclass(frozen=True, repr=False)
class Model(Display):
    """A model with its versions.

    Attributes
    ----------
    model
        The model.
    versions
        Newest first.
    url
        Where it answers.
    """

    model: DescribeModel
    versions: tuple[DescribeVersion, ...]
    url: str

    @property
    def current(self) -> DescribeVersion | None:
        """The version that answers a call that names none."""
        for version in self.versions:
            if version.version == self.model.default_version:
                return version
        return self.versions[0] if self.versions else None

    def _facts(self) -> Iterator[tuple[str, str]]:
        yield "URL", self.url
        calls = (
            f"{counted(self.model.n_predictions, 'call')}, last {ago(self.model.last_called_at)}"
        )
        yield "calls", calls
        yield "who may call", visibility_words(self.model)
        yield "logged", policy_words(self.model.logging)
        if self.model.keep_warm:
            yield "kept warm", "in memory, called or not"
        if self.model.description:
            yield "description", self.model.description
        current = self.current
        if current is None:
            return
        packages = ", ".join(f"{name} {v}" for name, v in current.environment.packages.items())
        yield "runs on", f"Python {current.environment.python_version}, {packages}"
        if current.provenance.notebook:
            yield "notebook", current.provenance.notebook
        if current.provenance.source:
            yield "sample", current.provenance.source
        yield "verified", verified_words(current)
        yield "runtime", runtime_words(current)
        for use in current.result_cache:
            yield "cache", cache_words(use)

    def _version_rows(self) -> Iterator[tuple[str, ...]]:
        for version in self.versions:
            answers = " (answers)" if version.version == self.model.default_version else ""
            yield (
                f"{version.version}{answers}",
                version.status,
                ago(version.created_at),
                version.provenance.model_class.rpartition(".")[2],
                size(version.size_bytes),
                ", ".join(version.methods),
                version.note,
            )

    def _text(self) -> str:
        lines = [self.model.name, *text_facts(self._facts(), 14), ""]
        lines.append(text_table(_VERSIONS_HEADER, self._version_rows()))
        if self.current is not None:
            inputs = self.current.signature.inputs
            lines += ["", takes_words(inputs), text_table(_COLUMNS_HEADER, _column_rows(inputs))]
        return "\n".join(lines)

    def _html(self) -> str:
        facts = "".join(
            html_paragraph(html_text(f"{name}: ", dim=True) + _shown(name, value))
            for name, value in self._facts()
        )
        parts = [html_paragraph(html_text(self.model.name, bold=True)), facts]
        parts.append(html_table(_VERSIONS_HEADER, self._version_rows()))
        if self.current is not None:
            inputs = self.current.signature.inputs
            table = html_table(_COLUMNS_HEADER, _column_rows(inputs))
            parts.append(html_details(takes_words(inputs), table))
        return "".join(parts)


def show(name: str, *, to: str | None = None) -> Model:
    """Show a model with its versions, its signature and what was verified.

    Parameters
    ----------
    name
        The model's name.
    to
        URL of another server than the notebook's own.

    Raises
    ------
    RequestFailed
        There is no such model.
    ServerNotFound
        No server answers.
    """
    client = connect(to)
    model = client.model(name)
    url = urljoin(client.connection.url, model.predict_path)
    return Model(model, tuple(client.versions(name)), url)


def run_line(arguments: dict[str, Any], namespace: dict[str, Any]) -> Model:
    """Run the magic."""
    return show(**arguments)


def verified_words(version: DescribeVersion) -> str:
    """Say what was verified before a version was published."""
    verification = version.verification
    if not verification.verified:
        return "nothing (deployed with --no-verify)"
    rows = counted(verification.n_rows, "row")
    by_shape = verification.not_deterministic
    by_value = [method for method in verification.methods if method not in by_shape]
    parts = []
    if by_value:
        difference = verification.max_abs_difference
        how = "exactly" if difference == 0 else f"to within {difference:.3g}"
        # What a compiled graph answers is held against the model on rows of its own.
        has_graph = verification.compiled is not None and verification.compiled.methods
        by_what = " by the model itself" if has_graph else ""
        parts.append(f"{rows} answered{by_what} {how} as in the notebook ({', '.join(by_value)})")
    if by_shape:
        parts.append(
            f"{rows} answered in the same shape as in the notebook, with other values each time "
            f"({', '.join(by_shape)})"
        )
    return "; ".join(parts)


def cache_words(use: DescribeCacheUse) -> str:
    """Say what the result cache did for a method since the server started."""
    n_calls = use.n_hits + use.n_misses + use.n_bypassed
    answered = f"{use.method}: {use.n_hits} of {counted(n_calls, 'call')} answered from it"
    match use.refusal:
        case None:
            return answered
        case "not_deterministic":
            return f"{use.method}: not used, since it gives other answers each time"
        case "not_verified":
            return f"{use.method}: not used, since its answers were not verified"
        case "cheap":
            return (
                f"{answered}; not used now, since computing takes {use.compute_ms:.3g} ms and a "
                f"look-up {use.lookup_ms:.3g} ms"
            )


def runtime_words(version: DescribeVersion) -> str:
    """Say which methods a compiled graph answers, how that was verified, and why others do not."""
    compiled = version.verification.compiled
    if compiled is None:
        if datetime.now(timezone.utc) - version.created_at < MAX_COMPILING:
            return "native, while a graph of it is being compiled"
        return "native: its server was stopped while it compiled, deploy it again for a graph"
    parts = []
    if compiled.methods:
        found = [method.max_difference for method in compiled.methods.values()]
        how = "bit for bit" if not any(found) else f"to within {max(found):.2g}"
        rows = counted(compiled.n_rows, "row")
        around = counted(compiled.n_thresholds, "threshold")
        methods = ", ".join(method for method in version.methods if method in compiled.methods)
        parts.append(f"ONNX for {methods}, {how} as the model on {rows} around {around}")
    by_reason: dict[str, list[str]] = {}
    for method in version.methods:
        if method in compiled.native:
            by_reason.setdefault(compiled.native[method], []).append(method)
    parts += [f"native for {', '.join(names)}: {why}" for why, names in by_reason.items()]
    return "; ".join(parts)


def takes_words(inputs: InputSpec) -> str:
    """Say what a version takes."""
    containers = {
        "dataframe": "a DataFrame",
        "series": "a Series",
        "ndarray": "an array",
        "sparse": "a sparse matrix",
        "list": "a list",
    }
    shape = " × ".join("rows" if length is None else str(length) for length in inputs.shape)
    return f"Takes {containers[inputs.container]} of {shape}"


def _shown(name: str, value: str) -> str:
    return html_inline_code(value) if name in ("URL", "notebook") else html_text(value)


def _column_rows(inputs: InputSpec) -> Iterator[tuple[str, ...]]:
    for column in inputs.columns:
        yield column.name, column.dtype, "allowed" if column.nullable else "no", _values(column)


def _values(column: Column) -> str:
    if column.categories is not None:
        shown = ", ".join(str(category) for category in column.categories[:8])
        return f"{shown}, …" if len(column.categories) > 8 else shown
    if column.minimum is None:
        return ""
    return f"{column.minimum} to {column.maximum}"
