"""Wire types of drift: how far what a version is asked has moved from its sample."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import msgspec

from mlserve_jupyter.api.profile import FeatureKind

DriftLevel = Literal["none", "moderate", "significant", "too_few", "no_baseline"]

MODERATE_PSI = 0.1
SIGNIFICANT_PSI = 0.25
ALPHA = 0.01
MIN_LIVE_ROWS = 100


class FeatureDrift(msgspec.Struct, frozen=True, kw_only=True):
    """One column, or the output.

    Attributes
    ----------
    name, kind
        As in the baseline.
    level
        ``none``; ``moderate`` from ``MODERATE_PSI`` on and ``significant`` from
        ``SIGNIFICANT_PSI`` on, where ``p_value`` is under ``ALPHA``; ``too_few`` with fewer than
        ``MIN_LIVE_ROWS`` values.
    psi
        Population stability index over all bins and the missing values.
    test
        ``kolmogorov_smirnov`` of numbers and lengths, ``chi_square`` of categories.
    statistic
        Of the test.
    p_value
        How likely it is that some column of an unchanged input differs as much: the test's,
        multiplied by the number of columns (Bonferroni). Where values are missing, numbers are
        tested for the share of these as well.
    n_baseline, n_live
        Values, missing ones among them.
    missing_baseline, missing_live
        Shares of them that are missing, 0 to 1.
    edges, categories
        The bins, see ``FeatureProfile``.
    baseline_counts, live_counts
        By bin, without missing values.
    """

    name: str
    kind: FeatureKind
    level: DriftLevel
    psi: float
    test: Literal["kolmogorov_smirnov", "chi_square"]
    statistic: float
    p_value: float
    n_baseline: int
    n_live: int
    missing_baseline: float
    missing_live: float
    edges: list[float]
    categories: list[str]
    baseline_counts: list[int]
    live_counts: list[int]


class Drift(msgspec.Struct, frozen=True, kw_only=True):
    """What a version was asked and answered within a range, held against its sample.

    Attributes
    ----------
    model, version
        Which.
    since, until
        The hours that are counted, in UTC; of more than a week ago, whole days.
    level
        The worst of all columns and outputs; ``no_baseline`` for a version that was deployed
        without a sample of 30 rows or more.
    n_baseline_rows
        Rows of the sample.
    n_live_rows
        Rows that were sampled of the calls.
    method
        The method whose answers are watched.
    features, outputs
        In the order of the signature.
    not_watched
        Columns whose values have no histogram.
    """

    model: str
    version: int
    since: datetime
    until: datetime
    level: DriftLevel
    n_baseline_rows: int
    n_live_rows: int
    method: str
    features: list[FeatureDrift]
    outputs: list[FeatureDrift]
    not_watched: list[str]
