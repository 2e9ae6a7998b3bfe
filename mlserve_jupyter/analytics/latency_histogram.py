"""Histograms of times that can be added up, and that know each percentile to within 2 %.

The buckets grow geometrically, as those of DDSketch do (Masson, Rim, Lee: "DDSketch: a fast and
fully-mergeable quantile sketch with relative-error guarantees", PVLDB 12(12), 2019): bucket ``i``
holds the times over ``BOUNDS_MS[i - 1]`` and up to ``BOUNDS_MS[i]``, with a quotient of
``(1 + e) / (1 - e)`` between the two, so that one value stands for all of a bucket with a relative
error of at most ``e``. The bounds are the same everywhere, so that any two can be added.

Kept, a histogram is the number of its first bucket that is not empty (2 bytes) and the counts from
there to the last one (4 bytes each), little-endian. Read as one long integer, two of them are added
by one addition, whatever the number of buckets.
"""

from __future__ import annotations

import sys
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from itertools import accumulate
from math import ceil, log
from operator import mul

from mlserve_jupyter.api.analytics import RELATIVE_ERROR, LatencyHistogram, Percentiles

LEAST_MS = 0.001
"""Shorter times are one bucket: what is said of them is within this."""

MOST_MS = 1e6
"""Longer times are one bucket, too."""

_GROWTH = (1 + RELATIVE_ERROR) / (1 - RELATIVE_ERROR)
_N_BOUNDED = ceil(log(MOST_MS / LEAST_MS) / log(_GROWTH)) + 1

BOUNDS_MS = tuple(LEAST_MS * _GROWTH**i for i in range(_N_BOUNDED))
"""Upper bounds of the buckets; one more bucket is for all that took longer."""

_VALUES_MS = (*(2 * bound / (_GROWTH + 1) for bound in BOUNDS_MS), BOUNDS_MS[-1])
"""What stands for the times of each bucket."""

_MOST_COUNTED = 2**32 - 1
_LANE_BITS = 32


def encode_times(times_ms: Iterable[float]) -> bytes | None:
    """Return the histogram of some times as it is kept; None where there are none."""
    ordered = sorted(times_ms)
    if not ordered:
        return None
    buckets: list[int] = []
    counts: list[int] = []
    done = 0
    while done < len(ordered):
        bucket = bisect_left(BOUNDS_MS, ordered[done])
        end = (
            bisect_right(ordered, BOUNDS_MS[bucket], done) if bucket < _N_BOUNDED else len(ordered)
        )
        buckets.append(bucket)
        counts.append(end - done)
        done = end
    lanes = array("I", bytes(4 * (buckets[-1] - buckets[0] + 1)))
    for bucket, count in zip(buckets, counts, strict=True):
        lanes[bucket - buckets[0]] = count
    return _encode(buckets[0], lanes)


class LatencySum:
    """Histograms, added up.

    A count is one lane of a long integer. Before one of them could overflow into the next, all are
    moved to integers of their own.
    """

    __slots__ = ("_lanes", "_n", "_spilled")

    def __init__(self) -> None:
        self._lanes = 0
        self._n = 0
        self._spilled: list[int] | None = None

    def add(self, histogram: bytes, n: int) -> None:
        """Add a histogram that is kept.

        Parameters
        ----------
        histogram
            From :func:`encode_times` or :meth:`encode`.
        n
            At least the number of times that it counts.
        """
        if self._n + n > _MOST_COUNTED:
            self._spill()
        self._n += n
        first = histogram[0] | histogram[1] << 8
        self._lanes += int.from_bytes(histogram[2:], "little") << (_LANE_BITS * first)

    def merge(self, other: LatencySum) -> None:
        """Add all that another sum counts."""
        if other._spilled is not None or self._n + other._n > _MOST_COUNTED:
            self._spill()
            assert self._spilled is not None
            first, counts = other._counts()
            for bucket, count in enumerate(counts, first):
                self._spilled[bucket] += count
        else:
            self._n += other._n
            self._lanes += other._lanes

    def encode(self) -> bytes | None:
        """Return it as it is kept; None where it counts nothing.

        More than four thousand million times in one bucket are kept as so many.
        """
        first, counts = self._counts()
        if not counts:
            return None
        return _encode(first, array("I", (min(count, _MOST_COUNTED) for count in counts)))

    def percentiles(self) -> Percentiles | None:
        """Return what it says of the times; None where it counts nothing."""
        first, counts = self._counts()
        if not counts:
            return None
        ends = list(accumulate(counts))
        n = ends[-1]
        values_ms = _VALUES_MS[first : first + len(counts)]
        # The nearest rank: the first value with at least this share of all at or below it.
        p50_ms, p95_ms, p99_ms = (
            values_ms[bisect_left(ends, -(-percent * n // 100))] for percent in (50, 95, 99)
        )
        mean_ms = sum(map(mul, values_ms, counts)) / n
        return Percentiles(n=n, mean_ms=mean_ms, p50_ms=p50_ms, p95_ms=p95_ms, p99_ms=p99_ms)

    def histogram(self, max_bars: int = 40) -> LatencyHistogram:
        """Return it for people to look at: buckets are joined to at most so many bars."""
        first, counts = self._counts()
        if not counts:
            return LatencyHistogram(bounds_ms=[], counts=[])
        width = ceil(len(counts) / max_bars)
        edges = range(first, first + len(counts) + width, width)
        # Not from 0: people look at it on a logarithmic scale.
        lower_ms = (LEAST_MS / _GROWTH, *BOUNDS_MS, BOUNDS_MS[-1] * _GROWTH)
        return LatencyHistogram(
            bounds_ms=[lower_ms[min(edge, _N_BOUNDED + 1)] for edge in edges],
            counts=[sum(counts[i : i + width]) for i in range(0, len(counts), width)],
        )

    def _spill(self) -> None:
        first, counts = self._counts()
        spilled = [0] * (_N_BOUNDED + 1)
        spilled[first : first + len(counts)] = counts
        self._spilled = spilled
        self._lanes = self._n = 0

    def _counts(self) -> tuple[int, Sequence[int]]:
        """Return the first bucket that is not empty, and the counts from there to the last one."""
        first, counts = _split(self._lanes)
        if self._spilled is None:
            return first, counts
        sums = list(self._spilled)
        for bucket, count in enumerate(counts, first):
            sums[bucket] += count
        occupied = [bucket for bucket, count in enumerate(sums) if count]
        return occupied[0], sums[occupied[0] : occupied[-1] + 1]


def _split(lanes: int) -> tuple[int, Sequence[int]]:
    if not lanes:
        return 0, ()
    raw = lanes.to_bytes(4 * -(-lanes.bit_length() // _LANE_BITS), "little")
    first = (len(raw) - len(raw.lstrip(b"\0"))) // 4
    counts = array("I", raw[4 * first :])
    if sys.byteorder == "big":
        counts.byteswap()
    return first, counts


def _encode(first: int, lanes: array[int]) -> bytes:
    if sys.byteorder == "big":
        lanes.byteswap()
    return first.to_bytes(2, "little") + lanes.tobytes()
