"""Writes an ONNX graph, so that the model's own environment needs no converter for it.

ONNX files are Protocol Buffers; the few messages that a graph of one input needs are written here
field by field, after ``onnx.proto`` of ONNX 1.16 (IR version 10).
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

IR_VERSION = 10
OPSETS = {"": 21, "ai.onnx.ml": 5}
"""Operators by domain; 5 of ``ai.onnx.ml`` has tree ensembles in double precision."""

INPUT = "x"

DOUBLE = 11
_ELEMENT_TYPES = {"float32": 1, "uint8": 2, "int64": 7, "bool": 9, "float64": DOUBLE}

_FLOAT, _INT, _STRING, _TENSOR, _INTS = 1, 2, 3, 4, 7

Array = np.ndarray[Any, np.dtype[Any]]
Attribute = int | float | str | Array


class GraphBuilder:
    """A graph of double precision with one input of shape ``(n_rows, n_features)``.

    Parameters
    ----------
    n_features
        Columns of the input.

    Attributes
    ----------
    n_features
        The same.
    """

    def __init__(self, n_features: int) -> None:
        self.n_features = n_features
        self._nodes: list[bytes] = []
        self._initializers: list[bytes] = []
        self._outputs: list[bytes] = []
        self._n_names = 0

    def constant(self, value: Array) -> str:
        """Add an initializer and return its name."""
        name = self._name("c")
        self._initializers.append(_length(5, _tensor(np.asarray(value), name)))
        return name

    def node(self, op: str, *inputs: str, domain: str = "", **attributes: Attribute) -> str:
        """Add an operator of one output and return the output's name.

        A one-dimensional int64 array becomes a list of integers, any other array a tensor.
        """
        output = self._name("t")
        parts = [_text(1, name) for name in inputs]
        parts += [_text(2, output), _text(4, op)]
        parts += [_length(5, _attribute(name, value)) for name, value in attributes.items()]
        if domain:
            parts.append(_text(7, domain))
        self._nodes.append(_length(1, b"".join(parts)))
        return output

    def output(self, value: str, name: str, dtype: str, n_columns: int | None) -> None:
        """Make a value an output of the graph: ``(n_rows,)``, or with columns ``(n_rows, n)``."""
        parts = [_text(1, value), _text(2, name), _text(4, "Identity")]
        self._nodes.append(_length(1, b"".join(parts)))
        self._outputs.append(_length(12, _value_info(name, _ELEMENT_TYPES[dtype], n_columns)))

    def finish(self) -> bytes:
        """Return the file's content."""
        graph = b"".join(
            [
                *self._nodes,
                _text(2, "model"),
                *self._initializers,
                _length(11, _value_info(INPUT, DOUBLE, self.n_features)),
                *self._outputs,
            ]
        )
        opsets = [
            _length(8, _text(1, domain) + _integer(2, version))
            for domain, version in OPSETS.items()
        ]
        return b"".join(
            [_integer(1, IR_VERSION), _text(2, "mlserve_jupyter"), _length(7, graph), *opsets]
        )

    def _name(self, prefix: str) -> str:
        self._n_names += 1
        return f"{prefix}{self._n_names}"


def _value_info(name: str, element_type: int, n_columns: int | None) -> bytes:
    shape = _length(1, _text(2, "n"))
    if n_columns is not None:
        shape += _length(1, _integer(1, n_columns))
    tensor_type = _integer(1, element_type) + _length(2, shape)
    return _text(1, name) + _length(2, _length(1, tensor_type))


def _tensor(value: Array, name: str = "") -> bytes:
    dims = b"".join(_integer(1, size) for size in value.shape)
    raw = np.ascontiguousarray(value).astype(value.dtype.newbyteorder("<")).tobytes()
    element_type = _integer(2, _ELEMENT_TYPES[value.dtype.name])
    return dims + element_type + _text(8, name) + _length(9, raw)


def _attribute(name: str, value: Attribute) -> bytes:
    if isinstance(value, str):
        typed = _text(4, value) + _integer(20, _STRING)
    elif isinstance(value, int):
        typed = _integer(3, value) + _integer(20, _INT)
    elif isinstance(value, float):
        typed = _key(2, 5) + struct.pack("<f", value) + _integer(20, _FLOAT)
    elif value.dtype == np.int64 and value.ndim == 1:
        typed = _length(8, _varints(value)) + _integer(20, _INTS)
    else:
        typed = _length(5, _tensor(value)) + _integer(20, _TENSOR)
    return _text(1, name) + typed


def _key(field: int, wire_type: int) -> bytes:
    return _varint(field << 3 | wire_type)


def _integer(field: int, value: int) -> bytes:
    return _key(field, 0) + _varint(value)


def _text(field: int, value: str) -> bytes:
    return _length(field, value.encode())


def _length(field: int, content: bytes) -> bytes:
    return _key(field, 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    groups = bytearray()
    value &= 2**64 - 1
    while value > 0x7F:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    groups.append(value)
    return bytes(groups)


def _varints(values: Array) -> bytes:
    """Write non-negative integers below 2**35 at once: there are many in a forest."""
    groups = values[:, None] >> np.arange(0, 35, 7)
    more = groups[:, 1:] > 0
    encoded = (groups & 0x7F).astype(np.uint8)
    encoded[:, :-1] |= more.astype(np.uint8) << 7
    kept = np.concatenate([np.ones((len(values), 1), dtype=bool), more], axis=1)
    return bytes(encoded[kept].tobytes())
