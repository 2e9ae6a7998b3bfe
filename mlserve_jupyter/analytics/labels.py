"""Labels in the database: what turned out to be true of calls, by model and request id.

A label may come before the prediction log has its call, and stays where the log drops the call:
the two meet when somebody asks how good a model is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import IntegrityError

from mlserve_jupyter.api.labels import Label
from mlserve_jupyter.errors import ModelNotFound
from mlserve_jupyter.storage.engine import writing
from mlserve_jupyter.storage.monitoring_tables import labels

_CHUNK_ROWS = 500


def write_labels(
    engine: Engine, model_id: str, by_request_id: Mapping[str, Sequence[Label]]
) -> None:
    """Keep the labels of calls, all of them or none; those that were there are replaced.

    They are on the disk when this returns.

    Raises
    ------
    ModelNotFound
        The model was deleted meanwhile.
    StorageUnavailable, StorageFull
        Nothing was kept.
    """
    now = datetime.now(timezone.utc)
    # In order, so that two processes lock the rows in the same one.
    rows = [
        {
            "model_id": model_id,
            "request_id": request_id,
            "labels": msgspec.json.encode(values).decode(),
            "created_at": now,
        }
        for request_id, values in sorted(by_request_id.items())
    ]
    try:
        with writing(engine) as connection:
            insert = _insert(connection)(labels)
            new = {name: insert.excluded[name] for name in ("labels", "created_at")}
            connection.execute(
                insert.on_conflict_do_update(index_elements=["model_id", "request_id"], set_=new),
                rows,
            )
    except IntegrityError as error:
        raise ModelNotFound(
            "The model was deleted meanwhile, and its labels with it: list the models anew."
        ) from error


def count_labelled(connection: Connection, model_id: str) -> int:
    """Return how many calls of a model have labels."""
    query = sa.select(sa.func.count()).where(labels.c.model_id == model_id)
    return int(connection.execute(query).scalar_one())


def read_labels(
    connection: Connection, model_id: str, since: datetime, limit: int
) -> Iterator[dict[str, str]]:
    """Give the labels of a model that were kept since then, as JSON by request id.

    In pieces, those that were kept last first, and at most ``limit``.
    """
    at = (labels.c.created_at, labels.c.request_id)
    query = (
        sa.select(*at, labels.c.labels)
        .where(labels.c.model_id == model_id, labels.c.created_at >= since)
        .order_by(*(column.desc() for column in at))
    )
    before: Any = None
    while limit > 0:
        page = query if before is None else query.where(sa.tuple_(*at) < sa.tuple_(*before))
        rows = connection.execute(page.limit(min(limit, _CHUNK_ROWS))).all()
        if not rows:
            return
        yield {row.request_id: row.labels for row in rows}
        limit -= len(rows)
        last = rows[-1]
        before = (
            sa.literal(last.created_at, labels.c.created_at.type),
            sa.literal(last.request_id, labels.c.request_id.type),
        )


def _insert(connection: Connection) -> Any:
    """Return the ``insert`` that knows ON CONFLICT; the dialects' classes differ, hence ``Any``."""
    return sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
