"""Capturing: what is recorded, what it costs, what is followed, what goes through torch.export."""

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from diagc.frontend.torch import ImportedProgram, decompositions
from diagc.frontend.torch.aten import bind_schema
from diagc.frontend.torch.capture import capture
from diagc.frontend.torch.shape_rules import infer_shape

X = torch.randn(3, 5, 8)
Check = Callable[..., ImportedProgram]


def _targets(function: Any, *inputs: Tensor) -> list[str]:
    graph = capture(function, inputs).graph
    return [str(n.target) for n in graph.nodes if n.op == "call_function"]


def test_ops_are_recorded_whole() -> None:
    def function(q: Tensor) -> Tensor:
        return F.layer_norm(F.scaled_dot_product_attention(q, q, q), (8,)).softmax(-1) @ q.mT

    assert [t.split(".")[1] for t in _targets(function, X)] == [
        *("scaled_dot_product_attention", "layer_norm", "softmax", "mT", "matmul"),
    ]


def test_nothing_is_computed() -> None:
    """Scores of this size would take a terabyte."""
    x = torch.empty(1, 1, device="meta").expand(500_000, 64)
    graph = capture(lambda q: torch.softmax(q @ q.mT, -1) @ q, (x,)).graph
    assert graph is not None


def test_capture_needs_neither_dynamo_nor_sympy() -> None:
    code = """
import sys, torch
from diagc.frontend.torch import import_torch
layer = torch.nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
import_torch(layer, (torch.randn(2, 4, 8),))
keep = torch.ones(4, 4, dtype=torch.bool)
masked = lambda q, m: torch.softmax((q @ q.mT).masked_fill(~m.tril(), -1e9), -1)
import_torch(masked, (torch.randn(4, 4), keep))
assert "torch._dynamo" not in sys.modules, "torch._dynamo"
assert "sympy" not in sys.modules, "sympy"
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


SHAPES: dict[str, tuple[Any, tuple[Any, ...], dict[str, Any]]] = {
    "tril": (torch.ops.aten.tril.default, (X,), {}),
    "softmax": (torch.ops.aten.softmax.int, (X, 1), {"dtype": torch.float64}),
    "layer_norm": (torch.ops.aten.layer_norm.default, (X, [8]), {}),
    "rms_norm": (torch.ops.aten.rms_norm.default, (X, [8]), {}),
    "cumsum": (torch.ops.aten.cumsum.default, (torch.ones(3, 4, dtype=torch.int32), 1), {}),
    "mean": (torch.ops.aten.mean.dim, (X, [0, -1]), {"keepdim": True}),
    "mean of all": (torch.ops.aten.mean.default, (X,), {}),
    "norm": (torch.ops.aten.linalg_vector_norm.default, (X, 2, [1]), {}),
    "logsumexp": (torch.ops.aten.logsumexp.default, (X, [2]), {}),
    "any": (torch.ops.aten.any.dim, (X, 1), {}),
    "all of bytes": (torch.ops.aten.all.default, (torch.ones(3, dtype=torch.uint8),), {}),
    "cat": (torch.ops.aten.cat.default, ([X, X.double()], -1), {}),
    "cat with nothing": (torch.ops.aten.cat.default, ([torch.empty(0), X], 1), {}),
    "mm": (torch.ops.aten.mm.default, (X[0], X[1].T), {}),
    "matmul": (torch.ops.aten.matmul.default, (X[:, None], X.mT), {}),
    "matmul of vectors": (torch.ops.aten.matmul.default, (X[0, 0], X[0, 0]), {}),
    "vector times batch": (torch.ops.aten.matmul.default, (X[0, :, 0], X), {}),
    "batch times vector": (torch.ops.aten.matmul.default, (X, X[0, 0]), {}),
    "addmm": (torch.ops.aten.addmm.default, (X[0, 0, :5], X[0], X[1].T), {}),
    "baddbmm": (torch.ops.aten.baddbmm.default, (X[..., :5], X, X.mT), {}),
    "linear": (torch.ops.aten.linear.default, (X, X[0]), {}),
    "linear of a vector": (torch.ops.aten.linear.default, (X, X[0, 0]), {}),
    "attention": (
        torch.ops.aten.scaled_dot_product_attention.default,
        (X[:, None], X[:1, None], X[:1, None, :, :3]),
        {},
    ),
    "grouped attention": (
        torch.ops.aten.scaled_dot_product_attention.default,
        (X.expand(2, 3, 5, 8)[:, [0, 1]], X[None, :1], X[None, :1]),
        {"enable_gqa": True},
    ),
    "eye": (torch.ops.aten.eye.m, (3, 4), {}),
    "dropout": (torch.ops.aten.dropout.default, (X, 0.5, False), {}),
    "roll": (torch.ops.aten.roll.default, (X, [1], [0]), {}),
    "clone": (torch.ops.aten.clone.default, (X,), {}),
}


@pytest.mark.parametrize("name", SHAPES)
def test_shape_rule_agrees_with_torch(name: str) -> None:
    operator, args, options = SHAPES[name]
    expected = operator(*args, **options)
    packet = ".".join(str(operator).split(".")[:2])
    found = infer_shape(packet, bind_schema(operator, args, options))
    assert found == (tuple(expected.shape), expected.dtype)


def test_writes_to_fresh_tensors_become_values(check_import: Check) -> None:
    def function(a: Tensor) -> Tensor:
        t = a * 1
        t.add_(1).mul_(2)
        t += a
        return t.relu_()

    assert not check_import(function, X).externs
    assert all(not t.split(".")[1].endswith("_") for t in _targets(function, X))


@pytest.mark.filterwarnings("ignore")
def test_writes_through_views_go_through_export(check_import: Check) -> None:
    def function(a: Tensor) -> Tensor:
        t = a * 2
        t[:, 0] = 0
        return t + 1

    assert not check_import(function, X).externs


def test_branches_on_shapes_are_taken_as_eager_takes_them(check_import: Check) -> None:
    def function(a: Tensor) -> Tensor:
        positions = torch.arange(a.shape[1])
        if (positions.diff() == 1).all() and positions.max().item() == 4:
            return a * 2
        return a

    program = check_import(function, X)
    assert not program.externs


def test_libraries_are_told_that_they_are_traced_only_if_they_ask_for_data() -> None:
    seen = []

    def function(a: Tensor) -> Tensor:
        seen.append(torch.compiler.is_compiling())
        if not torch.compiler.is_compiling() and bool((a > 0).all()):
            return a
        return a + 1

    assert [t.split(".")[1] for t in _targets(function, X)][-1] == "add"
    assert seen == [False, True]


def test_users_code_sees_the_device_of_the_examples() -> None:
    def function(a: Tensor) -> Tensor:
        assert a.device.type == "cpu"
        assert not a.is_meta
        return a + torch.ones(8, device=a.device)

    capture(function, (X,))


@pytest.mark.filterwarnings("ignore")
def test_autocast_shows_in_result_types(check_import: Check) -> None:
    def function(a: Tensor, w: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return F.linear(a, w)

    program = check_import(function, X, torch.randn(6, 8), double=False, tolerance=3e-2)
    assert "bf16" in str(program.module)


def test_every_decomposition_names_an_op_of_torch() -> None:
    assert len(decompositions.table()) == len(decompositions._TABLE)
