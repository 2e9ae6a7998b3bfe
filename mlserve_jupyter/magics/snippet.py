"""``%mlserve snippet NAME``: working ``curl`` and Python for programs outside the notebook."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from pprint import pformat
from typing import Any
from urllib.parse import urlencode, urljoin

from mlserve_jupyter.api.nearest import nearest_names
from mlserve_jupyter.api.resources import DescribeVersion
from mlserve_jupyter.api.signature import Column, InputSpec
from mlserve_jupyter.client.connection import Connection
from mlserve_jupyter.client.http import connect
from mlserve_jupyter.errors import InvalidUsage
from mlserve_jupyter.magics.arguments import TARGET, Argument, Usage
from mlserve_jupyter.magics.display import Display, html_code, html_paragraph, html_text

USAGE = Usage(
    "snippet",
    "Show curl and Python that call an endpoint from outside.",
    (
        Argument("NAME", "The model's name.", completes="models"),
        Argument("--version", "A version other than the default.", "integer", completes="versions"),
        Argument(
            "--method",
            "A method other than the default, such as predict_proba.",
            completes="methods",
            value="METHOD",
        ),
        TARGET,
    ),
)

_MAX_EXAMPLE_CHARS = 4000


@dataclass(frozen=True)
class Credential:
    """How a program outside the notebook shows who it is.

    Attributes
    ----------
    header, variable
        The HTTP header, and the environment variable whose value it carries.
    prefix
        What stands before the value.
    hint
        Where the value comes from.
    """

    header: str
    variable: str
    prefix: str
    hint: str


TOKEN = Credential(
    "Authorization",
    "JUPYTER_TOKEN",
    "token ",
    "JUPYTER_TOKEN is the token of the Jupyter server: `jupyter server list` shows it behind "
    "`token=`. It opens all of Jupyter: `%mlserve keys create NAME` makes a key for others, which "
    "opens models alone.",
)


def key_credential(source: str) -> Credential:
    """Return a key as a credential; ``source`` says where it comes from."""
    return Credential("X-MLServe-Key", "MLSERVE_KEY", "", f"MLSERVE_KEY is {source}.")


@dataclass(frozen=True, repr=False)
class Snippet(Display):
    """Working code that calls an endpoint.

    Attributes
    ----------
    url
        The predict route, absolute.
    curl, python
        The code; the credential is an environment variable.
    hint
        Where the credential comes from.
    """

    url: str
    curl: str
    python: str
    hint: str

    def _text(self) -> str:
        return f"{self.curl}\n\n{self.python}\n\n{self.hint}"

    def _html(self) -> str:
        return (
            html_paragraph(html_text("curl", bold=True))
            + html_code(self.curl)
            + html_paragraph(html_text("Python", bold=True))
            + html_code(self.python)
            + html_paragraph(html_text(self.hint, dim=True))
        )


def snippet(
    name: str, *, version: int | None = None, method: str | None = None, to: str | None = None
) -> Snippet:
    """Show ``curl`` and Python that call an endpoint from outside the notebook.

    Parameters
    ----------
    name
        The model's name.
    version
        A version other than the default.
    method
        A method other than the version's default.
    to
        URL of another server than the notebook's own.

    Raises
    ------
    InvalidUsage
        The version has no such method.
    RequestFailed
        There is no such model or version.
    ServerNotFound
        No server answers.
    """
    client = connect(to)
    number = version or client.model(name).default_version or 1
    described = client.version(name, number)
    if method is not None and method not in described.methods:
        near = nearest_names(method, described.methods)
        raise InvalidUsage(
            f"Version {number} of model {name!r} has no method {method!r}"
            f"{f'; did you mean {near[0]}?' if near else '.'} "
            f"It has: {', '.join(described.methods)}."
        )
    return snippet_of(described, client.connection, version=version, method=method)


def run_line(arguments: dict[str, Any], namespace: dict[str, Any]) -> Snippet:
    """Run the magic."""
    return snippet(**arguments)


def snippet_of(
    described: DescribeVersion,
    connection: Connection,
    *,
    version: int | None = None,
    method: str | None = None,
    credential: Credential | None = None,
) -> Snippet:
    """Make the code that calls a version.

    Parameters
    ----------
    described
        The version, whose signature has an example.
    connection
        The server.
    version, method
        What the call names; None leaves it to the server.
    credential
        What the caller sends; None for what outside callers of this server have.
    """
    query = {name: value for name, value in (("version", version), ("method", method)) if value}
    url = urljoin(connection.url, described.predict_path) + (
        f"?{urlencode(query)}" if query else ""
    )
    body = example_body(described.signature.inputs)
    credential = credential or _credential(connection)
    header, prefix, variable = credential.header, credential.prefix, credential.variable
    curl = (
        f"curl -s {shlex.quote(url)} \\\n"
        f'  -H "{header}: {prefix}${variable}" \\\n'
        "  -H 'Content-Type: application/json' \\\n"
        f"  -d {shlex.quote(json.dumps(body))}"
    )
    literal = pformat(body, width=88, sort_dicts=False).replace("\n", "\n       ")
    value = f"os.environ['{variable}']"
    value = f'f"{prefix}{{{value}}}"' if prefix else value
    python = (
        "import json, os, urllib.request\n\n"
        f"body = {literal}\n"
        "request = urllib.request.Request(\n"
        f"    {url!r},\n"
        "    data=json.dumps(body).encode(),\n"
        "    headers={\n"
        f'        "{header}": {value},\n'
        '        "Content-Type": "application/json",\n'
        "    },\n"
        ")\n"
        "with urllib.request.urlopen(request) as response:\n"
        '    print(json.load(response)["predictions"])'
    )
    return Snippet(url, curl, python, credential.hint)


def _credential(connection: Connection) -> Credential:
    """Choose what outside callers can send: Jupyter's token where there is one, else a key."""
    if connection.target:
        return key_credential(
            "a key of that server: `%mlserve keys create NAME --to "
            f"{shlex.quote(connection.target)}` makes one"
        )
    if connection.path and not connection.has_token:
        return key_credential(
            f"the field `key` of {connection.path}, and valid while this server runs: it has a "
            "password and no token"
        )
    if not connection.path and connection.key.startswith("mls_"):
        return key_credential("the key with which this notebook reaches the server")
    return TOKEN


def example_body(inputs: InputSpec) -> dict[str, Any]:
    """Return a predict body with one row: of the sample, else of what the signature says.

    The values are those of the model's input, hence ``Any``.
    """
    example = inputs.example
    if isinstance(example, dict) and len(json.dumps(example)) <= _MAX_EXAMPLE_CHARS:
        return example
    values = [_example_value(column) for column in inputs.columns]
    if inputs.container == "dataframe":
        names = [column.name for column in inputs.columns]
        return {"instances": [dict(zip(names, values, strict=True))]}
    if inputs.container in ("series", "list") or len(inputs.shape) == 1:
        return {"instances": values[:1]}
    if len(values) == inputs.shape[1] and len(inputs.shape) == 2:
        return {"instances": [values]}
    filled: Any = values[0]
    for length in reversed(inputs.shape[1:]):
        filled = [filled] * (length or 1)
    return {"instances": [filled]}


def _example_value(column: Column) -> Any:
    if column.categories:
        return column.categories[0]
    if column.minimum is not None:
        return column.minimum
    if column.nullable:
        return None
    return {"float": 0.0, "integer": 0, "boolean": False, "string": "text"}.get(column.kind)
