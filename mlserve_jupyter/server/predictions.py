"""``api/v1/analytics/models/{model}/predictions``: the prediction log."""

from __future__ import annotations

import asyncio
from typing import Annotated

import msgspec

from mlserve_jupyter.api.resources import ListPredictions
from mlserve_jupyter.errors import ModelNotFound
from mlserve_jupyter.server.documentation import PageQuery, documented
from mlserve_jupyter.server.policy import MODELS, requires
from mlserve_jupyter.server.resource import Resource


class PredictionsQuery(PageQuery, frozen=True, kw_only=True):
    """The arguments of the prediction log."""

    version: (
        Annotated[
            int, msgspec.Meta(ge=1, le=999_999_999, description="Calls of this version alone.")
        ]
        | msgspec.UnsetType
    ) = msgspec.UNSET


class PredictionsResource(Resource):
    """The prediction log of a model."""

    @documented(
        summary="List calls",
        query=PredictionsQuery,
        answers={200: ListPredictions},
        errors=(ModelNotFound,),
    )
    @requires("read", MODELS, scope="read")
    async def get(self, model: str) -> None:
        """List calls, newest first, with all that were answered before this request."""
        services = await self.platform.services()
        user = await services.user(self.caller)
        found = await services.catalog.find(lambda catalog: catalog.managed_model(user, model))
        await asyncio.to_thread(services.log.flush, 2.0)
        page = await asyncio.to_thread(
            services.log.list_predictions,
            found.id,
            version=self.integer_argument("version", None),
            cursor=self.get_query_argument("cursor", None),
            limit=self.page_limit,
        )
        self.answer(
            ListPredictions(
                items=list(page.items),
                next_cursor=page.next_cursor,
                lost=await asyncio.to_thread(services.log.losses),
            )
        )
