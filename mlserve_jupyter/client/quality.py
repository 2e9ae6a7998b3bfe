"""The part of the client that says what was true, and asks how good a model is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any, TypeVar
from urllib.parse import quote

from mlserve_jupyter.api.drift import Drift
from mlserve_jupyter.api.labels import DescribeLabels, Label, LabelCalls, LabelledCall
from mlserve_jupyter.api.manifest import encode_json
from mlserve_jupyter.api.moments import Moment, moment
from mlserve_jupyter.api.quality import Quality

CALLS_AT_ONCE = 2000

_Wire = TypeVar("_Wire")


class QualityCalls(ABC):
    """The methods; each raises as those of ``Client`` do, and ``InvalidUsage`` for what is no time.

    ``since`` and ``until`` are as in ``AnalyticsCalls``.
    """

    @abstractmethod
    def _send(self, verb: str, path: str, type_: type[_Wire], **options: Any) -> _Wire: ...

    def label(self, model: str, by_request_id: Mapping[str, Sequence[Label]]) -> DescribeLabels:
        """Say what turned out to be true of calls; what was said of them before is replaced.

        Parameters
        ----------
        model
            The model that answered them.
        by_request_id
            By the ``request_id`` of a call's answer, one value a row.
        """
        n_calls = n_rows = n_without_answer = 0
        calls = iter(by_request_id.items())
        name = model
        while chunk := list(islice(calls, CALLS_AT_ONCE)):
            items = [LabelledCall(request_id=id, labels=list(values)) for id, values in chunk]
            kept = self._send(
                "POST",
                "api/v1/labels",
                DescribeLabels,
                content=encode_json(LabelCalls(model=model, calls=items)),
                headers={"Content-Type": "application/json"},
            )
            n_calls, n_rows, name = n_calls + kept.n_calls, n_rows + kept.n_rows, kept.model
            n_without_answer += kept.n_without_answer
        return DescribeLabels(
            model=name, n_calls=n_calls, n_rows=n_rows, n_without_answer=n_without_answer
        )

    def drift(
        self,
        model: str,
        *,
        version: int | None = None,
        since: Moment | None = None,
        until: Moment | None = None,
    ) -> Drift:
        """Hold what a version is asked and answers against the sample of its deploy.

        Parameters
        ----------
        version
            None for the one that answers by default.
        since, until
            Without them, the last seven days.
        """
        params: dict[str, str | int] = {} if version is None else {"version": version}
        params |= _range(since, until)
        return self._send("GET", f"{_path(model)}/drift", Drift, params=params)

    def quality(
        self, model: str, *, since: Moment | None = None, until: Moment | None = None
    ) -> Quality:
        """Score the calls of a model that have labels, by version, method and day.

        Parameters
        ----------
        since, until
            Of the calls; without them, the last thirty days.
        """
        params = _range(since, until)
        return self._send("GET", f"{_path(model)}/quality", Quality, params=params)


def _path(model: str) -> str:
    return f"api/v1/analytics/models/{quote(model, safe='~')}"


def _range(since: Moment | None, until: Moment | None) -> dict[str, str]:
    times = {"since": since, "until": until}
    return {name: moment(at).isoformat() for name, at in times.items() if at is not None}
