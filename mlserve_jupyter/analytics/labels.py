"""Labels in the database: what turned out to be true of calls, by model and request id.

A label may come before the prediction log has its call, and stays where the log drops the call:
the two meet when somebody asks how good a model is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import IntegrityError

from mlserve_jupyter.analytics.maintenance import MayGoOn
from mlserve_jupyter.api.labels import MAX_CALL_BYTES, Label
from mlserve_jupyter.errors import ModelNotFound, TooLarge
from mlserve_jupyter.storage.engine import reading, writing
from mlserve_jupyter.storage.monitoring_tables import labels
from mlserve_jupyter.storage.tables import predictions

A_FEW_AT_A_TIME = {"stream_results": True, "max_row_buffer": 16}
"""How rows are fetched that may be large."""

FORGET_EVERY_S = 6 * 3600.0
KEPT_WITHOUT_CALL_DAYS = 30

_CHUNK_ROWS = 500
_CHUNK_BYTES = 4 * 2**20
_FORGOTTEN_AT_ONCE = 500


def write_labels(
    engine: Engine, model_id: str, by_request_id: Mapping[str, Sequence[Label]]
) -> None:
    """Keep the labels of calls, all of them or none; those that were there are replaced.

    They are on the disk when this returns.

    Raises
    ------
    ModelNotFound
        The model was deleted meanwhile.
    TooLarge
        The labels of one call take more than ``MAX_CALL_BYTES``; nothing was kept.
    StorageUnavailable, StorageFull
        Nothing was kept.
    """
    now = datetime.now(timezone.utc)
    # In order, so that two processes lock the rows in the same one.
    rows = [
        {
            "model_id": model_id,
            "request_id": request_id,
            "labels": _encoded(request_id, values),
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

    In pieces of a few megabytes, those that were kept last first, and at most ``limit``.
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
        chunk: dict[str, str] = {}
        n_bytes = 0
        page = page.limit(min(limit, _CHUNK_ROWS))
        with connection.execute(page, execution_options=A_FEW_AT_A_TIME) as rows:
            for row in rows:
                chunk[row.request_id] = row.labels
                before = (
                    sa.literal(row.created_at, labels.c.created_at.type),
                    sa.literal(row.request_id, labels.c.request_id.type),
                )
                n_bytes += len(row.labels)
                if n_bytes >= _CHUNK_BYTES:
                    break
        if not chunk:
            return
        yield chunk
        limit -= len(chunk)


def forget_labels_without_call(engine: Engine, may_go_on: MayGoOn) -> None:
    """Delete labels whose call the log does not have, a while after they came; a periodic job.

    Raises
    ------
    StorageUnavailable, StorageFull
        The database does not answer, or has no space left.
    """
    old = labels.c.created_at < datetime.now(timezone.utc) - timedelta(days=KEPT_WITHOUT_CALL_DAYS)
    key = (labels.c.model_id, labels.c.request_id)
    has_call = sa.exists().where(
        predictions.c.model_id == labels.c.model_id,
        predictions.c.request_id == labels.c.request_id,
    )
    query = sa.select(*key, has_call.label("has_call")).where(old).order_by(*key)
    after: Any = None
    while may_go_on():
        page = query if after is None else query.where(sa.tuple_(*key) > sa.tuple_(*after))
        with reading(engine) as connection:
            rows = connection.execute(page.limit(_FORGOTTEN_AT_ONCE)).all()
        if not rows:
            return
        lost: dict[str, list[str]] = {}
        for row in rows:
            if not row.has_call:
                lost.setdefault(row.model_id, []).append(row.request_id)
        if lost:
            with writing(engine, durable=False) as connection:
                for model_id, ids in lost.items():
                    these = (labels.c.model_id == model_id, labels.c.request_id.in_(ids))
                    connection.execute(labels.delete().where(*these, old))
        after = (
            sa.literal(rows[-1].model_id, labels.c.model_id.type),
            sa.literal(rows[-1].request_id, labels.c.request_id.type),
        )


def _encoded(request_id: str, values: Sequence[Label]) -> str:
    text = msgspec.json.encode(values)
    if len(text) > MAX_CALL_BYTES:
        raise TooLarge(
            f"The labels of the call {request_id} take {len(text):,} bytes as JSON, and at most "
            f"{MAX_CALL_BYTES:,} are kept of a call: predict fewer rows a call, or label with "
            f"shorter values."
        )
    return text.decode()


def _insert(connection: Connection) -> Any:
    """Return the ``insert`` that knows ON CONFLICT; the dialects' classes differ, hence ``Any``."""
    return sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
