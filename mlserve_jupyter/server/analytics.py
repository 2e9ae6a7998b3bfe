"""``api/v1/analytics``: what was called how often, by whom, how it went and how long it took."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import msgspec

from mlserve_jupyter.api.analytics import Compare, ModelReport, Summary, TimeSeries
from mlserve_jupyter.errors import ModelNotFound, VersionNotFound
from mlserve_jupyter.server.documentation import Time, documented
from mlserve_jupyter.server.policy import MODELS, requires
from mlserve_jupyter.server.resource import Resource
from mlserve_jupyter.threads import in_reading_thread

if TYPE_CHECKING:
    from mlserve_jupyter.analytics.reports import ReportedModel, ReportedVersion, When
    from mlserve_jupyter.registry.catalog import CatalogModel, ServedVersion
    from mlserve_jupyter.services import Services
    from mlserve_jupyter.storage.users import User

FLUSH_TIMEOUT_S = 0.5
BUSY_LOG_ROWS = 2000
"""A log in which so many calls wait is written all the time; nobody need ask for it."""

Version = Annotated[int, msgspec.Meta(ge=1, le=999_999_999, description="A version's number.")]


class RangeQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which calls are counted: those of the last day, where nothing is said."""

    since: Time | None = None
    until: Time | None = None


class StepsQuery(RangeQuery, frozen=True, kw_only=True):
    """The same, in steps."""

    step_s: (
        Annotated[
            int,
            msgspec.Meta(
                ge=60,
                le=999_999_999,
                description="Length of a step: whole minutes. Without it, what suits the range.",
            ),
        ]
        | None
    ) = None


ReportScope = Annotated[
    Literal["own", "all"],
    msgspec.Meta(description="`all` of an administrator means the models of all users."),
]


class SummaryQuery(RangeQuery, frozen=True, kw_only=True):
    """The arguments of a summary."""

    scope: ReportScope = "own"


class UsageQuery(StepsQuery, frozen=True, kw_only=True):
    """The arguments of usage over time."""

    scope: ReportScope = "own"


class TimeSeriesQuery(StepsQuery, frozen=True, kw_only=True):
    """The arguments of a model's time series."""

    version: Version | None = None
    method: Annotated[str, msgspec.Meta(description="Calls of this method alone.")] | None = None
    principal: Annotated[str, msgspec.Meta(description="Calls of this caller alone.")] | None = None


class CompareQuery(StepsQuery, frozen=True, kw_only=True):
    """The arguments of a comparison."""

    a: Version
    b: Version


class _AnalyticsResource(Resource):
    async def up_to_date(self) -> Services:
        """Return the services, once the rollups have all that was answered before."""
        services = await self.platform.services()
        if 0 < services.log.n_held < BUSY_LOG_ROWS:
            await in_reading_thread(services.log.flush_if_written, FLUSH_TIMEOUT_S)
        return services

    async def managed_model(self, model: str) -> tuple[Services, User, CatalogModel]:
        """Return a model that the caller may see all of.

        Raises
        ------
        ModelNotFound
            The caller sees no such model.
        PermissionDenied
            It is another user's.
        """
        services = await self.platform.services()
        user = await services.user(self.caller)
        found = await services.catalog.find(lambda catalog: catalog.managed_model(user, model))
        return await self.up_to_date(), user, found


class SummaryResource(_AnalyticsResource):
    """``api/v1/analytics/summary``."""

    @documented(summary="Sum up all calls", query=SummaryQuery, answers={200: Summary})
    @requires("read", MODELS, scope="read")
    async def get(self) -> None:
        """Sum up the calls of your models: by model, who called most, and what was slowest."""
        query = self.decode_query(SummaryQuery)
        services = await self.up_to_date()
        user = await services.user(self.caller)
        models = services.catalog.current.managed_models(user, query.scope)
        report = await in_reading_thread(
            services.reports.summary,
            [_reported(model, user) for model in models],
            _when(query),
            of_all=_is_of_all(user, query.scope),
        )
        self.answer(report)


class UsageResource(_AnalyticsResource):
    """``api/v1/analytics/usage``."""

    @documented(summary="Give all calls over time", query=UsageQuery, answers={200: TimeSeries})
    @requires("read", MODELS, scope="read")
    async def get(self) -> None:
        """Give the calls of your models over time."""
        query = self.decode_query(UsageQuery)
        services = await self.up_to_date()
        user = await services.user(self.caller)
        models = services.catalog.current.managed_models(user, query.scope)
        report = await in_reading_thread(
            services.reports.usage,
            [_reported(model, user) for model in models],
            _when(query),
            of_all=_is_of_all(user, query.scope),
        )
        self.answer(report)


class ModelReportResource(_AnalyticsResource):
    """``api/v1/analytics/models/{model}/summary``."""

    @documented(
        summary="Sum up a model's calls",
        query=RangeQuery,
        answers={200: ModelReport},
        errors=(ModelNotFound,),
    )
    @requires("read", MODELS, scope="read")
    async def get(self, model: str) -> None:
        """Sum up a model's calls: by version, method and caller, and what was slowest."""
        query = self.decode_query(RangeQuery)
        services, user, found = await self.managed_model(model)
        self.answer(
            await in_reading_thread(services.reports.model, _reported(found, user), _when(query))
        )


class TimeSeriesResource(_AnalyticsResource):
    """``api/v1/analytics/models/{model}/timeseries``."""

    @documented(
        summary="Give a model's calls over time",
        query=TimeSeriesQuery,
        answers={200: TimeSeries},
        errors=(ModelNotFound, VersionNotFound),
    )
    @requires("read", MODELS, scope="read")
    async def get(self, model: str) -> None:
        """Give a model's calls over time: all, or those of a version, method or caller."""
        query = self.decode_query(TimeSeriesQuery)
        services, user, found = await self.managed_model(model)
        version = None if query.version is None else _version(found.version(query.version))
        self.answer(
            await in_reading_thread(
                services.reports.timeseries,
                _reported(found, user),
                _when(query),
                version,
                query.method,
                query.principal,
            )
        )


class CompareResource(_AnalyticsResource):
    """``api/v1/analytics/models/{model}/compare``."""

    @documented(
        summary="Compare two versions",
        query=CompareQuery,
        answers={200: Compare},
        errors=(ModelNotFound, VersionNotFound),
    )
    @requires("read", MODELS, scope="read")
    async def get(self, model: str) -> None:
        """Put the calls of two versions of a model side by side, over the same range."""
        services, user, found = await self.managed_model(model)
        query = self.decode_query(CompareQuery)  # whose arguments are the model's own versions
        self.answer(
            await in_reading_thread(
                services.reports.compare,
                _reported(found, user),
                _version(found.version(query.a)),
                _version(found.version(query.b)),
                _when(query),
            )
        )


def _reported(model: CatalogModel, user: User) -> ReportedModel:
    from mlserve_jupyter.analytics.reports import ReportedModel

    versions = {served.id: _version(served) for served in model.versions.values()}
    return ReportedModel(model.id, model.reference_for(user), versions)


def _version(served: ServedVersion) -> ReportedVersion:
    from mlserve_jupyter.analytics.reports import ReportedVersion

    return ReportedVersion(served.id, served.version, served.status)


def _when(query: RangeQuery) -> When:
    from mlserve_jupyter.analytics.reports import When

    return When(query.since, query.until, getattr(query, "step_s", None))


def _is_of_all(user: User, scope: str) -> bool:
    return scope == "all" and user.role == "admin" and user.model_ids is None
