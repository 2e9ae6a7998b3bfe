"""Reads an ONNX file before ONNX Runtime does: what an untrusted process wrote is not to be run.

A graph may hold the operators that our own compiler writes, and nothing beside them: no tensors in
other files, no functions, no graphs within graphs. The indices of a tree ensemble are checked, as
ONNX Runtime follows them without looking.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

MAX_GRAPH_BYTES = 256 * 2**20

ALLOWED = {
    "": frozenset({
        "Abs", "Add", "And", "ArgMax", "Cast", "Clip", "Concat", "CumSum", "Div", "Equal",
        "Gather", "Greater", "GreaterOrEqual", "Identity", "IsNaN", "LessOrEqual", "MatMul", "Mul",
        "ReduceMax", "ReduceSum", "Reshape", "Sub", "Where",
    }),
    "ai.onnx.ml": frozenset({"TreeEnsemble"}),
}  # fmt: skip
"""Operators by domain."""

# Fields of onnx.proto, by message.
_MODEL_KNOWN = {1: "ir_version", 2: "producer", 7: "graph", 8: "opset"}
_GRAPH_KNOWN = {1: "node", 2: "name", 5: "initializer", 11: "input", 12: "output"}
_NODE_KNOWN = {1: "input", 2: "output", 4: "op_type", 5: "attribute", 7: "domain"}
_ATTRIBUTE_KNOWN = {1: "name", 3: "i", 5: "t", 8: "ints", 20: "type"}
_TENSOR_KNOWN = {1: "dims", 2: "data_type", 8: "name", 9: "raw_data"}

_Field = tuple[int, int | memoryview]


class GraphRefused(Exception):
    """The file is not one that the server runs; the message says why."""


def check_graph(content: bytes, n_features: int) -> None:
    """Refuse a file that holds anything but what our compiler writes.

    Parameters
    ----------
    content
        The file.
    n_features
        Columns of the input.

    Raises
    ------
    GraphRefused
        Saying what it holds.
    """
    if len(content) > MAX_GRAPH_BYTES:
        raise GraphRefused(f"the graph has more than {MAX_GRAPH_BYTES} bytes")
    try:
        for field, value in _fields(memoryview(content), _MODEL_KNOWN):
            if field == 7:
                _check_main(_message(value), n_features)
    except (IndexError, ValueError, UnicodeDecodeError) as error:
        raise GraphRefused(f"the graph cannot be read: {error}") from None


def _check_main(graph: memoryview, n_features: int) -> None:
    for field, value in _fields(graph, _GRAPH_KNOWN):
        if field == 1:
            _check_node(_message(value), n_features)
        elif field == 5:
            list(_fields(_message(value), _TENSOR_KNOWN))


def _check_node(node: memoryview, n_features: int) -> None:
    op, domain = "", ""
    attributes: dict[str, Any] = {}
    for field, value in _fields(node, _NODE_KNOWN):
        if field == 4:
            op = str(_message(value), "utf-8")
        elif field == 7:
            domain = str(_message(value), "utf-8")
        elif field == 5:
            name, content = _attribute(_message(value))
            if name in attributes:
                raise GraphRefused(f"the attribute {name!r} is given twice")
            attributes[name] = content
    if op not in ALLOWED.get(domain, ()):
        raise GraphRefused(f"the operator {domain or 'ai.onnx'}:{op} is not one that is run here")
    if op == "TreeEnsemble":
        _check_trees(attributes, n_features)


def _attribute(attribute: memoryview) -> tuple[str, int | memoryview]:
    name = ""
    content: int | memoryview | None = None
    for field, value in _fields(attribute, _ATTRIBUTE_KNOWN):
        if field == 1:
            name = str(_message(value), "utf-8")
        elif field == 5:
            content = tensor = _message(value)
            list(_fields(tensor, _TENSOR_KNOWN))
        elif field in (3, 8):
            if content is not None:
                raise GraphRefused(f"the attribute {name!r} has two values")
            content = value
    if content is None:
        raise GraphRefused(f"the attribute {name!r} has no value")
    return name, content


def _check_trees(attributes: dict[str, Any], n_features: int) -> None:
    """Check that every index lies within, and that no path comes back to where it was."""
    import numpy as np

    lists: dict[str, np.ndarray[Any, Any]] = {
        name: _integers(attributes[name])
        for name in (
            "tree_roots", "nodes_featureids", "nodes_truenodeids", "nodes_trueleafs",
            "nodes_falsenodeids", "nodes_falseleafs", "leaf_targetids",
            "nodes_missing_value_tracks_true",
        )
        if name in attributes
    }  # fmt: skip
    tensors = {
        name: _tensor_size(attributes[name])
        for name in ("nodes_splits", "nodes_modes", "leaf_weights")
        if name in attributes
    }
    if len(lists) != 8 or len(tensors) != 3 or not isinstance(attributes.get("n_targets"), int):
        raise GraphRefused("a tree ensemble lacks an attribute")
    n_nodes, n_leaves = len(lists["nodes_featureids"]), len(lists["leaf_targetids"])
    sizes = {len(found) for name, found in lists.items() if name.startswith("nodes_")}
    sizes |= {tensors["nodes_splits"], tensors["nodes_modes"]}
    modes = bytes(_tensor_raw(attributes["nodes_modes"]))
    n_targets = attributes["n_targets"]
    fits = (
        sizes == {n_nodes}
        and tensors["leaf_weights"] == n_leaves
        and not any(modes)
        and 0 < n_targets <= 2**20
        and _within(lists["nodes_featureids"], n_features)
        and _within(lists["tree_roots"], n_nodes)
        and _within(lists["leaf_targetids"], n_targets)
    )
    if fits:
        own = np.arange(n_nodes)
        for side in ("true", "false"):
            child, is_leaf = lists[f"nodes_{side}nodeids"], lists[f"nodes_{side}leafs"]
            inner = is_leaf == 0
            fits &= bool(np.isin(is_leaf, (0, 1)).all()) and _within(child[~inner], n_leaves)
            # Children come after their parents, so that every path ends.
            fits &= _within(child[inner], n_nodes) and bool((child[inner] > own[inner]).all())
    if not fits:
        raise GraphRefused("a tree ensemble points outside itself")


def _within(values: np.ndarray[Any, Any], bound: int) -> bool:
    return not len(values) or bool((values >= 0).all() and (values < bound).all())


def _integers(packed: Any) -> np.ndarray[Any, Any]:
    """Decode packed variable-length integers at once."""
    import numpy as np

    if not isinstance(packed, memoryview):
        raise GraphRefused("a list of integers is not packed")
    data = np.frombuffer(packed, dtype=np.uint8)
    ends = np.flatnonzero(data < 0x80)
    if not len(data):
        return np.zeros(0, dtype=np.int64)
    if not len(ends) or ends[-1] != len(data) - 1:
        raise GraphRefused("a list of integers is cut off")
    starts = np.concatenate([[0], ends[:-1] + 1])
    if (ends - starts).max() > 4:
        raise GraphRefused("an index is larger than any can be")
    place = np.arange(len(data)) - np.repeat(starts, ends - starts + 1)
    groups = (data & 0x7F).astype(np.int64) << (7 * place)
    return np.asarray(np.add.reduceat(groups, starts))


def _tensor_size(tensor: Any) -> int:
    size = 1
    for field, value in _fields(_message(tensor), _TENSOR_KNOWN):
        if field == 1:
            if not isinstance(value, int):
                raise GraphRefused("a tensor's shape is packed")
            size *= value
    return size


def _tensor_raw(tensor: Any) -> memoryview:
    for field, value in _fields(_message(tensor), _TENSOR_KNOWN):
        if field == 9:
            return _message(value)
    raise GraphRefused("a tensor has no content")


def _message(value: Any) -> memoryview:
    if not isinstance(value, memoryview):
        raise GraphRefused("a field has another type than it should")
    return value


def _fields(message: memoryview, known: dict[int, str]) -> Iterator[_Field]:
    """Yield numbers and values of a message's fields; one that is not known is refused."""
    position, end = 0, len(message)
    while position < end:
        key, position = _varint(message, position)
        field, wire_type = key >> 3, key & 7
        if field not in known:
            raise GraphRefused(f"it has a part (field {field}) that is not run here")
        if wire_type == 0:
            number, position = _varint(message, position)
            yield field, number
        elif wire_type == 2:
            size, position = _varint(message, position)
            if position + size > end:
                raise GraphRefused("it is cut off")
            yield field, message[position : position + size]
            position += size
        else:
            raise GraphRefused(f"field {field} is written in a way that is not read here")


def _varint(data: memoryview, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
        if shift > 63:
            raise GraphRefused("a number is too long")
