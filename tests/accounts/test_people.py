from __future__ import annotations

import time

import pytest
from sqlalchemy.engine import Engine

from mlserve_jupyter.accounts.people import (
    Person,
    add_person,
    check_email,
    comparable_email,
    find_by_email,
    find_by_id,
)
from mlserve_jupyter.errors import Conflict, EmailRejected, InvalidName, NotFound
from mlserve_jupyter.settings import check_name
from mlserve_jupyter.storage.engine import writing


def add(engine: Engine, email: str, name: str | None = None, reserved: str = "") -> Person:
    with writing(engine) as connection:
        return add_person(
            connection,
            email=check_email(email),
            name=name,
            hashed_password="$2b$12$",
            role="user",
            reserved=reserved,
        )


def test_a_person_is_found_by_email_and_by_id(engine: Engine) -> None:
    ann = add(engine, "ann@example.org", "ann-the-first")
    assert find_by_email(engine, "ann@example.org") == ann
    assert find_by_id(engine, ann.id) == ann
    assert find_by_email(engine, "bob@example.org") is None
    with pytest.raises(NotFound):
        find_by_id(engine, "00000000-0000-7000-8000-000000000000")


def test_nothing_that_is_shown_of_a_person_holds_the_hash(engine: Engine) -> None:
    assert "$2b$" not in repr(add(engine, "ann@example.org"))


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("ann@example.org", "ann@example.org"),
        ("  Ann.Lee+x@Example.ORG ", "ann.lee+x@example.org"),
        ("ann@localhost", "ann@localhost"),
        ("ånn@exämple.org", "ånn@exämple.org"),
    ],
)
def test_an_email_is_kept_in_the_form_in_which_two_can_be_compared(
    written: str, meant: str
) -> None:
    assert check_email(written) == meant


@pytest.mark.parametrize(
    "text",
    ["", "ann", "@example.org", "ann@", "a@b@c", "a b@c", "a\0@b", "a\n@b", "a@" + "b" * 300]
    + ["a\u202e@b", "x" * 65 + "@b"],
)
def test_what_is_no_email_is_refused(text: str) -> None:
    with pytest.raises(EmailRejected):
        check_email(text)


def test_row_22_a_text_that_takes_ages_to_normalize_is_no_email() -> None:
    text = "a@b" + "\u0301" * 100_000 + "\u0323" * 100_000
    begun_s = time.process_time()
    with pytest.raises(EmailRejected):
        check_email(text)
    assert len(comparable_email(text)) < 2000
    assert time.process_time() - begun_s < 10


def test_an_email_and_a_name_belong_to_one_person(engine: Engine) -> None:
    add(engine, "ann@example.org", "ann")
    with pytest.raises(Conflict, match="email"):
        add(engine, "ann@example.org", "another")
    with pytest.raises(Conflict, match="name"):
        add(engine, "another@example.org", "ann")
    with pytest.raises(InvalidName):
        add(engine, "bob@example.org", "Bob~Lee")


def test_without_a_name_one_is_made_of_the_email(engine: Engine) -> None:
    made = [
        add(engine, email, reserved="owner").name
        for email in (
            "ann@example.org",
            "ann@example.com",
            "ann@example.net",
            "owner@example.org",
            "A.Very+Special..Name@example.org",
            "å@example.org",
            "x" * 64 + "@example.org",
        )
    ]
    assert made == [
        "ann", "ann-2", "ann-3", "owner-2", "a-very-special-name", "user", "x" * 48,
    ]  # fmt: skip
    for name in made:
        check_name(name)
