"""What jsonb refuses is replaced, and nothing else."""

from __future__ import annotations

import contextlib
import time

import pytest
import sqlalchemy as sa

from mlserve_jupyter.storage.jsonb_text import as_jsonb_takes


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        (r'["a\u0000b"]', r'["a\ufffdb"]'),
        (r'["\ud83d"]', r'["\ufffd"]'),
        (r'["\ude00\ud83d"]', r'["\ufffd\ufffd"]'),
        ("[1e-200000]", "[0.0]"),
        ("[-1E+200000,1e0002]", "[null,100.0]"),
        ("[0." + "0" * 20_000 + "1]", "[0.0]"),
        ("[" + "9" * 140_000 + "]", "[null]"),
        (r'["\\\u0000", 1e-99999, "1e-99999"]', r'["\\\ufffd", 0.0, "1e-99999"]'),
    ],
)
def test_what_jsonb_refuses_is_replaced(text: str, kept: str, postgres_url: str) -> None:
    assert as_jsonb_takes(text) == kept
    engine = sa.create_engine(postgres_url)
    with engine.connect() as connection:
        connection.execute(sa.select(sa.text("CAST(:kept AS jsonb)")), {"kept": kept})
    engine.dispose()


@pytest.mark.parametrize(
    "text",
    [
        r'["\\u0000 is how NUL is written"]',
        r'["\ud83d\ude00", "\uD83D\uDE00", "\u00e9"]',
        '["12e123456", "a 1e99999, b", "' + "7" * 5000 + '"]',
        r'["\"1e99999", 9007199254740993, 1.10, 1e300, 1E-300]',
        '{"1e99999": "x"}',
    ],
)
def test_what_jsonb_takes_stays_as_it_is(text: str) -> None:
    assert as_jsonb_takes(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "[" + ",".join(["9" * 999] * 300) + "]",
        "[" + "9" * 300_000 + "]",
        '"' + "\\" * 300_000 + '"',
        '"' + "e1" * 150_000,
        "1e-" * 100_000,
        '["' * 100_000 + "1e-99999",
    ],
)
def test_hostile_text_takes_no_longer_than_its_length(text: str) -> None:
    began_s = time.process_time()
    with contextlib.suppress(ValueError):  # no JSON; nobody logs it
        as_jsonb_takes(text)
    assert time.process_time() - began_s < 5
