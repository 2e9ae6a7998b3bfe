"""The first administrator: made on the server's machine, and never with a default password."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import sqlalchemy as sa
from sqlalchemy.engine import Engine
from sqlalchemy.exc import IntegrityError

from mlserve_jupyter.accounts.audit import AuditEvent, Origin, write_event
from mlserve_jupyter.accounts.passwords import (
    THREADS,
    check_new_password,
    hash_password,
    is_password,
)
from mlserve_jupyter.accounts.people import (
    Person,
    add_person,
    check_email,
    find_by_email,
    lock_person,
    set_password,
)
from mlserve_jupyter.errors import Conflict, MLServeError, NotFound, SettingsInvalid
from mlserve_jupyter.storage.engine import reading, writing
from mlserve_jupyter.storage.tables import users

EMAIL_VARIABLE = "MLSERVE_ADMIN_EMAIL"
PASSWORD_VARIABLE = "MLSERVE_ADMIN_PASSWORD"

_DEFAULT_PASSWORDS = ("", "admin", "password", "changeme")
_MAX_CHECKED = 4
"""Administrators whose passwords are tried at a start: the oldest, which came with the rest."""


def create_admin(
    engine: Engine, *, email: str, password: str, name: str | None, origin: Origin
) -> Person:
    """Make an administrator.

    Raises
    ------
    EmailRejected, PasswordRejected, InvalidName
        What was wished for will not do.
    Conflict
        The email or the name is taken.
    """
    email = check_email(email)
    check_new_password(password, unlike=[email, name or email])
    hashed = hash_password(password)
    try:
        with writing(engine) as connection:
            person = add_person(
                connection, email=email, name=name, hashed_password=hashed, role="admin"
            )
            event = AuditEvent(origin, "admin.create", f"user {person.name}")
            write_event(connection, event)
            return person
    except IntegrityError as error:  # another process was quicker
        raise Conflict("The email or the name is taken: choose another.") from error


def reset_password(engine: Engine, *, email: str, password: str, origin: Origin) -> Person:
    """Set a new password without the old one, with which all tokens of the user are dead.

    Raises
    ------
    NotFound
        Nobody has the email.
    PasswordRejected
        The password will not do.
    """
    found = find_by_email(engine, check_email(email))
    if found is None:
        raise NotFound(f"Nobody has the email {email!r}.")
    check_new_password(password, unlike=[found.email or "", found.name])
    hashed = hash_password(password)
    with writing(engine) as connection:
        person = lock_person(connection, found.id)
        set_password(connection, person, hashed)
        write_event(connection, AuditEvent(origin, "password.reset", f"user {person.name}"))
    return person


def given_admin() -> tuple[str, str] | None:
    """Return the email and the password that the environment gives, if it does.

    Raises
    ------
    SettingsInvalid
        If they cannot be an administrator's.
    """
    email, password = os.environ.get(EMAIL_VARIABLE), os.environ.get(PASSWORD_VARIABLE)
    if email is None and password is None:
        return None
    if email is None or password is None:
        missing = EMAIL_VARIABLE if email is None else PASSWORD_VARIABLE
        raise SettingsInvalid(f"The environment variable {missing} is missing: set both or none.")
    try:
        check_new_password(password, unlike=[check_email(email)])
    except MLServeError as error:
        raise SettingsInvalid(
            f"{EMAIL_VARIABLE} and {PASSWORD_VARIABLE} cannot be an administrator's. "
            f"{error.message}"
        ) from None
    return email, password


def ensure_admin(engine: Engine, email: str, password: str, origin: Origin) -> None:
    """Make the administrator whom the environment gives; one who is there stays as found."""
    if find_by_email(engine, check_email(email)) is None:
        create_admin(engine, email=email, password=password, name=None, origin=origin)


def check_admins(engine: Engine) -> None:
    """Refuse an administrator whose password is empty or a default: somebody else has put it there.

    Raises
    ------
    SettingsInvalid
        Naming the administrator.
    """
    query = sa.select(users.c.name, users.c.hashed_password).where(
        users.c.role == "admin", users.c.is_active, users.c.hashed_password.is_not(None)
    )
    with reading(engine) as connection:
        admins = connection.execute(query.order_by(users.c.created_at).limit(_MAX_CHECKED)).all()
    attempts = [
        (admin, password) for admin in admins for password in {*_DEFAULT_PASSWORDS, admin.name}
    ]
    with ThreadPoolExecutor(THREADS) as threads:
        found = list(threads.map(lambda it: is_password(it[1], it[0].hashed_password), attempts))
    for (admin, _), is_right in zip(attempts, found, strict=True):
        if is_right or not admin.hashed_password:
            raise SettingsInvalid(
                f"The password of the administrator {admin.name!r} is empty or a default: set "
                "another with `jupyter mlserve admin password --email …`."
            )
