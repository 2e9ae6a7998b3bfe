"""The epoch of the accounts: one number that every change of somebody's access raises.

Each server process keeps what it has verified only for as long as this number stays the same, so
that a key that was revoked, a user who was disabled or a family of tokens that was ended is
refused everywhere, and what is not in the database revokes nothing and keeps nothing alive.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from mlserve_jupyter.storage.tables import accounts_state


def raise_epoch(connection: Connection) -> None:
    """Have all processes verify anew; in the transaction of the change that asks for it."""
    connection.execute(accounts_state.update().values(epoch=accounts_state.c.epoch + 1))


def read_epoch(connection: Connection) -> int:
    """Return the epoch; read it before whatever must not be older than it."""
    epoch: int = connection.execute(sa.select(accounts_state.c.epoch)).scalar_one()
    return epoch
