"""What nobody can use any more, and is cleared away from time to time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlserve_jupyter.accounts.invitations import forget_old_invitations
from mlserve_jupyter.accounts.sessions import forget_old_tokens
from mlserve_jupyter.storage.engine import writing

if TYPE_CHECKING:
    from sqlalchemy.engine import Engine

FORGET_EVERY_S = 24 * 3600.0


def forget_expired(engine: Engine) -> None:
    """Delete refresh tokens a day, and unused invitations a month, after they have ended.

    Raises
    ------
    StorageUnavailable
        The database does not answer.
    """
    with writing(engine, durable=False) as connection:
        forget_old_tokens(connection)
        forget_old_invitations(connection)
