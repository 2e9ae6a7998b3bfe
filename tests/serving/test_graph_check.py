"""Files that a worker might send instead of a graph."""

from __future__ import annotations

import numpy as np
import pytest

from mlserve_jupyter.artifacts.compiling.graph import INPUT, GraphBuilder
from mlserve_jupyter.artifacts.compiling.trees import Tree, add_ensemble
from mlserve_jupyter.serving.runtimes.graph_check import GraphRefused, check_graph


def stump(feature: int = 0, left: int = 1, target: int = 0) -> bytes:
    """Return the graph of a tree with one threshold."""
    graph = GraphBuilder(3)
    tree = Tree(
        left=np.array([left, 0, 0]),
        right=np.array([2, 0, 0]),
        is_leaf=np.array([False, True, True]),
        feature=np.array([feature, 0, 0]),
        threshold=np.array([0.5, 0.0, 0.0]),
        missing_left=np.array([True, False, False]),
        value=np.array([0.0, 1.0, 2.0]),
        target=target,
    )
    graph.output(add_ensemble(graph, INPUT, [tree], 1), "predict", "float64", 1)
    return graph.finish()


def test_what_the_compiler_writes_passes() -> None:
    check_graph(stump(), 3)


@pytest.mark.parametrize("content", [stump(feature=3), stump(target=1), stump(left=0)])
def test_a_tree_that_points_outside_itself_or_back_is_refused(content: bytes) -> None:
    with pytest.raises(GraphRefused, match="points outside itself"):
        check_graph(content, 3)


@pytest.mark.parametrize("op", ["Loop", "If", "Scan", "ConstantOfShape", "CustomOp"])
def test_an_operator_that_the_compiler_does_not_write_is_refused(op: str) -> None:
    graph = GraphBuilder(3)
    graph.output(graph.node(op, INPUT), "predict", "float64", 3)
    with pytest.raises(GraphRefused, match=f"operator ai.onnx:{op}"):
        check_graph(graph.finish(), 3)


def test_an_operator_of_another_domain_is_refused() -> None:
    graph = GraphBuilder(3)
    graph.output(graph.node("Add", INPUT, INPUT, domain="com.evil"), "predict", "float64", 3)
    with pytest.raises(GraphRefused, match=r"com\.evil:Add"):
        check_graph(graph.finish(), 3)


@pytest.mark.parametrize("path", [b"/etc/passwd", b"../../x.bin", b"link.bin", b""])
def test_row_19_a_tensor_in_another_file_is_refused(path: bytes) -> None:
    # TensorProto.external_data is field 13, data_location field 14: here of an initializer.
    location = b"\x0a\x08location\x12" + bytes([len(path)]) + path
    tensor = (
        b"\x08\x01\x10\x0b\x42\x01c" + b"\x6a" + bytes([len(location)]) + location + b"\x70\x01"
    )
    graph = b"\x2a" + bytes([len(tensor)]) + tensor
    with pytest.raises(GraphRefused, match="field 13"):
        check_graph(b"\x08\x0a\x3a" + bytes([len(graph)]) + graph, 3)


def test_every_cut_of_a_file_is_refused_or_harmless() -> None:
    content = stump()
    for end in range(1, len(content)):
        try:
            check_graph(content[:end], 3)
        except GraphRefused:
            continue
        # The head alone, without a graph; or the whole graph without the operators' versions.
        assert end <= 19 or end > len(content) - 40


def test_functions_and_training_parts_are_refused() -> None:
    for field in (20, 25):
        key = bytes([(field << 3 | 2) & 0x7F | 0x80, (field << 3 | 2) >> 7])
        with pytest.raises(GraphRefused, match=f"field {field}"):
            check_graph(stump() + key + b"\x00", 3)
