"""Whether a database server answers, so that nobody waits for one that is known not to.

Whoever finds out that it does not has waited for a time-out. From then on new connections are
refused at once, while a thread goes on trying to make one, until it can.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Event, Lock, Thread

import psycopg2
from sqlalchemy.engine.interfaces import DBAPIConnection

Connect = Callable[[], DBAPIConnection]

ASK_AGAIN_S = 0.25
"""How long the thread rests between two attempts."""

_NO_ANSWER_S = 1.0
"""A server that refuses sooner has answered, and may as well be asked by everybody."""


class Presence:
    """What is known of one server; its thread is there only while the server is away.

    Parameters
    ----------
    when_away
        Called when the thread's own attempts have no answer either.
    """

    def __init__(self, when_away: Callable[[], None]) -> None:
        self._when_away = when_away
        self._lock = Lock()
        self._connect: Connect | None = None
        self._away_since_s: float | None = None
        self._gave_up = Event()  # of the thread that asks

    def connect(self, connect: Connect) -> DBAPIConnection:
        """Make a connection, unless the server is known to be away.

        Raises
        ------
        psycopg2.OperationalError
            It does not answer, or refuses.
        """
        away_since_s = self._away_since_s
        begun_s = time.monotonic()
        if away_since_s is not None:
            raise psycopg2.OperationalError(
                f"no answer for {begun_s - away_since_s:.0f} s; it is asked again all the time"
            )
        self._connect = connect
        try:
            return connect()
        except psycopg2.OperationalError:
            if time.monotonic() - begun_s >= _NO_ANSWER_S:
                self.lost()
            raise

    def lost(self) -> None:
        """Note that a call had no answer within its time."""
        with self._lock:
            if self._away_since_s is None and self._connect is not None:
                self._away_since_s = time.monotonic()
                self._gave_up = Event()
                Thread(
                    target=self._ask,
                    args=(self._connect, self._gave_up),
                    name="mlserve-database-presence",
                    daemon=True,
                ).start()

    def close(self) -> None:
        """Ask no more, and know nothing again."""
        with self._lock:
            self._gave_up.set()
            self._away_since_s = None

    def _ask(self, connect: Connect, gave_up: Event) -> None:
        while not gave_up.is_set():
            begun_s = time.monotonic()
            try:
                connect().close()
            except psycopg2.Error:
                if time.monotonic() - begun_s >= _NO_ANSWER_S:
                    self._when_away()
                gave_up.wait(ASK_AGAIN_S)
                continue
            with self._lock:
                if not gave_up.is_set():
                    self._away_since_s = None
            return
