"""What is watched, and how it is measured: models, keys and disks."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from mlserve_jupyter.analytics.alert_rows import read_last_end, read_limits
from mlserve_jupyter.analytics.alert_states import Reading
from mlserve_jupyter.analytics.rollup_reading import Selection, read_tallies
from mlserve_jupyter.analytics.rollup_steps import cover
from mlserve_jupyter.analytics.tally import Tally
from mlserve_jupyter.api.alerts import ModelRule
from mlserve_jupyter.settings import Settings
from mlserve_jupyter.storage.engine import reading
from mlserve_jupyter.storage.monitoring_tables import key_uses
from mlserve_jupyter.storage.tables import api_keys, models, users

Look = Callable[[datetime, Settings], Sequence[Reading]]

WINDOW_S = 300
"""The calls that p95 and error rate are of."""

LONG_WINDOW_S = 3600
"""The same where there are too few in the shorter one. What an alert that has ended was about is
not counted again."""

MIN_CALLS = 20
"""Fewer say nothing of a p95 or a rate."""

MIN_KEY_REQUESTS = 200
"""A key that makes fewer requests an hour is no alert, however few it made before."""

KEY_WEEK = timedelta(days=7)
KEY_FIRST_DAY = timedelta(days=1)
"""What is usual for a key is not known before."""

_HOUR = timedelta(hours=1)


@dataclass(frozen=True)
class WatchedModel:
    """A model, as alerts name it, and the limits that it has of its own."""

    id: str
    title: str
    owner_id: str
    own_limits: Mapping[str, float]

    def limit(self, rule: ModelRule, settings: Settings) -> float:
        """Return what a rule allows the model; 0 where it is off."""
        return self.own_limits.get(rule, default_limit(rule, settings))

    def reading(self, rule: ModelRule, value: float | None, settings: Settings) -> Reading | None:
        """Return a reading; None where the rule is off for this model."""
        limit = self.limit(rule, settings)
        if not limit:
            return None
        return Reading(
            rule=rule,
            subject=self.id,
            title=self.title,
            value=value,
            limit=limit,
            model_id=self.id,
            user_id=self.owner_id,
        )


def default_limit(rule: ModelRule, settings: Settings) -> float:
    """Return what the settings allow a model that has no limit of its own."""
    limit: float = getattr(settings, f"alert_{rule}")
    return limit


def watched_models(connection: Connection, ids: Iterable[str]) -> Iterator[WatchedModel]:
    """Return those of the models that there are still."""
    query = sa.select(models.c.id, models.c.name, users.c.id, users.c.name).join_from(
        models, users, models.c.owner_id == users.c.id
    )
    limits = read_limits(connection)
    wanted = set(ids)
    for id, name, owner_id, owner in connection.execute(query):
        if id in wanted:
            yield WatchedModel(id, f"{owner}~{name}", owner_id, limits.get(id, {}))


def calls_look(engine: Engine) -> Look:
    """Return what looks at the calls of models: their p95 and their error rate."""

    def look(now: datetime, settings: Settings) -> list[Reading]:
        with reading(engine) as connection:
            tallies = _enough_calls(connection, now.timestamp())
            watched = list(watched_models(connection, tallies))
        found: list[Reading | None] = []
        for model in watched:
            figures = tallies[model.id].figures()
            p95_ms = None if figures.total is None else figures.total.p95_ms
            found.append(model.reading("p95_ms", p95_ms, settings))
            found.append(model.reading("error_rate", figures.error_rate, settings))
        return [each for each in found if each is not None]

    return look


def keys_look(engine: Engine, key_prefix: str) -> Look:
    """Return what looks at how much keys are used, as against the week before."""

    def look(now: datetime, settings: Settings) -> list[Reading]:
        limit = settings.alert_key_use
        if not limit:
            return []
        this_hour = now.replace(minute=0, second=0, microsecond=0)
        is_recent = key_uses.c.at >= this_hour - _HOUR
        recent = sa.func.max(sa.case((is_recent, key_uses.c.n_requests), else_=0))
        busiest = sa.func.max(sa.case((is_recent, 0), else_=key_uses.c.n_requests))
        query = (
            sa.select(api_keys.c.id, api_keys.c.key_id, users.c.id, users.c.name, recent, busiest)
            .join_from(key_uses, api_keys)
            .join(users, users.c.id == api_keys.c.user_id)
            .where(
                key_uses.c.at >= this_hour - KEY_WEEK,
                api_keys.c.created_at <= now - KEY_FIRST_DAY,
            )
            .group_by(api_keys.c.id, api_keys.c.key_id, users.c.id, users.c.name)
        )
        with reading(engine) as connection:
            rows = connection.execute(query).all()
        return [
            Reading(
                rule="key_use",
                subject=id,
                title=f"key {key_prefix}{key_id} of {user}",
                value=n_recent / max(n_busiest, MIN_KEY_REQUESTS / limit),
                limit=limit,
                user_id=user_id,
            )
            for id, key_id, user_id, user, n_recent, n_busiest in rows
        ]

    return look


def disks_look(folders: Sequence[Path], server: str) -> Look:
    """Return what looks at the disks of this machine that hold some folders."""

    def look(now: datetime, settings: Settings) -> list[Reading]:
        if not settings.alert_disk_used:
            return []
        return [
            Reading(
                rule="disk_used",
                subject=f"{server}:{folder}"[:512],
                title=f"{folder} on {server}"[:512],
                value=_share_used(folder),
                limit=settings.alert_disk_used,
            )
            for folder in _one_a_disk(folders)
        ]

    return look


def _enough_calls(connection: Connection, now_s: float) -> dict[str, Tally]:
    """Return the calls of each model that has enough of them."""
    found = _calls_since(connection, now_s - WINDOW_S, now_s)
    for model_id, tally in _calls_since(connection, now_s - LONG_WINDOW_S, now_s).items():
        if model_id in found:
            continue
        ended_at = read_last_end(connection, model_id)
        if ended_at is None or ended_at.timestamp() <= now_s - LONG_WINDOW_S:
            found[model_id] = tally
        else:
            found.update(_calls_since(connection, ended_at.timestamp(), now_s, model_id))
    return found


def _calls_since(
    connection: Connection, since_s: float, now_s: float, model_id: str | None = None
) -> dict[str, Tally]:
    ids = None if model_id is None else (model_id,)
    selection = Selection(cover(since_s, now_s, now_s), ids)
    tallies = read_tallies(connection, selection, ("model_id",))
    return {id: tally for (id,), tally in tallies.items() if tally.n >= MIN_CALLS}


def _one_a_disk(folders: Sequence[Path]) -> list[Path]:
    by_device: dict[int, Path] = {}
    for folder in folders:
        try:
            by_device.setdefault(os.stat(folder).st_dev, folder)
        except OSError:
            continue
    return list(by_device.values())


def _share_used(folder: Path) -> float | None:
    """Return what of a disk is used, as ``df`` counts: without what is kept for root."""
    try:
        disk = shutil.disk_usage(folder)
    except OSError:
        return None
    return disk.used / (disk.used + disk.free) if disk.used + disk.free else None
