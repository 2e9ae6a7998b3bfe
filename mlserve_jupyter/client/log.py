"""The part of the client that reads the prediction log, and says what it keeps."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

from mlserve_jupyter.api.log_policy import LogChanges
from mlserve_jupyter.api.manifest import encode_json
from mlserve_jupyter.api.moments import Moment, moment
from mlserve_jupyter.api.resources import (
    DescribeModel,
    DescribePrediction,
    ListPredictions,
    UpdateModel,
)
from mlserve_jupyter.errors import InvalidUsage

if TYPE_CHECKING:
    from mlserve_jupyter.api.prediction_export import ExportFormat

_Wire = TypeVar("_Wire")

_PAGE_CALLS = 500

_FORMATS: dict[str, ExportFormat] = {
    ".parquet": "parquet", ".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl",
}  # fmt: skip


class LogCalls(ABC):
    """The methods; each raises as those of ``Client`` do, and ``InvalidUsage`` for what is no time.

    ``since`` and ``until`` are times, ISO 8601 texts, or how long ago it was, such as ``1d``; naive
    times are in UTC.
    """

    @abstractmethod
    def _send(self, verb: str, path: str, type_: type[_Wire], **options: Any) -> _Wire: ...

    @abstractmethod
    def _pages(
        self, path: str, type_: type[_Wire], params: dict[str, Any], *, timeout_s: float = 30.0
    ) -> Iterator[_Wire]: ...

    @abstractmethod
    def _download(self, path: str, target: Path, params: dict[str, Any]) -> None: ...

    def predictions(
        self,
        name: str,
        *,
        limit: int = 100,
        version: int | None = None,
        since: Moment | None = None,
        until: Moment | None = None,
        status: str | None = None,
        method: str | None = None,
        principal: str | None = None,
        labelled: bool | None = None,
        contains: Any = None,
    ) -> ListPredictions:
        """Read the newest ``limit`` calls of a model from the prediction log.

        Parameters
        ----------
        name
            The model's name.
        limit
            How many calls at most.
        version, since, until, method, principal
            Only the calls of these.
        status
            ``ok``, the code of an error, or ``failed`` for all but ``ok``.
        labelled
            Only calls with labels, or only those without.
        contains
            Values of a row by column, such as ``{"city": "Bern"}``, or any JSON value (hence
            ``Any``) that is in the body, such as ``{"instances": [[5.1]]}``; on PostgreSQL alone.

        Returns
        -------
        ListPredictions
            Newest first. ``next_cursor`` says that there are more.
        """
        params = {
            **_wanted(version, since, until, status, method, principal, labelled, contains),
            "limit": min(limit, _PAGE_CALLS),
        }
        calls: list[DescribePrediction] = []
        lost = 0
        cursor: str | None = None
        for page in self._pages(_path(name), ListPredictions, params):
            calls.extend(page.items)
            lost, cursor = page.lost, page.next_cursor
            if len(calls) >= limit:
                break
        is_cut = cursor is not None or len(calls) > limit
        return ListPredictions(
            items=calls[:limit], lost=lost, next_cursor=(cursor or "") if is_cut else None
        )

    def export_predictions(
        self,
        name: str,
        file: str | Path,
        *,
        format: ExportFormat | None = None,
        version: int | None = None,
        since: Moment | None = None,
        until: Moment | None = None,
        status: str | None = None,
        method: str | None = None,
        principal: str | None = None,
        labelled: bool | None = None,
        contains: Any = None,
    ) -> Path:
        """Write the calls of a model to a file, all that :meth:`predictions` would find.

        They are written as they come, so that memory stays flat.

        Parameters
        ----------
        file
            What it overwrites, once all of it has come.
        format
            ``parquet`` (the server needs pyarrow), ``csv`` or ``jsonl``; None for what the ending
            says: ``.parquet``, ``.csv``, ``.jsonl`` or ``.ndjson``.

        Raises
        ------
        InvalidUsage
            The ending is another, and no format is given.
        """
        target = Path(file)
        format = format or _format_of(target)
        params = _wanted(version, since, until, status, method, principal, labelled, contains)
        self._download(_path(name), target, {**params, "format": format})
        return target

    def set_logging(self, name: str, changes: LogChanges) -> DescribeModel:
        """Change what the prediction log keeps of a model's calls from now on.

        Parameters
        ----------
        changes
            Such as ``LogChanges(share=0.1)``; what is not given stays as it is.
        """
        return self._send(
            "PATCH",
            f"api/v1/models/{quote(name, safe='~')}",
            DescribeModel,
            content=encode_json(UpdateModel(logging=changes)),
            headers={"Content-Type": "application/json"},
        )


def _format_of(file: Path) -> ExportFormat:
    try:
        return _FORMATS[file.suffix.lower()]
    except KeyError:
        raise InvalidUsage(
            f"What format {file.name!r} is to have, its ending does not say: it may be "
            f"{', '.join(_FORMATS)}; or give format='parquet', 'csv' or 'jsonl'."
        ) from None


def _path(name: str) -> str:
    return f"api/v1/analytics/models/{quote(name, safe='~')}/predictions"


def _wanted(
    version: int | None,
    since: Moment | None,
    until: Moment | None,
    status: str | None,
    method: str | None,
    principal: str | None,
    labelled: bool | None,
    contains: Any,
) -> dict[str, str | int]:
    given: dict[str, Any] = {
        "version": version,
        "since": _time(since),
        "until": _time(until),
        "status": status,
        "method": method,
        "principal": principal,
        "labelled": None if labelled is None else str(labelled).lower(),
        "contains": None if contains is None else encode_json(contains).decode(),
    }
    return {name: value for name, value in given.items() if value is not None}


def _time(when: Moment | None) -> str | None:
    at: datetime | None = None if when is None else moment(when)
    return None if at is None else at.isoformat()
