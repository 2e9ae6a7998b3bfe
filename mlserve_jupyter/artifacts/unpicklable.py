"""Where in an object the part is that cannot be pickled, in words a notebook's owner understands.

Used only once packing has failed, so that it may try the parts one by one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import FunctionType, GeneratorType, ModuleType
from typing import Any

from mlserve_jupyter.artifacts.references import PICKLING_ERRORS, references_of

_KINDS = {
    "_thread.lock": "a thread lock",
    "_thread.RLock": "a thread lock",
    "_io.TextIOWrapper": "an open file",
    "_io.BufferedReader": "an open file",
    "_io.BufferedWriter": "an open file",
    "_io.FileIO": "an open file",
    "sqlite3.Connection": "a database connection",
    "_socket.socket": "a network connection",
    "socket.socket": "a network connection",
    "_queue.SimpleQueue": "a queue",
}


def where_unpicklable(obj: Any) -> str:
    """Describe the part of ``obj`` (a user's model, hence ``Any``) that cannot be pickled.

    Returns
    -------
    str
        The way to the part and what it is, such as
        ``step 'scaler' → attribute `lock`: a thread lock``.
    """
    steps: list[str] = []
    seen = {id(obj)}
    part = obj
    while len(steps) < 50:
        for step, child in _children(part):
            if id(child) not in seen and not _is_picklable(child):
                seen.add(id(child))
                steps.append(step)
                part = child
                break
        else:
            break
    way = " → ".join(step for step in steps if step)
    return f"{way}: {_kind(part)}" if way else _kind(part)


def _is_picklable(part: Any) -> bool:
    try:
        references_of(part)
    except PICKLING_ERRORS:
        return False
    return True


def _children(part: Any) -> Iterator[tuple[str, Any]]:
    """Give the parts of a part, each with the words that lead there."""
    if isinstance(part, Mapping):
        for key, value in part.items():
            yield f"key {key!r}", value
    elif isinstance(part, list | tuple | set | frozenset):
        for position, item in enumerate(part):
            yield from _item(position, item)
    elif isinstance(part, FunctionType):
        for name, cell in zip(part.__code__.co_freevars, part.__closure__ or (), strict=True):
            yield f"variable `{name}`", cell.cell_contents
        for name in part.__code__.co_names:
            if name in part.__globals__:
                yield f"global `{name}`", part.__globals__[name]
    elif isinstance(part, type | ModuleType):
        for name, value in vars(part).items():
            if not name.startswith("__") or name == "__init__":
                yield f"attribute `{name}`", value
    elif not isinstance(part, GeneratorType):
        for name, value in getattr(part, "__dict__", {}).items():
            yield f"attribute `{name}`" if name not in ("steps", "transformers") else "", value
        yield "its class", type(part)


def _item(position: int, item: Any) -> Iterator[tuple[str, Any]]:
    """Give a list's item; the ``(name, estimator)`` pairs of pipelines go by their name."""
    if isinstance(item, tuple) and len(item) in (2, 3) and isinstance(item[0], str):
        for member in item[1:]:
            yield f"step {item[0]!r}", member
    else:
        yield f"item {position}", item


def _kind(part: Any) -> str:
    """Say what a part is."""
    name = f"{type(part).__module__}.{type(part).__qualname__}"
    if name in _KINDS:
        return _KINDS[name]
    if isinstance(part, GeneratorType):
        return f"the generator `{part.__qualname__}`"
    return f"an object of type {name.removeprefix('builtins.').removeprefix('__main__.')}"
