"""``api/v1/analytics/models/{model}/predictions``: the prediction log, in pages or as a file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import msgspec

from mlserve_jupyter.api.prediction_export import CONTENT_TYPES, ExportFormat, open_export
from mlserve_jupyter.api.resources import ListPredictions
from mlserve_jupyter.errors import (
    InvalidRequest,
    ModelNotFound,
    UnsupportedMediaType,
    VersionNotFound,
)
from mlserve_jupyter.server.documentation import PageQuery, Time, documented
from mlserve_jupyter.server.misfits import check_code, unknown_name
from mlserve_jupyter.server.policy import MODELS, requires
from mlserve_jupyter.server.resource import Resource
from mlserve_jupyter.threads import in_reading_thread

if TYPE_CHECKING:
    from mlserve_jupyter.analytics.prediction_pages import CallFilter
    from mlserve_jupyter.registry.catalog import CatalogModel

FLUSH_TIMEOUT_S = 2.0
EXPORT_ROWS = 1000

_FORMATS: dict[str, ExportFormat] = {
    "text/csv": "csv",
    "application/jsonl": "jsonl",
    "application/x-ndjson": "jsonl",
    "application/vnd.apache.parquet": "parquet",
}


class PredictionsQuery(PageQuery, frozen=True, kw_only=True):
    """The arguments of the prediction log."""

    version: (
        Annotated[
            int, msgspec.Meta(ge=1, le=999_999_999, description="Calls of this version alone.")
        ]
        | None
    ) = None
    since: Time | None = None
    until: Time | None = None
    status: (
        Annotated[
            str,
            msgspec.Meta(
                max_length=64, description="`ok`, an error's code, or `failed` for all but `ok`."
            ),
        ]
        | None
    ) = None
    method: Annotated[str, msgspec.Meta(max_length=128)] | None = None
    principal: (
        Annotated[str, msgspec.Meta(max_length=128, description="Who called, as the log shows it.")]
        | None
    ) = None
    labelled: (
        Annotated[bool, msgspec.Meta(description="Calls with labels alone, or those without.")]
        | None
    ) = None
    contains: (
        Annotated[
            str,
            msgspec.Meta(
                max_length=10_000,
                description="Values of a row by column, or JSON that is in the inputs as of "
                "PostgreSQL's `@>`; there alone.",
            ),
        ]
        | None
    ) = None
    format: (
        Annotated[
            Literal["json", "csv", "jsonl", "parquet"],
            msgspec.Meta(
                description="All but `json` send all calls, not a page; so does `Accept`."
            ),
        ]
        | None
    ) = None


class PredictionsResource(Resource):
    """The prediction log of a model."""

    @documented(
        summary="List calls",
        query=PredictionsQuery,
        answers={
            200: {
                "application/json": ListPredictions,
                "text/csv": str,
                "application/jsonl": bytes,
                "application/vnd.apache.parquet": bytes,
            }
        },
        errors=(ModelNotFound, UnsupportedMediaType, VersionNotFound),
    )
    @requires("read", MODELS, scope="read")
    async def get(self, model: str) -> None:
        """List calls, newest first, with all that were answered before this request."""
        query = self.decode_query(PredictionsQuery)
        check_code("status", query.status, ("ok", "failed"))
        services = await self.platform.services()
        user = await services.user(self.caller)
        found = await services.catalog.find(lambda catalog: catalog.managed_model(user, model))
        if query.version is not None:
            found.version(query.version)  # raises where there is none
        await in_reading_thread(services.log.flush_if_written, FLUSH_TIMEOUT_S)
        format = query.format or accepted_format(self.request.headers.get("Accept", ""))
        if format != "json":
            await self._export(found, format, query)
            return
        page = await in_reading_thread(
            services.log.list_predictions,
            found.id,
            _filter(query),
            limit=self.page_limit,
            cursor=query.cursor or None,
        )
        if not page.items:
            _check_method(found, query.method)
        self.answer(
            ListPredictions(
                items=list(page.items),
                next_cursor=page.next_cursor,
                lost=await in_reading_thread(services.log.losses),
            )
        )

    async def _export(
        self, model: CatalogModel, format: ExportFormat, query: PredictionsQuery
    ) -> None:
        """Stream all calls, page by page: no more than one is in memory, however slow the reader.

        Each page is a transaction of its own, so that nothing waits for the end of a long file.
        """
        log = (await self.platform.services()).log
        export = await in_reading_thread(open_export, format)
        wanted = _filter(query)
        page = await in_reading_thread(log.list_predictions, model.id, wanted, EXPORT_ROWS)
        if not page.items:
            _check_method(model, query.method)
        self.set_header("Content-Type", CONTENT_TYPES[format])
        self.set_header("Content-Disposition", f'attachment; filename="{model.name}.{format}"')
        self.write(export.begin())
        while True:
            self.write(await in_reading_thread(export.add, page.items, goes_on=True))
            await self.flush()
            if page.next_cursor is None:
                break
            page = await in_reading_thread(
                log.list_predictions,
                model.id,
                wanted,
                EXPORT_ROWS,
                page.next_cursor,
                goes_on=True,
            )
        await self.finish(await in_reading_thread(export.end, goes_on=True))


def _check_method(model: CatalogModel, method: str | None) -> None:
    """Refuse a method that no version has, of which the log has nothing.

    It does have calls that named one, and were refused.

    Raises
    ------
    InvalidRequest
        Naming the nearest.
    """
    methods = {each for version in model.versions.values() for each in version.methods}
    if method is not None and method not in methods:
        what = f"No version of model {model.name!r} has the method"
        raise InvalidRequest(unknown_name(what, method, sorted(methods)))


def accepted_format(accept: str) -> Literal["json"] | ExportFormat:
    """Return the form that an ``Accept`` header asks for first; JSON where it names none of ours.

    Of equal ones (RFC 9110, 12.5.1) the first is taken, so that a browser gets JSON.
    """
    best: Literal["json"] | ExportFormat = "json"
    best_quality = 0.0
    for item in accept.split(","):
        kind, *parameters = (part.strip().lower() for part in item.split(";"))
        quality = next((_quality(each) for each in parameters if each.startswith("q=")), 1.0)
        if quality > best_quality and (kind in _FORMATS or kind in ("application/json", "*/*")):
            best, best_quality = _FORMATS.get(kind, "json"), quality
    return best


def _quality(parameter: str) -> float:
    try:
        return float(parameter[2:])
    except ValueError:
        return 0.0


def _filter(query: PredictionsQuery) -> CallFilter:
    from mlserve_jupyter.analytics.prediction_pages import CallFilter

    return CallFilter(
        version=query.version,
        since=query.since,
        until=query.until,
        status=query.status,
        method=query.method,
        principal=query.principal,
        labelled=query.labelled,
        contains=query.contains,
    )
