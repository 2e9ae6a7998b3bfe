"""Approvals of artifacts that can run code, each of one sha256.

They change what is served, so they raise the registry's epoch.
"""

from __future__ import annotations

import re
from datetime import datetime, timezone

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine, Row

from mlserve_jupyter.api.approvals import DescribeApproval
from mlserve_jupyter.errors import InvalidRequest, NotFound
from mlserve_jupyter.registry.queries import Journal, changing
from mlserve_jupyter.storage.engine import reading
from mlserve_jupyter.storage.paging import Page, check_limit, decode_cursor, encode_cursor
from mlserve_jupyter.storage.tables import artifact_approvals, users
from mlserve_jupyter.storage.users import User

_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)


def list_approvals(engine: Engine, limit: int, cursor: str | None) -> Page[DescribeApproval]:
    """Return a page of the approvals, by sha256.

    Raises
    ------
    InvalidRequest
        ``limit`` or ``cursor`` is not valid.
    StorageUnavailable
        The database does not answer.
    """
    check_limit(limit)
    query = _query().order_by(artifact_approvals.c.sha256).limit(limit + 1)
    if cursor is not None:
        [after] = decode_cursor(cursor, tuple[str])
        query = query.where(artifact_approvals.c.sha256 > after)
    with reading(engine) as connection:
        found = [_describe(row) for row in connection.execute(query)]
    next_cursor = encode_cursor((found[limit - 1].sha256,)) if len(found) > limit else None
    return Page(tuple(found[:limit]), next_cursor)


def find_approval(engine: Engine, sha256: str) -> DescribeApproval:
    """Return an approval.

    Raises
    ------
    InvalidRequest, NotFound
        ``sha256`` is none, or is not approved.
    StorageUnavailable
        The database does not answer.
    """
    with reading(engine) as connection:
        found = _find(connection, check_sha256(sha256))
    if found is None:
        raise _not_approved(sha256)
    return found


def approve(
    engine: Engine, administrator: User, sha256: str, note: str, journal: Journal
) -> DescribeApproval:
    """Approve an artifact; one that is approved stays as it was.

    Raises
    ------
    InvalidRequest
        ``sha256`` is none.
    StorageUnavailable, StorageFull
        Nothing was changed.
    """
    sha256 = check_sha256(sha256)
    with changing(engine) as connection:
        known = _find(connection, sha256)
        if known is not None:
            return known
        made = DescribeApproval(
            sha256=sha256,
            approved_by=administrator.name,
            note=note,
            created_at=datetime.now(timezone.utc),
        )
        connection.execute(
            artifact_approvals.insert().values(
                sha256=sha256,
                approved_by=administrator.id,
                note=note,
                created_at=made.created_at,
            )
        )
        journal(connection, "artifact.approve", f"artifact {sha256}", {"note": note[:1000]})
    return made


def take_back(engine: Engine, sha256: str, journal: Journal) -> None:
    """Take an approval back: what is deployed with the artifact does not answer any more.

    Raises
    ------
    InvalidRequest, NotFound
        ``sha256`` is none, or is not approved.
    StorageUnavailable, StorageFull
        Nothing was changed.
    """
    sha256 = check_sha256(sha256)
    with changing(engine) as connection:
        deleted = connection.execute(
            artifact_approvals.delete().where(artifact_approvals.c.sha256 == sha256)
        )
        if not deleted.rowcount:
            raise _not_approved(sha256)
        journal(connection, "artifact.disapprove", f"artifact {sha256}", {})


def check_sha256(text: str) -> str:
    """Return a sha256 in hex.

    Raises
    ------
    InvalidRequest
        It is none.
    """
    if not _SHA256.fullmatch(text.lower()):
        raise InvalidRequest(f"A sha256 has 64 digits from 0 to f; {text[:80]!r} is none.")
    return text.lower()


def _not_approved(sha256: str) -> NotFound:
    return NotFound(f"The artifact {sha256[:80]!r} is not approved: list the approvals.")


def _find(connection: Connection, sha256: str) -> DescribeApproval | None:
    row = connection.execute(_query().where(artifact_approvals.c.sha256 == sha256)).one_or_none()
    return None if row is None else _describe(row)


def _query() -> sa.Select[tuple[str, str, datetime, str]]:
    columns = artifact_approvals.c
    return sa.select(
        columns.sha256, columns.note, columns.created_at, users.c.name.label("approved_by")
    ).join_from(artifact_approvals, users)


def _describe(row: Row[tuple[str, str, datetime, str]]) -> DescribeApproval:
    return DescribeApproval(**row._mapping)
