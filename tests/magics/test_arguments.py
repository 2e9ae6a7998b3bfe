"""The line behind the magic: words, expressions, options and what is said of mistakes."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlserve_jupyter.errors import InvalidUsage
from mlserve_jupyter.magics.arguments import Argument, Usage, nearest, split
from mlserve_jupyter.magics.subcommands import SUBCOMMANDS, overview, subcommand

USAGE = Usage(
    "deploy",
    "Serve.",
    (
        Argument("OBJ", "The object.", kind="expression"),
        Argument("--sample", "Rows.", kind="expression"),
        Argument("--note", "A text."),
        Argument("--version", "A number.", kind="integer"),
        Argument("--runtime", "How.", choices=("auto", "native")),
        Argument("--no-verify", "Quick.", kind="flag"),
    ),
)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("clf", ["clf"]),
        ("  clf   --name wine ", ["clf", "--name", "wine"]),
        ('clf --sample df[["a", "b"]]', ["clf", "--sample", 'df[["a", "b"]]']),
        ("make(1, 2) --note 'two words'", ["make(1, 2)", "--note", "'two words'"]),
        ('clf --note "it\'s (fine"', ["clf", "--note", '"it\'s (fine"']),
        (r"clf --note 'a \' b'", ["clf", "--note", r"'a \' b'"]),
        ("clf {'a': [1, 2]}", ["clf", "{'a': [1, 2]}"]),
        ("clf --note x # a 'comment", ["clf", "--note", "x"]),
        ("clf --note '# none' X[#]", ["clf", "--note", "'# none'", "X[#]"]),
    ],
)
def test_blanks_inside_brackets_and_quotes_do_not_split(line: str, words: list[str]) -> None:
    assert split(line) == words


@pytest.mark.parametrize("line", ["clf --sample X[:3", "clf --note 'open"])
def test_a_bracket_or_quote_that_is_not_closed_is_named(line: str) -> None:
    with pytest.raises(InvalidUsage, match="is missing in"):
        split(line)


def test_what_goes_by_its_place_in_brackets_may_be_left_out() -> None:
    usage = Usage("stats", "Say.", (Argument("[NAME]", "A model."), Argument("--note", "A text.")))
    assert usage.parse("") == {}
    assert usage.parse("--note x wine") == {"note": "x", "name": "wine"}
    assert usage.line == "%mlserve stats [NAME] [--note TEXT]"
    with pytest.raises(InvalidUsage, match="'beer' is one word too many"):
        usage.parse("wine beer")


def test_options_come_in_any_order_and_with_either_sign() -> None:
    line = "--runtime=native --no-verify clf --version 3 --note 'two words' --sample X[:3]"
    assert USAGE.parse(line) == {
        "obj": "clf",
        "runtime": "native",
        "no_verify": True,
        "version": 3,
        "note": "two words",
        "sample": "X[:3]",
    }


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("", "OBJ is missing"),
        ("clf X", "'X' is one word too many"),
        ("clf --sampel X", r"no option --sampel \(did you mean --sample\?\): `"),
        ("clf --note", "--note needs a value"),
        ("clf --note --no-verify", "--note needs a value"),
        ("clf --version two", "whole number, not 'two'"),
        ("clf --runtime fast", "one of auto, native, not 'fast'"),
        ("clf --no-verify=1", "takes no value"),
        ("clf --note a --note b", "--note is given twice"),
        ("clf --no-verify --no-verify", "--no-verify is given twice"),
    ],
)
def test_a_mistake_is_said_with_the_usage(line: str, said: str) -> None:
    with pytest.raises(InvalidUsage, match=said) as caught:
        USAGE.parse(line)
    assert "`%mlserve deploy --help`" in str(caught.value)
    assert len(str(caught.value)) < 160


def test_an_unknown_subcommand_proposes_the_nearest() -> None:
    with pytest.raises(InvalidUsage, match=r"'deplyo' \(did you mean deploy\?\)\. There"):
        subcommand("deplyo")


def test_nothing_is_proposed_for_what_is_like_nothing() -> None:
    assert nearest("zzz", list(SUBCOMMANDS)) == ""


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_every_subcommand_has_help_and_a_function_of_its_name(name: str) -> None:
    found = SUBCOMMANDS[name]
    assert found.usage.name == name
    assert found.function.__name__ == name.split()[-1]
    assert found.usage.help.startswith(f"%mlserve {name}")
    assert all(argument.name in found.usage.help for argument in found.usage.arguments)
    assert found.usage.summary in overview()


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_every_subcommand_and_argument_is_documented(name: str) -> None:
    text = (Path(__file__).parents[2] / "docs" / "magics.md").read_text()
    section = text.partition(f"\n## {name}\n")[2].partition("\n## ")[0]
    assert f"%mlserve {name}" in section
    assert all(argument.name in section for argument in SUBCOMMANDS[name].usage.arguments)


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_the_function_takes_what_the_magic_takes(name: str) -> None:
    import inspect

    taken = set(inspect.signature(SUBCOMMANDS[name].function).parameters)
    offered = {argument.key for argument in SUBCOMMANDS[name].usage.arguments}
    if "no_verify" in offered:
        offered = offered - {"no_verify"} | {"verify"}
    assert offered == taken


def test_variables_are_filled_into_words_and_never_into_python() -> None:
    variables = {"nm": "wine", "number": 3, "models": {"a": 1}}
    line = "models[{'a': 'b'}['a']] --note {nm}-{number} --version $number"
    assert USAGE.parse(line, variables) == {
        "obj": "models[{'a': 'b'}['a']]",
        "note": "wine-3",
        "version": 3,
    }
    unknown = USAGE.parse("clf --note '{unknown} costs $5 {'", variables)
    assert unknown["note"] == "{unknown} costs $5 {"


@pytest.mark.parametrize(
    ("name", "said"),
    [("delete", "use `%mlserve archive NAME`"), ("restore", "--undo")],
)
def test_names_that_others_use_lead_to_ours(name: str, said: str) -> None:
    with pytest.raises(InvalidUsage, match=said):
        subcommand(name)
