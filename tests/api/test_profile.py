"""The bounds of what a deploy may bring as the histograms of its sample."""

from __future__ import annotations

import msgspec
import pytest

from mlserve_jupyter.api.profile import (
    MAX_BINS,
    MAX_BYTES,
    MAX_CATEGORY_CHARACTERS,
    MAX_FEATURES,
    FeatureProfile,
    Profile,
    check_profile,
    text_of,
    within_bounds,
)
from mlserve_jupyter.errors import InvalidRequest


def feature(name: str, *categories: str) -> FeatureProfile:
    counts = [0] * (len(categories) + 1)
    return FeatureProfile(name=name, kind="category", categories=list(categories), counts=counts)


def profile(*features: FeatureProfile) -> Profile:
    return Profile(n_rows=100, features=list(features))


def large() -> Profile:
    """Return one of columns that are all of the size that they may have."""
    texts = [f"{i:03}".ljust(MAX_CATEGORY_CHARACTERS, "é") for i in range(MAX_BINS)]
    return profile(*(feature(f"c{i}", *texts) for i in range(MAX_FEATURES)))


def test_a_category_has_as_many_characters_as_values_are_cut_to() -> None:
    text = text_of("é" * 1000)
    assert len(text) == MAX_CATEGORY_CHARACTERS
    for given in (text, text + "é"):
        body = msgspec.json.encode(profile(feature("c", given)))
        if given == text:
            check_profile(msgspec.json.decode(body, type=Profile))
        else:
            with pytest.raises(msgspec.ValidationError, match="length <= 256"):
                msgspec.json.decode(body, type=Profile)


def test_a_profile_that_is_too_large_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="larger than 2 MiB"):
        check_profile(large())


def test_the_kernel_leaves_out_the_last_columns_of_one_that_is_too_large() -> None:
    kept = within_bounds(large())
    check_profile(kept)
    assert kept.features == large().features[: len(kept.features)]
    assert len(msgspec.json.encode(kept)) > MAX_BYTES * 0.9
    small = profile(feature("c", "a"))
    assert within_bounds(small) == small
