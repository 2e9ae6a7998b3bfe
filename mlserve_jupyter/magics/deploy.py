"""``%mlserve deploy OBJ``: from an object in the notebook to an endpoint that answers."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args
from urllib.parse import urljoin

from mlserve_jupyter.api.manifest import Format, Manifest, Runtime
from mlserve_jupyter.api.resources import DescribeDeploy
from mlserve_jupyter.artifacts.packing import pack
from mlserve_jupyter.artifacts.provenance import environment_of, provenance_of
from mlserve_jupyter.client.http import Client, connect
from mlserve_jupyter.errors import (
    InvalidName,
    InvalidRequest,
    MLServeError,
    NotServable,
    RequestFailed,
)
from mlserve_jupyter.magics.arguments import TARGET, Argument, Usage
from mlserve_jupyter.magics.caller import (
    calling_frame,
    name_of_argument,
    only_name_of,
    refuse_loop_variable,
    variables_of,
)
from mlserve_jupyter.magics.changes import change_for_callers
from mlserve_jupyter.magics.display import (
    Display,
    html_code,
    html_details,
    html_inline_code,
    html_paragraph,
    html_text,
    html_warnings,
    text_facts,
)
from mlserve_jupyter.magics.fresh_process import with_next_step
from mlserve_jupyter.magics.namespace import evaluate, model_name
from mlserve_jupyter.magics.policy_words import LOG, LOG_WITHOUT, changes_of, policy_words
from mlserve_jupyter.magics.preparation import prepare
from mlserve_jupyter.magics.progress import Progress
from mlserve_jupyter.magics.show import verified_words
from mlserve_jupyter.magics.snippet import Snippet, snippet_of
from mlserve_jupyter.magics.warming import warm_in_background
from mlserve_jupyter.settings import check_name

ExtraColumns = Literal["refuse", "drop"]

USAGE = Usage(
    "deploy",
    "Serve an object of this notebook as a REST endpoint.",
    (
        Argument(
            "OBJ", "The fitted model, or a function: Python.", "expression", completes="servables"
        ),
        Argument(
            "--name",
            "The endpoint's name; without it that of the variable.",
            completes="models",
            value="NAME",
        ),
        Argument(
            "--sample",
            "Rows as the model takes them: Python; without it they are looked for.",
            "expression",
            completes="frames",
            value="FRAME",
        ),
        Argument(
            "--method",
            "The method that answers; without it predict.",
            completes="methods",
            value="METHOD",
        ),
        Argument("--runtime", "How the model is run.", choices=get_args(Runtime)),
        Argument("--format", "How the model is written.", choices=("auto", *get_args(Format))),
        Argument("--note", "A text that is kept with the version."),
        Argument(
            "--extra-columns",
            "What happens to columns that the model does not know.",
            choices=get_args(ExtraColumns),
        ),
        LOG,
        LOG_WITHOUT,
        TARGET,
        Argument("--no-verify", "Publish without comparing answers first.", "flag"),
    ),
)


@dataclass(frozen=True, repr=False)
class Deployed(Display):
    """A version that answers.

    Attributes
    ----------
    name, version
        What was made.
    variable
        The variable whose name was turned into another; None where it was not.
    url
        Where it answers.
    source
        Where the sample comes from, in words.
    warnings
        What the owner should know.
    snippet
        Working code that calls it.
    answer
        All that the server said.
    """

    name: str
    version: int
    variable: str | None
    url: str
    source: str
    warnings: tuple[str, ...]
    snippet: Snippet
    answer: DescribeDeploy

    def _facts(self) -> Iterator[tuple[str, str]]:
        described = self.answer.version
        if self.variable is not None:
            yield "name", f"{self.name}, after the variable {self.variable}"
        yield "verified", verified_words(described)
        yield "sample", self.source
        others = [method for method in described.methods if method != described.method]
        more = f"; with ?method= also {', '.join(others)}" if others else ""
        yield "method", described.method + more
        if not self.answer.model.logging.keeps_all:
            yield "logged", policy_words(self.answer.model.logging)
        if described.provenance.by_value:
            yield "inside", f"{', '.join(described.provenance.by_value)}, from this notebook"

    def _text(self) -> str:
        lines = [f"{self.name} version {self.version} answers at {self.url}"]
        lines += text_facts(self._facts(), 10)
        lines += [f"  warning   {warning}" for warning in self.warnings]
        return "\n".join([*lines, "", self.snippet.curl])

    def _html(self) -> str:
        title = html_text(f"{self.name} version {self.version}", bold=True)
        facts = "".join(
            html_paragraph(html_text(f"{name}: ", dim=True) + html_text(value))
            for name, value in self._facts()
        )
        return (
            html_paragraph(f"{title} answers at {html_inline_code(self.url)}")
            + facts
            + html_warnings(self.warnings)
            + html_code(self.snippet.curl)
            + html_details("Python", html_code(self.snippet.python))
            + html_paragraph(html_text(self.snippet.hint, dim=True))
        )


def deploy(
    obj: Any,
    name: str | None = None,
    *,
    sample: Any = None,
    method: str | None = None,
    runtime: Runtime = "auto",
    format: Format | Literal["auto"] = "auto",
    note: str = "",
    extra_columns: ExtraColumns = "refuse",
    log: str | float | None = None,
    log_without: Sequence[str] | None = None,
    to: str | None = None,
    verify: bool = True,
) -> Deployed:
    """Serve an object as a REST endpoint.

    Parameters
    ----------
    obj
        A fitted model with ``predict``, ``transform``… or a function of one argument.
    name
        The endpoint's name; None takes that of the variable. A name that exists gets a new version.
    sample
        Rows as the model takes them, ``(n_rows, …)``; None looks for a variable that fits. Column
        names, dtypes and missing values are learned from all of them.
    method
        The method that answers; None takes ``predict``, or what there is instead.
    runtime
        ``native`` runs the object itself, ``onnx`` a compiled form, ``auto`` what is verified.
    format
        ``joblib``, ``cloudpickle``, ``skops``, or ``auto``.
    note
        A text that is kept with the version.
    extra_columns
        Whether a call with columns that the model does not know is refused, or they are dropped.
    log
        What is logged of the model's calls from now on: ``all``, ``none``, or a share such as
        ``10%`` or 0.1; ``no-inputs``, or ``inputs`` again. What is not said stays as it is; of a
        new model, all is logged.
    log_without
        All the input columns that are left out of the log from now on, such as personal data;
        ``[]`` for none.
    to
        URL of another server than the notebook's own.
    verify
        Whether a fresh process has to answer as the notebook does before the version is published.

    Returns
    -------
    Deployed
        With the URL; a notebook shows it with working code.

    Raises
    ------
    NotServable, NotPicklable, SampleUnusable, InvalidName, InvalidRequest
        The object, the sample or an option cannot be used.
    StorageFull
        The model does not fit on this machine's disk.
    RequestFailed
        The server refused; the message is the server's.
    ServerNotFound
        No server answers.
    """
    frame = calling_frame()
    namespace = variables_of(frame)
    return _deploy(
        obj,
        namespace,
        name=name,
        variable=name_of_argument(obj, frame, namespace) if name is None else None,
        sample=sample,
        method=method,
        runtime=runtime,
        format=format,
        note=note,
        extra_columns=extra_columns,
        log=log,
        log_without=log_without,
        to=to,
        verify=verify,
    )


def run_line(arguments: dict[str, Any], namespace: dict[str, Any]) -> Deployed:
    """Run the magic."""
    expression = arguments.pop("obj")
    obj = evaluate(expression, namespace)
    if isinstance(obj, str) and not expression.isidentifier():
        raise NotServable(
            f"{expression} is a text, not a model: "
            + (
                f"drop the quotes, `%mlserve deploy {obj}`."
                if obj in namespace
                else "give the variable that holds the model, without quotes."
            )
        )
    variable = None
    if "name" not in arguments:
        variable = _variable(expression, obj, namespace)
    if "sample" in arguments:
        arguments["sample"] = evaluate(arguments["sample"], namespace)
    verify = not arguments.pop("no_verify", False)
    return _deploy(obj, namespace, variable=variable, verify=verify, **arguments)


def _deploy(
    obj: Any,
    namespace: Mapping[str, Any],
    *,
    name: str | None = None,
    variable: str | None = None,
    sample: Any = None,
    method: str | None = None,
    runtime: Runtime = "auto",
    format: Format | Literal["auto"] = "auto",
    note: str = "",
    extra_columns: ExtraColumns = "refuse",
    log: str | float | None = None,
    log_without: Sequence[str] | None = None,
    to: str | None = None,
    verify: bool = True,
) -> Deployed:
    logging = changes_of(log, log_without)
    _check_choice("runtime", runtime, get_args(Runtime))
    _check_choice("extra_columns", extra_columns, get_args(ExtraColumns))
    if not isinstance(name, str | None):
        raise InvalidName(f"A name is a text, such as name='wine', and not {name!r:.40}.")
    name = check_name(name) if name is not None else model_name(variable or "")
    client = connect(to)
    warm_in_background(to)
    try:
        prepared = prepare(obj, namespace, sample=sample, method=method)
        with tempfile.TemporaryDirectory(prefix="mlserve-") as folder, Progress(name) as progress:
            packed = pack(obj, Path(folder), format)
            manifest = Manifest(
                name=name,
                format=packed.format,
                size_bytes=packed.size_bytes,
                sha256=packed.sha256,
                method=prepared.method,
                methods=prepared.methods,
                signature=prepared.signature,
                environment=environment_of([*packed.modules, *prepared.modules]),
                provenance=provenance_of(obj, source=prepared.source, by_value=packed.by_value),
                sample=prepared.sample if verify else None,
                baseline=prepared.baseline,
                runtime=runtime,
                extra_columns=extra_columns,
                note=note,
                logging=logging,
            )
            answer = client.deploy(manifest, packed.path, progress.sent)
    except RequestFailed as error:
        raise with_next_step(error) from error
    except KeyboardInterrupt as error:
        words = f"KeyboardInterrupt: {name} was not deployed, unless `%mlserve list` shows it."
        # IPython asks any exception for its own traceback.
        error._render_traceback_ = lambda: [words]  # type: ignore[attr-defined]
        raise
    server_url = client.connection.url
    return Deployed(
        name=answer.model.name,
        version=answer.version.version,
        variable=variable if variable != name else None,
        url=urljoin(server_url, answer.version.predict_path),
        source=prepared.source,
        warnings=(*_change(client, answer), *prepared.notes, *answer.warnings),
        snippet=snippet_of(answer.version, client.connection),
        answer=answer,
    )


def _variable(expression: str, obj: Any, namespace: Mapping[str, Any]) -> str:
    """Return the variable that a line names, or the one that holds what it evaluates to."""
    if not expression.isidentifier():
        return only_name_of(obj, namespace)
    refuse_loop_variable(expression, calling_frame())
    return expression


def _change(client: Client, answer: DescribeDeploy) -> list[str]:
    """Warn where calls that were written for the version before would fail now."""
    now = answer.version
    if now.version == 1:
        return []
    try:
        versions = client.versions(answer.model.name)
    except MLServeError:  # the deploy is done, whatever the server says to this
        return []
    before = (each for each in versions if each.version < now.version and each.status == "active")
    newest = next(before, None)
    change = None if newest is None else change_for_callers(newest, now)
    return [] if change is None else [change]


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise InvalidRequest(f"{name} is one of {', '.join(choices)}, not {value!r}.")
