from __future__ import annotations

import pytest

from mlserve_jupyter.api.log_policy import LogChanges, LogPolicy
from mlserve_jupyter.errors import InvalidUsage
from mlserve_jupyter.magics.policy_words import changes_of, policy_words


@pytest.mark.parametrize(
    ("log", "without", "changes"),
    [
        ("all", None, LogChanges(share=1)),
        ("none", None, LogChanges(share=0)),
        ("no-inputs", None, LogChanges(inputs=False)),
        ("inputs", None, LogChanges(inputs=True)),
        ("10%", None, LogChanges(share=0.1)),
        ("0.1", None, LogChanges(share=0.1)),
        (0.005, None, LogChanges(share=0.005)),
        (None, ["a", "b"], LogChanges(without=["a", "b"])),
        ("50%", ["a"], LogChanges(share=0.5, without=["a"])),
        (None, [], LogChanges(without=[])),
        (None, [""], LogChanges(without=[])),
    ],
)
def test_what_changes_of_the_log_is_written_and_the_rest_is_not_mentioned(
    log: str | float | None, without: list[str] | None, changes: LogChanges
) -> None:
    assert changes_of(log, without) == changes


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        (LogPolicy(), "all calls"),
        (LogPolicy(share=0), "no calls, which are only counted"),
        (LogPolicy(share=0, inputs=False, without=["a"]),
         "no calls, which are only counted (still left out: their inputs, a)"),
        (LogPolicy(inputs=False), "all calls, without their inputs"),
        (LogPolicy(inputs=False, without=["a", "b"]),
         "all calls, without their inputs (a, b would be left out of them)"),
        (LogPolicy(share=0.1), "10 % of the calls, at random"),
        (LogPolicy(share=0.5, without=["a"]), "50 % of the calls, at random, without a"),
    ],
)  # fmt: skip
def test_what_is_logged_and_what_is_left_out_is_said(policy: LogPolicy, words: str) -> None:
    assert policy_words(policy) == words


@pytest.mark.parametrize("log", ["", "some", "101%", "-1%", "10", "ten%", 1.5, float("nan")])
def test_what_cannot_be_logged_is_refused(log: str | float) -> None:
    with pytest.raises(InvalidUsage, match="cannot be logged"):
        changes_of(log, None)


def test_nothing_said_is_no_change() -> None:
    assert changes_of(None, None) is None
    with pytest.raises(InvalidUsage, match="list of columns"):
        changes_of(None, "email")
