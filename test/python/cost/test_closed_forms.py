"""H and M of decorated kernels against the closed forms of the paper (arXiv 2412.03317)."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from math import sqrt

import pytest

from diagc.compiler import run_pipeline
from diagc.context import make_context
from diagc.cost import (
    Decoration,
    Device,
    estimate,
    find_device,
    resident_bytes,
    steps_of,
    tilings,
    transfers,
)
from diagc.dialects import diag
from diagc.frontend.builder import Diagram, Wire
from diagc.mlir import ir
from diagc.options import CompileOptions

F32 = 4

MATMUL = """
func.func private @k(%A: tensor<?x?xf32, ["a", "b"]>, %B: tensor<?x?xf32, ["b", "c"]>)
    -> tensor<?x?xf32, ["a", "c"]> attributes {diag.kernel} {
  %O = "diag.stream"() ({
    %z = "diag.map"() ({
      %c = arith.constant 0.0 : f32
      "diag.yield"(%c) : (f32) -> ()
    }) : () -> tensor<?x?xf32, ["a", "c"]>
    "diag.yield"(%z) : (tensor<?x?xf32, ["a", "c"]>) -> ()
  }, {
  ^bb0(%o: tensor<?x?xf32, ["a", "c"]>):
    %x = "diag.chunk"(%A) : (tensor<?x?xf32, ["a", "b"]>) -> tensor<?x?xf32, ["a", "b"]>
    %y = "diag.chunk"(%B) : (tensor<?x?xf32, ["b", "c"]>) -> tensor<?x?xf32, ["b", "c"]>
    %p = "diag.contract"(%x, %y) {over = ["b"]} : (tensor<?x?xf32, ["a", "b"]>,
        tensor<?x?xf32, ["b", "c"]>) -> tensor<?x?xf32, ["a", "c"]>
    %n = "diag.map"() ({
      %s = "diag.element"(%o) : (tensor<?x?xf32, ["a", "c"]>) -> f32
      %t = "diag.element"(%p) : (tensor<?x?xf32, ["a", "c"]>) -> f32
      %u = arith.addf %s, %t : f32
      "diag.yield"(%u) : (f32) -> ()
    }) : () -> tensor<?x?xf32, ["a", "c"]>
    "diag.yield"(%n) : (tensor<?x?xf32, ["a", "c"]>) -> ()
  }, {
  }, {
  ^bb0(%o: tensor<?x?xf32, ["a", "c"]>):
    "diag.yield"(%o) : (tensor<?x?xf32, ["a", "c"]>) -> ()
  }) {axis = "b", resultSegmentSizes = array<i32: 1, 0, 0, 0, 0, 0, 0, 0>}
    : () -> tensor<?x?xf32, ["a", "c"]>
  return %O : tensor<?x?xf32, ["a", "c"]>
}
"""


@contextmanager
def matmul() -> Iterator[ir.Operation]:
    with make_context(), ir.Location.unknown():
        module = ir.Module.parse(MATMUL)
        module.operation.verify()
        (kernel,) = diag.functions(module)
        yield kernel


@contextmanager
def kernel_of(build: Callable[[Diagram], Wire]) -> Iterator[ir.Operation]:
    """The one kernel of a diagram, with its axes' own names."""
    with Diagram("main") as g:
        g.output(build(g))
    with g.module.context, ir.Location.unknown():
        run_pipeline(g.module, CompileOptions(target="cpu"), "kernels")
        (kernel,) = (op for op in diag.functions(g.module) if diag.is_kernel(op))
        yield kernel


def attention(g: Diagram) -> Wire:
    q, k, v = g.input("Q", q=..., d=64), g.input("K", x=..., d=64), g.input("V", x=..., e=64)
    return q.contract(k, "d").normalize("softmax", "x").contract(v, "x")


def grouped(g: Diagram) -> Wire:
    q = g.input("Q", r=..., q=..., d=64)
    k, v = g.input("K", x=..., d=64), g.input("V", x=..., e=64)
    return q.contract(k, "d").normalize("softmax", "x").contract(v, "x")


def values(kernel: ir.Operation, groups: dict[str, int], sizes: dict[str, int]) -> float:
    """H in values rather than bytes."""
    return transfers(kernel, Decoration(groups, {"x": 32, "b": 32}), sizes).total / F32


@pytest.mark.parametrize(("g_a", "g_c"), [(64, 64), (128, 32), (16, 512)])
def test_matmul(g_a: int, g_c: int) -> None:
    a, b, c = 512, 768, 1024
    with matmul() as kernel:
        found = values(kernel, {"a": g_a, "c": g_c}, {"a": a, "b": b, "c": c})
    assert found == a * b * c * (1 / g_a + 1 / g_c) + a * c


def test_matmul_with_rests_brings_each_array_once_for_every_group() -> None:
    with matmul() as kernel:
        found = values(kernel, {"a": 48, "c": 80}, {"a": 100, "b": 30, "c": 200})
    assert found == 100 * 30 * 3 + 30 * 200 * 3 + 100 * 200


@pytest.mark.parametrize("most", [1 << 12, 1 << 14, 1 << 16])
def test_best_matmul(most: int) -> None:
    """The best tiles that fit come to 2abc / sqrt(M) + ac, with g = sqrt(M)."""
    a = b = c = 1024
    sizes = {"a": a, "b": b, "c": c}
    best: tuple[float, dict[str, int]] | None = None
    with matmul() as kernel:
        for groups in tilings({"a": a, "c": c}):
            held = resident_bytes(kernel, groups, {"b": 1}, sizes)
            assert held is not None
            # the states and one line of each operand
            assert held == F32 * (groups["a"] * groups["c"] + groups["a"] + groups["c"])
            moved = values(kernel, groups, sizes)
            if held <= F32 * (most + 4 * sqrt(most)) and (best is None or moved < best[0]):
                best = moved, groups
    assert best is not None
    assert best[1] == {"a": int(sqrt(most)), "c": int(sqrt(most))}
    assert best[0] == pytest.approx(2 * a * b * c / sqrt(most) + a * c, rel=0.01)


@pytest.mark.parametrize("rows", [16, 64, 512])
def test_attention(rows: int) -> None:
    q, x, d = 2048, 4096, 64
    with kernel_of(attention) as kernel:
        found = values(kernel, {"q": rows}, {"q": q, "x": x})
    assert found == 2 * q * d + 2 * x * d * q / rows


@pytest.mark.parametrize("most", [1 << 14, 1 << 16])
def test_best_attention(most: int) -> None:
    """Queries and states fill M, so g_q = M / 2d and H = 2qd + 4xqd²/M."""
    q, x, d = 4096, 4096, 64
    with kernel_of(attention) as kernel:
        fitting = []
        for rows in steps_of(q):
            held = resident_bytes(kernel, {"q": rows}, {"x": 1}, {"q": q, "x": x})
            assert held is not None
            if held <= F32 * most * 1.1:
                fitting.append(values(kernel, {"q": rows}, {"q": q, "x": x}))
    assert min(fitting) == pytest.approx(2 * q * d + 4 * x * q * d * d / most, rel=0.01)


@pytest.mark.parametrize(("heads", "rows"), [(1, 64), (4, 16), (8, 32)])
def test_heads_that_share_keys_are_one_grouped_axis(heads: int, rows: int) -> None:
    r, q, x, d = 8, 512, 1024, 64
    with kernel_of(grouped) as kernel:
        found = values(kernel, {"r": heads, "q": rows}, {"r": r, "q": q, "x": x})
    assert found == 2 * r * q * d + 2 * x * d * (r * q) / (heads * rows)


def test_levels_add() -> None:
    """Each level has its own groups: what one holds serves the next as one array."""
    q, x, d, rows = 8192, 8192, 64, 128
    device = find_device("h200")
    sizes = {"q": q, "x": x}
    with kernel_of(attention) as kernel:
        found = estimate(kernel, Decoration({"q": rows}, {"x": 64}), device, sizes)
    traffic = {use.level: use.traffic.total / F32 for use in found.levels}
    assert traffic["l2"] == 2 * q * d + 2 * x * d * q / rows
    # all 64 blocks run at the same time: keys come from main memory once
    assert traffic["memory"] == 2 * q * d + 2 * x * d
    # the others' ports to the second level are idle
    ports = {"l2": q / rows / device.units, "memory": 1.0}
    for name, share in ports.items():
        seconds = traffic[name] * F32 / (device.level(name).bandwidth * share)
        assert found.resources[name] == pytest.approx(seconds)


def test_a_cache_serves_the_next_task_if_all_between_fits() -> None:
    q, x, d = 1024, 512, 64
    sizes, cut = {"q": q, "x": x}, Decoration({"q": 64}, {"x": 32})
    keys = 2 * x * d * F32
    with kernel_of(attention) as kernel:
        small, large = (transfers(kernel, cut, sizes, cache) for cache in (keys, 2 * keys))
    assert small.total == F32 * (2 * q * d + 2 * x * d * q // 64)
    assert large.total == F32 * (2 * q * d + 2 * x * d)


def test_rows_until_attention_is_bound_by_arithmetic() -> None:
    """Keys in f16 that g rows share: 2g FLOPs a byte, against peak over bandwidth."""

    def build(g: Diagram) -> Wire:
        q = g.input("Q", "f16", q=..., d=128)
        k, v = g.input("K", "f16", x=..., d=128), g.input("V", "f16", x=..., e=128)
        return q.contract(k, "d").normalize("softmax", "x").contract(v, "x").cast("f16")

    def bound(device: Device, rows: int) -> str:
        far = replace(device, levels=(*device.levels[:1], *device.levels[2:]))  # without L2
        with kernel_of(build) as kernel:
            cut = Decoration({"q": rows}, {"x": 64}, warpgroups=True)
            found = estimate(kernel, cut, far, {"q": 1 << 20, "x": 1 << 12})
        return max(("tensor", "memory"), key=found.resources.__getitem__)

    for name, rows in {"a100-80": 153, "h200": 206, "h100-sxm": 295}.items():
        device = find_device(name)
        assert bound(device, int(rows * 0.9)) == "memory"
        assert bound(device, int(rows * 1.1)) == "tensor"
