"""``api/v1/alerts``: what is out of its limits; and the limits of a model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec

from mlserve_jupyter.api.alerts import (
    AlertLimit,
    AlertState,
    ListAlertLimits,
    ListAlerts,
    ModelRule,
    TestedWebhook,
    UpdateAlertLimits,
)
from mlserve_jupyter.errors import InvalidBody, ModelNotFound
from mlserve_jupyter.server.documentation import PageQuery, documented
from mlserve_jupyter.server.policy import ACCOUNTS, MODELS, requires
from mlserve_jupyter.server.resource import Resource
from mlserve_jupyter.threads import in_reading_thread

if TYPE_CHECKING:
    from mlserve_jupyter.registry.catalog import CatalogModel

MODEL_RULES: tuple[ModelRule, ...] = ("p95_ms", "error_rate", "drift")


class AlertsQuery(PageQuery, frozen=True, kw_only=True):
    """The arguments of the list of alerts."""

    state: (
        Annotated[
            AlertState,
            msgspec.Meta(description="Without it, all that have fired; `pending` ones have not."),
        ]
        | None
    ) = None
    model: Annotated[str, msgspec.Meta(description="Only those of this model.")] | None = None


class AlertsResource(Resource):
    """``api/v1/alerts``."""

    @documented(
        summary="List alerts", query=AlertsQuery, answers={200: ListAlerts}, errors=(ModelNotFound,)
    )
    @requires("read", MODELS, scope="read")
    async def get(self) -> None:
        """List alerts of the caller's models and keys, newest first; administrators see all."""
        from mlserve_jupyter.analytics.alert_rows import list_alerts
        from mlserve_jupyter.storage.engine import reading

        query = self.decode_query(AlertsQuery)
        services = await self.platform.services()
        user = await services.user(self.caller)
        model_ids = None if user.model_ids is None else sorted(user.model_ids)
        if query.model is not None:
            wanted = query.model
            found = await services.catalog.find(lambda catalog: catalog.managed_model(user, wanted))
            model_ids = [found.id]
        is_admin = user.role == "admin"

        def read() -> ListAlerts:
            with reading(services.engine) as connection:
                page = list_alerts(
                    connection,
                    user_id=None if is_admin else user.id,
                    model_ids=model_ids,
                    state=query.state,
                    limit=self.page_limit,
                    cursor=query.cursor or None,
                )
            return ListAlerts(items=list(page.items), next_cursor=page.next_cursor)

        self.answer(await in_reading_thread(read))


class AlertTestResource(Resource):
    """``api/v1/alerts/test``."""

    @documented(summary="Send a test message to the webhook", answers={200: TestedWebhook})
    @requires("write", ACCOUNTS, scope="admin")
    async def post(self) -> None:
        """Send a message that says that it is a test, and answer what became of it."""
        services = await self.platform.services()
        self.answer(await services.alerts.test_webhook())


class AlertLimitsResource(Resource):
    """``api/v1/models/{model}/alert-limits``."""

    @documented(
        summary="Read a model's limits", answers={200: ListAlertLimits}, errors=(ModelNotFound,)
    )
    @requires("read", MODELS, scope="read")
    async def get(self, model: str) -> None:
        """List what the model may have before there is an alert."""
        self.answer(await self._limits(await self._managed(model)))

    @documented(
        summary="Change a model's limits",
        body=UpdateAlertLimits,
        answers={200: ListAlertLimits},
        errors=(InvalidBody, ModelNotFound),
    )
    @requires("write", MODELS, scope="deploy")
    async def patch(self, model: str) -> None:
        """Give the model limits of its own; null takes one away, 0 turns a rule off."""
        from mlserve_jupyter.analytics.alert_rows import write_limit
        from mlserve_jupyter.storage.engine import writing

        new = self.decode_body(UpdateAlertLimits)
        found = await self._managed(model)
        services = await self.platform.services()

        def write() -> None:
            with writing(services.engine) as connection:
                for rule in MODEL_RULES:
                    limit: float | None | msgspec.UnsetType = getattr(new, rule)
                    if limit is not msgspec.UNSET:
                        write_limit(connection, found.id, rule, limit)

        await services.write(write)
        self.answer(await self._limits(found))

    async def _managed(self, model: str) -> CatalogModel:
        services = await self.platform.services()
        user = await services.user(self.caller)
        return await services.catalog.find(lambda catalog: catalog.managed_model(user, model))

    async def _limits(self, model: CatalogModel) -> ListAlertLimits:
        from mlserve_jupyter.analytics.alert_rows import read_limits
        from mlserve_jupyter.storage.engine import reading

        services = await self.platform.services()
        settings = self.platform.settings

        def read() -> dict[str, float]:
            with reading(services.engine) as connection:
                return read_limits(connection, model.id).get(model.id, {})

        own = await in_reading_thread(read)
        return ListAlertLimits(
            items=[
                AlertLimit(
                    rule=rule,
                    limit=own.get(rule, getattr(settings, f"alert_{rule}")),
                    is_own=rule in own,
                )
                for rule in MODEL_RULES
            ]
        )
