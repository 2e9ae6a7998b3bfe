from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from mlserve_jupyter.accounts.audit import Origin
from mlserve_jupyter.accounts.credential_store import CredentialStore
from mlserve_jupyter.accounts.people import Person, add_person, find_by_id, set_password
from mlserve_jupyter.accounts.sessions import Sessions, TokenPair
from mlserve_jupyter.accounts.tokens import AccessTokens, RefreshTokens
from mlserve_jupyter.errors import Conflict, Unauthenticated
from mlserve_jupyter.storage.engine import reading, writing
from mlserve_jupyter.storage.tables import audit_log, refresh_tokens, users

SECRET = bytes(range(64))
NOBODY = Origin("", None, "none", "192.0.2.1", "request-1")


@pytest.fixture
def ann(engine: Engine) -> Person:
    with writing(engine) as connection:
        return add_person(
            connection,
            email="ann@example.org",
            name="ann",
            hashed_password="$2b$12$",
            role="user",
        )


@pytest.fixture
def sessions(engine: Engine) -> Sessions:
    return Sessions(engine, SECRET)


def now() -> datetime:
    return datetime.now(timezone.utc)


def is_alive(engine: Engine, pair: TokenPair) -> bool:
    store = CredentialStore(engine, AccessTokens(SECRET))
    return store.find(pair.access_token).principal is not None


def events(engine: Engine) -> list[tuple[str, str, str]]:
    with reading(engine) as connection:
        query = sa.select(audit_log.c.actor, audit_log.c.action, audit_log.c.outcome)
        return [tuple(row) for row in connection.execute(query.order_by(audit_log.c.id))]


def test_a_session_begins_with_tokens_of_its_user_and_is_audited(
    engine: Engine, ann: Person, sessions: Sessions
) -> None:
    pair = sessions.begin(ann, NOBODY, "login")
    claims = AccessTokens(SECRET).verify(pair.access_token)
    assert (claims.user_id, claims.epoch) == (ann.id, 0)
    assert is_alive(engine, pair)
    assert events(engine) == [("ann", "login", "ok")]


def test_no_token_is_in_the_database(engine: Engine, ann: Person, sessions: Sessions) -> None:
    pair = sessions.begin(ann, NOBODY, "login")
    with reading(engine) as connection:
        rows = [
            *connection.execute(sa.select(refresh_tokens)),
            *connection.execute(sa.select(audit_log)),
        ]
    for token in (pair.access_token, pair.refresh_token):
        assert token not in str(rows)
        assert token.rpartition(".")[2] not in str(rows)
        assert token not in repr(pair)


def test_a_refresh_token_is_exchanged_for_its_successor(
    engine: Engine, ann: Person, sessions: Sessions
) -> None:
    first = sessions.begin(ann, NOBODY, "login")
    second = sessions.rotate(first.refresh_token, NOBODY, now())
    third = sessions.rotate(second.refresh_token, NOBODY, now())
    assert len({first.refresh_token, second.refresh_token, third.refresh_token}) == 3
    assert is_alive(engine, first)
    assert is_alive(engine, third)


def test_row_09_a_reused_refresh_token_ends_its_family_and_is_audited(
    engine: Engine, ann: Person, sessions: Sessions
) -> None:
    first = sessions.begin(ann, NOBODY, "login")
    other = sessions.begin(ann, NOBODY, "login")
    second = sessions.rotate(first.refresh_token, NOBODY, now())
    with pytest.raises(Unauthenticated):
        sessions.rotate(first.refresh_token, NOBODY, now())
    for pair in (first, second):
        assert not is_alive(engine, pair)
    with pytest.raises(Unauthenticated):
        sessions.rotate(second.refresh_token, NOBODY, now())
    assert is_alive(engine, other), "another login is another family"
    assert events(engine)[-1] == ("ann", "token.reuse", "unauthenticated")
    assert len(events(engine)) == 3, "a dead family has no more events"


def test_row_09_of_twenty_exchanges_at_once_one_succeeds_and_the_family_lives(
    engine: Engine, ann: Person, sessions: Sessions
) -> None:
    first = sessions.begin(ann, NOBODY, "login")
    arrived_at = now()

    def exchange(_: int) -> TokenPair | Exception:
        try:
            return sessions.rotate(first.refresh_token, NOBODY, arrived_at)
        except Exception as error:
            return error

    with ThreadPoolExecutor(20) as threads:
        outcomes = list(threads.map(exchange, range(20)))
    pairs = [outcome for outcome in outcomes if isinstance(outcome, TokenPair)]
    assert len(pairs) == 1
    assert sum(isinstance(outcome, Conflict) for outcome in outcomes) == 19
    with reading(engine) as connection:
        n_tokens = connection.execute(
            sa.select(sa.func.count()).select_from(refresh_tokens)
        ).scalar_one()
    assert n_tokens == 2
    assert is_alive(engine, pairs[0])
    assert sessions.rotate(pairs[0].refresh_token, NOBODY, now())


def test_row_10_a_logout_ends_its_family_alone(
    engine: Engine, ann: Person, sessions: Sessions
) -> None:
    here, elsewhere = (sessions.begin(ann, NOBODY, "login") for _ in range(2))
    family_id = AccessTokens(SECRET).verify(here.access_token).family_id
    sessions.end(ann.id, family_id, NOBODY)
    assert not is_alive(engine, here)
    with pytest.raises(Unauthenticated):
        sessions.rotate(here.refresh_token, NOBODY, now())
    assert is_alive(engine, elsewhere)


def test_row_10_a_new_password_a_disabling_and_a_demotion_end_all_tokens(
    engine: Engine, ann: Person, sessions: Sessions
) -> None:
    def change_password() -> None:
        with writing(engine) as connection:
            set_password(connection, ann, "$2b$12$other")

    def change(**values: object) -> None:
        with writing(engine) as connection:
            epoch = users.c.token_epoch + 1
            connection.execute(users.update().values(token_epoch=epoch, **values))

    for end in (change_password, lambda: change(is_active=False), lambda: change(role="user")):
        change(is_active=True)
        person = find_by_id(engine, ann.id)
        pair = sessions.begin(person, NOBODY, "login")
        assert is_alive(engine, pair)
        end()
        assert not is_alive(engine, pair)
        with pytest.raises(Unauthenticated):
            sessions.rotate(pair.refresh_token, NOBODY, now())


def test_a_password_that_was_changed_after_it_was_checked_begins_no_session(
    engine: Engine, ann: Person, sessions: Sessions
) -> None:
    with writing(engine) as connection:
        set_password(connection, ann, "$2b$12$other")
    with pytest.raises(Unauthenticated):
        sessions.begin(ann, NOBODY, "login")


@pytest.mark.parametrize(
    "token",
    [
        "",
        "nonsense",
        AccessTokens(SECRET).issue("00000000-0000-7000-8000-000000000000", "family", 0),
        RefreshTokens(SECRET).issue("00000000-0000-7000-8000-000000000000", "family", 0),
        RefreshTokens(SECRET[::-1]).issue("00000000-0000-7000-8000-000000000000", "family", 0),
    ],
)
def test_what_is_no_refresh_token_of_a_user_is_refused(
    token: str, ann: Person, sessions: Sessions
) -> None:
    with pytest.raises(Unauthenticated):
        sessions.rotate(token, NOBODY, now())


def test_one_that_was_issued_and_never_kept_is_refused(ann: Person, sessions: Sessions) -> None:
    forged = RefreshTokens(SECRET).issue(ann.id, "family", ann.token_epoch)
    with pytest.raises(Unauthenticated):
        sessions.rotate(forged, NOBODY, now())


def test_tokens_that_ended_long_ago_are_forgotten(
    engine: Engine, ann: Person, sessions: Sessions
) -> None:
    sessions.begin(ann, NOBODY, "login")
    with writing(engine) as connection:
        connection.execute(refresh_tokens.update().values(expires_at=now() - timedelta(days=2)))
    sessions.begin(ann, NOBODY, "login")
    with reading(engine) as connection:
        assert len(connection.execute(sa.select(refresh_tokens.c.id)).all()) == 1


def test_a_session_of_a_moment_ago_can_be_exchanged_at_once(
    ann: Person, sessions: Sessions
) -> None:
    first = sessions.begin(ann, NOBODY, "login")
    at_s = time.time()
    second = sessions.rotate(first.refresh_token, NOBODY, now())
    assert RefreshTokens(SECRET).verify(second.refresh_token).expires_at.timestamp() >= at_s
