"""Rollups: the calls of each minute, quarter of an hour, hour and day, summed up.

The writer of the prediction log adds what each batch comes to as new rows of ``stat_deltas``, in
the transaction of the batch: that waits for nobody. From time to time one process folds them into
the periods of ``model_stats``, ``prediction_stats`` and ``caller_stats``. Whoever reads adds up
both, so that it makes no difference when that is done.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from typing import Any, NamedTuple

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection, Engine

from mlserve_jupyter.analytics.prediction_record import PredictionRecord
from mlserve_jupyter.analytics.prediction_rows import WaitingRow
from mlserve_jupyter.analytics.rollup_steps import EXPIRY_SLACK_S, KEPT_S, MINUTE_S
from mlserve_jupyter.analytics.tally import (
    FIGURES,
    SlowCall,
    Tally,
    slow_calls,
    slowest_of,
    tally_calls,
)
from mlserve_jupyter.storage.engine import reading, writing
from mlserve_jupyter.storage.ids import new_ids
from mlserve_jupyter.storage.monitoring_tables import (
    caller_stats,
    model_stats,
    prediction_stats,
    stat_deltas,
)
from mlserve_jupyter.storage.tables import model_versions

FOLD_EVERY_S = 15.0
"""So few deltas are left for those who read."""

EXPIRE_EVERY_S = 3600.0

FOLD_ROWS = 500
"""Deltas of one transaction, which other writers of an SQLite file wait for."""

UNKNOWN_METHOD = ""
"""Calls that named a method which the version does not have, as callers can make up many."""

_EXPIRE_ROWS = 5000

# Any constant will do: it keeps two processes from folding at once.
_ADVISORY_LOCK = 0x6D6C7365727602


def count_calls(connection: Connection, rows: Sequence[WaitingRow]) -> None:
    """Add a batch of the prediction log to the rollups; an ``Observer`` of the log."""
    groups: dict[tuple[str, str, str, str, int], list[PredictionRecord]] = {}
    methods = _methods(connection, {row.record.version_id for row in rows})
    for row in rows:
        record = row.record
        minute_s = int(record.created_at.timestamp()) // MINUTE_S * MINUTE_S
        is_known = record.method in methods.get(record.version_id, ())
        method = record.method if is_known else UNKNOWN_METHOD
        key = (record.model_id, record.version_id, method, record.principal, minute_s)
        group = groups.get(key)
        if group is None:
            groups[key] = [record]
        else:
            group.append(record)
    deltas = [
        {
            "id": id,
            "model_id": model_id,
            "version_id": version_id,
            "method": method,
            "principal": principal,
            "start_s": minute_s,
            **tally_calls(records),
        }
        for id, ((model_id, version_id, method, principal, minute_s), records) in zip(
            new_ids(len(groups)), groups.items(), strict=True
        )
    ]
    if deltas:
        connection.execute(stat_deltas.insert(), deltas)


def fold(engine: Engine, may_go_on: Callable[[], bool] = lambda: True) -> None:
    """Fold the deltas into their periods.

    Each transaction takes some deltas and leaves none of them behind, so that it may be stopped, or
    killed, anywhere.

    Raises
    ------
    StorageUnavailable, StorageFull
        The database does not answer, or has no space left.
    """
    while may_go_on():
        with reading(engine) as connection:  # a writer would keep others waiting for nothing
            if connection.execute(sa.select(stat_deltas.c.id).limit(1)).first() is None:
                break
        with writing(engine, durable=False) as connection:
            _fold_some(connection)


def expire(
    engine: Engine,
    may_go_on: Callable[[], bool] = lambda: True,
    now_s: float | None = None,
) -> None:
    """Remove the periods that are older than any report asks for.

    Raises
    ------
    StorageUnavailable, StorageFull
        The database does not answer, or has no space left.
    """
    now_s = time.time() if now_s is None else now_s
    for table in (model_stats, prediction_stats, caller_stats):
        for step_s, kept_s in KEPT_S.items():
            if kept_s == float("inf"):
                continue
            before_s = int(now_s - kept_s - EXPIRY_SLACK_S)
            old = (table.c.step_s == step_s, table.c.start_s < before_s)
            while may_go_on():
                with reading(engine) as connection:
                    # The latest of the first so many: all up to it are removed at once.
                    starts_s = connection.scalars(
                        sa.select(table.c.start_s)
                        .where(*old)
                        .order_by(table.c.start_s)
                        .limit(_EXPIRE_ROWS)
                    ).all()
                if not starts_s:
                    break
                with writing(engine, durable=False) as connection:
                    connection.execute(table.delete().where(*old, table.c.start_s <= starts_s[-1]))


class _Key(NamedTuple):
    """What a period counts; None where it counts those of all."""

    model_id: str
    step_s: int
    start_s: int
    version_id: str | None
    method: str | None
    principal: str | None


class _Part(NamedTuple):
    """Some of the calls of a period: the columns of a tally (hence ``Any``), and the slowest."""

    figures: tuple[Any, ...]
    slowest: Sequence[SlowCall]


def _fold_some(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_ADVISORY_LOCK)))
    deltas = connection.execute(
        sa.select(stat_deltas).order_by(stat_deltas.c.id).limit(FOLD_ROWS)
    ).all()
    there = _versions(connection, {delta.version_id for delta in deltas})
    minutes: dict[_Key, list[_Part]] = {}
    for delta in deltas:
        if delta.version_id not in there:
            continue  # the version was deleted, and its statistics with it
        key = _Key(
            delta.model_id, MINUTE_S, delta.start_s, delta.version_id, delta.method, delta.principal
        )
        minutes.setdefault(key, []).append(_part(delta))
    by_caller: dict[_Key, list[_Part]] = {}
    by_method: dict[_Key, list[_Part]] = {}
    by_model: dict[_Key, list[_Part]] = {}
    for key, parts in minutes.items():
        part = _sum(parts)
        for step_s in KEPT_S:
            period = key._replace(step_s=step_s, start_s=key.start_s // step_s * step_s)
            by_caller.setdefault(period, []).append(part)
            of_all = period._replace(principal=None)
            by_method.setdefault(of_all, []).append(part)
            of_all = of_all._replace(version_id=None, method=None)
            by_model.setdefault(of_all, []).append(part)
    _merge(connection, model_stats, by_model)
    _merge(connection, prediction_stats, by_method)
    _merge(connection, caller_stats, by_caller)
    connection.execute(
        stat_deltas.delete().where(stat_deltas.c.id.in_([delta.id for delta in deltas]))
    )


def _methods(connection: Connection, version_ids: set[str]) -> dict[str, frozenset[str]]:
    """Return the methods of those versions that are there."""
    found = connection.execute(
        sa.select(model_versions.c.id, model_versions.c.methods).where(
            model_versions.c.id.in_(version_ids)
        )
    )
    return {row.id: frozenset(msgspec.json.decode(row.methods, type=list[str])) for row in found}


def _versions(connection: Connection, version_ids: set[str]) -> set[str]:
    """Return those versions that are there, and stay until the end of the transaction."""
    found = connection.scalars(
        sa.select(model_versions.c.id)
        .where(model_versions.c.id.in_(version_ids))
        .order_by(model_versions.c.id)
        .with_for_update(read=True, key_share=True)
    )
    return set(found)


def _merge(connection: Connection, table: sa.Table, periods: dict[_Key, list[_Part]]) -> None:
    """Add parts to the periods of one table."""
    if not periods:
        return
    there = _read_periods(connection, table, periods)
    merged = []
    for key, parts in sorted(periods.items(), key=lambda period: _order(period[0])):
        part = _sum([*parts, *there.get(key, ())])
        columns = {name: value for name, value in key._asdict().items() if value is not None}
        columns |= dict(zip(FIGURES, part.figures, strict=True))
        if "slowest" in table.c:
            columns |= slowest_of(part.slowest)
        merged.append(columns)
    # The dialects' classes differ, hence ``Any``.
    insert: Any = sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
    upsert = insert(table)
    names = [column.name for column in table.columns if not column.primary_key]
    connection.execute(
        upsert.on_conflict_do_update(
            index_elements=[column.name for column in table.primary_key],
            set_={name: upsert.excluded[name] for name in names},
        ),
        merged,
    )


def _read_periods(
    connection: Connection, table: sa.Table, wanted: Iterable[_Key]
) -> dict[_Key, list[_Part]]:
    """Read the periods that are there already."""
    found: dict[_Key, list[_Part]] = {}
    places = sorted({(key.model_id, key.step_s, key.start_s) for key in wanted})
    for (model_id, step_s), group in groupby(places, key=lambda place: place[:2]):
        rows = connection.execute(
            sa.select(table).where(
                table.c.model_id == model_id,
                table.c.step_s == step_s,
                table.c.start_s.in_([start_s for _, _, start_s in group]),
            )
        )
        for row in rows:
            others = (getattr(row, name, None) for name in ("version_id", "method", "principal"))
            key = _Key(model_id, step_s, row.start_s, *others)
            found[key] = [_part(row)]
    return found


def _part(row: sa.Row[Any]) -> _Part:
    slowest = getattr(row, "slowest", None)
    figures = tuple(getattr(row, name) for name in FIGURES)
    return _Part(figures, slow_calls(slowest) if slowest else ())


def _sum(parts: Sequence[_Part]) -> _Part:
    if len(parts) == 1:
        return parts[0]
    tally = Tally()
    for part in parts:
        tally.add(*part.figures)
    slowest = [call for part in parts for call in part.slowest]
    return _Part(tuple(tally.columns().values()), slowest)


def _order(key: _Key) -> tuple[Any, ...]:
    return tuple("" if value is None else value for value in key)
