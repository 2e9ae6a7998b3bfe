"""Reads the line behind ``%mlserve``: words, Python expressions and options.

An expression may hold blanks inside brackets and quotes, such as
``deploy clf --sample df[["age", "income"]] --note "first try"``.
"""

from __future__ import annotations

import ast
import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from mlserve_jupyter.errors import InvalidUsage

Kind = Literal["text", "list", "expression", "integer", "flag"]
Completes = Literal["models", "servables", "frames", "methods", "versions", "keys", "nothing"]


_VALUES = {"text": "TEXT", "list": "TEXT,…", "expression": "PYTHON", "integer": "N"}


@dataclass(frozen=True)
class Argument:
    """An argument of a subcommand.

    Attributes
    ----------
    name
        ``--like-this`` for an option, ``LIKE_THIS`` for one that goes by its place and must be
        given, ``[LIKE_THIS]`` for one that goes by its place and need not.
    help
        One sentence.
    kind
        ``expression`` arguments are Python, evaluated in the notebook; a ``list`` is texts with
        commas between; a ``flag`` has no value.
    choices
        The only values that a ``text`` argument, or an item of a list, may have; empty means any.
    completes
        What Tab offers for it, besides the choices.
    value
        The word for its value in a usage line; empty takes that of its kind.
    """

    name: str
    help: str
    kind: Kind = "text"
    choices: tuple[str, ...] = ()
    completes: Completes = "nothing"
    value: str = ""

    @property
    def is_option(self) -> bool:
        """Whether it goes by its name."""
        return self.name.startswith("--")

    @property
    def must_be_given(self) -> bool:
        """Whether a line without it is wrong."""
        return not self.is_option and not self.name.startswith("[")

    @property
    def key(self) -> str:
        """The name as a Python identifier."""
        return self.name.lstrip("-").strip("[]").replace("-", "_").lower()

    @property
    def shown(self) -> str:
        """The argument in a usage line."""
        if not self.is_option:
            return self.name
        if self.kind == "flag":
            return f"[{self.name}]"
        return f"[{self.name} {self.value or '|'.join(self.choices) or _VALUES[self.kind]}]"


TARGET = Argument(
    "--to",
    "URL of another server than the notebook's own, or its name among the targets.",
    value="URL",
)


@dataclass(frozen=True)
class Usage:
    """What a subcommand takes.

    Attributes
    ----------
    name
        The subcommand.
    summary
        One sentence.
    arguments
        In the order in which they are given and shown.
    """

    name: str
    summary: str
    arguments: tuple[Argument, ...]

    @property
    def line(self) -> str:
        """The usage in one line."""
        return " ".join(["%mlserve", self.name, *(argument.shown for argument in self.arguments)])

    @property
    def help(self) -> str:
        """The usage with a line for each argument."""
        width = max(len(argument.name) for argument in self.arguments)
        lines = [self.line, "", self.summary, ""]
        lines += [f"  {a.name:{width}}  {a.help}" for a in self.arguments]
        return "\n".join(lines)

    def parse(self, line: str, variables: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Read a line into values by the arguments' keys; those not given are left out.

        Expressions stay text, to be evaluated in the notebook (values differ by kind, hence
        ``Any``). In all other values ``{name}`` and ``$name`` are filled in from ``variables``, as
        in IPython's own magics.

        Raises
        ------
        InvalidUsage
            Naming the word that is wrong, with the usage.
        """
        words = split(line)
        variables = {} if variables is None else variables
        values: dict[str, Any] = {}
        places = [argument for argument in self.arguments if not argument.is_option]
        while words:
            word = words.pop(0)
            if word.startswith("--"):
                name, equals, value = word.partition("=")
                argument = self._option(name)
                if argument.key in values:
                    raise self._wrong(f"{name} is given twice")
                if argument.kind == "flag":
                    if equals:
                        raise self._wrong(f"{name} takes no value")
                    values[argument.key] = True
                    continue
                if not equals:
                    if not words or words[0].startswith("--"):
                        raise self._wrong(f"{name} needs a value")
                    value = words.pop(0)
            elif places:
                argument, value = places.pop(0), word
            else:
                raise self._wrong(
                    f"{word!r} is one word too many (a text or an expression with blanks goes in "
                    "quotes or parentheses)"
                )
            values[argument.key] = self._value(argument, value, variables)
        if places and places[0].must_be_given:
            raise self._wrong(f"{places[0].name} is missing")
        return values

    def _option(self, name: str) -> Argument:
        options = {argument.name: argument for argument in self.arguments if argument.is_option}
        if name not in options:
            raise self._wrong(f"there is no option {name}{nearest(name, list(options))}")
        return options[name]

    def _value(self, argument: Argument, word: str, variables: Mapping[str, Any]) -> Any:
        if argument.kind == "expression":
            return word
        text = filled_in(unquoted(word), variables)
        if argument.kind == "integer":
            if not text.isdecimal():
                raise self._wrong(f"{argument.name} takes a whole number, not {text!r}")
            return int(text)
        items = [item.strip() for item in text.split(",")] if argument.kind == "list" else [text]
        for item in items:
            if argument.choices and item not in argument.choices:
                raise self._wrong(
                    f"{argument.name} is one of {', '.join(argument.choices)}, not {item!r}"
                )
        return items if argument.kind == "list" else text

    def _wrong(self, what: str) -> InvalidUsage:
        return InvalidUsage(f"{what}: `%mlserve {self.name} --help` shows what it takes.")


def split(line: str) -> list[str]:
    """Split a line into words at blanks outside brackets and quotes, up to a ``# comment``.

    Raises
    ------
    InvalidUsage
        A bracket or a quote is not closed.
    """
    words, word, missing = split_open(line)
    if missing:
        raise InvalidUsage(f"a {missing} is missing in `{line.strip()}`.")
    return [*words, word] if word else words


def split_open(line: str) -> tuple[list[str], str, str]:
    """Split a line that may go on, as :func:`split` does.

    Returns
    -------
    words
        Those that have ended.
    word
        The one at the end of the line; empty behind a blank.
    missing
        The quote or bracket that has to be closed; empty where there is none.
    """
    words: list[str] = []
    word = ""
    closers: list[str] = []
    quote = ""
    position = 0
    while position < len(line):
        char = line[position]
        if quote:
            if char == "\\":
                word += line[position : position + 2]
                position += 2
                continue
            if char == quote:
                quote = ""
        elif char in "\"'":
            quote = char
        elif char == "#" and not word and not closers:
            break
        elif char in "([{":
            closers.append({"(": ")", "[": "]", "{": "}"}[char])
        elif closers and char == closers[-1]:
            closers.pop()
        elif char.isspace() and not closers:
            if word:
                words.append(word)
            word = ""
            position += 1
            continue
        word += char
        position += 1
    return words, word, quote or (closers[-1] if closers else "")


def unquoted(word: str) -> str:
    """Take the quotes off a text that is in quotes."""
    if len(word) >= 2 and word[0] in "\"'" and word[-1] == word[0]:
        try:
            return str(ast.literal_eval(word))
        except (SyntaxError, ValueError):
            return word[1:-1]
    return word


def filled_in(text: str, variables: Mapping[str, Any]) -> str:
    """Fill ``{expression}`` and ``$name`` in as IPython does; what is unknown stays as it is."""
    if "{" not in text and "$" not in text:
        return text
    from IPython.utils.text import DollarFormatter

    try:
        return str(DollarFormatter().vformat(text, (), dict(variables)))
    except Exception:  # an expression of the user's may raise anything, and may be none at all
        return text


def nearest(name: str, names: Sequence[str]) -> str:
    """Propose the nearest of the names that there are, in words to be put into a message."""
    found = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f" (did you mean {found[0]}?)" if found else ""
