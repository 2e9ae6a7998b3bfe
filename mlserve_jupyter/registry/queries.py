"""What the registry asks its tables within a transaction."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from mlserve_jupyter.api.manifest import Manifest
from mlserve_jupyter.errors import Conflict, ModelNotFound
from mlserve_jupyter.storage.engine import writing
from mlserve_jupyter.storage.ids import new_id
from mlserve_jupyter.storage.tables import model_versions, models, registry_state
from mlserve_jupyter.storage.users import User

Journal = Callable[[Connection, str, str, dict[str, Any]], None]
"""Writes down what happens to what, with further facts (JSON values of the event's, hence ``Any``),
in the transaction in which it happens."""


def no_journal(connection: Connection, action: str, target: str, facts: dict[str, Any]) -> None:
    """Write nothing, for changes that no request has asked for."""


@contextmanager
def changing(engine: Engine) -> Iterator[Connection]:
    """Give a transaction in which no other process changes the registry, and raise its epoch."""
    with writing(engine) as connection:
        lock(connection)
        yield connection
        connection.execute(registry_state.update().values(epoch=registry_state.c.epoch + 1))


def read_epoch(connection: Connection) -> int:
    """Return the number that every change of the registry raises."""
    epoch: int = connection.execute(sa.select(registry_state.c.epoch)).scalar_one()
    return epoch


def lock(connection: Connection) -> None:
    """Keep all others from changing the registry until the end of the transaction.

    On SQLite the transaction itself does so, and ``FOR UPDATE`` is not rendered.
    """
    connection.execute(sa.select(registry_state.c.epoch).with_for_update())


def next_version(
    connection: Connection, owner: User, manifest: Manifest, now: datetime
) -> tuple[str, int]:
    """Return the model's id, making the model if it is new, and the number of its next version."""
    model_id = connection.execute(
        sa.select(models.c.id).where(models.c.owner_id == owner.id, models.c.name == manifest.name)
    ).scalar_one_or_none()
    if model_id is None:
        model_id = new_id()
        connection.execute(
            models.insert().values(
                id=model_id,
                owner_id=owner.id,
                name=manifest.name,
                description=manifest.description,
                created_at=now,
                updated_at=now,
            )
        )
        return model_id, 1
    changes = {"description": manifest.description} if manifest.description else {}
    connection.execute(
        models.update().where(models.c.id == model_id).values(updated_at=now, **changes)
    )
    newest = connection.execute(
        sa.select(sa.func.max(model_versions.c.version)).where(
            model_versions.c.model_id == model_id
        )
    ).scalar_one()
    return model_id, (newest or 0) + 1


def expected_version(connection: Connection, owner: User, model_name: str) -> int:
    """Return the number of a model's next version, unless another one comes first."""
    newest = connection.execute(
        sa.select(sa.func.max(model_versions.c.version))
        .join(models, models.c.id == model_versions.c.model_id)
        .where(models.c.owner_id == owner.id, models.c.name == model_name)
    ).scalar_one()
    return (newest or 0) + 1


def check_inactive(connection: Connection, model_id: str) -> tuple[str, str]:
    """Return the owner's id and the name of a model that has no active version.

    Raises
    ------
    Conflict
        It has some.
    ModelNotFound
        There is no such model.
    """
    model = connection.execute(
        sa.select(models.c.owner_id, models.c.name).where(models.c.id == model_id)
    ).one_or_none()
    if model is None:
        raise model_gone(model_id)
    active = connection.scalars(
        sa.select(model_versions.c.version)
        .where(model_versions.c.model_id == model_id, model_versions.c.status == "active")
        .order_by(model_versions.c.version)
    ).all()
    if active:
        shown = ", ".join(str(version) for version in active[:10])
        raise Conflict(
            f"Model {model.name!r} still has active versions ({shown}): archive them first.",
            model=model.name,
            versions=list(active),
        )
    return model.owner_id, model.name


def model_gone(model_id: str) -> ModelNotFound:
    """Return the error of a model that is deleted while somebody changes it."""
    return ModelNotFound(f"The model {model_id} was deleted meanwhile: list the models anew.")
