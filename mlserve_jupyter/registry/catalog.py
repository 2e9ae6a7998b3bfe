"""The registry in memory: which models and versions there are, and which one answers a call.

Immutable and free of input and output, so that the path of a prediction can use it as it is.
``Registry.snapshot`` makes a new one when something has changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from difflib import get_close_matches
from pathlib import Path
from typing import Literal, NoReturn
from uuid import UUID

from mlserve_jupyter.api.manifest import Environment, Provenance
from mlserve_jupyter.api.resources import DescribeModel, DescribeVersion, Status, Verification
from mlserve_jupyter.api.signature import Signature
from mlserve_jupyter.errors import ModelNotFound, VersionNotFound
from mlserve_jupyter.storage.paging import Page, check_limit, decode_cursor, encode_cursor
from mlserve_jupyter.storage.users import User

ExtraColumns = Literal["refuse", "drop"]

_MAX_COMPARED = 500


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

    @property
    def interpreter(self) -> str:
        """Absolute path of the Python that runs it."""
        return self.environment.interpreter

    @property
    def not_deterministic(self) -> tuple[str, ...]:
        """Methods that gave other answers when they were called twice."""
        return tuple(self.verification.not_deterministic)

    def describe(self, predict_path: str) -> DescribeVersion:
        """Return the wire form; ``predict_path`` is the server's path of the predict route."""
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
            environment=self.environment,
            provenance=self.provenance,
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
    """

    id: str
    owner_id: str
    owner: str
    name: str
    description: str
    created_at: datetime
    updated_at: datetime
    versions: dict[int, ServedVersion]

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
            raise VersionNotFound(
                f"Model {self.name!r} has no version {version}: call {_available(self)}.",
                model=self.name,
                version=version,
            )
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
        self, predict_path: str, last_called_at: datetime | None = None, n_predictions: int = 0
    ) -> DescribeModel:
        """Return the wire form.

        Parameters
        ----------
        predict_path
            The server's path of the predict route.
        last_called_at, n_predictions
            From ``PredictionLog.last_calls``.
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
        )


class Catalog:
    """All models at one epoch of the registry.

    A model belongs to its owner alone: for anyone else it is not there.

    Parameters
    ----------
    models
        In any order.
    epoch
        The registry's epoch at which they were read.
    """

    def __init__(self, models: Iterable[CatalogModel], epoch: int) -> None:
        self.epoch = epoch
        self._by_id: dict[str, CatalogModel] = {}
        self._by_owner: dict[str, dict[str, CatalogModel]] = {}
        for model in sorted(models, key=lambda model: model.name):
            self._by_id[model.id] = model
            self._by_owner.setdefault(model.owner_id, {})[model.name] = model

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
            The caller has no such model.
        VersionNotFound
            The model has no such version, it is archived, or all are.
        """
        model = self.model(caller, model_ref)
        if version is None:
            served = model.default
            if served is None:
                _raise_none_active(model)
            return served
        served = model.version(version)
        if served.status == "archived":
            raise VersionNotFound(
                f"Version {version} of model {model.name!r} is archived and does not answer: set "
                f'its status to "active" to serve it again, or call {_available(model)}.',
                model=model.name,
                version=version,
            )
        return served

    def model(self, caller: User, model_ref: str) -> CatalogModel:
        """Return the model that ``model_ref`` names, see :meth:`resolve`.

        Raises
        ------
        ModelNotFound
            The caller has no such model.
        """
        own = self._by_owner.get(caller.id, {})
        found = own.get(model_ref)
        if found is None and "~" in model_ref:
            owner, _, name = model_ref.partition("~")
            found = own.get(name) if owner == caller.name else None
        if found is None:
            found = self._by_uuid(caller, model_ref)
        if found is None:
            _raise_model_not_found(model_ref, own)
        return found

    def version(self, caller: User, model_ref: str, version: int) -> ServedVersion:
        """Return a version whatever its status, in order to describe or change it.

        Raises
        ------
        ModelNotFound
            The caller has no such model.
        VersionNotFound
            The model has no such version.
        """
        return self.model(caller, model_ref).version(version)

    def list_models(
        self, owner: User, limit: int = 100, cursor: str | None = None
    ) -> Page[CatalogModel]:
        """Return a page of a user's models by name.

        Raises
        ------
        InvalidRequest
            ``limit`` is not in 1 to 1000, or ``cursor`` is not one of this list.
        """
        check_limit(limit)
        after = "" if cursor is None else decode_cursor(cursor, tuple[str])[0]
        rest = [model for name, model in self._by_owner.get(owner.id, {}).items() if name > after]
        next_cursor = encode_cursor((rest[limit - 1].name,)) if len(rest) > limit else None
        return Page(tuple(rest[:limit]), next_cursor)

    def versions(self) -> Iterator[ServedVersion]:
        """Go through all versions of all owners."""
        for model in self._by_id.values():
            yield from model.versions.values()

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

    def _by_uuid(self, caller: User, model_ref: str) -> CatalogModel | None:
        try:
            found = self._by_id.get(str(UUID(model_ref)))
        except ValueError:
            return None
        return found if found is not None and found.owner_id == caller.id else None


def _raise_model_not_found(model_ref: str, own: dict[str, CatalogModel]) -> NoReturn:
    shown = model_ref if len(model_ref) <= 80 else model_ref[:77] + "..."
    near = _near(model_ref[:80].rpartition("~")[2], own)
    if near:
        advice = f"Did you mean {' or '.join(repr(name) for name in near)}?"
    elif own:
        names = list(own)
        listed = ", ".join(repr(name) for name in names[:5]) + (", …" if len(names) > 5 else "")
        advice = f"The models here are {listed}."
    else:
        advice = "Nothing is deployed yet: deploy a model with `%mlserve deploy`."
    raise ModelNotFound(f"There is no model {shown!r}. {advice}", model=shown, near=near)


def _near(name: str, own: Iterable[str]) -> list[str]:
    """Return names like this one; of many, only those with its first letter are compared first.

    Comparing takes 0.1 ms a name, in the event loop.
    """
    # A stable sort: beside the first letter, the order of names stays.
    by_letter = sorted(own, key=lambda other: other[:1] != name[:1])
    return get_close_matches(name, by_letter[:_MAX_COMPARED], n=3)


def _raise_none_active(model: CatalogModel) -> NoReturn:
    if any(served.status == "deprecated" for served in model.versions.values()):
        advice = f"name one to call it ({_available(model)})"
    else:
        advice = "all are archived"
    raise VersionNotFound(
        f"No version of model {model.name!r} is active: {advice}, set the status of one to "
        '"active", or deploy the next.',
        model=model.name,
    )


def _available(model: CatalogModel) -> str:
    """Return in words which versions answer where they are named."""
    answering = [str(v.version) for v in model.versions.values() if v.status != "archived"]
    if not answering:
        return "none, since all are archived"
    shown = ", ".join(answering[:10]) + (", …" if len(answering) > 10 else "")
    return f"version {shown}"
