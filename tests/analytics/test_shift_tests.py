"""The index and the tests of drift, against numbers by hand and against scipy.stats."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from mlserve_jupyter.analytics.shift_tests import (
    chi_square,
    kolmogorov_smirnov,
    stability_index,
)

counts = st.lists(st.integers(0, 400), min_size=12, max_size=12)


def test_the_index_of_two_samples_is_what_it_is_by_hand() -> None:
    # (0.4 - 0.5) ln(0.4 / 0.5) + (0.4 - 0.3) ln(0.4 / 0.3) + 0
    assert stability_index([50, 30, 20], [40, 40, 20]) == pytest.approx(0.0223144 + 0.0287682)
    assert stability_index([500, 300, 200], [40, 40, 20]) == pytest.approx(0.0510826, abs=1e-6)


def test_the_index_of_equal_shares_is_zero() -> None:
    assert stability_index([5, 3, 2, 0], [50, 30, 20, 0]) == 0


def test_an_empty_bin_counts_as_half_a_row() -> None:
    expected = (0.5 / 100.5 - 0.1) * math.log(0.5 / 100.5 / 0.1) + (100 / 100.5 - 0.9) * math.log(
        100 / 100.5 / 0.9
    )
    assert stability_index([10, 90], [0, 100]) == pytest.approx(expected)


def test_the_index_of_a_normal_shift_is_about_its_square() -> None:
    # Jeffreys' divergence of N(0, 1) and N(d, 1) is d ** 2; bins lose a little of it.
    edges = stats.norm.ppf(np.arange(1, 10) / 10)
    shifted = np.diff([0, *stats.norm.cdf(edges, loc=0.5), 1])
    found = stability_index([10**6] * 10, [round(share * 10**7) for share in shifted])
    assert 0.22 < found < 0.25


@pytest.mark.parametrize("test", [kolmogorov_smirnov, chi_square])
@pytest.mark.parametrize("sides", [([0, 0], [5, 5]), ([5, 5], [0, 0]), ([0, 0], [0, 0])])
def test_nothing_on_one_side_is_no_difference(test: object, sides: tuple[list[int], ...]) -> None:
    assert callable(test)
    assert test(*sides) == (0.0, 1.0)
    assert stability_index(*sides) == 0


@given(counts, counts)
def test_kolmogorov_smirnov_is_scipys_on_the_bins(e: list[int], a: list[int]) -> None:
    if min(sum(e), sum(a)) < 100:
        return
    found = kolmogorov_smirnov(e, a)
    theirs = stats.ks_2samp(
        np.repeat(np.arange(12), e), np.repeat(np.arange(12), a), method="asymp"
    )
    assert found.statistic == pytest.approx(theirs.statistic, abs=1e-12)
    # Theirs is the law of one sample of n * m / (n + m) values, ours the limit of it.
    assert found.p_value == pytest.approx(theirs.pvalue, abs=0.05)


@given(counts, counts)
def test_chi_square_is_scipys_where_enough_is_expected(e: list[int], a: list[int]) -> None:
    table = np.array([e, a])[:, (np.array(e) + np.array(a)) > 0]
    if table.shape[1] < 2 or not table.sum(axis=1).all():
        return
    if stats.contingency.expected_freq(table).min() < 5:
        return
    theirs = stats.chi2_contingency(table, correction=False)
    found = chi_square(e, a)
    assert found.statistic == pytest.approx(theirs.statistic, rel=1e-9, abs=1e-9)
    assert found.p_value == pytest.approx(theirs.pvalue, rel=1e-6, abs=1e-12)


def test_chi_square_counts_bins_together_in_which_little_is_expected() -> None:
    found = chi_square([96, 96, 2, 2, 2, 2], [98, 98, 1, 1, 1, 1])
    theirs = stats.chi2_contingency([[96, 96, 8], [98, 98, 4]], correction=False)
    assert found == pytest.approx((theirs.statistic, theirs.pvalue))


def test_chi_square_counts_the_rest_to_the_smallest_where_it_is_too_little_by_itself() -> None:
    found = chi_square([150, 48, 1, 1], [148, 52, 0, 0])
    theirs = stats.chi2_contingency([[150, 50], [148, 52]], correction=False)
    assert found == pytest.approx((theirs.statistic, theirs.pvalue))


@pytest.mark.parametrize("test", [kolmogorov_smirnov, chi_square])
def test_of_unchanged_input_as_few_are_called_changed_as_promised(test: object) -> None:
    assert callable(test)
    random = np.random.default_rng(1)
    shares = np.full(12, 1 / 12)
    alarms = sum(
        test(random.multinomial(500, shares).tolist(), random.multinomial(300, shares).tolist())[1]
        < 0.05
        for _ in range(2000)
    )
    # 5 % of 2000 are 100, with a standard deviation of 10; bins make KS rarer than that.
    assert alarms < 140
    assert alarms > (60 if test is chi_square else 5)
