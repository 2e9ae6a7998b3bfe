"""Passwords: which ones will do, and how they are hashed and checked off the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import threading
import time
import unicodedata
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from mlserve_jupyter.accounts.common_passwords import COMMON_PASSWORDS
from mlserve_jupyter.errors import Overloaded, PasswordRejected

T = TypeVar("T")

MIN_CHARS = 8
MAX_BYTES = 72
"""bcrypt reads no more; what it would not read is refused rather than cut off."""

_MAX_TYPED_CHARS = 4 * MAX_BYTES
"""Longer ones are too long in any form. Normalization takes the square of a text's length."""

ROUNDS = 12
THREADS = 2
MAX_WAITING = 64
MAX_WAIT_S = 30.0
"""Who has waited longer for a thread is told to come back: most have given up by then."""

_MIN_DISTINCT = 4
_NICENESS = 10

_NOBODYS_HASH = "$2b$12$BT9Z9aV7dlxbZYRyFdMK5O0LQ0WCk.oM2zM7DOvc76TOlA1YCXWcq"
"""Of a password that was thrown away: what is checked where there is nobody to check against."""


def check_new_password(password: str, *, unlike: Iterable[str] = ()) -> None:
    """Return if a password will do for an account.

    The rules are those of NIST SP 800-63B, 3.1.1.2: length counts, and being none that is guessed
    first; no mixture of characters is asked for.

    Parameters
    ----------
    unlike
        What it must not be, such as the account's email and name.

    Raises
    ------
    PasswordRejected
        Saying what is wrong with it.
    """
    check_readable(password)
    if len(password) < MIN_CHARS:
        raise PasswordRejected(
            f"The password is too short: it has {len(password)} characters and needs {MIN_CHARS}."
        )
    folded = password.casefold().strip()
    if folded in {other.casefold() for other in unlike}:
        raise PasswordRejected("The password must not be the email or the name: choose another.")
    if folded in COMMON_PASSWORDS or len(set(folded)) < _MIN_DISTINCT:
        raise PasswordRejected(
            "The password is one of those that are tried first: choose another, such as four "
            "words that have nothing to do with each other."
        )


def check_readable(password: str) -> None:
    """Return if bcrypt can tell a password from all others.

    Raises
    ------
    PasswordRejected
        If it is too long, or holds what bcrypt stops at.
    """
    n_bytes = len(_to_bytes(password))
    if n_bytes > MAX_BYTES:
        raise PasswordRejected(
            f"The password is too long: it has {n_bytes} bytes in UTF-8, where an accented letter "
            f"takes two and an emoji four or more, and at most {MAX_BYTES} are read."
        )
    if "\0" in password:
        raise PasswordRejected("The password must not hold a NUL character.")


class PasswordHasher:
    """Hashes and checks passwords in two threads of low priority, and a bounded queue before them.

    bcrypt holds no lock of the interpreter while it works, so the event loop goes on.

    Parameters
    ----------
    max_waiting, max_wait_s
        How many may wait or run at once, and how long one may wait.
    """

    def __init__(self, max_waiting: int = MAX_WAITING, max_wait_s: float = MAX_WAIT_S) -> None:
        self._max_waiting = max_waiting
        self._max_wait_s = max_wait_s
        self._n_waiting = 0
        self._threads = ThreadPoolExecutor(THREADS, "mlserve-passwords", _step_back)

    async def hash(self, password: str) -> str:
        """Return the hash of a password that has been checked.

        Raises
        ------
        Overloaded
            If too many wait, or for too long.
        """
        return await self._run(lambda: hash_password(password))

    async def matches(self, password: str, hashed: str | None) -> bool:
        """Whether a password is the hashed one; takes as long where there is none to compare with.

        Raises
        ------
        Overloaded
            If too many wait, or for too long.
        """
        is_equal = await self._run(lambda: is_password(password, hashed or _NOBODYS_HASH))
        return is_equal and bool(hashed)

    def close(self) -> None:
        """End the threads once they have done what they are at; give up what waits."""
        self._threads.shutdown(cancel_futures=True)

    async def _run(self, work: Callable[[], T]) -> T:
        if self._n_waiting >= self._max_waiting:
            raise _too_many()
        self._n_waiting += 1
        give_up_at_s = time.monotonic() + self._max_wait_s

        def work_in_time() -> T:
            if time.monotonic() > give_up_at_s:
                raise _too_many()
            return work()

        running = asyncio.get_running_loop().run_in_executor(self._threads, work_in_time)
        running.add_done_callback(self._has_left)
        return await running

    def _has_left(self, running: asyncio.Future[T]) -> None:
        self._n_waiting -= 1


def _too_many() -> Overloaded:
    return Overloaded("Too many passwords wait to be checked: try again.", retry_after_s=5)


def hash_password(password: str) -> str:
    """Return the bcrypt hash of a password that has been checked; takes a good part of a second."""
    import bcrypt

    return bcrypt.hashpw(_to_bytes(password), bcrypt.gensalt(ROUNDS)).decode()


def is_password(password: str, hashed: str) -> bool:
    """Whether a password is the hashed one; takes a good part of a second."""
    import bcrypt

    try:
        return bcrypt.checkpw(_to_bytes(password), hashed.encode())
    except ValueError:  # not a hash of bcrypt, which no password fits
        return False


def _to_bytes(password: str) -> bytes:
    """Return what is hashed: keyboards write one and the same character in different ways."""
    if len(password) <= _MAX_TYPED_CHARS:
        password = unicodedata.normalize("NFKC", password)
    return password.encode("utf-8", "surrogatepass")


def _step_back() -> None:
    """Let predictions go first; on Linux a thread has a priority of its own."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
