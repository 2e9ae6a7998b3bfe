"""Percentiles of histograms are those of the times themselves, within the stated error."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlserve_jupyter.analytics.latency_histogram import (
    BOUNDS_MS,
    LEAST_MS,
    MOST_MS,
    LatencySum,
    encode_times,
)
from mlserve_jupyter.api.analytics import RELATIVE_ERROR

times = st.floats(0, MOST_MS, allow_subnormal=False)
MARGIN = RELATIVE_ERROR * 1.0000001


def nearest_rank(values: list[float], percent: int) -> float:
    """Return the first value with at least this share of all at or below it."""
    return sorted(values)[-(-percent * len(values) // 100) - 1]


def summed(batches: list[list[float]]) -> LatencySum:
    found = LatencySum()
    for batch in batches:
        histogram = encode_times(batch)
        if histogram is not None:
            found.add(histogram, len(batch))
    return found


@given(st.lists(st.lists(times, max_size=50), max_size=8))
def test_percentiles_of_any_batches_are_within_the_stated_error(
    batches: list[list[float]],
) -> None:
    values = [value for batch in batches for value in batch]
    found = summed(batches).percentiles()
    if not values:
        assert found is None
        return
    assert found is not None
    assert found.n == len(values)
    for percent, estimate in ((50, found.p50_ms), (95, found.p95_ms), (99, found.p99_ms)):
        exact = nearest_rank(values, percent)
        assert abs(estimate - exact) <= MARGIN * exact + LEAST_MS
    mean_ms = sum(values) / len(values)
    assert abs(found.mean_ms - mean_ms) <= MARGIN * mean_ms + LEAST_MS


@given(st.lists(st.lists(times, min_size=1, max_size=20), min_size=1, max_size=8), st.randoms())
def test_the_order_and_the_way_of_adding_make_no_difference(
    batches: list[list[float]], order: random.Random
) -> None:
    at_once = encode_times([value for batch in batches for value in batch])
    order.shuffle(batches)
    first = summed(batches[: len(batches) // 2]).encode()
    rest = summed(batches[len(batches) // 2 :])
    if first is not None:
        rest.add(first, sum(map(len, batches)))
    assert rest.encode() == at_once


@pytest.mark.parametrize("value", [0.0, LEAST_MS, BOUNDS_MS[7], BOUNDS_MS[-1], 1e9, float("inf")])
def test_times_on_and_beyond_the_bounds_are_counted(value: float) -> None:
    found = summed([[value]]).percentiles()
    assert found is not None
    assert found.n == 1
    assert found.p50_ms == pytest.approx(min(value, BOUNDS_MS[-1]), rel=MARGIN, abs=LEAST_MS)


def test_counts_beyond_32_bits_do_not_run_into_each_other() -> None:
    one = encode_times([1.0] * 3 + [1.05] * 2)
    assert one is not None
    found = LatencySum()
    for _ in range(4):
        found.add(one, 2**31)
    expected = LatencySum()
    for _ in range(4):
        expected.add(one, 5)
    assert found.percentiles() == expected.percentiles()
    assert found.encode() == expected.encode()


def test_a_bucket_that_is_too_full_is_kept_as_full_as_can_be() -> None:
    full = b"\x05\x00" + b"\xff" * 4
    found = LatencySum()
    for _ in range(3):
        found.add(full, 2**32)
    percentiles = found.percentiles()
    assert percentiles is not None
    assert percentiles.n == 3 * (2**32 - 1)
    assert found.encode() == full


@given(st.lists(times, min_size=1, max_size=300))
def test_the_bars_count_every_time_once_and_between_their_bounds(values: list[float]) -> None:
    bars = summed([values]).histogram(max_bars=12)
    assert len(bars.counts) <= 12
    assert len(bars.bounds_ms) == len(bars.counts) + 1
    assert sum(bars.counts) == len(values)
    assert bars.bounds_ms == sorted(set(bars.bounds_ms))
    for i, count in enumerate(bars.counts):
        # The first bar of all has the times that are too short to be told apart as well.
        lower = bars.bounds_ms[i] if bars.bounds_ms[i] >= LEAST_MS else -1
        upper = bars.bounds_ms[i + 1]
        assert len([value for value in values if lower < value <= upper]) == count


def test_nothing_has_no_percentiles_and_no_bars() -> None:
    assert encode_times([]) is None
    assert LatencySum().percentiles() is None
    assert LatencySum().encode() is None
    assert LatencySum().histogram().counts == []
