"""Baselines and live histograms in the database."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection

from mlserve_jupyter.api.log_policy import LogPolicy
from mlserve_jupyter.api.profile import Profile
from mlserve_jupyter.api.signature import Signature
from mlserve_jupyter.storage.monitoring_tables import baselines, live_histograms
from mlserve_jupyter.storage.tables import model_versions, models


class Counts(msgspec.Struct):
    """What was counted of calls, in the bins of their version's baseline.

    Attributes
    ----------
    features, outputs
        By name, the counts of the bins and, at the end, of what is missing.
    """

    features: dict[str, list[int]] = {}
    outputs: dict[str, list[int]] = {}

    def add(self, other: Counts) -> None:
        """Add what another one has counted in the same bins."""
        for mine, theirs in ((self.features, other.features), (self.outputs, other.outputs)):
            for name, counts in theirs.items():
                known = mine.get(name)
                if known is None or len(known) != len(counts):
                    mine[name] = list(counts)
                else:
                    mine[name] = [a + b for a, b in zip(known, counts, strict=True)]


@dataclass
class Counted:
    """What was counted within a time.

    Attributes
    ----------
    n_rows
        Rows of input.
    counts
        Their values.
    """

    n_rows: int = 0
    counts: Counts = field(default_factory=Counts)

    def add(self, other: Counted) -> None:
        """Add what another one has counted."""
        self.n_rows += other.n_rows
        self.counts.add(other.counts)


class Period(NamedTuple):
    """An hour of a version's life."""

    version_id: str
    at: datetime
    model_id: str


@dataclass(frozen=True)
class Baseline:
    """What is needed to count the calls of a version."""

    profile: Profile
    signature: Signature


def read_baseline(connection: Connection, version_id: str) -> Baseline | None:
    """Return the profile of a version; None where it was deployed without, or is gone."""
    row = connection.execute(
        sa.select(baselines.c.histograms, model_versions.c.signature)
        .join(model_versions, model_versions.c.id == baselines.c.version_id)
        .where(baselines.c.version_id == version_id)
    ).one_or_none()
    if row is None:
        return None
    return Baseline(
        msgspec.json.decode(row.histograms, type=Profile),
        msgspec.json.decode(row.signature, type=Signature),
    )


def add_counted(connection: Connection, period: Period, counted: Counted) -> bool:
    """Add to what was counted of a version within an hour.

    Returns
    -------
    bool
        False where the version is gone.
    """
    insert: Any = sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
    policy = _policy_held(connection, period.version_id)
    if policy is None:
        return False
    empty = insert(live_histograms).values(
        **period._asdict(), hours=1, n_rows=0, histograms=_encoded(Counts())
    )
    connection.execute(empty.on_conflict_do_nothing())
    of_hour = (live_histograms.c.version_id == period.version_id) & (
        live_histograms.c.at == period.at
    )
    row = connection.execute(
        sa.select(live_histograms.c.n_rows, live_histograms.c.histograms)
        .where(of_hour)
        .with_for_update()
    ).one()
    total = Counted(row.n_rows, _decoded(row.histograms))
    total.add(counted)
    _forget(total, policy)
    connection.execute(
        live_histograms.update()
        .where(of_hour)
        .values(n_rows=total.n_rows, histograms=_encoded(total.counts))
    )
    return True


def read_counted(
    connection: Connection, version_id: str, since: datetime, until: datetime
) -> Counted:
    """Return what was counted of a version in the hours from ``since`` on and before ``until``."""
    rows = connection.execute(
        sa.select(live_histograms.c.n_rows, live_histograms.c.histograms).where(
            live_histograms.c.version_id == version_id,
            live_histograms.c.at >= since,
            live_histograms.c.at < until,
        )
    )
    return sum_of((row.n_rows, row.histograms) for row in rows)


def sum_of(rows: Iterable[tuple[int, str]]) -> Counted:
    """Return the sum of rows of the table."""
    total = Counted()
    for n_rows, histograms in rows:
        total.add(Counted(n_rows, _decoded(histograms)))
    return total


def fold_day(connection: Connection, before: datetime) -> bool:
    """Put the hours of one old day of a version into one row.

    Called until it returns False, it leaves a row a day of all that is older than ``before``, a
    midnight in UTC. Each call is good by itself.
    """
    oldest = connection.execute(
        sa.select(live_histograms.c.version_id, live_histograms.c.at, live_histograms.c.model_id)
        .where(live_histograms.c.at < before, live_histograms.c.hours == 1)
        .limit(1)
    ).one_or_none()
    if oldest is None:
        return False
    policy = _policy_held(connection, oldest.version_id)
    if policy is None:
        return True  # deleted meanwhile, and its rows with it
    midnight = oldest.at.replace(hour=0)
    of_day = (
        (live_histograms.c.version_id == oldest.version_id)
        & (live_histograms.c.at >= midnight)
        & (live_histograms.c.at < midnight + timedelta(days=1))
    )
    rows = connection.execute(
        sa.select(live_histograms.c.n_rows, live_histograms.c.histograms)
        .where(of_day)
        .with_for_update()
    ).all()
    total = sum_of((row.n_rows, row.histograms) for row in rows)
    _forget(total, policy)
    connection.execute(live_histograms.delete().where(of_day))
    connection.execute(
        live_histograms.insert().values(
            version_id=oldest.version_id,
            at=midnight,
            hours=24,
            model_id=oldest.model_id,
            n_rows=total.n_rows,
            histograms=_encoded(total.counts),
        )
    )
    return True


def _policy_held(connection: Connection, version_id: str) -> LogPolicy | None:
    """Return what a version's model logs, which stays so until the transaction ends.

    So nothing that was counted under an older policy is written after a newer one. None where the
    version is gone. Locks are taken in the order in which a deletion takes them.
    """
    model_id = connection.execute(
        sa.select(model_versions.c.model_id)
        .where(model_versions.c.id == version_id)
        .with_for_update(read=True, key_share=True)
    ).scalar_one_or_none()
    if model_id is None:
        return None
    text = connection.execute(
        sa.select(models.c.log_policy).where(models.c.id == model_id).with_for_update(read=True)
    ).scalar_one()
    return LogPolicy() if text is None else msgspec.json.decode(text, type=LogPolicy)


def _forget(counted: Counted, policy: LogPolicy) -> None:
    features = counted.counts.features
    counted.counts.features = {
        name: counts for name, counts in features.items() if policy.keeps_column(name)
    }


def _encoded(counts: Counts) -> str:
    return msgspec.json.encode(counts).decode()


def _decoded(histograms: str) -> Counts:
    return msgspec.json.decode(histograms, type=Counts)
