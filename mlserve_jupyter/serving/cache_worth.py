"""Whether the result cache pays for one method of one version: measured, call by call."""

from __future__ import annotations

from collections import deque

N_SAMPLES = 9
"""Durations that a measurement remembers; their median is not moved by a single slow one."""

MEASURE_EVERY = 64
"""While the cache does not pay, one call in so many asks it all the same, to measure anew."""

LEAST_HIT_SHARE = 0.1
"""The share of hits that is assumed even where fewer are seen: repetitions may begin any time."""

_HIT_SHARE_WEIGHT = 0.02


class Duration:
    """The median of the latest measurements of one thing, in seconds."""

    def __init__(self) -> None:
        self._samples: deque[float] = deque(maxlen=N_SAMPLES)

    def add(self, seconds: float) -> None:
        """Add a measurement."""
        self._samples.append(seconds)

    @property
    def seconds(self) -> float | None:
        """The median; None before there are enough measurements."""
        return self._median() if len(self._samples) == N_SAMPLES else None

    @property
    def milliseconds(self) -> float | None:
        """The median of what there is, in milliseconds; None where there is nothing."""
        return round(self._median() * 1e3, 4) if self._samples else None

    def _median(self) -> float:
        return sorted(self._samples)[len(self._samples) // 2]


class CacheWorth:
    """What look-ups save against what they cost.

    Attributes
    ----------
    lookup
        What a look-up takes: the digest of the input, asking, and keeping what was not there.
    compute
        What computing takes, waiting for the worker included.
    hit_share
        The share of hits among the latest look-ups, 0 to 1.
    """

    def __init__(self) -> None:
        self.lookup = Duration()
        self.compute = Duration()
        self.hit_share = 0.0
        self._pays = True
        self._n_calls = 0

    @property
    def pays(self) -> bool:
        """Whether what a look-up saves on average was more than what it costs."""
        return self._pays

    def wants_lookup(self) -> bool:
        """Whether the next call should ask the cache: because it pays, or to measure."""
        self._n_calls += 1
        if self._n_calls % N_SAMPLES == 0:
            self._pays = self._weigh()
        return self._pays or self._n_calls % MEASURE_EVERY == 0

    def note_lookup(self, seconds: float, *, hit: bool) -> None:
        """Take note of a look-up."""
        self.lookup.add(seconds)
        self.hit_share += (hit - self.hit_share) * _HIT_SHARE_WEIGHT

    def _weigh(self) -> bool:
        lookup_s, compute_s = self.lookup.seconds, self.compute.seconds
        if lookup_s is None or compute_s is None:
            return True
        return max(self.hit_share, LEAST_HIT_SHARE) * compute_s > lookup_s
