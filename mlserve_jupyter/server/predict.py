"""``api/v1/predict/{model}``: the door to the path in ``serving/predict.py``."""

from __future__ import annotations

from mlserve_jupyter.server.policy import PREDICTIONS, requires
from mlserve_jupyter.server.resource import Resource
from mlserve_jupyter.serving.predict import PredictRequest


class PredictResource(Resource):
    """Predict with a model.

    Attributes
    ----------
    answering_version
        The version that answers, once it is known.
    """

    answering_version: int | None = None

    @property
    def max_body_bytes(self) -> int:
        """The setting of that name."""
        return self.platform.settings.max_body_bytes

    def note_version(self, version: int) -> None:
        """Take note of the version that answers."""
        self.answering_version = version

    @requires("execute", PREDICTIONS)
    async def post(self, model: str) -> None:
        """Answer with ``{predictions, model, version, request_id, cached}``."""
        self.check_query_arguments("version", "method")
        services = await self.platform.services()
        self.answer(
            await services.predictor.predict(
                PredictRequest(
                    request_id=self.request_id,
                    principal=str(self.caller),
                    user=await services.user(self.caller),
                    model=model,
                    version=self.integer_argument("version", None),
                    method=self.get_query_argument("method", None),
                    body=self.body,
                    content_type=self.request.headers.get("Content-Type", ""),
                    is_owner=True,
                    note_version=self.note_version,
                )
            )
        )
