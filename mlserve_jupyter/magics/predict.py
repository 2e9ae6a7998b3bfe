"""``%mlserve predict NAME DATA``: call an endpoint with the notebook's own data."""

from __future__ import annotations

import sys
from typing import Any

from mlserve_jupyter.client.http import connect
from mlserve_jupyter.errors import RequestFailed
from mlserve_jupyter.magics.arguments import TARGET, Argument, Usage
from mlserve_jupyter.magics.namespace import evaluate

USAGE = Usage(
    "predict",
    "Call an endpoint with data of this notebook.",
    (
        Argument("NAME", "The model's name.", completes="models"),
        Argument(
            "DATA", "Rows as the model takes them: Python.", kind="expression", completes="frames"
        ),
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


def predict(
    name: str,
    data: Any,
    *,
    version: int | None = None,
    method: str | None = None,
    to: str | None = None,
) -> Any:
    """Call an endpoint over REST, and return what the model's method returns.

    Parameters
    ----------
    name
        The model's name.
    data
        Rows as the model takes them, ``(n_rows, …)``: a DataFrame, an array, a list…
    version
        A version other than the default.
    method
        A method other than the version's default.
    to
        URL of another server than the notebook's own.

    Returns
    -------
    Any
        An array, a DataFrame, a Series… as the method gives it in the notebook.

    Raises
    ------
    RequestFailed
        The server refused; the message is the server's, and says more of a row that came as a
        Series.
    ServerNotFound
        No server answers.
    """
    client = connect(to)
    try:
        return client.predict(name, data, version=version, method=method)
    except RequestFailed as error:
        if error.server_code != "signature_mismatch" or not _is_series(data):
            raise
        number = version or client.model(name).default_version or 1
        if client.version(name, number).signature.inputs.container == "series":
            raise
        raise RequestFailed(
            f"{error.message} A row that is taken out of a DataFrame is a Series, and read as rows "
            "of one value: take it as a DataFrame, `df.iloc[[0]]` and not `df.iloc[0]`.",
            status=error.status,
            server_code=error.server_code,
            request_id=error.request_id,
            **error.details,
        ) from error


def _is_series(data: Any) -> bool:
    pandas = sys.modules.get("pandas")
    return pandas is not None and isinstance(data, pandas.Series)


def run_line(arguments: dict[str, Any], namespace: dict[str, Any]) -> Any:
    """Run the magic."""
    data = evaluate(arguments.pop("data"), namespace)
    return predict(arguments.pop("name"), data, **arguments)
