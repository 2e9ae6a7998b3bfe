"""``api/v1/predictions/{request_id}/label`` and ``api/v1/labels``: what turned out to be true."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from mlserve_jupyter.api.labels import (
    REQUEST_ID,
    DescribeLabels,
    Label,
    LabelCall,
    LabelCalls,
)
from mlserve_jupyter.errors import InvalidRequest, LabelRejected, ModelNotFound
from mlserve_jupyter.server.documentation import documented
from mlserve_jupyter.server.drift import FLUSH_TIMEOUT_S, ReadingResource
from mlserve_jupyter.server.policy import PREDICTIONS, requires
from mlserve_jupyter.threads import in_reading_thread

MAX_BODY_BYTES = 4 * 2**20


class _LabellingResource(ReadingResource):
    @property
    def max_body_bytes(self) -> int:
        """What the labels of many calls may take."""
        return MAX_BODY_BYTES

    async def keep(self, model: str, by_request_id: Mapping[str, Sequence[Label]]) -> None:
        """Keep labels of a model that the caller manages, and say so.

        Raises
        ------
        LabelRejected
            They do not go with what a call was answered; nothing was kept.
        """
        from mlserve_jupyter.analytics.label_checks import check_labels
        from mlserve_jupyter.analytics.labels import write_labels
        from mlserve_jupyter.analytics.quality import ScoredVersion

        services = await self.platform.services()
        user = await services.user(self.caller)
        found = await services.catalog.find(lambda catalog: catalog.managed_model(user, model))
        versions = {
            each.id: ScoredVersion(each.version, each.signature) for each in found.versions.values()
        }
        unknown = await self.read(check_labels, found.id, versions, by_request_id)
        is_written = bool(unknown) and await in_reading_thread(
            services.log.flush_if_written, FLUSH_TIMEOUT_S
        )
        if is_written:
            late = {id: by_request_id[id] for id in unknown}
            unknown = await self.read(check_labels, found.id, versions, late)
        await services.write(write_labels, services.engine, found.id, by_request_id)
        n_rows = sum(map(len, by_request_id.values()))
        self.answer(
            DescribeLabels(
                model=found.name,
                n_calls=len(by_request_id),
                n_rows=n_rows,
                n_without_answer=len(unknown),
            )
        )


class CallLabelResource(_LabellingResource):
    """``api/v1/predictions/{request_id}/label``."""

    @documented(
        summary="Label a call",
        body=LabelCall,
        answers={200: DescribeLabels},
        errors=(LabelRejected, ModelNotFound),
    )
    @requires("execute", PREDICTIONS, scope="predict")
    async def post(self, request_id: str) -> None:
        """Keep what turned out to be true of the rows of a call; later labels replace these."""
        wanted = self.decode_body(LabelCall)
        if not re.match(REQUEST_ID, request_id):
            raise InvalidRequest(f"{request_id[:80]!r} is no request id: see the call's answer.")
        await self.keep(wanted.model, {request_id: wanted.labels})


class LabelsResource(_LabellingResource):
    """``api/v1/labels``."""

    @documented(
        summary="Label many calls",
        body=LabelCalls,
        answers={200: DescribeLabels},
        errors=(LabelRejected, ModelNotFound),
    )
    @requires("execute", PREDICTIONS, scope="predict")
    async def post(self) -> None:
        """Keep what turned out to be true of many calls, of all or none; the last one counts."""
        wanted = self.decode_body(LabelCalls)
        await self.keep(wanted.model, {call.request_id: call.labels for call in wanted.calls})
