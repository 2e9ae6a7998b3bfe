from __future__ import annotations

import math

import pytest

from mlserve_jupyter.api.compare import compare_answers


@pytest.mark.parametrize(
    ("expected", "got"),
    [
        (b"[1, 2.5]", b"[1,2.5]"),
        (b'{"a": 1, "b": [null, "x"]}', b'{"b": [null, "x"], "a": 1}'),
        (b"9007199254740993", b"9007199254740993 "),
    ],
)
def test_equal_answers_are_equal_however_they_are_written(expected, got):
    comparison = compare_answers(expected, got)
    assert (comparison.equal, comparison.max_abs_difference) == (True, 0.0)


def test_the_largest_difference_of_numbers_is_reported_with_its_place():
    comparison = compare_answers(b"[[1.0, 2.0], [3.0, 4.0]]", b"[[1.0, 2.5], [3.0, 4.25]]")
    assert not comparison.equal
    assert comparison.max_abs_difference == 0.5
    assert comparison.where == "predictions[0][1]"
    assert (comparison.expected, comparison.got) == ("2.0", "2.5")


def test_integers_are_compared_in_all_digits():
    comparison = compare_answers(b"[9007199254740992]", b"[9007199254740993]")
    assert (comparison.equal, comparison.max_abs_difference) == (False, 1.0)


def test_floats_are_compared_bit_for_bit():
    assert not compare_answers(b"[0.0]", b"[-0.0]").equal
    assert not compare_answers(b"[0.1]", b"[0.10000000000000002]").equal


@pytest.mark.parametrize(
    ("expected", "got", "where"),
    [
        (b"[1, 2]", b"[1, 2, 3]", "predictions"),
        (b'["a"]', b'["b"]', "predictions[0]"),
        (b"[1]", b"[1.0]", "predictions[0]"),
        (b"[true]", b"[1]", "predictions[0]"),
        (b"[true]", b"[false]", "predictions[0]"),
        (b'[1.0, "NaN"]', b"[1.0, null]", "predictions[1]"),
        (b'{"a": 1}', b'{"b": 1}', "predictions"),
        (b'{"a": {"b": "x"}}', b'{"a": {"b": "y"}}', "predictions['a']['b']"),
    ],
)
def test_other_differences_are_infinite_and_named(expected, got, where):
    comparison = compare_answers(expected, got)
    assert not comparison.equal
    assert math.isinf(comparison.max_abs_difference)
    assert comparison.where == where


def test_the_first_other_difference_is_named_even_after_one_of_numbers():
    comparison = compare_answers(b'[1.0, "a", "c"]', b'[2.0, "b", "d"]')
    assert comparison.where == "predictions[1]"


def test_long_values_are_shortened():
    comparison = compare_answers(b'"' + b"a" * 500 + b'"', b'"b"')
    assert comparison.expected is not None
    assert len(comparison.expected) == 80
