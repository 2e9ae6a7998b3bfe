"""``api/v1/audit``: administrators read and export the audit log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import msgspec

from mlserve_jupyter.api.audit import ListEvents
from mlserve_jupyter.api.event_export import csv_header, csv_lines
from mlserve_jupyter.api.json_lines import json_lines
from mlserve_jupyter.server.documentation import PageQuery, Time, documented
from mlserve_jupyter.server.misfits import check_code
from mlserve_jupyter.server.policy import ACCOUNTS, requires
from mlserve_jupyter.server.resource import Resource
from mlserve_jupyter.threads import in_reading_thread

if TYPE_CHECKING:
    from mlserve_jupyter.accounts.audit_pages import EventFilter

FLUSH_TIMEOUT_S = 2.0
EXPORT_ROWS = 500
CONTENT_TYPES = {"csv": "text/csv; charset=utf-8", "jsonl": "application/jsonl"}


class AuditQuery(PageQuery, frozen=True, kw_only=True):
    """The arguments of the audit log."""

    actor: Annotated[str, msgspec.Meta(description="Name of whoever acted.")] | None = None
    action: (
        Annotated[str, msgspec.Meta(description="`user.change`, or `user` for all that begins so.")]
        | None
    ) = None
    outcome: Annotated[str, msgspec.Meta(description="`ok`, or an error's code.")] | None = None
    since: Time | None = None
    until: Time | None = None
    format: Annotated[
        Literal["json", "csv", "jsonl"],
        msgspec.Meta(description="`csv` and `jsonl` send all of it, not a page."),
    ] = "json"


class AuditResource(Resource):
    """``api/v1/audit``."""

    @property
    def may_take_long(self) -> bool:
        """Whether it is an export."""
        return self.get_query_argument("format", "json") != "json"

    @documented(
        summary="Read the audit log",
        query=AuditQuery,
        answers={
            200: {"application/json": ListEvents, "text/csv": str, "application/jsonl": bytes}
        },
    )
    @requires("read", ACCOUNTS, scope="admin")
    async def get(self) -> None:
        """List who did what to which thing, when and from where, newest first; or export it."""
        from mlserve_jupyter.accounts.audit_pages import EventFilter, list_events

        query = self.decode_query(AuditQuery)
        check_code("outcome", query.outcome, ("ok",))
        wanted = EventFilter(query.actor, query.action, query.outcome, query.since, query.until)
        services = await self.platform.services()
        await in_reading_thread(self.platform.audit.flush, FLUSH_TIMEOUT_S)
        if query.format != "json":
            await self._export(query.format, wanted)
            return
        page = await in_reading_thread(
            list_events, services.engine, wanted, self.page_limit, query.cursor or None
        )
        self.answer(ListEvents(items=list(page.items), next_cursor=page.next_cursor))

    async def _export(self, format: Literal["csv", "jsonl"], wanted: EventFilter) -> None:
        """Stream all events, in transactions of their own so that no writer waits."""
        from mlserve_jupyter.accounts.audit_pages import list_events

        engine = (await self.platform.services()).engine
        page = await in_reading_thread(list_events, engine, wanted, EXPORT_ROWS, None)
        self.set_header("Content-Type", CONTENT_TYPES[format])
        self.set_header("Content-Disposition", f'attachment; filename="audit.{format}"')
        if format == "csv":
            self.write(csv_header())
        as_lines = csv_lines if format == "csv" else json_lines
        while True:
            self.write(await in_reading_thread(as_lines, page.items, goes_on=True))
            await self.flush()
            if page.next_cursor is None:
                break
            page = await in_reading_thread(
                list_events, engine, wanted, EXPORT_ROWS, page.next_cursor, goes_on=True
            )
        await self.finish()
