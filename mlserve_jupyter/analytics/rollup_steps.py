"""Which periods calls are summed up to, how long each is kept, and which of them make up a range.

A call counts in one period of each length; so the sum over any periods that lie side by side is
that of the calls. Times are whole seconds since 1970, UTC.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from mlserve_jupyter.errors import InvalidRequest

MINUTE_S = 60
QUARTER_S = 900
HOUR_S = 3600
DAY_S = 86400
WEEK_S = 7 * DAY_S

KEPT_S: dict[int, float] = {
    WEEK_S: float("inf"),
    DAY_S: float("inf"),
    HOUR_S: 180 * DAY_S,
    QUARTER_S: 16 * DAY_S,
    MINUTE_S: 2 * DAY_S,
}
"""For how long the periods of each length are kept, from the longest to the shortest."""

EXPIRY_SLACK_S = DAY_S
"""Periods go later than they are last asked for: a range may begin a little before that."""

MAX_POINTS = 2000
"""Steps of a time series."""

_EDGES = ((2 * DAY_S, MINUTE_S), (32 * DAY_S, HOUR_S))
"""Ranges up to the first begin and end with periods of the second; longer ones with days."""

_CHOICES = ((2 * HOUR_S, MINUTE_S), (2 * DAY_S, QUARTER_S), (8 * DAY_S, HOUR_S))
"""Ranges up to the first have steps of the second, where nobody asks for others."""


class Piece(NamedTuple):
    """Periods of one length that lie side by side.

    Attributes
    ----------
    step_s
        The length of each.
    since_s, until_s
        When the first begins, and the last ends.
    """

    step_s: int
    since_s: int
    until_s: int


class Span(NamedTuple):
    """What a report counts.

    Attributes
    ----------
    since_s, until_s
        All of it.
    pieces
        What it is made of, without gaps or overlaps.
    """

    since_s: int
    until_s: int
    pieces: tuple[Piece, ...]


def cover(since_s: float, until_s: float, now_s: float) -> Span:
    """Return a range that has what is asked for and is made of few periods, all of them kept.

    It is widened to whole minutes, quarters, hours or days: by little for its length.

    Raises
    ------
    InvalidRequest
        It is empty.
    """
    _check(since_s, until_s)
    edge_s = next((step_s for most, step_s in _EDGES if until_s - since_s <= most), DAY_S)
    since = _down(since_s, max(edge_s, _finest_kept(since_s, now_s)))
    until = end = _up(until_s, max(edge_s, _finest_kept(until_s, now_s)))
    if until >= now_s or _up(until_s, MINUTE_S) >= now_s:
        # Nothing is called after now, so that the periods of now have no more than is asked for.
        until, end = _up(now_s, MINUTE_S), _up(now_s, WEEK_S)
    return Span(since, until, tuple(_pieces(since, end, tuple(KEPT_S))))


def cover_with_steps(
    since_s: float, until_s: float, step_s: int | None, now_s: float
) -> tuple[Span, int]:
    """Return the shortest range of whole steps that has what is asked for, and their length.

    Parameters
    ----------
    step_s
        None for what suits the length of the range.

    Raises
    ------
    InvalidRequest
        The range is empty, the steps are not whole minutes, there are too many of them, or so short
        ones are not kept for so long.
    """
    _check(since_s, until_s)
    if step_s is None:
        step_s = _choose(since_s, until_s, now_s)
    if step_s < MINUTE_S or step_s % MINUTE_S:
        raise InvalidRequest(f"'step_s' must be whole minutes, such as 300, not {step_s}.")
    since, until = _down(since_s, step_s), _up(until_s, step_s)
    n_steps = (until - since) // step_s
    if n_steps > MAX_POINTS:
        raise InvalidRequest(
            f"The range has {n_steps} steps of {step_s} s, and {MAX_POINTS} is the most: ask for "
            f"longer steps, from {_up((until - since) / MAX_POINTS, MINUTE_S)} s on, or for less."
        )
    slack_s = min(step_s, EXPIRY_SLACK_S)
    fitting = [length_s for length_s in KEPT_S if step_s % length_s == 0]
    kept = [length_s for length_s in fitting if since >= now_s - KEPT_S[length_s] - slack_s]
    if not kept:
        days = KEPT_S[fitting[0]] / DAY_S
        raise InvalidRequest(
            f"Steps of {step_s} s are kept for {days:g} days: begin later, or ask for steps of "
            f"{_finest_kept(since, now_s)} s.",
            kept_days=days,
        )
    return Span(since, until, (Piece(kept[0], since, until),)), step_s


def _check(since_s: float, until_s: float) -> None:
    if since_s >= until_s:
        raise InvalidRequest("'since' must be before 'until': such a range has no time in it.")


def _choose(since_s: float, until_s: float, now_s: float) -> int:
    length_s = until_s - since_s
    suitable = next((step for most, step in _CHOICES if length_s <= most), None)
    if suitable is None:
        suitable = DAY_S * max(1, _up(length_s / DAY_S, 400) // 400)
    return max(suitable, _finest_kept(since_s, now_s))


def _finest_kept(at_s: float, now_s: float) -> int:
    """Return the length of the shortest periods that are kept from then on."""
    return min(length_s for length_s, kept_s in KEPT_S.items() if at_s >= now_s - kept_s)


def _pieces(since_s: int, until_s: int, lengths_s: Sequence[int]) -> Iterator[Piece]:
    """Take the longest periods that fit, and shorter ones on either side."""
    if since_s >= until_s:
        return
    length_s, *shorter_s = lengths_s
    first, last = _up(since_s, length_s), _down(until_s, length_s)
    if first >= last:
        yield from _pieces(since_s, until_s, shorter_s)
        return
    yield from _pieces(since_s, first, shorter_s)
    yield Piece(length_s, first, last)
    yield from _pieces(last, until_s, shorter_s)


def _down(at_s: float, length_s: int) -> int:
    return int(at_s // length_s) * length_s


def _up(at_s: float, length_s: int) -> int:
    return -int(-at_s // length_s) * length_s
