"""Calls a model of the notebook without changing the data that the notebook has."""

from __future__ import annotations

import copy
import re
import sys
import warnings
from typing import Any

_MAX_REASON_CHARS = 300
_LIST = re.compile(r"\n([^\n-][^\n]*:)\n((?:- [^\n]*)(?:\n- [^\n]*)*)")
_PRINTED_ARRAY = re.compile(r"\[[\[\s]*[-+\d][-+\d.e,\s\[\]…]{30,}[\]\d.…]")


def call_on_copy(model: Any, method: str, rows: Any) -> Any:
    """Call ``model.<method>`` with rows of its own, without warnings (all are a user's: ``Any``).

    Models and functions that work in place would otherwise change the notebook's variables, and
    the rows that the next method is asked with.

    Raises
    ------
    Exception
        Whatever the model raises.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        own = own_copy(rows)
        return model(own) if method == "__call__" else getattr(model, method)(own)


def own_copy(rows: Any) -> Any:
    """Copy rows with everything in them, lying in memory as they lie.

    The order in memory matters because sums over a row differ in the last bit between the two.
    """
    pandas = sys.modules.get("pandas")
    if pandas is None or not isinstance(rows, pandas.DataFrame | pandas.Series):
        return copy.deepcopy(rows)
    # pandas' own deep copy neither copies the objects in a column nor keeps the order in memory.
    make, arguments, state = rows.__reduce_ex__(4)[:3]
    copied = make(*copy.deepcopy(arguments))
    copied.__setstate__(copy.deepcopy(state))
    return copied


def in_short(error: BaseException) -> str:
    """Say in one line what a model raised, without the arrays that it prints.

    Of what is behind the first line, only lists with a heading stay: scikit-learn names the columns
    so that are missing or unknown.
    """
    text = str(error).strip()
    line = _PRINTED_ARRAY.sub("[…]", text.partition("\n")[0])[:_MAX_REASON_CHARS].rstrip(" :")
    lists = [
        f"{heading} {', '.join(items.removeprefix('- ').split(chr(10) + '- '))}"
        for heading, items in _LIST.findall(text)
    ]
    if lists:
        line = f"{line.rstrip('.')}. {'; '.join(lists)}"[: 2 * _MAX_REASON_CHARS]
    return f"{type(error).__name__}: {line}" if line else type(error).__name__
