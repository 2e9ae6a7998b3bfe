"""Signing in and out: the walk from an email and a password, or Jupyter's identity, to tokens."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from dataclasses import replace
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy.engine import Engine

from mlserve_jupyter.accounts.audit import AuditEvent, Origin, write_event
from mlserve_jupyter.accounts.audit_buffer import AuditBuffer
from mlserve_jupyter.accounts.passwords import (
    PasswordHasher,
    check_new_password,
    check_readable,
)
from mlserve_jupyter.accounts.people import (
    Person,
    comparable_email,
    find_by_email,
    find_by_id,
    lock_person,
    set_password,
)
from mlserve_jupyter.accounts.principal import Principal
from mlserve_jupyter.accounts.sessions import Sessions, TokenPair
from mlserve_jupyter.accounts.throttle import SignInThrottle
from mlserve_jupyter.errors import (
    Conflict,
    MLServeError,
    PasswordRejected,
    PermissionDenied,
    TooManyAttempts,
    Unauthenticated,
)
from mlserve_jupyter.storage.engine import writing

log = logging.getLogger(__name__)

T = TypeVar("T")


class SignIn:
    """Turns proofs of who somebody is into tokens, and takes them back.

    Parameters
    ----------
    engine, threads
        The database, and where it may be waited for.
    sessions, passwords, throttle, audit
        The rooms that this goes through.
    when_changed
        Has this process act on a change of somebody's access at once.
    """

    def __init__(
        self,
        *,
        engine: Engine,
        threads: Executor,
        sessions: Sessions,
        passwords: PasswordHasher,
        throttle: SignInThrottle,
        audit: AuditBuffer,
        when_changed: Callable[[], Awaitable[None]],
    ) -> None:
        self._engine = engine
        self._threads = threads
        self._sessions = sessions
        self._passwords = passwords
        self._throttle = throttle
        self._audit = audit
        self._when_changed = when_changed

    async def login(self, email: str, password: str, origin: Origin) -> TokenPair:
        """Return tokens for whoever knows the password.

        Raises
        ------
        PasswordRejected
            It is one that nobody can have.
        Unauthenticated
            It is wrong, or there is no such account, or it is disabled: in the same words, and
            after the same time.
        PermissionDenied
            It is right, and one that no administrator may have.
        TooManyAttempts, Overloaded
            Not now.
        """
        check_readable(password)
        email = comparable_email(email)
        try:
            async with self._throttle.attempt(origin.address, email):
                person = await self._prove(email, password)
        except (Unauthenticated, TooManyAttempts) as error:
            log.warning("Refused login from %s (request %s)", origin.address, origin.request_id)
            self._audit.note(AuditEvent(replace(origin, actor=email), "login", "", error.code))
            raise
        if person.role == "admin":
            _refuse_default(password, person)
        return await self._in_thread(self._sessions.begin, person, origin, "login")

    async def refresh(self, refresh_token: str, origin: Origin, arrived_at: datetime) -> TokenPair:
        """Exchange a refresh token; see :meth:`Sessions.rotate`."""
        try:
            return await self._in_thread(self._sessions.rotate, refresh_token, origin, arrived_at)
        except Unauthenticated:
            await self._when_changed()  # its family may have been ended
            raise

    async def begin_session(self, user_id: str, caller: Principal, origin: Origin) -> TokenPair:
        """Return tokens for whom the host itself knows.

        Raises
        ------
        PermissionDenied
            The caller came with a key or a token, which cannot be made into more than it is.
        """
        if caller.via in ("key", "token"):
            raise PermissionDenied(
                "Tokens are given for Jupyter's own identity, or for an email and a password at "
                "auth/login; not for a key or another token."
            )
        person = await self._in_thread(find_by_id, self._engine, user_id)
        return await self._in_thread(self._sessions.begin, person, origin, "session")

    async def logout(self, caller: Principal, origin: Origin) -> None:
        """End the family of the token with which the caller came.

        Raises
        ------
        Conflict
            It was no token.
        """
        if caller.via != "token" or caller.user_id is None:
            raise Conflict("Only an access token can be logged out: send the one that is to end.")
        await self._in_thread(self._sessions.end, caller.user_id, caller.credential_id, origin)
        await self._when_changed()

    async def change_password(
        self, caller: Principal, current: str, new: str, origin: Origin
    ) -> None:
        """Set a new password, with which all tokens of the user are dead.

        Raises
        ------
        PasswordRejected
            The new one will not do.
        PermissionDenied
            The current one is wrong, or the caller came without a token.
        Conflict
            The user has none, or it was changed in the meantime.
        TooManyAttempts, Overloaded
            Not now.
        """
        if caller.via != "token" or caller.user_id is None:
            raise PermissionDenied("Sign in with the current password to change it.")
        person = await self._in_thread(find_by_id, self._engine, caller.user_id)
        if person.email is None or person.hashed_password is None:
            raise Conflict("This user has no password: Jupyter's identity stands for it.")
        check_new_password(new, unlike=[person.email, person.name])
        if new == current:
            raise PasswordRejected("The new password is the current one.")
        try:
            async with self._throttle.attempt(origin.address, person.email):
                if not await self._passwords.matches(current, person.hashed_password):
                    raise Unauthenticated("The current password is wrong.")
        except Unauthenticated as error:
            # The token is good, so this is no 401: a client would get a new token and try again.
            raise PermissionDenied(error.message) from None
        hashed = await self._passwords.hash(new)
        await self._in_thread(self._replace_password, person, hashed, origin)
        await self._when_changed()

    def close(self) -> None:
        """End the threads of the passwords."""
        self._passwords.close()

    async def _prove(self, email: str, password: str) -> Person:
        """Return whose password it is; nothing before the end depends on whether there is one."""
        person = await self._in_thread(find_by_email, self._engine, email)
        hashed = None if person is None else person.hashed_password
        is_right = await self._passwords.matches(password, hashed)
        if person is None or not is_right or not person.is_active:
            raise Unauthenticated("The email or the password is wrong.")
        return person

    def _replace_password(self, person: Person, hashed: str, origin: Origin) -> None:
        with writing(self._engine) as connection:
            now = lock_person(connection, person.id)
            if now.hashed_password != person.hashed_password:
                raise Conflict("The password was changed by another request: sign in again.")
            set_password(connection, now, hashed)
            write_event(connection, AuditEvent(origin, "password.change", f"user {now.name}"))

    async def _in_thread(self, call: Callable[..., T], *arguments: Any) -> T:
        """Call what may wait for the database; the arguments are those of ``call``."""
        bound = functools.partial(call, *arguments)
        return await asyncio.get_running_loop().run_in_executor(self._threads, bound)


def _refuse_default(password: str, person: Person) -> None:
    """Keep an administrator out whose password was put into the database by other means."""
    try:
        check_new_password(password, unlike=[person.email or "", person.name])
    except MLServeError as error:
        raise PermissionDenied(
            f"No administrator may have this password. {error.message} "
            "`jupyter mlserve admin password` sets another one."
        ) from None
