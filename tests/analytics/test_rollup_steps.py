"""Ranges are made up of periods that are kept, without gaps or overlaps."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mlserve_jupyter.analytics.rollup_steps import (
    DAY_S,
    EXPIRY_SLACK_S,
    HOUR_S,
    KEPT_S,
    MAX_POINTS,
    MINUTE_S,
    QUARTER_S,
    WEEK_S,
    Span,
    cover,
    cover_with_steps,
)
from mlserve_jupyter.errors import InvalidRequest

NOW_S = 1_790_000_000.5
AGES_S = st.floats(0, 500 * DAY_S) | st.floats(0, 3 * DAY_S)


def check_pieces(span: Span) -> None:
    """Check that the pieces lie side by side, and are whole periods that are still there."""
    assert span.pieces[0].since_s == span.since_s
    for piece, following in pairwise(span.pieces):
        assert piece.until_s == following.since_s
    for piece in span.pieces:
        assert piece.since_s < piece.until_s
        assert piece.since_s % piece.step_s == piece.until_s % piece.step_s == 0
        assert piece.since_s >= NOW_S - KEPT_S[piece.step_s] - EXPIRY_SLACK_S


@given(AGES_S, AGES_S)
def test_a_range_is_covered_by_periods_that_are_kept(one_s: float, other_s: float) -> None:
    since_s, until_s = NOW_S - max(one_s, other_s), NOW_S - min(one_s, other_s)
    assume(since_s < until_s)
    span = cover(since_s, until_s, NOW_S)
    check_pieces(span)
    assert span.since_s <= since_s
    assert span.until_s >= until_s
    # What lies after now has no calls; so the last piece may end later than the range.
    end_s = span.pieces[-1].until_s
    assert end_s == span.until_s or (end_s > NOW_S and end_s - NOW_S <= WEEK_S)


@given(AGES_S, AGES_S)
def test_little_more_is_counted_than_is_asked_for(one_s: float, other_s: float) -> None:
    since_s, until_s = NOW_S - max(one_s, other_s), NOW_S - min(one_s, other_s)
    assume(since_s < until_s)
    span = cover(since_s, until_s, NOW_S)
    for age_s, excess_s in ((max(one_s, other_s), since_s - span.since_s),
                            (min(one_s, other_s), span.until_s - until_s)):  # fmt: skip
        finest_s = min(step_s for step_s, kept_s in KEPT_S.items() if age_s <= kept_s - 1)
        length_s = until_s - since_s
        edge_s = MINUTE_S if length_s <= 2 * DAY_S else HOUR_S if length_s <= 32 * DAY_S else DAY_S
        assert 0 <= excess_s <= max(finest_s, edge_s)


def test_ninety_days_are_few_periods() -> None:
    span = cover(NOW_S - 90 * DAY_S, NOW_S, NOW_S)
    n_periods = sum((piece.until_s - piece.since_s) // piece.step_s for piece in span.pieces)
    assert n_periods <= 13 + 6


@pytest.mark.parametrize(
    ("length_s", "step_s"),
    [
        (600, MINUTE_S),
        (2 * HOUR_S, MINUTE_S),
        (DAY_S, QUARTER_S),
        (7 * DAY_S, HOUR_S),
        (90 * DAY_S, DAY_S),
        (3650 * DAY_S, 10 * DAY_S),
    ],
)
def test_steps_suit_the_length_of_the_range(length_s: float, step_s: int) -> None:
    span, chosen_s = cover_with_steps(NOW_S - length_s, NOW_S, None, NOW_S)
    assert chosen_s == step_s
    assert (span.until_s - span.since_s) // step_s <= 402
    check_pieces(span)


@given(AGES_S, st.integers(1, 2000))
def test_steps_that_are_given_are_made_of_periods_that_are_kept(age_s: float, minutes: int) -> None:
    step_s = 60 * minutes
    since_s = NOW_S - age_s - 1
    try:
        span, found_s = cover_with_steps(since_s, NOW_S, step_s, NOW_S)
    except InvalidRequest:
        fitting = max(length_s for length_s in KEPT_S if step_s % length_s == 0)
        assert (age_s + 2 * step_s) / step_s > MAX_POINTS or age_s + step_s > KEPT_S[fitting]
        return
    check_pieces(span)
    assert found_s == step_s
    assert span.since_s <= since_s
    assert (span.until_s - span.since_s) % step_s == 0


@pytest.mark.parametrize(
    ("since_s", "step_s", "says"),
    [
        (NOW_S, None, "'since' must be before 'until'"),
        (NOW_S + 5, None, "'since' must be before 'until'"),
        (NOW_S - 600, 90, "whole minutes"),
        (NOW_S - 600, 30, "whole minutes"),
        (NOW_S - 2 * DAY_S, 60, "from 120 s on"),
        (NOW_S - 3 * DAY_S, 180, "kept for 2 days"),
        (NOW_S - 20 * DAY_S, QUARTER_S, "kept for 16 days"),
    ],
)
def test_what_cannot_be_answered_says_what_can(
    since_s: float, step_s: int | None, says: str
) -> None:
    with pytest.raises(InvalidRequest, match=says):
        cover_with_steps(since_s, NOW_S, step_s, NOW_S)
