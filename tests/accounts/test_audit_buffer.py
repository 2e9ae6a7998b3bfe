from __future__ import annotations

import threading
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from mlserve_jupyter.accounts.audit import AuditEvent, Origin
from mlserve_jupyter.accounts.audit_buffer import AuditBuffer
from mlserve_jupyter.storage.engine import reading, writing
from mlserve_jupyter.storage.tables import audit_log


def refusal(target: str = "GET /x", actor: str = "ann") -> AuditEvent:
    return AuditEvent(Origin(actor, None, "key", "192.0.2.1", "r-1"), "request", target, "denied")


def rows(engine: Engine) -> list[Any]:
    with reading(engine) as connection:
        return list(connection.execute(sa.select(audit_log).order_by(audit_log.c.id)))


def test_what_was_noted_before_the_database_is_opened_is_written_then(engine: Engine) -> None:
    buffer = AuditBuffer()
    buffer.note(refusal())
    buffer.start(engine)
    assert buffer.flush(10)
    [row] = rows(engine)
    assert (row.actor, row.target, row.outcome) == ("ann", "GET /x", "denied")
    buffer.close()


def test_closing_writes_what_waits(engine: Engine) -> None:
    buffer = AuditBuffer(interval_s=600)
    buffer.start(engine)
    buffer.note(refusal())
    buffer.close()
    assert len(rows(engine)) == 1


def test_equal_refusals_become_one_row_that_counts_them(engine: Engine) -> None:
    buffer = AuditBuffer(interval_s=600)
    for _ in range(1000):
        buffer.note(refusal())
    buffer.start(engine)
    buffer.close()
    [row] = rows(engine)
    assert msgspec.json.decode(row.details) == {"times": 1000}


def test_a_flood_of_different_refusals_is_bounded_and_what_is_dropped_is_counted(
    engine: Engine,
) -> None:
    buffer = AuditBuffer(max_kinds=10, interval_s=600)
    for number in range(1000):
        buffer.note(refusal(f"GET /{number}"))
    buffer.start(engine)
    buffer.close()
    written = rows(engine)
    [dropped] = [row for row in written if row.action == "audit.drop"]
    assert len(written) == 11
    assert msgspec.json.decode(dropped.details) == {"n_events": 990}


def test_noting_does_not_wait_for_a_database_that_is_held_by_another_writer(
    engine: Engine,
) -> None:
    buffer = AuditBuffer(interval_s=0.01)
    buffer.start(engine)
    noted = threading.Event()

    def note() -> None:
        for _ in range(100):
            buffer.note(refusal())
        noted.set()

    with writing(engine):
        threading.Thread(target=note).start()
        assert noted.wait(5)
    assert buffer.flush(20)
    assert len(rows(engine)) >= 1
    buffer.close()


def test_text_that_no_database_takes_is_written_without_it(engine: Engine) -> None:
    buffer = AuditBuffer()
    buffer.note(AuditEvent(Origin("a\0b\ud800", None, "none", "", ""), "x", "t" * 1000, "denied"))
    buffer.start(engine)
    buffer.close()
    [row] = rows(engine)
    assert row.actor == "a?b?"
    assert len(row.target) == 320
