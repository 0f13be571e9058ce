"""A kernel for any number of queries: blocks share the stream where they are few, else they do not.

All are run in the simulator on both sides of the rule, on a device with few multiprocessors.
"""

from dataclasses import dataclass, replace

import pytest

from diagc.errors import UnsupportedError
from diagc.mlir import ir
from diagc.runtime.factors import element_count
from diagc.runtime.gpu_kernel import planned_sizes
from diagc.simulator import SimulatorOptions
from diagc.targets.kernel_signature import kernel_signature
from diagc.targets.nvptx.arch import parse_arch
from diagc.targets.nvptx.forms import describe_forms
from diagc.targets.nvptx.lowering import GpuModule, build_module
from diagc.targets.nvptx.tiles.lower import add_parts, lower_tiles
from diagc.targets.nvptx.tiles.packing import packed_positions
from diagc.targets.nvptx.tiles.plan import make_plan
from diagc.targets.nvptx.tiles.schedule import TileSchedule
from diagc.targets.nvptx.tiles.traffic import tile_traffic
from diagc.targets.nvptx.warpgroups.lower import add_warpgroups
from diagc.testing.seed import SEED
from diagc.testing.tile_kernels import (
    Placement,
    TileRun,
    compiled_as,
    kernels_of,
    random_inputs,
    run_tiles,
    translate_module,
)

TOLERANCE = {"bf16": 2.0**-7, "f16": 2.0**-10, "f32": 4e-6}
MULTIPROCESSORS = 8

MANY = TileSchedule(warps=2, chunk=16)
FEW = TileSchedule(warps=1, chunk=16, split=32, blocks_per_sm=2, few=True)


@dataclass(frozen=True)
class Form:
    """A diagram of query heads that share keys."""

    heads: int = 1
    dtype: str = "bf16"
    arguments: str = ""
    scores: str = "S * 0.125"
    where: str = ""
    normaliser: str = "softmax"
    result: str = "O"
    rows: str = "q d"

    @property
    def text(self) -> str:
        condition = f" where ({self.where})" if self.where else ""
        t, more = self.dtype, f", {self.arguments}" if self.arguments else ""
        return f"""axis h, r = {self.heads}, q, x, d = 32
diagram form(Q: h r {self.rows} {t}, K: h x d {t}, V: h x d {t}{more}) {{
  S: h r q x f32 = Q . K over d
  Z = sum(abs(S)) over x
  P = {self.normaliser}({self.scores}) along x{condition}
  O: h r q d {t} = P . V over x
  return {self.result}
}}
"""


FORMS = {
    "softmax": Form(),
    "causal": Form(where="q + 40 >= x"),
    "window": Form(where="(q + 60 >= x) and (x + 20 >= q)", normaliser="l2"),
    "four heads": Form(4, where="q + 40 >= x"),
    "eight heads in f16": Form(8, "f16"),
    "bias of each head": Form(2, arguments="B: h r q x bf16", scores="S * 0.125 + B"),
    "mask of all heads": Form(2, arguments="M: q x i1", where="M"),
    "statistics": Form(2, result="O, Z"),
    "f32": Form(2, "f32", normaliser="l1"),
    "rows along lines": Form(4, rows="d q"),
}


def lowered(form: Form, few: TileSchedule = FEW) -> tuple[ir.Module, ir.Operation, GpuModule]:
    module, (kernel,) = kernels_of(form.text, "nvptx:sm_80")
    with kernel.context, ir.Location.unknown():
        built = lower_tiles(kernel, parse_arch("sm_80"), MANY, workspace=True)
        built = add_parts(kernel, built, few)
    return module, kernel, built


def packed(form: Form) -> TileSchedule:
    """Each head has eight rows or more of a block, where heads may be side by side."""
    _module, (kernel,) = kernels_of(form.text, "nvptx:sm_80")
    few = replace(FEW, warps=max(form.heads // 2, 1))
    plan = make_plan(kernel, kernel_signature(kernel))
    return replace(few, packed=packed_positions(plan, few.rows))


def run(
    kernel: ir.Operation,
    built: GpuModule,
    text: str,
    sizes: dict[str, int],
    placement: Placement | None = None,
    multiprocessors: int = MULTIPROCESSORS,
    order: int = 0,
) -> TileRun:
    """A run whose warps take turns in an order that a number chooses."""
    options = SimulatorOptions(multiprocessors=multiprocessors, seed=order)
    inputs = random_inputs(built.signature, sizes, SEED)
    return run_tiles(kernel, built, text, inputs, placement, options)


def shares(found: TileRun) -> bool:
    names = [name for report in found.reports for name in report.kernels]
    assert len(names) == len(found.reports)
    assert all(name.endswith(("_parts", "_join")) for name in names) or len(names) == 1
    return len(names) == 2


@pytest.mark.parametrize("name", FORMS)
def test_both_sides_of_the_rule(name: str) -> None:
    form = FORMS[name]
    _module, kernel, built = lowered(form, packed(form))
    text = translate_module(built)
    for queries, keys, expected in ((1, 150, True), (5, 77, True), (3, 30, False), (37, 90, None)):
        found = run(kernel, built, text, {"g": 1, "l": queries, "s": keys})
        assert found.error() < TOLERANCE[form.dtype]
        assert expected is None or shares(found) == expected
    assert not shares(run(kernel, built, text, {"g": MULTIPROCESSORS, "l": 2, "s": 90}))


@pytest.mark.parametrize("placement", [Placement(1, 1), Placement(0, 8)])
def test_arrays_that_lie_anyhow(placement: Placement) -> None:
    """Lines that do not begin at multiples of 16 bytes, or have gaps."""
    _module, kernel, built = lowered(FORMS["four heads"], packed(FORMS["four heads"]))
    found = run(kernel, built, translate_module(built), {"g": 2, "l": 3, "s": 100}, placement)
    assert shares(found)
    assert found.error() < TOLERANCE["bf16"]


def test_heads_in_one_block_read_keys_once() -> None:
    form, sizes = FORMS["eight heads in f16"], {"g": 1, "l": 2, "s": 128}
    read = {}
    for few in (FEW, packed(form)):
        _module, kernel, built = lowered(form, few)
        found = run(kernel, built, translate_module(built), sizes, multiprocessors=16)
        assert shares(found)
        assert found.error() < TOLERANCE["f16"]
        read[few.packed] = sum(report.counters.global_read_bytes for report in found.reports)
        axes = {axis.label: axis.size for axis in built.signature.axes}
        known = {x: sizes[x[0]] for x, size in axes.items() if size is None}
        plan = make_plan(kernel, kernel_signature(kernel))
        expected = tile_traffic(plan, few, known, multiprocessors=16)
        assert expected.read == pytest.approx(read[few.packed], rel=0.02)
    assert read[8] < read[1] / 2


def test_results_do_not_depend_on_how_often_they_are_made() -> None:
    """Parts are joined in order; which block or warp is first does not count."""
    _module, kernel, built = lowered(FORMS["causal"])
    text, sizes = translate_module(built), {"g": 2, "l": 4, "s": 140}
    first, *others = (run(kernel, built, text, sizes, order=x).found[0] for x in range(3))
    assert all((first == other).all() for other in others)


def test_scratch_memory_is_bounded_by_the_places_of_the_device() -> None:
    _module, _kernel, built = lowered(FORMS["four heads"], packed(FORMS["four heads"]))
    (workspace,) = built.workspaces
    labels = {axis.label: axis.size for axis in built.signature.axes if axis.size is None}
    largest = 0
    for queries, keys in ((1, 10**6), (8, 10**6), (64, 10**5), (10**5, 10**5)):
        sizes = {x: {"g": 2, "l": queries, "s": keys}[x[0]] for x in labels}
        static = {axis.label: axis.size for axis in built.signature.axes if axis.size is not None}
        planned = planned_sizes(built.as_kernel(), {**sizes, **static}, MULTIPROCESSORS)
        largest = max(largest, element_count(workspace.size, planned))
    elements = workspace.size[-1]
    assert isinstance(elements, int)
    assert 0 < largest <= MULTIPROCESSORS * FEW.blocks_per_sm * elements


def test_warpgroups_have_few_blocks_on_tiles() -> None:
    """Many queries run on warpgroups by tensor maps, few on tiles, in one module."""
    text = FORMS["causal"].text.replace("d = 32", "d = 64")
    _module, (kernel,) = kernels_of(text, "nvptx:sm_90a")
    group = TileSchedule(warps=8, producers=4, chunk=32)
    with kernel.context, ir.Location.unknown():
        built = lower_tiles(kernel, parse_arch("sm_90a"), MANY, workspace=True)
        built = add_warpgroups(kernel, add_parts(kernel, built, FEW), group)
    code = translate_module(built)
    for queries, names in ((3, ["_parts", "_join"]), (300, ["_bulk"])):
        found = run(kernel, built, code, {"g": 1, "l": queries, "s": 70})
        symbols = [name for report in found.reports for name in report.kernels]
        assert symbols == [built.signature.symbol + name for name in names]
        assert found.error() < TOLERANCE["bf16"]


# ---- which kernels have it -----------------------------------------------------------------------


@pytest.mark.parametrize("arch", ["sm_80", "sm_90a"])
def test_open_sizes_have_a_form_for_few_blocks(arch: str) -> None:
    _module, (kernel,) = kernels_of(Form(8).text.replace("d = 32", "d = 64"), f"nvptx:{arch}")
    with kernel.context, ir.Location.unknown():
        built = build_module(kernel, parse_arch(arch))
    assert bool(built.bulk_launches) == (arch == "sm_90a")
    assert built.shared is not None
    assert (built.shared.packed, built.shared.few) == (8, True)
    assert [x.symbol.rpartition("_")[2] for x in built.shared_launches] == ["parts", "join"]
    found = compiled_as(built, arch)
    with kernel.context:
        many, *turns, few = describe_forms(kernel, found)
    assert [line.partition(":")[0] for line in turns] == [
        "warpgroups issue their products in turns"
    ] * (arch == "sm_90a")
    assert many.endswith("else on tiles") == (arch == "sm_90a")
    assert "8 heads side by side" in few
    assert "at most half of the multiprocessors" in few


def test_streams_that_cannot_be_joined_have_none() -> None:
    """Blocks that share columns have a stream, too, but not one for few rows."""
    text = """axis n, d, c = 64
diagram product(X: n d bf16, W: c d bf16) {
  Y: n c bf16 = X . W over d
  return Y
}
"""
    _module, kernels = kernels_of(text, "nvptx:sm_80")
    for kernel in kernels:
        with kernel.context, ir.Location.unknown():
            assert build_module(kernel, parse_arch("sm_80")).shared is None


def test_a_schedule_that_cannot_share_is_refused() -> None:
    text = """axis h, q, e = 32, d = 32
diagram plain(Q: h q d bf16, K: h e d bf16) {
  S: h q e f32 = Q . K over d
  return abs(S)
}
"""
    _module, kernels = kernels_of(text, "nvptx:sm_80")
    for kernel in kernels:
        with kernel.context, ir.Location.unknown():
            built = lower_tiles(kernel, parse_arch("sm_80"), MANY, workspace=True)
            with pytest.raises(UnsupportedError, match="splits the stream"):
                add_parts(kernel, built, FEW)
