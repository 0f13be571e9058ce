"""Kernels on warpgroups (sm_90a) in the simulator, with all of its checks, against float64.

Every case has at least 2 * stages + 1 chunks of keys that one row sees and two tiles of rows, the
last ones partly filled, so that every stage is used twice and once more.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import pytest

from diagc.errors import UnsupportedError
from diagc.mlir import ir
from diagc.targets.nvptx.arch import parse_arch
from diagc.targets.nvptx.lowering import GpuModule, build_modules
from diagc.targets.nvptx.tiles.schedule import TileSchedule
from diagc.targets.nvptx.warpgroups.lower import lower_warpgroups
from diagc.testing.seed import SEED
from diagc.testing.tile_kernels import (
    Placement,
    kernels_of,
    random_inputs,
    run_tiles,
    translate_module,
)
from diagc.testing.warpgroup_runs import TOLERANCE

ROWS = 128
TAILS = (1, 15, 7, 8)
MASKS = ("none", "causal", "bottom_right", "window", "dilated")


@dataclass(frozen=True)
class Case:
    """A kernel and its sizes; `group` queries' heads share keys, 0 for no such axis."""

    normaliser: str
    mask: str
    dtype: str
    d: int
    e: int
    chunk: int = 32
    stages: int = 2
    group: int = 0
    tails: tuple[int, int] = (1, 7)

    @property
    def seen(self) -> int:
        """Keys that a row sees."""
        return 2 * self.stages * self.chunk + self.tails[0]

    @property
    def keys(self) -> int:
        return self.seen + (ROWS if self.mask == "window" else 0)

    @property
    def rows(self) -> int:
        """The last row sees the last key where the mask is causal."""
        least = ROWS + self.tails[1]
        if self.mask not in ("causal", "window"):
            return least
        return -(-max(self.keys, least) // ROWS) * ROWS + self.tails[1]

    @property
    def text(self) -> str:
        condition = {
            "none": "",
            "causal": "q >= x",
            "bottom_right": f"q + {self.keys - self.rows} >= x",
            "window": f"(q >= x) and (q - x < {self.seen})",
            "dilated": "(q - x) % 3 == 0",
        }[self.mask]
        where = f" where ({condition})" if condition else ""
        r, axis = ("r ", f", r = {self.group}") if self.group else ("", "")
        t, value = self.dtype, "d" if self.d == self.e else "e"
        columns = "" if self.d == self.e else f", e = {self.e}"
        return f"""axis h, q, x, d = {self.d}{columns}{axis}
diagram attention(Q: h {r}q d {t}, K: h x d {t}, V: h x {value} {t}) {{
  S: h {r}q x f32 = Q . K over d
  P = {self.normaliser}(S * 0.125) along x{where}
  O: h {r}q {value} {t} = P . V over x
  return O
}}
"""


def _kinds() -> Iterator[tuple[str, str, str]]:
    """Normaliser, mask and type; not those that go through tf32 or are re-associated."""
    yield from product(("softmax",), MASKS, ("bf16", "f16"))
    others = product(("l1", "relu_sum", "l2"), MASKS, ("bf16",))
    yield from (kind for kind in others if kind[:2] != ("l2", "none"))


def _cases() -> Iterator[Case]:
    for number, kind in enumerate(_kinds()):
        tails = TAILS[number % 4], TAILS[number // 4 % 4]
        yield Case(*kind, 64, 64, stages=2 + number % 2, group=(0, 2, 0)[number % 3], tails=tails)
    for number, (d, e) in enumerate([(128, 128), (192, 128), (256, 256), (64, 128), (192, 192)]):
        yield Case("softmax", MASKS[number], ("bf16", "f16")[number % 2], d, e, chunk=64)
    for number, (d, e) in enumerate([(96, 96), (32, 80), (112, 48), (16, 160)]):
        yield Case("softmax", MASKS[number], ("bf16", "f16")[number % 2], d, e)
    yield Case("softmax", "causal", "bf16", 128, 128, chunk=128)
    yield Case("l1", "window", "bf16", 64, 64, chunk=128)


def _more() -> Iterator[Case]:
    for number, kind in enumerate(_kinds()):
        for d, chunk, stages in ((128, 64, 3), (192, 64, 2), (64, 128, 2)):
            tails = TAILS[(number + d) % 4], TAILS[number % 4]
            yield Case(*kind, d, d, chunk, stages, group=(0, 3)[number % 2], tails=tails)


def _name(case: Case) -> str:
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


def judge(case: Case) -> None:
    _module, kernel, built = lowered(case.text, case.chunk, case.stages)
    inputs = random_inputs(built.signature, {"g": 1, "l": case.rows, "s": case.keys}, SEED)
    run = run_tiles(kernel, built, translate_module(built), inputs)
    assert run.error_of_averages() < TOLERANCE[case.dtype]
    assert run.reports[0].checking


@pytest.mark.parametrize("case", list(_cases()), ids=_name)
def test_kernel(case: Case) -> None:
    judge(case)


@pytest.mark.slow
@pytest.mark.parametrize("case", list(_more()), ids=_name)
def test_more_sizes(case: Case) -> None:
    judge(case)


def run(text: str, sizes: dict[str, int], placement: Placement | None = None) -> float:
    """The error of a kernel."""
    _module, kernel, built = lowered(text, chunk=32 if "h d x" not in text else 64)
    inputs = random_inputs(built.signature, sizes, SEED)
    return run_tiles(kernel, built, translate_module(built), inputs, placement).error_of_averages()


FORMS = {
    "bias per key": ("B: x f32", "S * 0.125 + B", "", "O", "bf16"),
    "kept per key": ("B: h x i1", "S * 0.125", " where (B and q >= x)", "O", "bf16"),
    "a scale that is no power of two": ("", "S * 0.17", " where (q >= x)", "O", "bf16"),
    "a result in f32": ("", "S * 0.125", "", "O", "f32"),
}
FORM = """axis h, q, x, d = 64
diagram form(Q: h q d bf16, K: h x d bf16, V: h x d bf16{argument}) {{
  S: h q x f32 = Q . K over d
  P = softmax({scores}) along x{where}
  O: h q d {dtype} = P . V over x
  return {result}
}}
"""


@pytest.mark.parametrize("form", FORMS)
def test_masks_biases_and_results(form: str) -> None:
    argument, scores, where, result, dtype = FORMS[form]
    text = FORM.format(
        argument=f", {argument}" if argument else "",
        scores=scores,
        where=where,
        result=result,
        dtype=dtype,
    )
    assert run(text, {"g": 1, "l": 140, "s": 150}) < TOLERANCE["bf16"]


SUMS = """axis h, q, x, d = 64
diagram two(Q: h q d bf16, K: h x d bf16, V: h x d bf16) {
  S: h q x f32 = Q . K over d
  Z = sum(abs(S)) over x
  O: h q d f32 = S . V over x
  return O / Z, Z
}
"""
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


@pytest.mark.parametrize("text", [SUMS, SHARED, LINES], ids=["statistics", "one array", "by x"])
def test_other_diagrams(text: str) -> None:
    """Statistics as results; keys that are values, too; arrays with keys along the lines."""
    sizes = {"g": 2, "l": 140, "s": 152}
    assert run(text, sizes) < TOLERANCE["bf16"]


@pytest.mark.parametrize("sizes", [(1, 1), (5, 64), (129, 65), (257, 128)])
def test_hardly_any_rows_or_keys(sizes: tuple[int, int]) -> None:
    text = Case("softmax", "causal", "bf16", 64, 64).text
    assert run(text, {"g": 1, "l": sizes[0], "s": sizes[1]}) < TOLERANCE["bf16"]


def test_lines_further_apart() -> None:
    text = Case("softmax", "none", "bf16", 64, 64).text
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
    "f32": (Case("softmax", "none", "bf16", 64, 64).text.replace("bf16", "f32"), "is f32"),
    "narrow": (Case("softmax", "none", "bf16", 24, 24).text, "multiple of 32 bytes"),
    "widened": (Case("l1", "none", "f16", 64, 64).text, "range of f16"),
    "more lines than a box": (LONG_LINES, "have 320 lines, boxes 256"),
    "bias": (
        FORM.format(argument=", B: h x q bf16", scores="S + B", where="", result="O", dtype="bf16"),
        "go along rows",
    ),
    "one row": (
        Case("softmax", "none", "bf16", 64, 64).text.replace(" q d", " d").replace(" q x", " x"),
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
    _module, (kernel,) = kernels_of(Case("softmax", "none", "bf16", 64, 64).text)
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
    case = Case("softmax", "causal", "bf16", 64, 128 if "barrier" in name else 64)
    _module, kernel, built = lowered(case.text, case.chunk)
    inputs = random_inputs(built.signature, {"g": 1, "l": 130, "s": 165}, SEED)
    text = changed(translate_module(built), name)
    with pytest.raises(AssertionError) as found:
        run_tiles(kernel, built, text, inputs)
    assert any(f"{kind}: " in str(found.value) for kind in CHANGES[name][1]), str(found.value)
