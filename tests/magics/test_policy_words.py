from __future__ import annotations

import pytest

from mlserve_jupyter.api.log_policy import LogPolicy
from mlserve_jupyter.errors import InvalidUsage
from mlserve_jupyter.magics.policy_words import policy_of, policy_words


@pytest.mark.parametrize(
    ("log", "without", "policy", "words"),
    [
        ("all", None, LogPolicy(), "all calls"),
        ("none", None, LogPolicy(share=0), "no calls, which are only counted"),
        ("no-inputs", None, LogPolicy(inputs=False), "all calls, without their inputs"),
        ("10%", None, LogPolicy(share=0.1), "10 % of the calls, at random"),
        (0.005, None, LogPolicy(share=0.005), "0.5 % of the calls, at random"),
        (None, ["a", "b"], LogPolicy(without=["a", "b"]), "all calls, without a, b"),
        ("50%", ["a"], LogPolicy(share=0.5, without=["a"]), 
         "50 % of the calls, at random, without a"),
    ],
)  # fmt: skip
def test_what_is_logged_is_written_and_said(
    log: str | float | None, without: list[str] | None, policy: LogPolicy, words: str
) -> None:
    assert policy_of(log, without) == policy
    assert policy_words(policy) == words


@pytest.mark.parametrize("log", ["", "some", "101%", "-1%", "10", "ten%", 1.5, float("nan")])
def test_what_cannot_be_logged_is_refused(log: str | float) -> None:
    with pytest.raises(InvalidUsage, match="cannot be logged"):
        policy_of(log, None)


def test_nothing_said_is_no_policy() -> None:
    assert policy_of(None, None) is None
    with pytest.raises(InvalidUsage, match="list of columns"):
        policy_of(None, "email")
