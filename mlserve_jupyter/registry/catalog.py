"""The registry in memory: which models and versions there are, and which one answers a call.

Immutable and free of input and output, so that the path of a prediction can use it as it is.
``Registry.snapshot`` makes a new one when something has changed.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Literal
from uuid import UUID

from msgspec.structs import replace

from mlserve_jupyter.api.log_policy import LoggedAs, LogPolicy
from mlserve_jupyter.api.manifest import Environment, Provenance
from mlserve_jupyter.api.resources import (
    DescribeModel,
    DescribeVersion,
    ListScope,
    Status,
    Verification,
    Visibility,
)
from mlserve_jupyter.api.signature import Signature
from mlserve_jupyter.errors import ModelNotFound, PermissionDenied
from mlserve_jupyter.registry.not_found import (
    model_not_found,
    none_active,
    version_archived,
    version_not_found,
)
from mlserve_jupyter.storage.paging import Page, check_limit, decode_cursor, encode_cursor
from mlserve_jupyter.storage.users import User

ExtraColumns = Literal["refuse", "drop"]


@dataclass(frozen=True, slots=True)
class ServedVersion:
    """One version of a model, with all that is needed to serve and to describe it.

    Attributes
    ----------
    id, model_id, owner_id
        Primary keys.
    model, owner
        Names.
    version
        1, 2, 3…
    status
        ``active``, ``deprecated`` (answers where it is named) or ``archived`` (does not answer).
    path
        Of the artifact.
    sha256, size_bytes
        Of the artifact; ``sha256`` in hex.
    method, methods
        The method that answers where a call names none, and all that may be called.
    logged_as
        What the prediction log keeps of its calls; None for all.
    """

    id: str
    model_id: str
    owner_id: str
    model: str
    owner: str
    version: int
    status: Status
    format: str
    path: Path
    sha256: str
    size_bytes: int
    method: str
    methods: tuple[str, ...]
    signature: Signature
    environment: Environment
    provenance: Provenance
    runtime: str
    extra_columns: ExtraColumns
    verification: Verification
    note: str
    created_at: datetime
    logged_as: LoggedAs | None = None

    @property
    def interpreter(self) -> str:
        """Absolute path of the Python that runs it."""
        return self.environment.interpreter

    @property
    def not_deterministic(self) -> tuple[str, ...]:
        """Methods that gave other answers when they were called twice."""
        return tuple(self.verification.not_deterministic)

    def is_managed_by(self, caller: User) -> bool:
        """Whether the caller may see all of it, what it raises among that."""
        return self.owner_id == caller.id or caller.role == "admin"

    def describe(self, predict_path: str, *, in_full: bool = True) -> DescribeVersion:
        """Return the wire form.

        Parameters
        ----------
        predict_path
            The server's path of the predict route.
        in_full
            False for those who may call it and no more: without paths of the owner's machine.
        """
        environment, provenance = self.environment, self.provenance
        if not in_full:
            environment = replace(environment, interpreter="")
            provenance = replace(provenance, notebook=None, kernel_id=None, source=None)
        return DescribeVersion(
            id=self.id,
            model=self.model,
            version=self.version,
            status=self.status,
            format=self.format,
            sha256=self.sha256,
            size_bytes=self.size_bytes,
            method=self.method,
            methods=list(self.methods),
            signature=self.signature,
            environment=environment,
            provenance=provenance,
            runtime=self.runtime,
            extra_columns=self.extra_columns,
            verification=self.verification,
            note=self.note,
            created_at=self.created_at,
            predict_path=predict_path,
        )


@dataclass(frozen=True, slots=True)
class CatalogModel:
    """A model and its versions.

    Attributes
    ----------
    versions
        By number, from the newest to the oldest; archived ones too.
    visibility
        ``private`` (to its owner), ``shared`` (with named users) or ``public`` (to all who are
        signed in). Administrators see every model.
    shared_with
        Names of users by their id; of weight where the visibility is ``shared``.
    logging
        What the prediction log keeps of its calls.
    keep_warm
        Whether its default version is kept in memory, called or not.
    """

    id: str
    owner_id: str
    owner: str
    name: str
    description: str
    created_at: datetime
    updated_at: datetime
    versions: dict[int, ServedVersion]
    visibility: Visibility = "private"
    shared_with: Mapping[str, str] = field(default_factory=dict)
    logging: LogPolicy = field(default_factory=LogPolicy)
    keep_warm: bool = False

    def is_managed_by(self, caller: User) -> bool:
        """Whether the caller may change it, and see all of it: its owner, and administrators."""
        return self.owner_id == caller.id or caller.role == "admin"

    def is_visible_to(self, caller: User) -> bool:
        """Whether the caller may call it, and read what it is, with the credential that came."""
        if caller.model_ids is not None and self.id not in caller.model_ids:
            return False
        if self.visibility == "public" or self.is_managed_by(caller):
            return True
        return self.visibility == "shared" and caller.id in self.shared_with

    def reference_for(self, caller: User) -> str:
        """Return how the caller names it: its name alone is that of an own model."""
        return self.name if self.owner_id == caller.id else f"{self.owner}~{self.name}"

    @property
    def default(self) -> ServedVersion | None:
        """The version that answers a call that names none: the latest active one, if any."""
        return next((v for v in self.versions.values() if v.status == "active"), None)

    def version(self, version: int) -> ServedVersion:
        """Return a version whatever its status.

        Raises
        ------
        VersionNotFound
            There is none of that number.
        """
        served = self.versions.get(version)
        if served is None:
            raise version_not_found(self, version)
        return served

    def list_versions(self, limit: int = 100, cursor: str | None = None) -> Page[ServedVersion]:
        """Return a page of the versions, newest first, archived ones too.

        Raises
        ------
        InvalidRequest
            ``limit`` is not in 1 to 1000, or ``cursor`` is not one of this list.
        """
        check_limit(limit)
        rest = list(self.versions.values())
        if cursor is not None:
            before = decode_cursor(cursor, tuple[int])[0]
            rest = [served for served in rest if served.version < before]
        next_cursor = encode_cursor((rest[limit - 1].version,)) if len(rest) > limit else None
        return Page(tuple(rest[:limit]), next_cursor)

    def describe(
        self,
        predict_path: str,
        last_called_at: datetime | None = None,
        n_predictions: int = 0,
        *,
        in_full: bool = True,
    ) -> DescribeModel:
        """Return the wire form.

        Parameters
        ----------
        predict_path
            The server's path of the predict route.
        last_called_at, n_predictions
            From ``PredictionLog.last_calls``.
        in_full
            False for those who may call it and no more: with whom else it is shared is not theirs
            to know.
        """
        default = self.default
        return DescribeModel(
            id=self.id,
            name=self.name,
            owner=self.owner,
            description=self.description,
            created_at=self.created_at,
            updated_at=self.updated_at,
            default_version=None if default is None else default.version,
            n_versions=len(self.versions),
            predict_path=predict_path,
            last_called_at=last_called_at,
            n_predictions=n_predictions,
            visibility=self.visibility,
            shared_with=sorted(self.shared_with.values()) if in_full else [],
            may_change=in_full,
            logging=self.logging,
            keep_warm=self.keep_warm,
        )


class Catalog:
    """All models at one epoch of the registry.

    A model that its caller may not see is not there: nothing that is raised says otherwise. A name
    alone is that of a model of the caller's own, so that nobody can put a model of the same name in
    its place; those of others are ``owner~name``.

    Parameters
    ----------
    models
        In any order.
    epoch
        The registry's epoch at which they were read.
    approved
        sha256 of the artifacts that an administrator has approved, though they can run code.
    """

    def __init__(
        self,
        models: Iterable[CatalogModel],
        epoch: int,
        approved: frozenset[str] = frozenset(),
    ) -> None:
        self.epoch = epoch
        self.approved = approved
        self._by_id: dict[str, CatalogModel] = {}
        self._by_owner: dict[str, dict[str, CatalogModel]] = {}
        self._by_owner_name: dict[str, dict[str, CatalogModel]] = {}
        self._in_order = sorted(models, key=_position)
        for model in self._in_order:
            self._by_id[model.id] = model
            own = self._by_owner.setdefault(model.owner_id, {})
            own[model.name] = model
            self._by_owner_name[model.owner] = own

    def __len__(self) -> int:
        """Return the number of models of all owners."""
        return len(self._by_id)

    def resolve(self, caller: User, model_ref: str, version: int | None = None) -> ServedVersion:
        """Return the version that answers a call.

        Parameters
        ----------
        caller
            Who calls.
        model_ref
            A model's UUID, its name, or ``owner~name``.
        version
            The one that the call names; None for the latest active one.

        Raises
        ------
        ModelNotFound
            The caller sees no such model.
        VersionNotFound
            The model has no such version, it is archived, or all are.
        """
        model = self.model(caller, model_ref)
        if version is None:
            served = model.default
            if served is None:
                raise none_active(model)
            return served
        served = model.version(version)
        if served.status == "archived":
            raise version_archived(model, version)
        return served

    def model(self, caller: User, model_ref: str) -> CatalogModel:
        """Return the model that ``model_ref`` names, see :meth:`resolve`.

        Raises
        ------
        ModelNotFound
            The caller sees no such model, or the caller's key is limited to others.
        """
        own = self._by_owner.get(caller.id, {})
        found = own.get(model_ref)
        if found is not None and caller.model_ids is None:
            return found
        found = found or self._elsewhere(model_ref)
        if found is None or not found.is_visible_to(caller):
            visible = [name for name, model in own.items() if model.is_visible_to(caller)]
            raise model_not_found(model_ref, visible, self._namesakes(caller, model_ref))
        return found

    def check_deployable(self, caller: User, name: str) -> None:
        """Return if the caller may deploy a model of its own under this name.

        Raises
        ------
        PermissionDenied
            The caller's key is limited to models that it is not among.
        """
        if caller.model_ids is not None:
            own = self._by_owner.get(caller.id, {}).get(name)
            if own is None or own.id not in caller.model_ids:
                raise PermissionDenied(
                    f"This key is limited to certain models, and {name[:80]!r} is none of them.",
                    model=name[:80],
                )

    def managed_model(self, caller: User, model_ref: str) -> CatalogModel:
        """Return a model that the caller is about to change, or to see all of.

        Raises
        ------
        ModelNotFound
            The caller sees no such model.
        PermissionDenied
            The caller sees it, and it is another user's.
        """
        found = self.model(caller, model_ref)
        if not found.is_managed_by(caller):
            raise PermissionDenied(
                f"The model {found.reference_for(caller)!r} is yours to call; to change it, or to "
                f"read its log and reports, ask {found.owner!r} or an administrator.",
                model=found.reference_for(caller),
            )
        return found

    def managed_models(
        self, caller: User, scope: Literal["own", "all"] = "own"
    ) -> list[CatalogModel]:
        """Return the models that the caller may see all of, in no order.

        Parameters
        ----------
        scope
            ``all`` of an administrator means those of all users.
        """
        of_all = scope == "all" and caller.role == "admin"
        models = self._by_id if of_all else self._by_owner.get(caller.id, {})
        return [model for model in models.values() if model.is_visible_to(caller)]

    def version(self, caller: User, model_ref: str, version: int) -> ServedVersion:
        """Return a version whatever its status, in order to describe it.

        Raises
        ------
        ModelNotFound
            The caller sees no such model.
        VersionNotFound
            The model has no such version.
        """
        return self.model(caller, model_ref).version(version)

    def list_models(
        self,
        caller: User,
        limit: int = 100,
        cursor: str | None = None,
        scope: ListScope = "own",
    ) -> Page[CatalogModel]:
        """Return a page of models by name, then by owner.

        Parameters
        ----------
        scope
            ``own``; ``shared`` with the caller by name; ``public``; or ``all`` that are visible.

        Raises
        ------
        InvalidRequest
            ``limit`` is not in 1 to 1000, or ``cursor`` is not one of this list.
        """
        check_limit(limit)
        after = ("", "") if cursor is None else decode_cursor(cursor, tuple[str, str])
        candidates: Iterable[CatalogModel] = self._in_order
        if scope == "own":
            candidates = self._by_owner.get(caller.id, {}).values()
        found = (
            model
            for model in candidates
            if _position(model) > after and _is_in(scope, model, caller)
        )
        rest = list(islice(found, limit + 1))
        next_cursor = encode_cursor(_position(rest[limit - 1])) if len(rest) > limit else None
        return Page(tuple(rest[:limit]), next_cursor)

    def versions(self) -> Iterator[ServedVersion]:
        """Go through all versions of all owners."""
        for model in self._by_id.values():
            yield from model.versions.values()

    def kept_warm(self) -> Iterator[ServedVersion]:
        """Go through the default versions of the models that are kept in memory, by name."""
        for model in self._in_order:
            if model.keep_warm and model.default is not None:
                yield model.default

    def by_id(self, model_id: str) -> CatalogModel:
        """Return the model of that id, whose owner the caller has checked before.

        Raises
        ------
        ModelNotFound
            It is gone.
        """
        found = self._by_id.get(model_id)
        if found is None:
            raise ModelNotFound(f"The model {model_id} was deleted: list the models anew.")
        return found

    def _elsewhere(self, model_ref: str) -> CatalogModel | None:
        """Return a model by ``owner~name`` or by its id."""
        owner, tilde, name = model_ref.partition("~")
        if tilde:
            return self._by_owner_name.get(owner, {}).get(name)
        try:
            return self._by_id.get(str(UUID(model_ref)))
        except ValueError:
            return None

    def _namesakes(self, caller: User, name: str) -> list[str]:
        """Return references to the models of others of this name that the caller sees."""
        start = bisect_left(self._in_order, (name, ""), key=_position)
        end = bisect_left(self._in_order, (name + "\0", ""), key=_position)
        return [
            model.reference_for(caller)
            for model in self._in_order[start:end]
            if model.is_visible_to(caller)
        ]


def _position(model: CatalogModel) -> tuple[str, str]:
    return model.name, model.owner


def _is_in(scope: ListScope, model: CatalogModel, caller: User) -> bool:
    if caller.model_ids is not None and model.id not in caller.model_ids:
        return False
    match scope:
        case "own":
            return model.owner_id == caller.id
        case "shared":
            return model.visibility == "shared" and caller.id in model.shared_with
        case "public":
            return model.visibility == "public"
        case "all":
            return model.is_visible_to(caller)
