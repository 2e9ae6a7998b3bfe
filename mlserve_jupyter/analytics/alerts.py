"""The alerts: looks at what is watched, from time to time, and tells the webhook what has changed.

One process of all on a database looks; at the disks of each host, one process of that host. What a
look finds is in the database, so that the next one may be another process's.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from importlib.util import find_spec
from pathlib import Path

import msgspec
from sqlalchemy.engine import Engine

from mlserve_jupyter.analytics.alert_rows import (
    count_firing,
    forget_ended,
    has_open,
    note_readings,
    note_told,
    untold,
)
from mlserve_jupyter.analytics.alert_watches import Look, calls_look, disks_look, keys_look
from mlserve_jupyter.analytics.maintenance import MayGoOn, PeriodicJob
from mlserve_jupyter.analytics.webhook import Webhook
from mlserve_jupyter.api.alerts import AlertMessage, Rule, TestedWebhook
from mlserve_jupyter.errors import MLServeError
from mlserve_jupyter.settings import Settings
from mlserve_jupyter.storage.engine import reading, writing

log = logging.getLogger(__name__)

MESSAGES_A_LOOK = 20
"""More wait for the next look: a webhook that is slow must not hold it up for long."""

DRIFT_EVERY = 10
"""Looks at drift are one of so many, since they read more, and a shift is not of a minute."""

KEEP_ENDED = timedelta(days=90)
_LOOKS_TO_TIDY = 60


@dataclass(frozen=True)
class Watch:
    """What is looked at together.

    Attributes
    ----------
    rules
        Those that ``look`` gives readings of.
    look
        Reads all that there is of them, as of a time, without those that are off.
    every
        Looks of all alerts from one of these to the next.
    """

    rules: tuple[Rule, ...]
    look: Look
    every: int = 1


def open_alerts(engine: Engine, settings: Settings, key_prefix: str) -> Alerts:
    """Return the alerts of a database and of this machine.

    Parameters
    ----------
    engine
        Of a database whose schema is prepared.
    key_prefix
        With which API keys begin, so that alerts show a key as its user sees it.
    """
    server = socket.gethostname()
    folders = [settings.data_dir]
    is_of_one_host = engine.dialect.name == "sqlite"
    if is_of_one_host:
        folders.append(Path(str(engine.url.database)).parent)
    watches = [
        Watch(("p95_ms", "error_rate"), calls_look(engine)),
        Watch(("key_use",), keys_look(engine, key_prefix)),
    ]
    if find_spec("scipy") is not None:
        from mlserve_jupyter.analytics.drift_watch import drift_look

        watches.append(Watch(("drift",), drift_look(engine), every=DRIFT_EVERY))
    disks = Watch(("disk_used",), disks_look(folders, server))
    if is_of_one_host:
        return Alerts(engine, settings, [*watches, disks], (), server)
    return Alerts(engine, settings, watches, [disks], server)


class Alerts:
    """Looks, and tells.

    Parameters
    ----------
    engine
        Of a database whose schema is prepared.
    settings
        ``alert_every_s``, ``alert_webhook_url`` and ``alert_webhook_secret``.
    watches
        What one process of all on the database looks at.
    host_watches
        What one process of each machine looks at.
    server
        Name of this machine.
    now
        The clock.

    Attributes
    ----------
    n_firing
        By rule, as of this process's last look; empty in a process that does not look.
    """

    def __init__(
        self,
        engine: Engine,
        settings: Settings,
        watches: Sequence[Watch],
        host_watches: Sequence[Watch],
        server: str,
        now: Callable[[], datetime] = lambda: datetime.now(timezone.utc),
    ) -> None:
        self.n_firing: dict[str, int] = {}
        self._engine = engine
        self._settings = settings
        self._watches = tuple(watches)
        self._host_watches = tuple(host_watches)
        self._server = server
        self._now = now
        self._n_looks = 0
        self._test: asyncio.Future[TestedWebhook] | None = None
        self._test_thread = ThreadPoolExecutor(1, "mlserve-webhook-test")

    def apply(self, settings: Settings) -> None:
        """Go on with another webhook."""
        self._settings = settings

    def job(self) -> PeriodicJob:
        """Return what one process of all does."""
        return PeriodicJob("alerts", self._settings.alert_every_s, self.look)

    def host_jobs(self) -> list[PeriodicJob]:
        """Return what one process of each machine does."""
        if not self._host_watches:
            return []
        return [PeriodicJob("host alerts", self._settings.alert_every_s, self.look_at_host)]

    def look(self, may_go_on: MayGoOn = lambda: True) -> None:
        """Look at everything whose turn it is, then tell the webhook what it has not taken yet.

        Raises
        ------
        StorageUnavailable, StorageFull
            The database cannot be used; the next look begins anew.
        """
        for watch in self._watches:
            if self._n_looks % watch.every == 0 and may_go_on():
                self.look_at(watch)
        self._n_looks += 1
        self._tell(may_go_on)
        if self._n_looks % _LOOKS_TO_TIDY == 1:
            with writing(self._engine, durable=False) as connection:
                forget_ended(connection, self._now() - KEEP_ENDED)
        with reading(self._engine) as connection:
            self.n_firing = count_firing(connection)

    def look_at_host(self, may_go_on: MayGoOn = lambda: True) -> None:
        """Look at what is this machine's own; the other job tells the webhook.

        Raises
        ------
        StorageUnavailable, StorageFull
            The database cannot be used.
        """
        for watch in self._host_watches:
            self.look_at(watch)

    def look_at(self, watch: Watch) -> None:
        """Look at a part, and write what has changed.

        Raises
        ------
        StorageUnavailable, StorageFull
            The database cannot be used.
        """
        now = self._now()
        try:
            readings = watch.look(now, self._settings)
        except MLServeError as error:
            # One that fails must not keep the others from being looked at.
            log.warning("Alerts of %s are not looked at: %s", ", ".join(watch.rules), error)
            return
        is_over = any(each.value is not None and each.value > each.limit for each in readings)
        if not is_over:
            with reading(self._engine) as connection:
                if not has_open(connection, watch.rules):
                    return
        with writing(self._engine, durable=False) as connection:
            note_readings(connection, watch.rules, readings, now)

    async def test_webhook(self) -> TestedWebhook:
        """Send a message that says that it is a test; who asks meanwhile gets the same answer."""
        if self._test is None:
            loop = asyncio.get_running_loop()
            self._test = loop.run_in_executor(self._test_thread, self._send_test)
            self._test.add_done_callback(self._forget_test)
        return await asyncio.shield(self._test)

    def _forget_test(self, test: asyncio.Future[TestedWebhook]) -> None:
        self._test = None
        if not test.cancelled():
            test.exception()  # whoever has asked may be gone

    def _send_test(self) -> TestedWebhook:
        webhook = self._webhook
        if webhook is None:
            return TestedWebhook(is_taken=False, problem="alert_webhook_url is not set")
        now = self._now()
        problem = webhook.send(
            msgspec.json.encode(
                AlertMessage(
                    text=f"A test of the alerts of {self._server}: nothing is wrong.",
                    id="00000000-0000-0000-0000-000000000000",
                    rule="disk_used",
                    title="a test",
                    state="ended",
                    value=0.0,
                    worst=0.0,
                    limit=0.0,
                    began_at=now,
                    fired_at=now,
                    ended_at=now,
                    server=self._server,
                    is_test=True,
                )
            )
        )
        return TestedWebhook(is_taken=problem is None, problem=problem)

    @property
    def _webhook(self) -> Webhook | None:
        url = self._settings.alert_webhook_url
        return Webhook(url, self._settings.alert_webhook_secret) if url else None

    def _tell(self, may_go_on: MayGoOn) -> None:
        webhook = self._webhook
        if webhook is None:
            return
        with reading(self._engine) as connection:
            messages = untold(connection, self._now(), self._server, MESSAGES_A_LOOK)
        for message in messages:
            if not may_go_on():
                return
            problem = webhook.send(msgspec.json.encode(message))
            if problem is not None:
                log.warning("The webhook was not told of an alert and is told again: %s.", problem)
            with writing(self._engine) as connection:
                note_told(connection, message, self._now(), problem is None)
            if problem is not None:
                return  # it will hardly take the next one
