"""Numbers as people read them."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlserve_jupyter.widgets.units import latency_text, moment, share, short, since, whole

NOW = datetime(2026, 11, 23, 19, 5, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("number", "shown"),
    [
        (0, "0"),
        (0.04, "0.04"),
        (0.4, "0.4"),
        (0.9996, "1.00"),
        (3.14159, "3.14"),
        (9.999, "10.0"),
        (12.34, "12.3"),
        (99.96, "100"),
        (4321, "4,321"),
        (12_345, "12.3 k"),
        (1_234_567, "1.23 M"),
    ],
)
def test_a_number_has_three_digits(number: float, shown: str) -> None:
    assert short(number) == shown


@given(st.floats(min_value=0.001, max_value=9999))
def test_what_is_shown_is_the_number_to_within_its_last_digit(number: float) -> None:
    assert float(short(number).replace(",", "")) == pytest.approx(number, rel=0.006, abs=0.0006)


@pytest.mark.parametrize(
    ("part", "shown"),
    [(0, "0"), (1, "100"), (0.5, "50.0"), (0.000_001, "<0.01"), (0.999_999, ">99.99")],
)
def test_few_errors_are_not_shown_as_none_nor_many_hits_as_all(part: float, shown: str) -> None:
    assert share(part) == shown


@pytest.mark.parametrize(
    ("ms", "shown"),
    [(None, "–"), (0.155, "0.155 ms"), (12.4, "12.4 ms"), (1240, "1.24 s"), (90_000, "1.50 min")],
)
def test_times_have_a_unit_that_fits(ms: float | None, shown: str) -> None:
    assert latency_text(ms) == shown


def test_times_of_day_are_in_utc() -> None:
    there = timezone(timedelta(hours=5, minutes=30))
    assert moment(NOW.astimezone(there)) == "23 Nov 19:05 UTC"


def test_what_was_called_is_so_long_ago() -> None:
    assert since(None, NOW) == "never"
    assert since(NOW - timedelta(seconds=12), NOW) == "12 s ago"
    assert since(NOW - timedelta(days=3), NOW) == "3 d ago"
    assert since(NOW + timedelta(seconds=2), NOW) == "0 s ago"


def test_counts_are_shown_in_full() -> None:
    assert whole(1_234_567) == "1,234,567"
