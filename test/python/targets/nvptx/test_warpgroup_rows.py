"""Warpgroups: arrays with rows and keys, rows of several heads, few rows, streams in parts."""

from dataclasses import dataclass, field

import pytest

from diagc.testing.tile_kernels import Placement
from diagc.testing.warpgroup_runs import TOLERANCE, run_diagram

CHUNK, STAGES = 32, 2


@dataclass(frozen=True)
class Form:
    """A diagram: further arguments, scores, a condition; and its sizes."""

    arguments: str
    scores: str
    where: str = ""
    normaliser: str = "softmax"
    dtype: str = "bf16"
    chunk: int = 32
    sizes: dict[str, int] = field(default_factory=lambda: {"g": 1, "l": 137, "s": 152})

    @property
    def text(self) -> str:
        condition = f" where ({self.where})" if self.where else ""
        t = self.dtype
        return f"""axis h, q, x, d = 64
diagram form(Q: h q d {t}, K: h x d {t}, V: h x d {t}, {self.arguments}) {{
  S: h q x f32 = Q . K over d
  P = {self.normaliser}({self.scores}) along x{condition}
  O: h q d {t} = P . V over x
  return O
}}
"""


LONG = {"g": 1, "l": 130, "s": 5 * 128}
MASKED = {"g": 1, "l": 137, "s": 144}
FORMS = {
    "bias of each head": Form("B: h q x bf16", "S * 0.125 + B"),
    "bias of all heads, f16": Form(
        "B: q x f16", "S * 0.125 + B", dtype="f16", sizes={"g": 2, "l": 129, "s": 136}
    ),
    "bias in f32": Form("B: q x f32", "S + B", chunk=64, sizes={"g": 1, "l": 130, "s": 284}),
    "bias and causal": Form("B: h q x bf16", "S * 0.125 + B", "q + 10 >= x"),
    "factor": Form("B: q x bf16", "S * B", normaliser="l1"),
    "bias, no exponential": Form("B: h q x bf16", "S + B", normaliser="relu_sum"),
    "mask of each head": Form("M: h q x i1", "S * 0.125", "M", sizes=MASKED),
    "mask of all heads, causal": Form("M: q x i1", "S * 0.17", "M and q + 5 >= x", sizes=MASKED),
    "mask, chunks of a panel": Form("M: q x i1", "S * 0.125", "M", chunk=128, sizes=LONG),
    "mask, l2": Form("M: q x i1", "S", "M", normaliser="l2", sizes=MASKED),
    "bias and mask": Form("B: q x bf16, M: h q x i1", "S * 0.125 + B", "M", sizes=MASKED),
    "two biases": Form("B: q x bf16, C: h q x f32", "S * 0.125 + B + C"),
}


@pytest.mark.parametrize("name", FORMS)
def test_rows_and_keys(name: str) -> None:
    form = FORMS[name]
    _built, run = run_diagram(form.text, form.sizes, form.chunk, STAGES)
    assert run.error_of_averages() < TOLERANCE[form.dtype]


# ---- query heads that share keys -----------------------------------------------------------------

PACKED = """axis h, r = {r}, q, x, d = 64
diagram packed(Q: {order} d bf16, K: h x d bf16, V: h x d bf16{argument}) {{
  S: h r q x f32 = Q . K over d
  P = softmax({scores}) along x{where}
  O: {order} d bf16 = P . V over x
  return O
}}
"""


@dataclass(frozen=True)
class Heads:
    """Heads that are rows of a block: how many, and what else there is."""

    r: int
    rows: int
    keys: int = 2 * 2 * 32 + 17
    argument: str = ""
    scores: str = "S * 0.125"
    where: str = ""
    order: str = "h r q"

    @property
    def text(self) -> str:
        return PACKED.format(
            r=self.r,
            order=self.order,
            argument=f", {self.argument}" if self.argument else "",
            scores=self.scores,
            where=f" where ({self.where})" if self.where else "",
        )


HEADS = {
    "2 heads": Heads(2, 64 + 7),
    "4 heads, causal": Heads(4, 32 + 5, where="q + 110 >= x"),
    "8 heads, window": Heads(8, 16 + 3, where="(q + 128 >= x) and (q - x < 1)"),
    "16 heads": Heads(16, 8 + 1),
    "heads behind queries": Heads(4, 32 + 9, order="h q r"),
    "bias of all heads": Heads(4, 40, 152, "B: q x bf16", "S * 0.125 + B"),
    "bias of each head": Heads(8, 17, 152, "B: r q x bf16", "S * 0.125 + B"),
    "slopes of heads": Heads(4, 37, argument="B: r f32", scores="S * 0.125 + B"),
    "mask of keys by head": Heads(4, 37, argument="M: h r x i1", where="M"),
    "mask of each head": Heads(2, 66, 144, "M: r q x i1", where="M"),
}


@pytest.mark.parametrize("name", HEADS)
def test_heads_as_rows(name: str) -> None:
    heads = HEADS[name]
    built, run = run_diagram(heads.text, {"g": 1, "l": heads.rows, "s": heads.keys}, CHUNK)
    assert built.tiles is not None
    assert built.tiles.packed == heads.r
    assert run.error_of_averages() < TOLERANCE["bf16"]


def test_heads_of_one_array_of_keys() -> None:
    """No axis is shared by queries and keys but the summed one."""
    text = PACKED.format(r=4, order="r q", argument="", scores="S * 0.125", where="")
    text = text.replace("h r q x", "r q x").replace("h x d", "x d").replace("axis h, ", "axis ")
    built, run = run_diagram(text, {"l": 45, "s": 140}, CHUNK)
    assert built.tiles is not None
    assert built.tiles.packed == 4
    assert run.error_of_averages() < TOLERANCE["bf16"]


@pytest.mark.parametrize("r", [3, 32])
def test_what_is_not_packed(r: int) -> None:
    """Heads that do not divide the rows of a block, or leave each too few, are blocks' own."""
    built, run = run_diagram(Heads(r, 10, 40).text, {"g": 1, "l": 10, "s": 40}, CHUNK)
    assert built.tiles is not None
    assert built.tiles.packed == 1
    assert run.error_of_averages() < TOLERANCE["bf16"]


# ---- few rows ------------------------------------------------------------------------------------

FEW = """axis b, r = {r}, x, d = {d}
diagram few(Q: b r d {t}, K: b x d {t}, V: b x d {t}{argument}) {{
  S: b r x f32 = Q . K over d
  P = {n}({scores}) along x{where}
  O: b r d {t} = P . V over x
  return O
}}
"""


@dataclass(frozen=True)
class Few:
    """Rows of known number, and the length of a part, 0 for one block a stream."""

    r: int
    split: int
    keys: int = 5 * 32 + 9
    d: int = 64
    normaliser: str = "softmax"
    dtype: str = "bf16"
    argument: str = ""
    scores: str = "S * 0.125"
    where: str = ""

    @property
    def text(self) -> str:
        return FEW.format(
            r=self.r,
            d=self.d,
            t=self.dtype,
            n=self.normaliser,
            argument=f", {self.argument}" if self.argument else "",
            scores=self.scores,
            where=f" where ({self.where})" if self.where else "",
        )


FEW_ROWS = {
    "in one part": Few(4, 0),
    "in parts": Few(4, 64),
    "a part of five chunks": Few(8, 160, 200),
    "f16": Few(2, 96, dtype="f16"),
    "wide": Few(4, 64, d=128),
    "l1": Few(4, 64, normaliser="l1"),
    "relu_sum": Few(8, 64, normaliser="relu_sum"),
    "masked keys": Few(4, 64, argument="M: b x i1", where="M"),
    "bias": Few(4, 64, 168, argument="B: b r x bf16", scores="S * 0.125 + B"),
}


@pytest.mark.parametrize("name", FEW_ROWS)
def test_few_rows(name: str) -> None:
    few = FEW_ROWS[name]
    built, run = run_diagram(few.text, {"g": 2, "s": few.keys}, CHUNK, split=few.split)
    assert built.tiles is not None
    assert built.tiles.warps == 4
    assert len(built.launches) == (2 if few.split else 1)
    assert run.error_of_averages() < TOLERANCE[few.dtype]


SHORT = """axis b, r = 4, q = 5, x, d = 64
diagram short(Q: b r q d bf16, K: b x d bf16, V: b x d bf16) {
  S: b r q x f32 = Q . K over d
  P = softmax(S * 0.125) along x where (q + 130 >= x)
  O: b r q d bf16 = P . V over x
  return O
}
"""


def test_few_queries_of_several_heads() -> None:
    """Twenty rows of one block; the last part is empty for it."""
    built, run = run_diagram(SHORT, {"g": 2, "s": 200}, CHUNK, split=64)
    assert built.tiles is not None
    assert (built.tiles.packed, built.tiles.warps) == (4, 4)
    assert run.error_of_averages() < TOLERANCE["bf16"]


def test_lines_further_apart() -> None:
    _built, run = run_diagram(
        HEADS["bias of each head"].text,
        {"g": 1, "l": 17, "s": 152},
        CHUNK,
        placement=Placement(gap=8),
    )
    assert run.error_of_averages() < TOLERANCE["bf16"]
