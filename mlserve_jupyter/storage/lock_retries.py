"""Changes of tables that others use: they wait a moment for their locks, give up, and try again.

A statement that waits for a lock on a table makes all that come after it wait, too. So these wait
for little, and often.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from typing import TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from mlserve_jupyter.errors import StorageUnavailable

log = logging.getLogger(__name__)

LOCK_TIMEOUT_S = 1.0
"""How long all others may have to wait behind one attempt."""

_LOCK_NOT_AVAILABLE = "55P03"
_DEADLOCK_DETECTED = "40P01"

T = TypeVar("T")


def with_lock_retries(attempt: Callable[[], T], for_s: float) -> T:
    """Call ``attempt`` until it gets its locks.

    Parameters
    ----------
    attempt
        One transaction, which calls :func:`wait_briefly` first.
    for_s
        When the last attempt begins.

    Raises
    ------
    StorageUnavailable
        Others have kept the locks for all that time.
    """
    last_at_s = time.monotonic() + for_s
    n_failed = 0
    while True:
        try:
            return attempt()
        except StorageUnavailable as error:
            if not _is_for_a_lock(error) or time.monotonic() > last_at_s:
                raise
            n_failed += 1
            log.info("Attempt %d to change a table found it in use; another follows.", n_failed)
        # The longer, the more room is left to those who hold the locks; and never in step.
        time.sleep(min(0.1 * 2**n_failed, 3.0) * random.uniform(0.5, 1.0))


def wait_briefly(connection: Connection) -> None:
    """Let the statements of this transaction wait briefly for locks."""
    connection.execute(sa.text(f"SET LOCAL lock_timeout = {round(LOCK_TIMEOUT_S * 1000)}"))


def _is_for_a_lock(error: StorageUnavailable) -> bool:
    code = getattr(getattr(error.__cause__, "orig", None), "pgcode", None)
    return code in (_LOCK_NOT_AVAILABLE, _DEADLOCK_DETECTED)
