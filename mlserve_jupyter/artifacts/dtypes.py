"""Names of dtypes from which the very same dtype can be built again, and the kinds they are."""

from __future__ import annotations

import re
import sys
from typing import Any

import numpy as np

from mlserve_jupyter.api.signature import Kind

_KINDS: tuple[tuple[str, Kind], ...] = (
    (r"category", "category"),
    (r"str(ing)?(\[(python|pyarrow)\])?|StringDType.*|[<>|=]?U\d+|.*(string|utf8).*", "string"),
    (r".*(datetime64|timestamp|[<>]M8).*", "datetime"),
    (r".*(timedelta64|duration|[<>]m8).*", "timedelta"),
    (r"(Sparse\[)?(bool|boolean)\b.*", "boolean"),
    (r"(Sparse\[)?(u?int\d+|U?Int\d+|[<>][iu]\d)\b.*", "integer"),
    (r"(Sparse\[)?(float|Float|double|halffloat|[<>]f)\d*\b.*", "float"),
)


def kind_of(dtype: str) -> Kind:
    """Tell the kind of values that a dtype of this name holds; ``any`` where it does not say."""
    for pattern, kind in _KINDS:
        if re.fullmatch(pattern, dtype):
            return kind
    return "any"


def dtype_name(dtype: Any) -> str:
    """Name a numpy or pandas dtype (hence ``Any``) so that :mod:`.arrays` can build it again.

    It is the ``str`` of the dtype, except that pandas' string dtypes say their storage where it
    is not the usual one.
    """
    if isinstance(dtype, np.dtype):
        return str(dtype)
    pandas = sys.modules.get("pandas")
    if pandas is not None and isinstance(dtype, pandas.StringDtype):
        return _string_name(dtype, pandas)
    arrow = getattr(dtype, "pyarrow_dtype", None)
    if arrow is not None and str(dtype) == "string[pyarrow]":
        # That name is taken by pandas' own string dtype.
        return "utf8[pyarrow]"
    return str(dtype)


def _string_name(dtype: Any, pandas: Any) -> str:
    if dtype.na_value is pandas.NA:
        usual, family = pandas.StringDtype().storage, "string"
    else:
        usual, family = pandas.StringDtype(na_value=np.nan).storage, "str"
    return family if dtype.storage == usual else f"{family}[{dtype.storage}]"
