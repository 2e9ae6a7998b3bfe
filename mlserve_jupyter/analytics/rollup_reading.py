"""Rollups, read: the periods of a range and what is not folded into them yet, in one statement.

One statement sees one state, so that no call is missed or counted twice while another process
folds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from mlserve_jupyter.analytics.rollup_steps import Span
from mlserve_jupyter.analytics.tally import FIGURES, N_SLOWEST, SlowCall, Tally, slow_calls
from mlserve_jupyter.storage.monitoring_tables import (
    caller_stats,
    model_stats,
    prediction_stats,
    stat_deltas,
)

N_CALLERS = 10


@dataclass(frozen=True)
class Selection:
    """Which calls are counted.

    Attributes
    ----------
    span
        When they came.
    model_ids
        Of these models; None for all models of all users.
    version_ids, method, principal
        Limited to these; None where it is not.
    """

    span: Span
    model_ids: tuple[str, ...] | None
    version_ids: tuple[str, ...] | None = None
    method: str | None = None
    principal: str | None = None


class CallerRow(NamedTuple):
    """The calls of one caller."""

    principal: str
    n: int
    n_errors: int
    n_cached: int
    n_rows: int


class SlowRow(NamedTuple):
    """One of the slowest calls, and of what."""

    version_id: str
    method: str
    call: SlowCall


def read_tallies(
    connection: Connection, selection: Selection, keys: Sequence[str]
) -> dict[tuple[Any, ...], Tally]:
    """Add up the calls of a selection.

    Parameters
    ----------
    keys
        Columns by which they are kept apart, such as ``("version_id", "method")``.

    Returns
    -------
    dict
        By the values of these columns, which are strings and integers (hence ``Any``).
    """
    table = _narrowest(selection, keys)
    tallies: dict[tuple[Any, ...], Tally] = {}
    n_keys = len(keys)
    for row in connection.execute(_select(table, selection, (*keys, *FIGURES))):
        key = row[:n_keys]
        tally = tallies.get(key)
        if tally is None:
            tally = tallies[key] = Tally()
        tally.add(*row[n_keys:])
    return tallies


def read_callers(connection: Connection, selection: Selection) -> list[CallerRow]:
    """Return those who called most often, by falling number of calls."""
    names = FIGURES[:4]
    calls = _select(caller_stats, selection, ("principal", *names)).subquery()
    sums = [sa.func.sum(calls.c[name]).label(name) for name in names]
    rows = connection.execute(
        sa.select(calls.c.principal, *sums)
        .group_by(calls.c.principal)
        .order_by(sums[0].desc(), calls.c.principal)
        .limit(N_CALLERS)
    )
    return [CallerRow(row[0], *map(int, row[1:])) for row in rows]


def read_slowest(connection: Connection, selection: Selection) -> list[SlowRow]:
    """Return the slowest calls, the slowest first.

    Each period has its own slowest calls. The slowest of all are in those periods whose slowest
    call took longest: were one of them in another, there would be enough slower ones without it.
    """
    columns = ("version_id", "method", "slowest_ms", "slowest")
    periods = _select(prediction_stats, selection, columns).subquery()
    rows = connection.execute(
        sa.select(periods.c.version_id, periods.c.method, periods.c.slowest)
        .order_by(periods.c.slowest_ms.desc())
        .limit(N_SLOWEST)
    )
    found = [SlowRow(row[0], row[1], call) for row in rows for call in slow_calls(row[2])]
    return sorted(found, key=lambda row: -row.call.total_ms)[:N_SLOWEST]


def _narrowest(selection: Selection, keys: Sequence[str]) -> sa.Table:
    """Return the table of which the fewest rows have to be read."""
    if selection.principal is not None:
        return caller_stats
    is_of_models = selection.version_ids is None and selection.method is None
    return model_stats if is_of_models and {*keys} <= {"model_id", "start_s"} else prediction_stats


def _select(
    table: sa.Table, selection: Selection, columns: Sequence[str]
) -> sa.CompoundSelect[tuple[Any, ...]]:
    """Select columns (of several types, hence ``Any``) of the periods and the deltas of a range."""
    since_s, until_s, pieces = selection.span
    ranges = [
        (table, table.c.step_s == piece.step_s, piece.since_s, piece.until_s) for piece in pieces
    ]
    ranges.append((stat_deltas, sa.true(), since_s, max(until_s, pieces[-1].until_s)))
    return sa.union_all(
        *(
            sa.select(*(source.c[name] for name in columns)).where(
                is_of_step,
                source.c.start_s >= first_s,
                source.c.start_s < end_s,
                *_conditions(source, selection),
            )
            for source, is_of_step, first_s, end_s in ranges
        )
    )


def _conditions(source: sa.Table, selection: Selection) -> list[sa.ColumnElement[bool]]:
    conditions: list[sa.ColumnElement[bool]] = []
    if selection.model_ids is not None:
        conditions.append(source.c.model_id.in_(selection.model_ids))
    if selection.version_ids is not None:
        conditions.append(source.c.version_id.in_(selection.version_ids))
    if selection.method is not None:
        conditions.append(source.c.method == selection.method)
    if selection.principal is not None:
        conditions.append(source.c.principal == selection.principal)
    return conditions
