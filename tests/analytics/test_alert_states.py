"""When a value over its limit becomes an alert, and when that ends."""

from __future__ import annotations

from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from mlserve_jupyter.analytics.alert_states import (
    END_AFTER,
    FIRE_AFTER,
    RELEASE,
    Standing,
    first_standing,
    next_standing,
)

LIMIT = 100.0
values = st.lists(st.floats(0, 200), max_size=60)


def states(values: Iterable[float]) -> list[str]:
    """Return the state after each look; ``ok`` where no alert is open."""
    standing: Standing | None = None
    found = []
    for value in values:
        if standing is None or standing.state == "ended":
            standing = first_standing(value, LIMIT)
        else:
            standing = next_standing(standing, value, LIMIT)
        found.append("ok" if standing is None else standing.state)
    return found


def test_two_looks_in_a_row_fire_and_three_end() -> None:
    assert states([50, 101, 102, 103, 80, 80, 80, 50]) == [
        "ok", "pending", "firing", "firing", "firing", "firing", "ended", "ok",
    ]  # fmt: skip


def test_one_look_is_no_alert() -> None:
    assert states([101, 99, 101, 50, 150]) == ["pending", "ok", "pending", "ok", "pending"]


def test_what_hovers_around_its_limit_is_one_alert() -> None:
    assert set(states([101, 101] + [95, 105, 99, 101, 91] * 50)) == {"pending", "firing"}


def test_a_short_dip_does_not_end_an_alert() -> None:
    assert states([101, 101, 10, 10, 101, 10, 10, 95, 10, 10])[1:] == ["firing"] * 9


@given(values)
def test_an_alert_fires_only_after_looks_in_a_row_that_are_over(values: list[float]) -> None:
    found = states(values)
    for i, state in enumerate(found):
        if state == "firing" and (i == 0 or found[i - 1] != "firing"):
            assert all(value > LIMIT for value in values[i - FIRE_AFTER + 1 : i + 1])


@given(values)
def test_an_alert_ends_only_after_looks_in_a_row_that_are_clearly_below(
    values: list[float],
) -> None:
    for i, state in enumerate(states(values)):
        if state == "ended":
            assert all(value <= RELEASE * LIMIT for value in values[i - END_AFTER + 1 : i + 1])


@given(values)
def test_what_is_never_over_is_never_an_alert(values: list[float]) -> None:
    assert set(states(min(value, LIMIT) for value in values)) <= {"ok"}
