"""Registration: how somebody becomes a user with an email and a password."""

from __future__ import annotations

import asyncio
import functools
from concurrent.futures import Executor
from dataclasses import replace

from sqlalchemy.engine import Engine
from sqlalchemy.exc import IntegrityError

from mlserve_jupyter.accounts.audit import AuditEvent, Origin, write_event
from mlserve_jupyter.accounts.invitations import check_invitation, mark_used
from mlserve_jupyter.accounts.passwords import PasswordHasher, check_new_password
from mlserve_jupyter.accounts.people import Person, add_person, check_email
from mlserve_jupyter.accounts.throttle import RegistrationThrottle
from mlserve_jupyter.errors import Conflict, PermissionDenied
from mlserve_jupyter.settings import Settings, check_name
from mlserve_jupyter.storage.engine import reading, writing
from mlserve_jupyter.storage.users import Role


class Registration:
    """Takes people in, as the setting ``registration`` says.

    Parameters
    ----------
    engine, threads
        The database, and where it may be waited for.
    passwords, throttle
        The rooms that this goes through.
    settings
        ``registration``, and the ``owner`` whose name is taken.
    """

    def __init__(
        self,
        *,
        engine: Engine,
        threads: Executor,
        passwords: PasswordHasher,
        throttle: RegistrationThrottle,
        settings: Settings,
    ) -> None:
        self._engine = engine
        self._threads = threads
        self._passwords = passwords
        self._throttle = throttle
        self._settings = settings

    def apply(self, settings: Settings) -> None:
        """Go on as other settings say."""
        self._settings = settings

    async def register(
        self, email: str, password: str, name: str | None, invitation: str | None, origin: Origin
    ) -> Person:
        """Make an account.

        Parameters
        ----------
        name
            None for one that is made of the email's first part.
        invitation
            Its code, if there is one.

        Raises
        ------
        PermissionDenied
            Registration is closed, or the invitation is not valid.
        EmailRejected, PasswordRejected, InvalidName
            What was wished for will not do.
        Conflict
            The email or the name is taken.
        TooManyAttempts, Overloaded
            Not now.
        """
        if self._settings.registration == "closed":
            raise PermissionDenied("Registration is closed here: ask an administrator.")
        await self._throttle.check(origin.address)
        email = check_email(email)
        check_new_password(password, unlike=[email, email.partition("@")[0], name or email])
        if name is not None and check_name(name) == self._settings.owner:
            raise Conflict(f"The name {name!r} is taken: choose another.")
        loop = asyncio.get_running_loop()
        if invitation is not None or self._settings.registration == "invitation":
            # Before the costly part; it is asked again when the account is made.
            look = functools.partial(_look_at_invitation, self._engine, invitation, email)
            await loop.run_in_executor(self._threads, look)
        hashed = await self._passwords.hash(password)
        add = functools.partial(self._add, email, name, hashed, invitation, origin)
        return await loop.run_in_executor(self._threads, add)

    def _add(
        self, email: str, name: str | None, hashed: str, code: str | None, origin: Origin
    ) -> Person:
        role: Role = "user"
        invitation_id = None
        try:
            with writing(self._engine) as connection:
                if code is not None or self._settings.registration == "invitation":
                    invitation_id, role = check_invitation(connection, code, email)
                person = add_person(
                    connection,
                    email=email,
                    name=name,
                    hashed_password=hashed,
                    role=role,
                    reserved=self._settings.owner,
                )
                if invitation_id is not None:
                    mark_used(connection, invitation_id, person)
                by_person = replace(origin, actor=person.name, actor_id=person.id)
                event = AuditEvent(
                    by_person,
                    "register",
                    f"user {person.name}",
                    details={"role": role, "invitation": invitation_id},
                )
                write_event(connection, event)
                return person
        except IntegrityError as error:  # another request was quicker
            raise Conflict("The email or the name is taken: choose another.") from error


def _look_at_invitation(engine: Engine, code: str | None, email: str) -> None:
    with reading(engine) as connection:
        check_invitation(connection, code, email)
