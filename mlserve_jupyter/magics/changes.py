"""What a new version changes for programs that call the one before it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mlserve_jupyter.api.resources import DescribeVersion
from mlserve_jupyter.api.signature import Column, InputSpec
from mlserve_jupyter.magics.display import counted

_SHOWN = 3
_ALSO_ADMITTED = {("integer", "float"), ("boolean", "any")}
"""Kinds of values, before and now, that the new kind takes as well."""


def change_for_callers(before: DescribeVersion, now: DescribeVersion) -> str | None:
    """Say in one line what calls that were written for a version meet in the next; None if nothing.

    Parameters
    ----------
    before
        The newest active version that there was.
    now
        The one that answers from now on.
    """
    refused = next(_refused(before, now), None)
    if refused is not None:
        was, is_now = refused
        return (
            f"version {before.version} took {was}, this one takes {is_now}: calls that were "
            "written for it will be refused"
        )
    if before.method != now.method:
        return (
            f"version {before.version} answered with `{before.method}`, this one with "
            f"`{now.method}`: calls that name no method get other answers"
        )
    return None


def _refused(before: DescribeVersion, now: DescribeVersion) -> Iterator[tuple[str, str]]:
    """Give what was taken and what is, where the two do not agree, the plainest first."""
    old, new = before.signature.inputs, now.signature.inputs
    if len(old.shape) == len(new.shape) == 2:
        yield from _other_columns(old, new, drops=now.extra_columns == "drop")
    elif old.shape[1:] != new.shape[1:]:
        yield _shape(old), _shape(new)
    for was, column in _pairs(old, new):
        if was.kind != column.kind and (was.kind, column.kind) not in _ALSO_ADMITTED:
            yield f"{_named(old, was)} as {was.dtype}", column.dtype
        if was.nullable and not column.nullable:
            yield f"missing values in {_named(old, was)}", "none there"


def _other_columns(old: InputSpec, new: InputSpec, *, drops: bool) -> Iterator[tuple[str, str]]:
    known, wanted = {each.name for each in old.columns}, {each.name for each in new.columns}
    gone = [each.name for each in old.columns if each.name not in wanted]
    added = [each.name for each in new.columns if each.name not in known and not each.nullable]
    is_by_name = old.container == "dataframe"
    if old.shape != new.shape and not (is_by_name and not added and (drops or not gone)):
        yield counted(old.shape[1] or 0, "column"), str(new.shape[1])
    elif is_by_name and gone and added:
        yield _listed(gone), _listed(added)


def _pairs(old: InputSpec, new: InputSpec) -> Iterator[tuple[Column, Column]]:
    if old.container == "dataframe":
        by_name = {column.name: column for column in new.columns}
        for column in old.columns:
            if column.name in by_name:
                yield column, by_name[column.name]
    elif len(old.columns) == len(new.columns):
        yield from zip(old.columns, new.columns, strict=True)


def _shape(inputs: InputSpec) -> str:
    if len(inputs.shape) == 1:
        return "single values"
    return "rows of " + " × ".join(str(size) for size in inputs.shape[1:])


def _named(inputs: InputSpec, column: Column) -> str:
    return f"the column {column.name!r}" if len(inputs.shape) == 2 else "its values"


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:_SHOWN])
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{'the column' if len(names) == 1 else 'the columns'} {shown}{more}"
