"""Global traffic that is predicted from diagram and tiles is what the simulator counts."""

from math import ceil

import pytest
import torch

import diagc
from diagc.cost import Traffic
from diagc.errors import UnsupportedError
from diagc.mlir import ir
from diagc.targets.kernel_signature import kernel_signature
from diagc.targets.nvptx.arch import parse_arch
from diagc.targets.nvptx.kernel import LoadedKernel
from diagc.targets.nvptx.lowering import build_module
from diagc.targets.nvptx.pipeline import NvvmModule
from diagc.targets.nvptx.threads.traffic import thread_traffic
from diagc.targets.nvptx.tiles.plan import make_plan
from diagc.targets.nvptx.tiles.schedule import TileSchedule
from diagc.targets.nvptx.tiles.traffic import tile_traffic
from diagc.targets.nvptx.traffic import predict_traffic
from diagc.testing.attention import Attention, two_sums
from diagc.testing.tile_kernels import compile_tiles, kernels_of, random_inputs, run_tiles

TOLERANCE = 0.02
SMALL = TileSchedule(warps=2, chunk=16)
SIZES = {"g": 2, "l": 41, "s": 87}
"""Two tiles of 32 rows and six chunks of 16 keys, with tails on both axes."""


def counted_and_predicted(
    kernel: ir.Operation, schedule: TileSchedule, sizes: dict[str, int], *, rare: bool
) -> tuple[Traffic, Traffic]:
    built, compiled = compile_tiles(kernel, schedule)
    signature = built.signature
    inputs = random_inputs(signature, sizes)
    for wire, array in zip(signature.args, inputs, strict=True):
        if rare and len(wire.labels) == 1:  # the norm of a Gram matrix, of which it takes a root
            array[...] = -1.0
    run = run_tiles(kernel, built, compiled, inputs)
    counters = [report.counters for report in run.reports]
    counted = Traffic(
        sum(c.global_read_bytes for c in counters), sum(c.global_write_bytes for c in counters)
    )
    static = {axis.label for axis in signature.axes if axis.size is not None}
    known = {a.label: sizes[a.label[0]] for a in signature.axes if a.label not in static}
    plan = make_plan(kernel, kernel_signature(kernel))
    return counted, tile_traffic(plan, schedule, known, rare=rare)


def check(
    text: str,
    sizes: dict[str, int] | None = None,
    schedule: TileSchedule = SMALL,
    *,
    rare: bool = False,
) -> None:
    """Every kernel of a diagram."""
    _module, kernels = kernels_of(text)
    assert kernels
    for kernel in kernels:
        counted, predicted = counted_and_predicted(kernel, schedule, sizes or SIZES, rare=rare)
        assert counted.total > 0
        assert predicted.read == pytest.approx(counted.read, rel=TOLERANCE)
        assert predicted.written == pytest.approx(counted.written, rel=TOLERANCE)


MASKS = {
    "none": "",
    "causal": "q >= x",
    "bottom right": "q + 46 >= x",
    "window": "(q >= x) and (q - x < 20)",
    "dilated": "(q - x) % 3 == 0",
}


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("normaliser", ["softmax", "l2"])
def test_normalisers_and_masks(normaliser: str, mask: str) -> None:
    # what applies a Gram matrix gets a norm that is none, and streams and writes all rows again
    check(Attention(MASKS[mask], d=32, normaliser=normaliser).text, rare=True)


@pytest.mark.parametrize("sizes", [{"l": 32, "s": 64}, {"l": 33, "s": 17}, {"l": 1, "s": 87}])
def test_tails(sizes: dict[str, int]) -> None:
    check(Attention("q >= x", d=32).text, {"g": 3, **sizes})


@pytest.mark.parametrize(("d", "e"), [(64, 16), (16, 48), (40, 24), (20, 32)])
def test_heads_of_different_sizes(d: int, e: int) -> None:
    check(Attention("q >= x", d=d, e=e).text)


def test_f32() -> None:
    check(Attention("q >= x", "f32", 32).text)


@pytest.mark.parametrize(
    "schedule",
    [
        TileSchedule(row_blocks=2, warps=1, chunk=32),
        TileSchedule(row_blocks=1, warps=4, chunk=16, stages=3),
    ],
)
def test_other_tiles(schedule: TileSchedule) -> None:
    check(Attention("q >= x", d=32).text, schedule=schedule)


ARRAYS = {
    "bias of rows and keys": ("B: h q x bf16", "S * 0.125 + B", ""),
    "bias without heads": ("B: q x f32", "S * 0.125 + B", "q >= x"),
    "bias of keys": ("B: x f32", "S * 0.125 + B", ""),
    "bias of rows": ("B: h q f32", "S * 0.125 + B", ""),
    "condition of rows and keys": ("B: q x i1", "S * 0.125", "B"),
    "condition of keys, causal": ("B: h x i1", "S * 0.125", "B and q >= x"),
}


@pytest.mark.parametrize("keys", [87, 96])
@pytest.mark.parametrize("name", ARRAYS)
def test_biases_and_conditions(name: str, keys: int) -> None:
    """Lines of 87 elements are unaligned, lines of 96 are not."""
    argument, scores, mask = ARRAYS[name]
    text = Attention(mask, d=32, arguments=argument, scores=scores).text
    check(text, {**SIZES, "s": keys})


def test_keys_are_read_by_every_head_of_their_group() -> None:
    check(Attention("q >= x", d=32, heads="g = 2", group=3).text)


def test_statistics_of_rows() -> None:
    check(two_sums(32))


@pytest.mark.parametrize("keys", [5, 96, 150])
def test_a_stream_that_blocks_share(keys: int) -> None:
    text = Attention(heads="b, g = 2", group=4, queries="").text
    check(text, {"g": 2, "s": keys}, TileSchedule(warps=1, chunk=16, split=48))


def test_programs_are_predicted_as_they_are_counted() -> None:
    """A Gram matrix and what applies it, the chosen tiles, parts that are added and joined."""

    def spherical(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        s = q @ k.transpose(-1, -2)
        return (s / s.norm(dim=-1, keepdim=True)) @ v

    q, k, v = (torch.randn(1, 1, n, 64).bfloat16() for n in (1030, 8200, 8200))
    compiled = diagc.compile(spherical, q, k, v, target="nvptx")
    _out, report = diagc.simulate(compiled, q, k, v)
    assert len(report.kernels) == 4
    assert report.predicted is not None
    assert report.predicted.read == pytest.approx(report.counters.global_read_bytes, rel=TOLERANCE)
    written = report.counters.global_write_bytes
    assert report.predicted.written == pytest.approx(written, rel=TOLERANCE)
    assert f"predicted       {report.predicted.read} B read" in str(report)
    assert "of global memory" in compiled.explain()


def test_a_product_that_is_reassociated_reads_its_arguments_once() -> None:
    """K^T V in f32 and what applies it are kernels: the library would copy K, V and Q in f32."""

    def linear(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return (q @ k.transpose(-1, -2)) @ v

    q, k, v = (torch.randn(2, 2050, 64).bfloat16() for _ in range(3))
    compiled = diagc.compile(linear, q, k, v, target="nvptx")
    out, report = diagc.simulate(compiled, q, k, v)
    assert len(compiled.kernels) == 2
    assert not compiled.outside
    assert report.clean, report
    wanted = linear(q.double(), k.double(), v.double())
    assert (out - wanted).abs().max() < 2.0**-8 * wanted.abs().max()
    arguments = sum(x.numel() * x.element_size() for x in (q, k, v))
    states = 4 * 2 * 64 * 64  # of all parts of a stream, and for every block of 64 rows, at most
    read = arguments + (16 + ceil(q.shape[1] / 64)) * states
    assert report.counters.global_read_bytes <= read


def test_a_kernel_that_is_not_on_tiles_after_all_is_predicted_as_one_on_threads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_args: object, **_kwargs: object) -> None:
        raise UnsupportedError("diag.map", reason="tiles: tested")

    _module, (kernel,) = kernels_of(Attention("q >= x", d=32).text)
    arch, sizes = parse_arch("sm_80"), {"g0": 2, "l": 41, "s": 87}

    def predicted() -> Traffic | None:
        built = build_module(kernel, arch)
        code = built.as_kernel(arch.name)
        loaded = LoadedKernel(code, NvvmModule(b""), "", "miss", built.tiles, built.shared)
        return predict_traffic(kernel, loaded, sizes)

    with kernel.context:
        tiles = predicted()
        monkeypatch.setattr("diagc.targets.nvptx.tiles.lower.lower_tiles", refuse)
        assert predicted() == thread_traffic(kernel, arch, sizes) != tiles


def test_prediction_needs_no_code() -> None:
    """Large sizes take no time, and traffic per key grows as 1 / rows of a block."""
    _module, (kernel,) = kernels_of(Attention().text)
    plan = make_plan(kernel, kernel_signature(kernel))
    sizes = dict.fromkeys(("l", "s"), 1 << 14) | {"g0": 8}
    small, large = (tile_traffic(plan, TileSchedule(row_blocks=b, warps=4), sizes) for b in (1, 2))
    line = 2 * 64 * 8 << 14
    assert small.read == line * (1 + 2 * 256)
    assert large.read == line * (1 + 2 * 128)
    assert small.written == large.written == line
