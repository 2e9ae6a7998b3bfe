from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from mlserve_jupyter.api.moments import moment, seconds
from mlserve_jupyter.errors import InvalidUsage

NOON = datetime(2026, 5, 1, 12, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("time", "length_s"),
    [
        ("90s", 90),
        ("90min", 5400),
        ("12h", 43200),
        ("30d", 2592000),
        ("8w", 4838400),
        (60, 60),
        (timedelta(minutes=5), 300),
    ],
)
def test_lengths_of_time(time: Any, length_s: int) -> None:
    assert seconds(time) == length_s


@pytest.mark.parametrize("time", ["", "d", "30", "30 days", "-1d", "0d", 0, -1, float("inf")])
def test_lengths_that_are_none(time: Any) -> None:
    with pytest.raises(InvalidUsage):
        seconds(time)


@pytest.mark.parametrize(
    ("when", "is_at"),
    [
        ("1d", NOON - timedelta(days=1)),
        ("90 min", NOON - timedelta(minutes=90)),
        (timedelta(hours=2), NOON - timedelta(hours=2)),
        ("2026-05-01", NOON.replace(hour=0)),
        ("2026-05-01T12:00", NOON),
        ("2026-05-01 12:00:00Z", NOON),
        ("2026-05-01T14:00+02:00", NOON),
        (datetime(2026, 5, 1, 12), NOON),
        (NOON.astimezone(timezone(timedelta(hours=5))), NOON),
    ],
)
def test_a_moment_is_a_time_or_how_long_ago_it_was(when: Any, is_at: datetime) -> None:
    found = moment(when, NOON)
    assert found == is_at
    assert found.utcoffset() == timedelta(0)


@pytest.mark.parametrize(
    "when", ["", "yesterday", "1 day", "2026-13-01", timedelta.max, "999999999w", datetime.max]
)
def test_what_is_no_moment_says_what_would_be_one(when: Any) -> None:
    if when is datetime.max:
        when = datetime.max.replace(tzinfo=timezone(timedelta(hours=-5)))
    with pytest.raises(InvalidUsage, match="how long ago"):
        moment(when, NOON)
