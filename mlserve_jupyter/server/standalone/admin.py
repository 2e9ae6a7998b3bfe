"""``jupyter mlserve admin``: makes administrators on the server's machine, and checks them."""

from __future__ import annotations

import argparse
import getpass
import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mlserve_jupyter.accounts.audit import Origin
from mlserve_jupyter.errors import (
    InvalidRequest,
    SchemaUnknown,
    StorageFull,
    StorageUnavailable,
)
from mlserve_jupyter.plain_text import plain
from mlserve_jupyter.settings import Settings

if TYPE_CHECKING:
    from sqlalchemy.engine import Engine

log = logging.getLogger(__name__)


def run_admin_command(
    arguments: Sequence[str], settings_of: Callable[[list[str]], Settings]
) -> int:
    """Run ``admin create`` or ``admin password``; returns the exit code.

    Parameters
    ----------
    arguments
        Those after ``admin``.
    settings_of
        Reads the server's configuration with the arguments that are not this command's own.

    Raises
    ------
    MLServeError
        Saying why nothing was done.
    """
    asked, others = _parser().parse_known_args(arguments)
    settings = settings_of(others)
    password = _read_password(from_stdin=asked.password_stdin)
    from mlserve_jupyter.accounts.first_admin import create_admin, reset_password

    with _opened(settings) as engine:
        if asked.command == "password":
            person = reset_password(
                engine, email=asked.email, password=password, origin=operator_origin()
            )
            print(f"The password of {person.name!r} is set, and all tokens of the user have ended.")
            return 0
        person = create_admin(
            engine, email=asked.email, password=password, name=asked.name, origin=operator_origin()
        )
        print(plain(f"The administrator {person.name!r} signs in as {person.email}."))
        return 0


def prepare_admins(settings: Settings) -> None:
    """Make the administrator whom the environment gives, and refuse default passwords.

    A database that cannot be used does not keep a server from starting: it says that it is not
    ready, and those who could not be checked cannot sign in either.

    Raises
    ------
    SettingsInvalid
        The environment, or the database, holds an administrator who must not be.
    """
    from mlserve_jupyter.accounts.first_admin import check_admins, ensure_admin, given_admin

    given = given_admin()
    try:
        with _opened(settings) as engine:
            if given is not None:
                ensure_admin(engine, *given, operator_origin())
            check_admins(engine)
    except (SchemaUnknown, StorageFull, StorageUnavailable) as error:
        log.warning("The administrators could not be checked: %s", error)


@contextmanager
def _opened(settings: Settings) -> Iterator[Engine]:
    from mlserve_jupyter.storage.engine import open_engine
    from mlserve_jupyter.storage.schema import prepare_schema

    engine = open_engine(settings)
    try:
        prepare_schema(engine)
        yield engine
    finally:
        engine.dispose()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "jupyter mlserve admin",
        description="Other options are the server's, such as --data-dir and --database-url.",
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name, what in (
        ("create", "make an administrator"),
        ("password", "set the password of a user who has lost it"),
    ):
        command = commands.add_parser(name, help=what, description=what, allow_abbrev=False)
        command.add_argument("--email", required=True)
        command.add_argument(
            "--password-stdin", action="store_true", help="read the password from standard input"
        )
        if name == "create":
            command.add_argument("--name", help="the part before '~' in the names of models")
    return parser


def _read_password(*, from_stdin: bool) -> str:
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    if not sys.stdin.isatty():
        raise InvalidRequest("There is no terminal to ask for a password: use --password-stdin.")
    password = getpass.getpass("Password: ")
    if getpass.getpass("The same again: ") != password:
        raise InvalidRequest("The two are not the same.")
    return password


def operator_origin() -> Origin:
    """Return the operator as the audit log names who was at the machine."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        user = "operator"
    return Origin(user, None, "host", "", "")
