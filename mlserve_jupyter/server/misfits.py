"""What is said of arguments and bodies that are not as a route takes them: what would be."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from mlserve_jupyter.api.nearest import nearest_names
from mlserve_jupyter.errors import InvalidRequest, MLServeError, NotebookError


def unknown_name(what: str, name: str, known: Iterable[str]) -> str:
    """Say that there is no such name, and what the nearest is, or which there are.

    Parameters
    ----------
    what
        Such as ``This route has no argument``.
    """
    known = list(known)
    near = nearest_names(name, known)
    if near:
        advice = f"Did you mean {near[0]!r}?"
    else:
        advice = f"It takes {', '.join(known)}." if known else "It takes none."
    return f"{what} {name[:40]!r}. {advice}"


def check_code(argument: str, given: str | None, others: Iterable[str]) -> None:
    """Refuse a query argument that is no error's code, and none of the others that it may be.

    Raises
    ------
    InvalidRequest
        Naming the nearest.
    """
    others = tuple(others)
    codes = {kind.code for kind in _all_below(MLServeError)}
    if given is None or given in others or given in codes:
        return
    near = nearest_names(given, (*others, *sorted(codes)))
    meant = f" Did you mean {near[0]!r}?" if near else ""
    raise InvalidRequest(
        f"{argument!r} must be {', '.join(map(repr, others))} or the code of an error, not "
        f"{given[:40]!r}.{meant}"
    )


def _all_below(kind: type[MLServeError]) -> Iterator[type[MLServeError]]:
    """Give the classes of errors that a server answers with."""
    for each in kind.__subclasses__():
        if each is not NotebookError:
            yield each
            yield from _all_below(each)


def misfit(
    kind: type, error: msgspec.ValidationError, given: Mapping[str, object] | None = None
) -> str | None:
    """Say which of a wire type's members does not fit, and what would.

    Parameters
    ----------
    given
        What was to be converted, to be quoted; None for what may be secret or long.

    Returns
    -------
    str or None
        None where the error lies deeper, or is of another kind.
    """
    if not isinstance(kind, type) or not issubclass(kind, msgspec.Struct):
        return None
    fields = {each.encode_name: each for each in msgspec.structs.fields(kind)}
    said = str(error)
    if found := re.fullmatch(r"Object contains unknown field `(.*)`", said, re.DOTALL):
        return unknown_name("There is no", found[1], fields)
    if found := re.fullmatch(r"Object missing required field `(\w+)`", said):
        wanted = _in_words(kind, found[1])
        return f"{found[1]!r} is missing{f': {wanted}' if wanted else ''}."
    if found := re.search(r" - at `\$\.(\w+)`$", said):
        name = found[1]
        wanted = _in_words(kind, name)
        if wanted is not None:
            came = "" if given is None else f", not {str(given.get(name))[:40]!r}"
            return f"{name!r} must be {wanted}{came}."
    return None


def _in_words(kind: type[msgspec.Struct], name: str) -> str | None:
    """Say what a member may be; None for what has no short words."""
    inspected: Any = msgspec.inspect.type_info(kind)  # of several classes, hence ``Any``
    found = next(field.type for field in inspected.fields if field.encode_name == name)
    options = found.types if isinstance(found, msgspec.inspect.UnionType) else (found,)
    words = [word for word in map(_type_in_words, options) if word]
    return " or ".join(words) or None


def _type_in_words(option: Any) -> str | None:
    """Name one of ``msgspec.inspect``'s types, which share no base that says more than ``Any``."""
    if isinstance(option, msgspec.inspect.Metadata):
        return _type_in_words(option.type)
    if isinstance(option, msgspec.inspect.LiteralType):
        return " or ".join(repr(value) for value in option.values)
    if isinstance(option, msgspec.inspect.BoolType):
        return "true or false"
    if isinstance(option, msgspec.inspect.IntType):
        return f"an integer{_bounds(option)}"
    if isinstance(option, msgspec.inspect.FloatType):
        return f"a number{_bounds(option)}"
    if isinstance(option, msgspec.inspect.StrType):
        longest = option.max_length
        return "a text" + (f" of at most {longest} characters" if longest else "")
    return None


def _bounds(option: Any) -> str:
    least, most = option.ge, option.le
    if least is not None and most is not None:
        return f" from {least:,} to {most:,.0f}" if most < 1e6 else f" from {least:,} on"
    return ""
