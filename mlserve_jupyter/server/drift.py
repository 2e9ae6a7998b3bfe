"""``api/v1/analytics/models/{model}/drift`` and ``…/quality``: is a model still what it was."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Annotated, Any, TypeVar

import msgspec

from mlserve_jupyter.api.drift import Drift
from mlserve_jupyter.api.quality import Quality
from mlserve_jupyter.errors import Conflict, InvalidRequest, NotFound
from mlserve_jupyter.server.documentation import Time, documented
from mlserve_jupyter.server.policy import MODELS, requires
from mlserve_jupyter.server.resource import Resource
from mlserve_jupyter.threads import in_reading_thread

Report = TypeVar("Report")

FLUSH_TIMEOUT_S = 2.0
DRIFT_DAYS = 7
QUALITY_DAYS = 30


class RangeQuery(msgspec.Struct, frozen=True, kw_only=True):
    """A range of time; without them, up to now."""

    since: Time | None = None
    until: Time | None = None


class DriftQuery(RangeQuery, frozen=True, kw_only=True):
    """The arguments of drift."""

    version: (
        Annotated[
            int,
            msgspec.Meta(
                ge=1, le=999_999_999, description="Without it the one that answers by default."
            ),
        ]
        | None
    ) = None


class ReadingResource(Resource):
    """Asks the database for something and waits for it."""

    async def read(self, query: Callable[..., Report], *arguments: Any) -> Report:
        """Ask the database, in a thread; the arguments are those of ``query``, hence ``Any``."""
        from mlserve_jupyter.storage.engine import reading

        engine = (await self.platform.services()).engine

        def ask() -> Report:
            with reading(engine) as connection:
                return query(connection, *arguments)

        return await in_reading_thread(ask)


class DriftResource(ReadingResource):
    """``api/v1/analytics/models/{model}/drift``."""

    @documented(
        summary="Hold what a version is asked against its sample",
        query=DriftQuery,
        answers={200: Drift},
        errors=(NotFound, Conflict),
    )
    @requires("read", MODELS, scope="read")
    async def get(self, model: str) -> None:
        """Say how far a version's input and output have moved from its sample; of 7 days."""
        from mlserve_jupyter.analytics.drift import WatchedVersion, read_drift

        query = self.decode_query(DriftQuery)
        since, until = range_of(query, timedelta(days=DRIFT_DAYS))
        services = await self.platform.services()
        user = await services.user(self.caller)
        found = await services.catalog.find(lambda catalog: catalog.managed_model(user, model))
        version = found.default if query.version is None else found.version(query.version)
        version = version or next(iter(found.versions.values()))
        await in_reading_thread(services.log.flush_if_written, FLUSH_TIMEOUT_S)
        await in_reading_thread(services.live_histograms.flush, FLUSH_TIMEOUT_S)
        columns = tuple(column.name for column in version.signature.inputs.columns)
        watched = WatchedVersion(version.id, found.name, version.version, columns)
        self.answer(await self.read(read_drift, watched, since, until))


class QualityResource(ReadingResource):
    """``api/v1/analytics/models/{model}/quality``."""

    @documented(
        summary="Score labelled calls",
        query=RangeQuery,
        answers={200: Quality},
        errors=(NotFound,),
    )
    @requires("read", MODELS, scope="read")
    async def get(self, model: str) -> None:
        """Score the calls that have labels, by version, method and day; of 30 days."""
        from mlserve_jupyter.analytics.quality import ScoredVersion, read_quality

        since, until = range_of(self.decode_query(RangeQuery), timedelta(days=QUALITY_DAYS))
        services = await self.platform.services()
        user = await services.user(self.caller)
        found = await services.catalog.find(lambda catalog: catalog.managed_model(user, model))
        await in_reading_thread(services.log.flush_if_written, FLUSH_TIMEOUT_S)
        versions = {
            each.id: ScoredVersion(each.version, each.signature) for each in found.versions.values()
        }
        self.answer(await self.read(read_quality, found.id, found.name, versions, since, until))


def range_of(query: RangeQuery, length: timedelta) -> tuple[datetime, datetime]:
    """Return the range that is asked for, of ``length`` where its beginning is not.

    Raises
    ------
    InvalidRequest
        It ends before it begins.
    """
    until = query.until or datetime.now(timezone.utc)
    try:
        since = query.since or until - length
    except OverflowError:
        since = until
    if since > until:
        raise InvalidRequest("'until' must not be before 'since'.")
    return since, until
