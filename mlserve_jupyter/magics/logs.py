"""``%mlserve logs NAME``: the newest calls of a model, as a DataFrame."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import msgspec

from mlserve_jupyter.client.http import connect
from mlserve_jupyter.errors import InvalidRequest
from mlserve_jupyter.magics.arguments import TARGET, Argument, Usage

if TYPE_CHECKING:
    from mlserve_jupyter.api.resources import DescribePrediction

USAGE = Usage(
    "logs",
    "Show the newest calls of a model, as a DataFrame.",
    (
        Argument("NAME", "The model's name.", completes="models"),
        Argument("--version", "Only the calls of this version.", "integer", completes="versions"),
        Argument("--limit", "How many calls; 100 without it.", kind="integer"),
        TARGET,
    ),
)


def logs(name: str, *, version: int | None = None, limit: int = 100, to: str | None = None) -> Any:
    """Read the newest calls of a model from the prediction log.

    Parameters
    ----------
    name
        The model's name.
    version
        Only the calls of this version.
    limit
        How many calls at most.
    to
        URL of another server than the notebook's own.

    Returns
    -------
    pandas.DataFrame or list of dict
        Newest first, a row a call: ``time``, ``version``, ``method``, ``status``, ``n_rows``,
        ``total_ms``, ``inputs``, ``outputs``, ``request_id``, ``principal``, ``cached``,
        ``queue_ms``, ``load_ms``, ``predict_ms`` and ``error``. Records where pandas is not
        installed. The number of calls that never reached the log is in ``attrs["lost"]``.

    Raises
    ------
    RequestFailed
        There is no such model or version.
    ServerNotFound
        No server answers.
    """
    if limit < 1:
        raise InvalidRequest(f"limit must be 1 or more, not {limit}.")
    client = connect(to)
    if version is not None:
        client.version(name, version)  # refuses one that does not exist, of which the log is silent
    page = client.predictions(name, limit=limit, version=version)
    records = [_record(call) for call in page.items]
    if "pandas" not in sys.modules and find_spec("pandas") is None:
        return records
    import pandas as pd

    frame = pd.DataFrame(records, columns=list(_COLUMNS))
    frame.attrs["lost"] = page.lost
    return frame


def run_line(arguments: dict[str, Any], namespace: dict[str, Any]) -> Any:
    """Run the magic."""
    return logs(**arguments)


_COLUMNS = {
    "time": "created_at",
    "version": "version",
    "method": "method",
    "status": "status",
    "n_rows": "n_rows",
    "total_ms": "total_ms",
    "inputs": "inputs",
    "outputs": "outputs",
    "request_id": "request_id",
    "principal": "principal",
    "cached": "cached",
    "queue_ms": "queue_ms",
    "load_ms": "load_ms",
    "predict_ms": "predict_ms",
    "error": "error",
}


def _record(call: DescribePrediction) -> dict[str, Any]:
    """Turn a call into a row; inputs and outputs are arbitrary JSON, hence ``Any``."""
    record = {column: getattr(call, field) for column, field in _COLUMNS.items()}
    for column in ("inputs", "outputs"):
        record[column] = msgspec.json.decode(record[column])
    return record
