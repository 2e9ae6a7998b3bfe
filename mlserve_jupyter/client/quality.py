"""The part of the client that says what was true, and asks how good a model is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any, TypeVar

from mlserve_jupyter.api.labels import DescribeLabels, Label, LabelCalls, LabelledCall
from mlserve_jupyter.api.manifest import encode_json

CALLS_AT_ONCE = 2000

_Wire = TypeVar("_Wire")


class QualityCalls(ABC):
    """The methods; each raises as those of ``Client`` do."""

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
        n_calls = n_rows = 0
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
        return DescribeLabels(model=name, n_calls=n_calls, n_rows=n_rows)
