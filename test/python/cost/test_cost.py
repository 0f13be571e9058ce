"""FLOPs, bytes and bounds of ops and kernels, counted by hand."""

from collections.abc import Callable

import pytest

from diagc.compiler import run_pipeline
from diagc.cost import (
    UNKNOWN_SIZE,
    Cost,
    Decoration,
    body_weight,
    cpu_device,
    element_bytes,
    elements,
    estimate,
    find_device,
    kernel_cost,
    op_flops,
    sizes_of_call,
    value_bytes,
)
from diagc.dialects import diag
from diagc.frontend.builder import Diagram, Wire, fn
from diagc.frontend.text import parse
from diagc.mlir import ir
from diagc.options import CompileOptions

Build = Callable[[Diagram], Wire]
kept: list[ir.Module] = []  # an op's handle does not keep its module alive


def module(build: Build, stage: str = "diag") -> ir.Module:
    with Diagram("main") as g:
        g.output(build(g))
    kept.append(g.module)
    with g.module.context:
        run_pipeline(g.module, last=stage)
    return g.module


def output(build: Build, stage: str = "diag") -> ir.Operation:
    """The op that makes the diagram's output."""
    ops = list(diag.function_body(diag.functions(module(build, stage))[0]).operations)
    found: ir.Operation = ops[-1].operation.operands[0].owner.operation
    return found


def product(g: Diagram) -> Wire:
    return g.input("A", b=2, n=8, c=16).contract(g.input("B", c=16, f=32), "c")


def attention(g: Diagram) -> Wire:
    q = g.input("Q", h=4, q=128, d=64)
    k, v = g.input("K", h=4, x=256, d=64), g.input("V", h=4, x=256, e=32)
    return q.contract(k, "d").normalize("softmax", "x").contract(v, "x")


def test_bytes_of_elements() -> None:
    with ir.Context():
        texts = {"f32": 4, "bf16": 2, "f64": 8, "i1": 1, "i64": 8, "index": 8}
        for text, size in texts.items():
            assert element_bytes(ir.Type.parse(text)) == size


def test_elements_take_open_sizes_from_the_caller() -> None:
    with Diagram("main") as g:
        x = g.input("X", "bf16", n=..., c=16)
        g.output(x)
    assert elements(x.value, {"n": 10}) == 160
    assert elements(x.value) == UNKNOWN_SIZE * 16
    assert value_bytes(x.value, {"n": 10}) == 320
    assert elements({"n": 3, "m": diag.DYNAMIC}, {"m": 5}) == 15


def test_contraction_counts_multiply_and_add() -> None:
    assert op_flops(output(product)) == 2 * 2 * 8 * 16 * 32


def test_reduction_counts_its_operand() -> None:
    assert op_flops(output(lambda g: g.input("X", n=8, c=16).sum("c"))) == 8 * 16


def test_map_weighs_functions_more_than_additions() -> None:
    cheap = output(lambda g: g.input("X", n=8) + 1.0)
    dear = output(lambda g: fn.exp(g.input("X", n=8)))
    assert body_weight(cheap) == 1
    assert body_weight(dear) > 8
    assert op_flops(cheap) == 8


def test_views_cost_nothing() -> None:
    assert op_flops(output(lambda g: g.input("X", n=8).relabel(n="m"))) == 0


def test_stream_costs_its_whole_axis() -> None:
    stream = output(attention, "streams")
    assert stream.name == "diag.stream"
    products = 2 * 4 * 128 * 256 * (64 + 32)
    assert products < op_flops(stream) < 1.5 * products


def test_open_stream_costs_what_the_caller_says() -> None:
    def build(g: Diagram) -> Wire:
        q, k = g.input("Q", q=8, d=16), g.input("K", x=..., d=16)
        return q.contract(k, "d").normalize("softmax", "x").contract(g.input("V", x=..., e=16), "x")

    stream = output(build, "streams")
    assert op_flops(stream, {"x": 200}) > 1.9 * op_flops(stream, {"x": 100})


def test_kernel_moves_arguments_and_results_once() -> None:
    found = module(attention, "kernels")
    (kernel,) = [op for op in diag.functions(found) if diag.is_kernel(op)]
    cost = kernel_cost(kernel)
    assert cost.bytes == 4 * 4 * (128 * 64 + 256 * 64 + 256 * 32 + 128 * 32)
    assert cost.intensity == pytest.approx(cost.flops / cost.bytes)


def test_sizes_of_a_call_come_through_its_casts() -> None:
    found = module(attention, "general")
    functions = diag.functions(found)
    (kernel,) = [op for op in functions if diag.is_kernel(op)]
    ops = [op.operation for op in diag.function_body(functions[0]).operations]
    (call,) = [op for op in ops if op.name == "func.call"]
    sizes = sizes_of_call(call, kernel)
    assert (sizes["g0"], sizes["l"], sizes["s"]) == (4, 128, 256)
    exact = kernel_cost(module(attention, "kernels").body.operations[1].operation)
    assert kernel_cost(kernel, sizes).bytes == exact.bytes


def test_costs_add() -> None:
    assert Cost(1, 2) + Cost(3, 4) == Cost(4, 6)
    assert Cost(0, 0).intensity == 0


def kernel(build: Build) -> ir.Operation:
    found = module(build, "kernels")
    (one,) = [op for op in diag.functions(found) if diag.is_kernel(op)]
    return one


def test_work_is_counted_by_pipe() -> None:
    found = estimate(kernel(attention), Decoration({"h": 1, "q": 32}, {"x": 64}), cpu_device())
    assert found.work.products == {"f32": 2 * 4 * 128 * 256 * (64 + 32)}
    corrections = 4 * 128 * (1 + 256)  # one for each score, one for each row and stream step
    assert 4 * 128 * 256 <= found.work.specials["f32"] <= 4 * 128 * 256 + 13 * corrections
    assert found.bound == "fma"
    assert found.seconds == found.launch + found.resources["fma"]


def test_masked_streams_skip_what_they_do_not_visit() -> None:
    def causal(g: Diagram) -> Wire:
        q, k = g.input("Q", q=1024, d=64), g.input("K", x=1024, d=64)
        weights = q.contract(k, "d").normalize("softmax", "x", keep=g.index("x") <= g.index("q"))
        return weights.contract(g.input("V", x=1024, e=64), "x")

    found = module(causal, "schedules")
    (one,) = [op for op in diag.functions(found) if diag.is_kernel(op)]
    cut = Decoration({"q": 128}, {"x": 64})
    share = sum(128 * (tile + 1) for tile in range(8)) / (8 * 1024)
    found_work = estimate(one, cut, cpu_device()).work
    assert found_work.products["f32"] == pytest.approx(4 * 1024 * 1024 * 64 * share)
    whole = 4 * 1024 * 64
    l2 = estimate(one, cut, find_device("h200")).levels[1].traffic
    assert l2.total == pytest.approx(2 * whole + 2 * whole * 8 * share)


def test_few_tasks_leave_units_idle() -> None:
    one = kernel(attention)
    four, many = (Decoration({"h": 1, "q": rows}, {"x": 64}) for rows in (128, 16))
    device = cpu_device().with_units(8)
    busy, idle = (estimate(one, cut, device).resources["fma"] for cut in (many, four))
    assert idle == pytest.approx(2 * busy)


def test_padded_groups_cost_as_whole_ones() -> None:
    one = kernel(attention)
    plain, padded = (
        estimate(one, Decoration({"h": 1, "q": 96}, {"x": 64}, padded=axes), cpu_device())
        for axes in ({}, {"q": 96})
    )
    assert padded.resources["fma"] == pytest.approx(plain.resources["fma"] * 192 / 128)


def test_a_kernel_with_little_work_is_bound_by_its_launch() -> None:
    def tiny(g: Diagram) -> Wire:
        q, k = g.input("Q", q=1, d=8), g.input("K", x=32, d=8)
        return q.contract(k, "d").normalize("softmax", "x").contract(g.input("V", x=32, e=8), "x")

    assert estimate(kernel(tiny), Decoration({}, {}), cpu_device()).bound == "launch"


CHAIN = """axis h = 8, q = {n}, x = {n}, d = 64
diagram chain(Q: h q d, K: h x d, V: h x d) {{
  S: h q x = Q . K over d
  return S . V over x
}}
"""


@pytest.mark.parametrize(
    ("target", "size", "first"),
    [
        ("cpu", 256, ["d", "e"]),
        ("nvptx:sm_90", 256, ["q", "x"]),  # a second launch takes longer than all products
        ("nvptx:sm_90", 16384, ["d", "e"]),
    ],
)
def test_order_of_a_chain_depends_on_the_device(target: str, size: int, first: list[str]) -> None:
    """(Q K) V, or Q (K V): judged for the device that the program is compiled for."""
    module = parse(CHAIN.format(n=size))
    with module.context:
        run_pipeline(module, CompileOptions(target=target, library="none"), "reassociated")
    ops = [op.operation for op in diag.function_body(diag.functions(module)[0]).operations]
    product = next(op for op in ops if op.name == "diag.contract")
    own = [x for x in diag.labels(product.results[0]) if x != "h"]
    assert ("q" in own) == ("q" in first)
