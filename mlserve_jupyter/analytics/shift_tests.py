"""How far two sets of counts in the same bins are apart, and whether chance explains it.

Only the tests' distributions need scipy, which is imported when the first one is asked for.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

MIN_EXPECTED = 5.0
"""Bins in which the chi-square test expects fewer are counted together (Cochran 1954)."""

_EMPTY = 0.5


class Outcome(NamedTuple):
    """A test's statistic, and how likely one at least as large is where nothing has changed."""

    statistic: float
    p_value: float


def stability_index(baseline: Sequence[int], live: Sequence[int]) -> float:
    """Return the population stability index of two sets of counts.

    ``PSI = sum((a_i - e_i) * ln(a_i / e_i))`` over the bins, where ``e_i`` and ``a_i`` are the
    shares of the baseline and of what is live. It is the sum of the Kullback-Leibler divergences
    in both directions (Jeffreys 1946). By the usual reading, less than 0.1 is no change, and 0.25
    and more a large one (Siddiqi, *Credit Risk Scorecards*, 2006). Of two samples of ``n`` and
    ``m`` rows of one distribution in ``B`` bins it is about ``(B - 1) * (1 / n + 1 / m)``
    (Yurdakul 2018), so on few rows it says nothing by itself.

    A bin that is empty on one side counts as half a row there; one that is empty on both is left
    out.

    Parameters
    ----------
    baseline, live
        Counts of the same bins.

    Returns
    -------
    float
        0.0 where one side has no rows.
    """
    pairs = [(e, a) for e, a in zip(baseline, live, strict=True) if e or a]
    if not sum(baseline) or not sum(live):
        return 0.0
    expected = [e or _EMPTY for e, _ in pairs]
    actual = [a or _EMPTY for _, a in pairs]
    n_expected, n_actual = sum(expected), sum(actual)
    return math.fsum(
        (a / n_actual - e / n_expected) * math.log((a / n_actual) / (e / n_expected))
        for e, a in zip(expected, actual, strict=True)
    )


def kolmogorov_smirnov(baseline: Sequence[int], live: Sequence[int]) -> Outcome:
    """Return the two-sample Kolmogorov-Smirnov test of counts in ordered bins.

    ``D`` is the largest distance of the two cumulative shares, which is known at the edges of the
    bins only: at most that of the values themselves. The probability is the limit distribution's
    (Smirnov 1939), ``Q(sqrt(n * m / (n + m)) * D)``. Ties and bins make it too large, never too
    small (Noether 1963), so that there are fewer false alarms than it says.

    Parameters
    ----------
    baseline, live
        Counts of the same bins, ascending.
    """
    from scipy.special import kolmogorov

    n, m = sum(baseline), sum(live)
    if not n or not m:
        return Outcome(0.0, 1.0)
    shares = zip(accumulate(baseline), accumulate(live), strict=True)
    distance = max(abs(e / n - a / m) for e, a in shares)
    return Outcome(distance, float(kolmogorov(math.sqrt(n * m / (n + m)) * distance)))


def chi_square(baseline: Sequence[int], live: Sequence[int]) -> Outcome:
    """Return Pearson's chi-square test of homogeneity of counts in unordered bins.

    Bins in which fewer than five rows are expected on either side are counted together first.

    Parameters
    ----------
    baseline, live
        Counts of the same bins.
    """
    from scipy.special import chdtrc

    n, m = sum(baseline), sum(live)
    if not n or not m:
        return Outcome(0.0, 1.0)
    pairs = _pooled(list(zip(baseline, live, strict=True)), min(n, m) / (n + m))
    if len(pairs) < 2:
        return Outcome(0.0, 1.0)
    statistic = 0.0
    for e, a in pairs:
        for found, size in ((e, n), (a, m)):
            expected = (e + a) * size / (n + m)
            statistic += (found - expected) ** 2 / expected
    return Outcome(statistic, float(chdtrc(len(pairs) - 1, statistic)))


def _pooled(pairs: list[tuple[int, int]], smaller_share: float) -> list[tuple[int, int]]:
    """Count those bins together in which too little is expected of the smaller side."""
    enough = [pair for pair in pairs if sum(pair) * smaller_share >= MIN_EXPECTED]
    small = [pair for pair in pairs if sum(pair) * smaller_share < MIN_EXPECTED]
    if not small:
        return enough
    pool = (sum(e for e, _ in small), sum(a for _, a in small))
    if not sum(pool):
        return enough
    if sum(pool) * smaller_share < MIN_EXPECTED and enough:
        least = min(enough, key=sum)
        enough.remove(least)
        pool = (pool[0] + least[0], pool[1] + least[1])
    return [*enough, pool]
