"""Models and their versions: list, deploy, describe, change, delete."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Annotated, BinaryIO

import msgspec

from mlserve_jupyter.api.resources import (
    DescribeDeploy,
    DescribeModel,
    DescribeVersion,
    ListModels,
    ListScope,
    ListVersions,
    UpdateModel,
    UpdateVersion,
)
from mlserve_jupyter.errors import (
    ArtifactCorrupt,
    Conflict,
    DeployRefused,
    InvalidBody,
    InvalidName,
    ModelNotFound,
    NotFound,
    StorageFull,
    Unavailable,
    UnsupportedMediaType,
    VersionNotFound,
)
from mlserve_jupyter.registry.catalog import Catalog, CatalogModel, ServedVersion
from mlserve_jupyter.server.documentation import PageQuery, Upload, documented
from mlserve_jupyter.server.policy import MODELS, requires
from mlserve_jupyter.server.resource import Resource
from mlserve_jupyter.server.upload import ArtifactUpload
from mlserve_jupyter.threads import in_reading_thread

if TYPE_CHECKING:
    from mlserve_jupyter.serving.result_cache import ResultCache
    from mlserve_jupyter.storage.users import User

CHUNK_BYTES = 2**20
UPLOAD_TIMEOUT_S = 3600.0
FLUSH_TIMEOUT_S = 2.0


class ModelsQuery(PageQuery, frozen=True, kw_only=True):
    """The arguments of the list of models."""

    scope: Annotated[
        ListScope,
        msgspec.Meta(
            description="The caller's own models, those `shared` with the caller by name, the "
            "`public` ones, or `all` of these; an administrator's `all` are all."
        ),
    ] = "own"


class _ModelResource(Resource):
    def predict_path(self, model_name: str) -> str:
        """Return the path of a model's predict route on this server."""
        return f"{self.settings['mlserve_base_path']}api/v1/predict/{model_name}"

    async def describe(self, user: User, *models: CatalogModel) -> list[DescribeModel]:
        """Return models as a user may see them, with what the log knows of them."""
        services = await self.platform.services()
        calls = await in_reading_thread(services.log.last_calls, [model.id for model in models])
        return [
            model.describe(
                self.predict_path(model.reference_for(user)),
                *calls.get(model.id, ()),
                in_full=model.is_managed_by(user),
            )
            for model in models
        ]

    def describe_version(
        self, user: User, model: CatalogModel, number: int, results: ResultCache | None
    ) -> DescribeVersion:
        """Return a version as a user may see it, with what the result cache did for it.

        Raises
        ------
        VersionNotFound
            The model has none of that number.
        """
        version = model.version(number)
        described = version.describe(
            self.predict_path(model.reference_for(user)), in_full=model.is_managed_by(user)
        )
        if results is None:
            return described
        return msgspec.structs.replace(described, result_cache=results.describe(version))

    def version_number(self, text: str) -> int:
        """Return the version that a path names.

        Raises
        ------
        VersionNotFound
            If it is not a number from 1 on.
        """
        if not text.isascii() or not text.isdigit() or len(text) > 9 or int(text) < 1:
            raise VersionNotFound(f"{text[:40]!r} is not a version: versions are 1, 2, 3, ….")
        return int(text)


class ModelsResource(_ModelResource):
    """``api/v1/models``: GET lists, POST deploys."""

    body_timeout_s = UPLOAD_TIMEOUT_S
    _upload: ArtifactUpload | None = None

    @property
    def max_body_bytes(self) -> int:
        """An artifact, and 64 MiB for a manifest with its sample."""
        if self.request.method != "POST":
            return super().max_body_bytes
        return self.platform.settings.max_artifact_bytes + 64 * 2**20

    @property
    def may_take_long(self) -> bool:
        """Whether it is an upload."""
        return self.request.method == "POST"

    async def admit(self) -> None:
        """Admit the caller, then get ready for the upload."""
        await super().admit()
        if self.request.method == "POST" and not self._finished:
            services = await self.platform.services()
            self._upload = ArtifactUpload(
                services.store,
                self.request.headers.get("Content-Type", ""),
                self.platform.settings.max_artifact_bytes,
            )

    async def data_received(self, chunk: bytes) -> None:
        """Stream the upload to disk."""
        if self._upload is not None and not self._finished:
            await self._upload.write(chunk)

    @documented(summary="List models", query=ModelsQuery, answers={200: ListModels})
    @requires("read", MODELS, scope="read")
    async def get(self) -> None:
        """List the caller's own models, or those of others that the caller may call."""
        services = await self.platform.services()
        user = await services.user(self.caller)
        page = services.catalog.current.list_models(
            user,
            limit=self.page_limit,
            cursor=self.get_query_argument("cursor", None),
            scope=self.decode_query(ModelsQuery).scope,
        )
        items = await self.describe(user, *page.items)
        self.answer(ListModels(items=items, next_cursor=page.next_cursor))

    @documented(
        summary="Deploy",
        body={"multipart/form-data": Upload},
        answers={201: DescribeDeploy},
        errors=(
            Conflict,
            DeployRefused,
            InvalidBody,
            InvalidName,
            StorageFull,
            Unavailable,
            UnsupportedMediaType,
        ),
    )
    @requires("write", MODELS, scope="deploy")
    async def post(self) -> None:
        """Deploy: verify what was uploaded, then publish it."""
        assert self._upload is not None
        services = await self.platform.services()
        user = await services.user(self.caller)
        try:
            manifest, staged = await self._upload.finish()
            deployed = await services.deployer.deploy(user, manifest, staged, self.origin.write)
        finally:
            # Nothing half-made is left by the time the caller reads the answer.
            await asyncio.to_thread(self._upload.discard)
        model = services.catalog.current.by_id(deployed.version.model_id)
        [described] = await self.describe(user, model)
        self.set_header("Location", f"{self.request.path}/{manifest.name}")
        self.answer(
            DescribeDeploy(
                model=described,
                version=deployed.version.describe(described.predict_path),
                timings_ms=deployed.timings_ms,
                warnings=deployed.warnings,
            ),
            201,
        )

    def on_connection_close(self) -> None:
        """Throw a half-uploaded artifact away when its sender is gone."""
        super().on_connection_close()
        if self._upload is not None:
            self._upload.abandon()

    def on_finish(self) -> None:
        """Throw an artifact away that was not published."""
        super().on_finish()
        if self._upload is not None:
            self._upload.discard()


class ModelResource(_ModelResource):
    """``api/v1/models/{model}``."""

    @documented(summary="Describe a model", answers={200: DescribeModel}, errors=(ModelNotFound,))
    @requires("read", MODELS, scope="read")
    async def get(self, model: str) -> None:
        """Describe a model."""
        services = await self.platform.services()
        user = await services.user(self.caller)
        found = await services.catalog.find(lambda catalog: catalog.model(user, model))
        [described] = await self.describe(user, found)
        self.answer(described)

    @documented(
        summary="Change a model",
        body=UpdateModel,
        answers={200: DescribeModel},
        errors=(ModelNotFound,),
    )
    @requires("write", MODELS, scope="deploy")
    async def patch(self, model: str) -> None:
        """Change a model's description, who may call it, what is logged, or if it stays warm."""
        changes = self.decode_body(UpdateModel)
        services = await self.platform.services()
        user = await services.user(self.caller)
        found = await services.catalog.find(lambda catalog: catalog.managed_model(user, model))
        await services.change(services.registry.update_model, found.id, changes, self.origin.write)
        await self.get(model)

    @documented(summary="Delete a model", answers={204: None}, errors=(Conflict, ModelNotFound))
    @requires("write", MODELS, scope="deploy")
    async def delete(self, model: str) -> None:
        """Delete a model whose versions are all archived, with its artifacts."""
        services = await self.platform.services()
        user = await services.user(self.caller)
        found = await services.catalog.find(lambda catalog: catalog.managed_model(user, model))
        # Calls that were answered go to the log before it goes, so that none is counted as lost.
        await asyncio.to_thread(services.log.flush, FLUSH_TIMEOUT_S)
        await services.change(services.registry.delete_model, found.id, self.origin.write)
        for version in found.versions.values():
            services.workers.forget(version.id)
        self.set_status(204)
        await self.finish()


class VersionsResource(_ModelResource):
    """``api/v1/models/{model}/versions``."""

    @documented(
        summary="List a model's versions",
        query=PageQuery,
        answers={200: ListVersions},
        errors=(ModelNotFound,),
    )
    @requires("read", MODELS, scope="read")
    async def get(self, model: str) -> None:
        """List a model's versions, newest first."""
        services = await self.platform.services()
        user = await services.user(self.caller)
        found = await services.catalog.find(lambda catalog: catalog.model(user, model))
        page = found.list_versions(
            limit=self.page_limit, cursor=self.get_query_argument("cursor", None)
        )
        self.answer(
            ListVersions(
                items=[
                    self.describe_version(user, found, version.version, services.results)
                    for version in page.items
                ],
                next_cursor=page.next_cursor,
            )
        )


class VersionResource(_ModelResource):
    """``api/v1/models/{model}/versions/{n}``."""

    @documented(summary="Describe a version", answers={200: DescribeVersion}, errors=(NotFound,))
    @requires("read", MODELS, scope="read")
    async def get(self, model: str, version: str) -> None:
        """Describe a version."""
        services = await self.platform.services()
        user = await services.user(self.caller)
        number = self.version_number(version)
        found = await services.catalog.find(lambda catalog: _with(catalog, user, model, number))
        self.answer(self.describe_version(user, found, number, services.results))

    @documented(
        summary="Change a version",
        body=UpdateVersion,
        answers={200: DescribeVersion},
        errors=(Conflict, NotFound),
    )
    @requires("write", MODELS, scope="deploy")
    async def patch(self, model: str, version: str) -> None:
        """Change a version's status or note."""
        changes = self.decode_body(UpdateVersion)
        number = self.version_number(version)
        services = await self.platform.services()
        user = await services.user(self.caller)
        found = await services.catalog.find(lambda catalog: catalog.managed_model(user, model))
        changed = await services.change(
            services.registry.update_version, found.id, number, changes, self.origin.write
        )
        if changed.status == "archived":
            services.workers.forget(changed.id)
        await self.get(model, version)


class ArtifactResource(_ModelResource):
    """``api/v1/models/{model}/versions/{n}/artifact``."""

    @property
    def may_take_long(self) -> bool:
        """A download does."""
        return True

    @documented(
        summary="Download an artifact",
        answers={200: {"application/octet-stream": bytes}},
        errors=(ArtifactCorrupt, NotFound),
    )
    @requires("read", MODELS, scope="read")
    async def get(self, model: str, version: str) -> None:
        """Send the artifact's bytes as they were deployed."""
        services = await self.platform.services()
        user = await services.user(self.caller)
        number = self.version_number(version)
        found = await services.catalog.find(
            lambda catalog: catalog.managed_model(user, model).version(number)
        )
        await services.copies.ensure(found)
        file = await asyncio.to_thread(_open_whole, found)
        self.set_header("Content-Type", "application/octet-stream")
        self.set_header("Content-Length", str(found.size_bytes))
        self.set_header("Content-Disposition", f'attachment; filename="{found.path.name}"')
        try:
            while chunk := await asyncio.to_thread(file.read, CHUNK_BYTES):
                self.write(chunk)
                await self.flush()
        finally:
            await asyncio.to_thread(file.close)


def _with(catalog: Catalog, user: User, model: str, number: int) -> CatalogModel:
    """Return a model that has a version of that number."""
    found = catalog.model(user, model)
    found.version(number)
    return found


def _open_whole(version: ServedVersion) -> BinaryIO:
    """Open an artifact.

    Raises
    ------
    ArtifactCorrupt
        It is not there, or not as long as it was.
    """
    shown = f"The artifact of {version.model} version {version.version}"
    advice = "Restore it from a backup, or deploy the model again."
    try:
        file = open(version.path, "rb")  # noqa: SIM115 - the caller closes it
    except OSError as error:
        raise ArtifactCorrupt(f"{shown} cannot be read ({error.strerror}). {advice}") from error
    size_bytes = os.fstat(file.fileno()).st_size
    if size_bytes != version.size_bytes:
        file.close()
        raise ArtifactCorrupt(
            f"{shown} has {size_bytes} bytes, and {version.size_bytes} were deployed. {advice}"
        )
    return file
