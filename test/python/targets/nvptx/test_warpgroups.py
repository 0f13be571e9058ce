"""Kernels on warpgroups (sm_90a) in the simulator, with all of its checks, against float64."""

from collections.abc import Iterator
from itertools import product

import pytest

from diagc.errors import UnsupportedError
from diagc.mlir import ir
from diagc.targets.nvptx.arch import parse_arch
from diagc.targets.nvptx.lowering import GpuModule, build_modules
from diagc.targets.nvptx.tiles.schedule import TileSchedule
from diagc.targets.nvptx.warpgroups.lower import lower_warpgroups
from diagc.testing.attention import MASKS, Attention, TailedAttention, two_sums
from diagc.testing.seed import SEED
from diagc.testing.tile_kernels import (
    Placement,
    kernels_of,
    random_inputs,
    run_tiles,
    translate_module,
)
from diagc.testing.warpgroup_runs import TOLERANCE

TAILS = (1, 15, 7, 8)
SIZES = ((128, 64, 3), (192, 64, 2), (64, 128, 2))
"""Width, positions of a chunk, stages."""


def _kinds() -> Iterator[tuple[str, str, str]]:
    """Normaliser, mask and type; not those that go through tf32 or are re-associated."""
    yield from product(("softmax",), MASKS, ("bf16", "f16"))
    others = product(("l1", "relu_sum", "l2"), MASKS, ("bf16",))
    yield from (kind for kind in others if kind[:2] != ("l2", "none"))


def _cases() -> Iterator[TailedAttention]:
    for number, kind in enumerate(_kinds()):
        tails = TAILS[number % 4], TAILS[number // 4 % 4]
        yield TailedAttention(
            *kind, 64, 64, stages=2 + number % 2, group=(0, 2, 0)[number % 3], tails=tails
        )
    for number, (d, e) in enumerate([(128, 128), (192, 128), (256, 256), (64, 128), (192, 192)]):
        yield TailedAttention("softmax", MASKS[number], ("bf16", "f16")[number % 2], d, e, chunk=64)
    for number, (d, e) in enumerate([(96, 96), (32, 80), (112, 48), (16, 160)]):
        yield TailedAttention("softmax", MASKS[number], ("bf16", "f16")[number % 2], d, e)
    yield TailedAttention("softmax", "causal", "bf16", 128, 128, chunk=128)
    yield TailedAttention("l1", "window", "bf16", 64, 64, chunk=128)


def _more() -> Iterator[TailedAttention]:
    """Every kind once more: each normaliser, mask and type meets each of three larger sizes."""
    for number, kind in enumerate(_kinds()):
        d, chunk, stages = SIZES[(number + number // 10) % 3]
        tails = TAILS[(number + d) % 4], TAILS[number % 4]
        yield TailedAttention(*kind, d, d, chunk, stages, group=(0, 3)[number % 2], tails=tails)


def _name(case: TailedAttention) -> str:
    kind = f"{case.normaliser}-{case.mask}-{case.dtype}-d{case.d}-e{case.e}"
    return f"{kind}-r{case.group}-c{case.chunk}-s{case.stages}-{case.rows}x{case.keys}"


def lowered(
    text: str, chunk: int = 64, stages: int = 2
) -> tuple[ir.Module, ir.Operation, GpuModule]:
    """The kernel of a diagram on warpgroups."""
    module, (kernel,) = kernels_of(text)
    schedule = TileSchedule(warps=8, chunk=chunk, stages=stages, producers=4)
    with kernel.context, ir.Location.unknown():
        return module, kernel, lower_warpgroups(kernel, parse_arch("sm_90a"), schedule=schedule)


def judge(case: TailedAttention) -> None:
    _module, kernel, built = lowered(case.text, case.chunk, case.stages)
    inputs = random_inputs(built.signature, {"g": 1, "l": case.rows, "s": case.keys}, SEED)
    run = run_tiles(kernel, built, translate_module(built), inputs)
    assert run.error_of_averages() < TOLERANCE[case.dtype]
    assert run.reports[0].checking


@pytest.mark.parametrize("case", list(_cases()), ids=_name)
def test_kernel(case: TailedAttention) -> None:
    judge(case)


@pytest.mark.slow
@pytest.mark.parametrize("case", list(_more()), ids=_name)
def test_more_sizes(case: TailedAttention) -> None:
    judge(case)


def test_all_kinds_meet_all_sizes() -> None:
    found = [
        (each, (c.d, c.chunk, c.stages))
        for c in _more()
        for each in (c.normaliser, c.mask, c.dtype)
    ]
    assert len(set(found)) == (4 + len(MASKS) + 2) * len(SIZES)


def run(text: str, sizes: dict[str, int], placement: Placement | None = None) -> float:
    """The error of a kernel."""
    _module, kernel, built = lowered(text, chunk=32 if "h d x" not in text else 64)
    inputs = random_inputs(built.signature, sizes, SEED)
    return run_tiles(kernel, built, translate_module(built), inputs, placement).error_of_averages()


FORMS = {
    "bias per key": Attention(arguments="B: x f32", scores="S * 0.125 + B"),
    "kept per key": Attention("B and q >= x", arguments="B: h x i1"),
    "a scale that is no power of two": Attention("q >= x", scores="S * 0.17"),
    "a result in f32": Attention(result="f32"),
}


@pytest.mark.parametrize("form", FORMS)
def test_masks_biases_and_results(form: str) -> None:
    assert run(FORMS[form].text, {"g": 1, "l": 140, "s": 150}) < TOLERANCE["bf16"]


SHARED = """axis h, q, x, d = 64
diagram latent(Q: h q d bf16, C: h x d bf16) {
  S: h q x f32 = Q . C over d
  P = softmax(S * 0.125) along x
  O: h q d bf16 = P . C over x
  return O
}
"""
LINES = """axis h, q, x, d = 64
diagram lines(Q: h q d bf16, K: h d x bf16, V: h d x bf16) {
  S: h q x f32 = Q . K over d
  P = softmax(S * 0.125) along x
  O: h q d bf16 = P . V over x
  return O
}
"""


@pytest.mark.parametrize(
    "text", [two_sums(64), SHARED, LINES], ids=["statistics", "one array", "by x"]
)
def test_other_diagrams(text: str) -> None:
    """Statistics as results; keys that are values, too; arrays with keys along the lines."""
    sizes = {"g": 2, "l": 140, "s": 152}
    assert run(text, sizes) < TOLERANCE["bf16"]


@pytest.mark.parametrize("sizes", [(1, 1), (5, 64), (129, 65), (257, 128)])
def test_hardly_any_rows_or_keys(sizes: tuple[int, int]) -> None:
    text = TailedAttention("softmax", "causal", "bf16", 64, 64).text
    assert run(text, {"g": 1, "l": sizes[0], "s": sizes[1]}) < TOLERANCE["bf16"]


def test_lines_further_apart() -> None:
    text = TailedAttention("softmax", "none", "bf16", 64).text
    assert run(text, {"g": 2, "l": 130, "s": 200}, Placement(gap=8)) < TOLERANCE["bf16"]


LONG_LINES = """axis h, q, x, d = 320, e = 64
diagram lines(Q: h q d bf16, K: h d x bf16, V: h e x bf16) {
  S: h q x f32 = Q . K over d
  P = softmax(S * 0.125) along x
  O: h q e bf16 = P . V over x
  return O
}
"""
REFUSED = {
    "f32": (TailedAttention("softmax", "none", "bf16", 64).text.replace("bf16", "f32"), "is f32"),
    "narrow": (TailedAttention("softmax", "none", "bf16", 24, 24).text, "multiple of 32 bytes"),
    "widened": (TailedAttention("l1", "none", "f16", 64, 64).text, "range of f16"),
    "more lines than a box": (LONG_LINES, "have 320 lines, boxes 256"),
    "bias": (
        Attention(arguments="B: h x q bf16", scores="S + B").text,
        "go along rows",
    ),
    "one row": (
        TailedAttention("softmax", "none", "bf16", 64)
        .text.replace(" q d", " d")
        .replace(" q x", " x"),
        "there is one row",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_suit_goes_to_tiles(name: str) -> None:
    text, reason = REFUSED[name]
    _module, (kernel,) = kernels_of(text)
    arch = parse_arch("sm_90a")
    with kernel.context, ir.Location.unknown():
        with pytest.raises(UnsupportedError, match=reason):
            lower_warpgroups(kernel, arch, schedule=TileSchedule(warps=8, producers=4))
        built = next(build_modules(kernel, arch))
    assert not built.bulk_launches
    assert built.tiles is not None
    assert built.tiles.producers == 0


def test_other_architectures_have_no_warpgroups() -> None:
    _module, (kernel,) = kernels_of(TailedAttention("softmax", "none", "bf16", 64).text)
    with kernel.context, ir.Location.unknown():
        for arch in ("sm_80", "sm_90"):
            assert not next(build_modules(kernel, parse_arch(arch))).bulk_launches
            with pytest.raises(UnsupportedError, match="no schedule fits"):
                lower_warpgroups(kernel, parse_arch(arch))
        assert next(build_modules(kernel, parse_arch("sm_90a"))).bulk_launches


CHANGES = {
    "fence of products": ("wgmma.fence.sync.aligned()", {"fence"}),
    "a weaker wait": ("wait_group.sync.aligned 0;", {"accumulator"}),
    "commit": ("wgmma.commit_group.sync.aligned()", {"accumulator"}),
    "release of a stage": ("mbarrier.arrive.shared(", {"deadlock"}),
    "wait for a copy": ("LAB_WAIT", {"in-flight", "unwritten-read", "race"}),
    "bytes of copies": ("mbarrier.arrive.expect", {"deadlock"}),
    "fence of the proxy": ("fence.proxy.async", {"fence"}),
    "fence of mbarriers": ("fence.mbarrier_init", {"fence"}),
    "commit of stores": ("bulk.commit.group", {"in-flight"}),
    "wait for stores": ("bulk.wait.group", {"in-flight"}),
    "fence of the proxy before the stores": ("fence.proxy.async", {"fence"}),
    "barrier before results": ("barrier.cta", {"race", "source-overwritten"}),
    "meeting of the warp before its stores": ("bar.warp.sync", {"race", "unwritten-read"}),
}
LAST = {
    "fence of the proxy before the stores": -1,
    "barrier before results": -1,
    "meeting of the warp before its stores": -1,
}
"""Which one of several instructions is left out; all of them, else."""


def changed(text: str, name: str) -> str:
    """Every instruction of a kind, or one, is left out or weakened."""
    pattern, _ = CHANGES[name]
    if name == "a weaker wait":
        return text.replace(pattern, pattern.replace(" 0;", " 1;"))
    lines = text.splitlines()
    found = [n for n, x in enumerate(lines) if pattern in x and not x.startswith("declare")]
    assert found
    left_out = [found[LAST[name]]] if name in LAST else found
    return "\n".join(line for number, line in enumerate(lines) if number not in left_out)


@pytest.mark.parametrize("name", CHANGES)
def test_what_is_left_out_is_found(name: str) -> None:
    # results of 128 columns take the place of keys besides that of the warp's own queries
    case = TailedAttention("softmax", "causal", "bf16", 64, 128 if "barrier" in name else 64)
    _module, kernel, built = lowered(case.text, case.chunk)
    inputs = random_inputs(built.signature, {"g": 1, "l": 130, "s": 165}, SEED)
    text = changed(translate_module(built), name)
    with pytest.raises(AssertionError) as found:
        run_tiles(kernel, built, text, inputs)
    assert any(f"{kind}: " in str(found.value) for kind in CHANGES[name][1]), str(found.value)
