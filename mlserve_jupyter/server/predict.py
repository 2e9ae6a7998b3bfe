"""``api/v1/predict/{model}``: the door to the path in ``serving/predict.py``."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Annotated

import msgspec

from mlserve_jupyter.accounts.principal import Principal
from mlserve_jupyter.accounts.quotas import Quota
from mlserve_jupyter.api.arrow_body import ARROW_STREAM, PARQUET
from mlserve_jupyter.api.prediction import PredictBody, Prediction
from mlserve_jupyter.errors import (
    ArtifactCorrupt,
    DeadlineExceeded,
    InputRejected,
    InvalidBody,
    ModelFailed,
    NotFound,
    SignatureMismatch,
    Unavailable,
    UnsupportedMediaType,
)
from mlserve_jupyter.server.documentation import JSON, documented
from mlserve_jupyter.server.policy import PREDICTIONS, requires
from mlserve_jupyter.server.resource import Resource
from mlserve_jupyter.serving.call_record import CallRecord, PredictRequest


class PredictQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which version and which of its methods."""

    version: (
        Annotated[
            int,
            msgspec.Meta(
                ge=1, le=999_999_999, description="Without it the latest active one answers."
            ),
        ]
        | msgspec.UnsetType
    ) = msgspec.UNSET
    method: (
        Annotated[
            str,
            msgspec.Meta(description="Without it the one that was chosen at the deploy answers."),
        ]
        | msgspec.UnsetType
    ) = msgspec.UNSET


@dataclass(frozen=True)
class Failure:
    """What became of a request that was admitted and tried before it came to its handler."""

    error: BaseException
    request_id: str
    principal: Principal
    quota: Quota
    call: CallRecord | None


class PredictResource(Resource):
    """Predict with a model.

    Attributes
    ----------
    call
        What the log will say, once it is known which version answers.
    """

    call: CallRecord | None = None
    _predicting: asyncio.Future[bytes] | None = None

    def initialize(self, failure: Failure | None = None) -> None:
        """Take a request that has failed already, or one that is still to be admitted."""
        super().initialize()
        self._failure = failure
        if failure is not None:
            self.request_id = failure.request_id
            self.principal = failure.principal
            self.call = failure.call
            self._quota = failure.quota

    async def prepare(self) -> None:
        """Admit the request, unless it is here for its error alone."""
        if self._failure is not None:
            self._is_admitted = True
            raise self._failure.error
        await super().prepare()

    @property
    def max_body_bytes(self) -> int:
        """The setting of that name."""
        return self.platform.settings.max_body_bytes

    @property
    def may_take_long(self) -> bool:
        """Whether the predictor has seen the call, and says itself what took how long."""
        return self.call is not None

    def note_call(self, call: CallRecord) -> None:
        """Take note of what the log will say."""
        self.call = call

    @documented(
        summary="Predict",
        body={JSON: PredictBody, "text/csv": str, ARROW_STREAM: bytes, PARQUET: bytes},
        query=PredictQuery,
        answers={200: Prediction},
        errors=(
            InvalidBody,
            NotFound,
            UnsupportedMediaType,
            SignatureMismatch,
            InputRejected,
            ArtifactCorrupt,
            ModelFailed,
            Unavailable,
            DeadlineExceeded,
        ),
    )
    @requires("execute", PREDICTIONS, scope="predict")
    async def post(self, model: str) -> None:
        """Answer with ``{predictions, model, version, request_id, cached}``."""
        services = await self.platform.services()
        request = PredictRequest(
            request_id=self.request_id,
            principal=str(self.caller),
            user=await services.user(self.caller),
            model=model,
            version=self.integer_argument("version", None),
            method=self.get_query_argument("method", None),
            body=self.body,
            content_type=self.request.headers.get("Content-Type", ""),
            note_call=self.note_call,
        )
        self._predicting = asyncio.ensure_future(services.predictor.predict(request))
        try:
            answer = await self._predicting
        except asyncio.CancelledError:
            return  # the caller is gone
        self.answer(answer)

    def on_connection_close(self) -> None:
        """Give a call up whose caller is gone, so that it does not reach the model any more."""
        super().on_connection_close()
        if self._predicting is not None:
            self._predicting.cancel()
