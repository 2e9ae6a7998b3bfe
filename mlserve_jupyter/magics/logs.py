"""``%mlserve logs NAME``: the calls of a model, as a DataFrame."""

from __future__ import annotations

import sys
from functools import lru_cache, partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import msgspec

from mlserve_jupyter.api.moments import Moment
from mlserve_jupyter.client.http import connect
from mlserve_jupyter.errors import InvalidRequest
from mlserve_jupyter.magics.arguments import TARGET, Argument, Usage
from mlserve_jupyter.magics.log_frame import frame_of, rows_of

if TYPE_CHECKING:
    from mlserve_jupyter.api.resources import DescribePrediction

NEWEST = 100
MOST = 100_000

USAGE = Usage(
    "logs",
    "Show the calls of a model, as a DataFrame.",
    (
        Argument("NAME", "The model's name.", completes="models"),
        Argument("--since", "Only calls since then: 1d, 90min, or a time in UTC.", value="TIME"),
        Argument("--until", "Only calls before then.", value="TIME"),
        Argument("--version", "Only the calls of this version.", "integer", completes="versions"),
        Argument("--status", "Only these: ok, an error's code, or failed."),
        Argument("--method", "Only the calls of this method."),
        Argument("--principal", "Only the calls of this caller, as the log shows it."),
        Argument("--labelled", "Only calls of which somebody has said what was true.", "flag"),
        Argument("--contains", "Only calls with this in their inputs: Python; on PostgreSQL.",
                 "expression"),
        Argument("--limit", "How many calls; 100 without it and without --since.", "integer"),
        Argument("--calls", "A row a call, with its inputs and outputs as they were.", "flag"),
        TARGET,
    ),
)  # fmt: skip


def logs(
    name: str,
    *,
    since: Moment | None = None,
    until: Moment | None = None,
    version: int | None = None,
    status: str | None = None,
    method: str | None = None,
    principal: str | None = None,
    labelled: bool | None = None,
    contains: Any = None,
    limit: int | None = None,
    calls: bool = False,
    to: str | None = None,
) -> Any:
    """Read calls of a model from the prediction log.

    Parameters
    ----------
    name
        The model's name.
    since, until
        When they came: a time (naive ones are in UTC), or how long ago it was, such as ``1d``.
    version, method, principal
        Only the calls of these.
    status
        ``ok``, the code of an error, or ``failed`` for all but ``ok``.
    labelled
        Only calls with labels, or only those without.
    contains
        Values of a row by column, such as ``{"city": "Bern"}``, or any JSON value (hence ``Any``)
        that is in the body; where the server's database is PostgreSQL.
    limit
        How many calls at most, the newest first. None: 100, or with ``since`` all, up to 100,000.
    calls
        Whether each row is a call, with its ``inputs`` and ``outputs`` as they were, and not a row
        that the model was asked about.
    to
        URL of another server than the notebook's own.

    Returns
    -------
    pandas.DataFrame or list of dict
        Newest first: ``time``, ``version``, ``method``, ``status``, then a column for each of the
        input's, then ``prediction``, ``label``, ``request_id``, ``row`` (of the call, from 0),
        ``principal``, ``cached``, the times in ms and ``error``. Records where pandas is not
        installed. ``attrs["lost"]`` is the number of calls, of all models, that never reached the
        log; ``attrs["cut"]`` says that there are more than these.

    Raises
    ------
    InvalidUsage
        ``since`` or ``until`` is no time.
    RequestFailed
        There is no such model or version, or the server cannot search for this.
    ServerNotFound
        No server answers.
    """
    if limit is not None and limit < 1:
        raise InvalidRequest(f"limit must be 1 or more, not {limit}.")
    client = connect(to)
    if version is not None:
        client.version(name, version)  # refuses one that does not exist, of which the log is silent
    page = client.predictions(
        name,
        limit=limit or (NEWEST if since is None else MOST),
        since=since,
        until=until,
        version=version,
        status=status,
        method=method,
        principal=principal,
        labelled=labelled,
        contains=contains,
    )
    has_pandas = "pandas" in sys.modules or find_spec("pandas") is not None
    if calls:
        records = [_record(call) for call in page.items]
        if not has_pandas:
            return records
        import pandas as pd

        frame = pd.DataFrame(records, columns=list(_COLUMNS))
    else:
        version_of = lru_cache(maxsize=None)(partial(client.version, name))
        records, input_columns = rows_of(page.items, version_of)
        if not has_pandas:
            return records
        frame = frame_of(records, input_columns)
    frame.attrs["lost"] = page.lost
    frame.attrs["cut"] = page.next_cursor is not None
    return frame


def run_line(arguments: dict[str, Any], namespace: dict[str, Any]) -> Any:
    """Run the magic, and say what the table does not have."""
    if "contains" in arguments:
        from mlserve_jupyter.magics.namespace import evaluate

        arguments["contains"] = evaluate(arguments["contains"], namespace)
    found = logs(**arguments)
    attrs = getattr(found, "attrs", {})
    if attrs.get("cut") and ("since" in arguments or "limit" in arguments):
        print("There are more calls than these: a larger --limit shows them.")
    if attrs.get("lost"):
        print(f"{attrs['lost']} calls of this server were answered and never reached the log.")
    return found


_COLUMNS = {
    "time": "created_at",
    "version": "version",
    "method": "method",
    "status": "status",
    "n_rows": "n_rows",
    "total_ms": "total_ms",
    "inputs": "inputs",
    "outputs": "outputs",
    "labels": "labels",
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
    for column in ("inputs", "outputs", "labels"):
        record[column] = msgspec.json.decode(record[column])
    return record
