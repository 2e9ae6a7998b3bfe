"""``openapi.json``, ``docs``, and the document of one model."""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated, Any

import msgspec

from mlserve_jupyter.errors import NotFound
from mlserve_jupyter.server.documentation import SecuritySchemes, documented
from mlserve_jupyter.server.openapi.document import Document, make_document
from mlserve_jupyter.server.openapi.model_document import make_model_document
from mlserve_jupyter.server.openapi.page import content_security_policy, page
from mlserve_jupyter.server.policy import MODELS, public, requires
from mlserve_jupyter.server.resource import Resource

OpenAPI = dict[str, Any]
"""An OpenAPI document, of the form that its specification says."""


class _OpenAPIResource(Resource):
    @property
    def document(self) -> Document:
        """The document of all routes."""
        return _document(self.settings["mlserve_base_path"], self.security_schemes)


class OpenAPIResource(_OpenAPIResource):
    """``openapi.json``.

    Anybody may read it, as anybody may read this package: it names no model, no setting and no
    release.
    """

    @documented(summary="Describe all routes", answers={200: OpenAPI})
    @public
    def get(self) -> None:
        """Answer with this document."""
        self.answer(self.document)


class ModelQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which version."""

    version: (
        Annotated[
            int,
            msgspec.Meta(ge=1, le=999_999_999, description="Without it the one that answers."),
        ]
        | msgspec.UnsetType
    ) = msgspec.UNSET


class ModelOpenAPIResource(_OpenAPIResource):
    """``api/v1/models/{model}/openapi.json``."""

    @documented(
        summary="Describe a model's predict route",
        query=ModelQuery,
        answers={200: OpenAPI},
        errors=(NotFound,),
    )
    @requires("read", MODELS, scope="read")
    async def get(self, model: str) -> None:
        """Answer with an OpenAPI document of one model: its columns, its methods, an example."""
        number = self.integer_argument("version", None)
        services = await self.platform.services()
        user = await services.user(self.caller)
        found = await services.catalog.find(lambda catalog: catalog.resolve(user, model, number))
        self.answer(make_model_document(self.document, found))


class DocsResource(Resource):
    """``docs``."""

    @documented(summary="Show a page to read and try all routes", answers={200: {"text/html": str}})
    @public
    def get(self) -> None:
        """Answer with a page that needs nothing from elsewhere, and asks for a key to try."""
        self.set_header("Content-Type", "text/html; charset=utf-8")
        self.set_header("Content-Security-Policy", content_security_policy())
        self.answer(page())


@lru_cache(maxsize=8)
def _document(base_path: str, schemes: SecuritySchemes) -> Document:
    from mlserve_jupyter.server.routes import ROUTES  # which has this module's resources, too

    return make_document(ROUTES, base_path, schemes)
