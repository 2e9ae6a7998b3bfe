"""The route table: the same resources in both hosts."""

from __future__ import annotations

import re
from collections.abc import Iterable

from tornado.web import RequestHandler, stream_request_body

from mlserve_jupyter.server.alerts import AlertLimitsResource, AlertsResource, AlertTestResource
from mlserve_jupyter.server.analytics import (
    CompareResource,
    ModelReportResource,
    SummaryResource,
    TimeSeriesResource,
    UsageResource,
)
from mlserve_jupyter.server.api_keys import ApiKeyResource, ApiKeysResource
from mlserve_jupyter.server.approvals import ApprovalResource, ApprovalsResource
from mlserve_jupyter.server.audit import AuditResource
from mlserve_jupyter.server.auth import (
    LoginResource,
    LogoutResource,
    MeResource,
    RefreshResource,
    RegisterResource,
    SessionResource,
)
from mlserve_jupyter.server.drift import DriftResource, QualityResource
from mlserve_jupyter.server.environments import EnvironmentsResource
from mlserve_jupyter.server.health import LiveResource, ReadyResource
from mlserve_jupyter.server.invitations import InvitationResource, InvitationsResource
from mlserve_jupyter.server.labels import CallLabelResource, LabelsResource
from mlserve_jupyter.server.metrics import MetricsResource
from mlserve_jupyter.server.models import (
    ArtifactResource,
    ModelResource,
    ModelsResource,
    VersionResource,
    VersionsResource,
)
from mlserve_jupyter.server.not_found import NotFoundResource
from mlserve_jupyter.server.openapi.resources import (
    DocsResource,
    ModelOpenAPIResource,
    OpenAPIResource,
)
from mlserve_jupyter.server.policy import check_policies
from mlserve_jupyter.server.predict import PredictResource
from mlserve_jupyter.server.predictions import PredictionsResource
from mlserve_jupyter.server.resource import Resource
from mlserve_jupyter.server.users import UserResource, UsersResource

ROUTES: tuple[tuple[str, type[Resource]], ...] = (
    (r"mlserve/api/v1/predict/([^/]+)", PredictResource),
    (r"mlserve/api/v1/models", ModelsResource),
    (r"mlserve/api/v1/models/([^/]+)", ModelResource),
    (r"mlserve/api/v1/models/([^/]+)/versions", VersionsResource),
    (r"mlserve/api/v1/models/([^/]+)/versions/([^/]+)", VersionResource),
    (r"mlserve/api/v1/models/([^/]+)/versions/([^/]+)/artifact", ArtifactResource),
    (r"mlserve/api/v1/models/([^/]+)/openapi\.json", ModelOpenAPIResource),
    (r"mlserve/api/v1/analytics/summary", SummaryResource),
    (r"mlserve/api/v1/analytics/usage", UsageResource),
    (r"mlserve/api/v1/analytics/models/([^/]+)/summary", ModelReportResource),
    (r"mlserve/api/v1/analytics/models/([^/]+)/timeseries", TimeSeriesResource),
    (r"mlserve/api/v1/analytics/models/([^/]+)/compare", CompareResource),
    (r"mlserve/api/v1/analytics/models/([^/]+)/predictions", PredictionsResource),
    (r"mlserve/api/v1/analytics/models/([^/]+)/drift", DriftResource),
    (r"mlserve/api/v1/analytics/models/([^/]+)/quality", QualityResource),
    (r"mlserve/api/v1/predictions/([^/]+)/label", CallLabelResource),
    (r"mlserve/api/v1/labels", LabelsResource),
    (r"mlserve/api/v1/alerts", AlertsResource),
    (r"mlserve/api/v1/alerts/test", AlertTestResource),
    (r"mlserve/api/v1/models/([^/]+)/alert-limits", AlertLimitsResource),
    (r"mlserve/api/v1/artifact-approvals", ApprovalsResource),
    (r"mlserve/api/v1/artifact-approvals/([^/]+)", ApprovalResource),
    (r"mlserve/api/v1/users", UsersResource),
    (r"mlserve/api/v1/users/([^/]+)", UserResource),
    (r"mlserve/api/v1/audit", AuditResource),
    (r"mlserve/api/v1/environments", EnvironmentsResource),
    (r"mlserve/api/v1/api-keys", ApiKeysResource),
    (r"mlserve/api/v1/api-keys/([^/]+)", ApiKeyResource),
    (r"mlserve/api/v1/auth/register", RegisterResource),
    (r"mlserve/api/v1/auth/login", LoginResource),
    (r"mlserve/api/v1/auth/refresh", RefreshResource),
    (r"mlserve/api/v1/auth/logout", LogoutResource),
    (r"mlserve/api/v1/auth/session", SessionResource),
    (r"mlserve/api/v1/auth/me", MeResource),
    (r"mlserve/api/v1/invitations", InvitationsResource),
    (r"mlserve/api/v1/invitations/([^/]+)", InvitationResource),
    (r"mlserve/health/live", LiveResource),
    (r"mlserve/health/ready", ReadyResource),
    (r"mlserve/metrics", MetricsResource),
    (r"mlserve/openapi\.json", OpenAPIResource),
    (r"mlserve/docs", DocsResource),
    (r"mlserve/.*", NotFoundResource),
)
"""Patterns below the host's base URL."""


def predict_handler(
    handlers: Iterable[tuple[str, type[RequestHandler]]],
) -> type[PredictResource]:
    """Return the handler of the predict route."""
    return next(handler for _, handler in handlers if issubclass(handler, PredictResource))


def handlers_for(host: type[RequestHandler]) -> list[tuple[str, type[RequestHandler]]]:
    """Mix each resource with the host's handler class.

    Raises
    ------
    RuntimeError
        If a method of a resource has no policy.
    """
    handlers: list[tuple[str, type[RequestHandler]]] = [
        (pattern, stream_request_body(_mixed(pattern, resource, host)))
        for pattern, resource in ROUTES
    ]
    check_policies(handler for _, handler in handlers)
    return handlers


def _mixed(
    pattern: str, resource: type[Resource], host: type[RequestHandler]
) -> type[RequestHandler]:
    route = re.sub(r"\(.*?\)|\.\*", "*", pattern).replace("\\", "")
    return type(resource.__name__, (resource, host), {"route": route})
