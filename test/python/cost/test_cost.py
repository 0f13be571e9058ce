"""FLOPs, bytes and bounds of ops and kernels, counted by hand."""

from collections.abc import Callable

import pytest

from diagc.compiler import run_pipeline
from diagc.cost import (
    UNKNOWN_SIZE,
    Cost,
    Device,
    Level,
    body_weight,
    cpu_device,
    element_bytes,
    elements,
    kernel_cost,
    op_flops,
    sizes_of_call,
    value_bytes,
)
from diagc.cost.device import machine_device
from diagc.dialects import diag
from diagc.frontend.builder import Diagram, Wire, fn
from diagc.mlir import ir

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


def test_cost_tells_what_bounds_it() -> None:
    device = cpu_device()
    assert Cost(flops=10**9, bytes=10**3).bound(device) == "compute"
    assert Cost(flops=10**3, bytes=10**9).bound(device) == "memory"
    assert Cost(1, 2) + Cost(3, 4) == Cost(4, 6)
    assert Cost(0, 0).seconds(device) == device.launch_seconds
    assert Cost(0, 0).intensity == 0


def test_device_knows_levels_lanes_and_peaks() -> None:
    device = cpu_device(64)
    assert device.level("l1").size < device.level("l2").size
    assert (device.lanes(4), device.lanes(8)) == (16, 8)
    assert device.peak("bf16") > device.peak("f32") > device.peak("f64")
    assert device.peak("i8") == device.peak("f32")
    with pytest.raises(KeyError):
        device.level("l4")
    with pytest.raises(KeyError):
        cpu_device(128)


def test_machine_is_described() -> None:
    device = machine_device()
    assert isinstance(device, Device)
    assert device.cores >= 1


@pytest.mark.parametrize(("size", "bandwidth"), [(0, 1.0), (1, 0.0)])
def test_empty_level_is_refused(size: int, bandwidth: float) -> None:
    with pytest.raises(ValueError, match="positive"):
        Level("l1", size, bandwidth)
