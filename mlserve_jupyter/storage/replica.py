"""Reads that may be a moment late: from a replica where there is one, and else from the primary."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from sqlalchemy.engine import Connection, Engine

from mlserve_jupyter.errors import StorageUnavailable
from mlserve_jupyter.settings import Settings
from mlserve_jupyter.storage.engine import open_engine, reading, shown_url
from mlserve_jupyter.storage.schema import HEAD_REVISION, revision_of

log = logging.getLogger(__name__)

ASK_AGAIN_S = 5.0
"""After how long a replica that was away is asked again."""


class ReportReads:
    """Connections for reports: to the replica while it is there, and to the primary else.

    Parameters
    ----------
    primary
        The engine of ``database_url``.
    settings
        ``database_replica_url`` is opened; empty for none.

    Raises
    ------
    SettingsInvalid
        ``database_replica_url`` cannot be used.
    """

    def __init__(self, primary: Engine, settings: Settings) -> None:
        self._primary = primary
        self._replica: Engine | None = None
        if settings.database_replica_url:
            self._replica = open_engine(
                replace(settings, database_url=settings.database_replica_url)
            )
        self._is_usable = False
        self._is_known_away = False
        self._ask_at_s = 0.0

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Give a connection in a transaction that only reads, perhaps a state of a moment ago.

        A replica that goes away within the block costs this one caller an error, and nobody else.

        Raises
        ------
        StorageUnavailable
            The primary does not answer either.
        """
        if self._replica is not None and self._may_ask(self._replica):
            is_there = False
            try:
                with reading(self._replica) as connection:
                    is_there = True
                    yield connection
                    return
            except StorageUnavailable as error:
                self._give_up(self._replica, str(error))
                if is_there:
                    raise
        with reading(self._primary) as connection:
            yield connection

    def close(self) -> None:
        """Close the connections to the replica."""
        if self._replica is not None:
            self._replica.dispose()

    def _may_ask(self, replica: Engine) -> bool:
        """Return whether the replica was there last, and has our tables; asks it now and then."""
        if self._is_usable or time.monotonic() < self._ask_at_s:
            return self._is_usable
        self._ask_at_s = time.monotonic() + ASK_AGAIN_S
        try:
            revision = revision_of(replica)
        except StorageUnavailable as error:
            self._give_up(replica, str(error))
            return False
        if revision != HEAD_REVISION:
            self._give_up(replica, f"it is at revision {revision}, not {HEAD_REVISION}")
            return False
        log.info("Reports come from the replica %s.", shown_url(replica.url))
        self._is_usable = True
        self._is_known_away = False
        return True

    def _give_up(self, replica: Engine, reason: str) -> None:
        if not self._is_known_away:
            log.warning(
                "Reports come from the primary for now, since the replica %s cannot be used: %s",
                shown_url(replica.url),
                reason,
            )
        self._is_usable = False
        self._is_known_away = True
        self._ask_at_s = time.monotonic() + ASK_AGAIN_S
