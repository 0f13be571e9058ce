"""What ptxas makes of kernels on warpgroups: registers, no spills, nothing serialised."""

import re
from dataclasses import dataclass, replace
from itertools import pairwise

import pytest

from diagc.mlir import ir
from diagc.targets.nvptx.arch import parse_arch
from diagc.targets.nvptx.kernel import compile_kernel
from diagc.targets.nvptx.lowering import GpuModule
from diagc.targets.nvptx.pipeline import CompiledModule
from diagc.targets.nvptx.ptxas import disassemble, find_tool
from diagc.targets.nvptx.selection import TILES, tile_schedules, tiles_attribute
from diagc.targets.nvptx.tiles.schedule import TileSchedule
from diagc.targets.nvptx.warpgroups.lower import warpgroup_plan_schedules
from diagc.targets.nvptx.warpgroups.schedule import PRODUCER_REGISTERS, consumer_registers
from diagc.testing.attention import Attention
from diagc.testing.tile_kernels import kernels_of
from diagc.testing.warpgroup_runs import TARGET
from diagc.testing.wgmma_registers import lacking_registers, misuses

pytestmark = pytest.mark.skipif(
    find_tool() is None, reason="NOT TESTED: registers and spills, for there is no ptxas"
)

BIASED = "S * 0.125 + B"


@dataclass(frozen=True)
class Case(Attention):
    """A kernel, and how its blocks are to be: positions of a chunk, groups of 64 rows.

    Where a mask is causal blocks stay, unless that needs too many registers. With `split` they
    share the stream, in parts of so many positions or more. Groups take turns where exponentials
    take about half of the time of products, unless that needs too many registers, as a bias does.
    """

    chunk: int = 128
    groups: int = 2
    stays: bool = False
    split: int = 0
    turns: bool = True


CASES = {
    "causal, d = 64": Case("q >= x", stays=True),
    "d = 96": Case(d=96, chunk=96, groups=3),
    "d = 128": Case(d=128, dtype="f16"),
    "causal, d = 192 and 128": Case("q >= x", d=192, e=128, stays=True, turns=False),
    "causal, d = 256": Case("q >= x", d=256, chunk=80, turns=False),
    "bias, d = 64": Case(arguments="B: q x bf16", scores=BIASED, chunk=96, groups=3, turns=False),
    "bias and causal, d = 128": Case(
        "q >= x", d=128, arguments="B: h q x bf16", scores=BIASED, stays=True
    ),
    "mask, d = 128": Case("B", d=128, arguments="B: q x i1"),
    "four heads and causal, d = 128": Case("q >= x", d=128, group=4, stays=True),
    "few rows in parts, d = 64": Case(
        group=4, queries="", chunk=64, groups=1, split=256, turns=False
    ),
    "documents, d = 128": Case("F <= x and x < G", d=128, arguments="F: q i32, G: q i32"),
    "no exponentials, d = 64": Case(normaliser="l1", chunk=112, groups=3, turns=False),
    "no exponentials and causal, d = 128": Case(
        "q >= x", d=128, normaliser="l2", stays=True, turns=False
    ),
}
ARITHMETIC = {"softmax": "MUFU.EX2", "l1": "FADD", "l2": "FFMA"}
"""What there is one of for every score."""
PER_MULTIPROCESSOR = 65536
_FUNCTION = re.compile(r"Function : |-- \.text\.")
_INSTRUCTION = re.compile(r"^\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P[T0-9]+\s+)?([A-Z][A-Z0-9_.]*)")


def compiled(case: Case, *, other: bool = False) -> tuple[GpuModule, CompiledModule]:
    """By the rules; `other` has products in turns where these have not, and the other way round."""
    _module, (kernel,) = kernels_of(case.text, TARGET)
    arch = parse_arch("sm_90a")
    with kernel.context, ir.Location.unknown():
        first = warpgroup_plan_schedules(kernel, arch)[0]
        if case.split:
            given = [replace(first, split=case.split), TileSchedule(warps=1)]
            kernel.attributes[TILES] = tiles_attribute(given)
        elif other:
            usual = next(x for x in tile_schedules(kernel, arch) if x.chunk == case.chunk)
            given = [replace(usual, turns=not case.turns), TileSchedule(warps=4)]
            kernel.attributes[TILES] = tiles_attribute(given)
        built, made = compile_kernel(kernel, arch)
    assert built.tiles is not None
    assert built.tiles.producers == 4
    assert (built.tiles.chunk, built.tiles.warps) == (case.chunk, 4 * case.groups)
    assert built.tiles.stays == case.stays
    assert built.tiles.turns == (case.turns != other)
    assert built.bulk_launches[0].stays == case.stays
    assert built.tiles.packed == (case.group if case.queries and case.group else 1)
    return built, made


OTHERS = (
    *("d = 128", "d = 96", "four heads and causal, d = 128", "no exponentials, d = 64"),
    "no exponentials and causal, d = 128",
)


@pytest.mark.parametrize(
    ("name", "other"), [*((name, False) for name in CASES), *((name, True) for name in OTHERS)]
)
def test_registers_and_overlap(name: str, other: bool) -> None:
    """Serialised products, of which ptxas has notes, are errors of `assemble`."""
    built, made = compiled(CASES[name], other=other)
    first, *joins = built.bulk_launches
    assert first.threads == 128 * (1 + CASES[name].groups)
    for launch in built.bulk_launches:
        used = made.resources[launch.symbol]
        assert used.spills == 0
        assert used.registers * launch.threads * launch.blocks_per_sm <= PER_MULTIPROCESSOR
        assert not lacking_registers(made.ptx, launch.symbol, launch.threads, used.registers)
    assert misuses(made.ptx) == []
    assert len(joins) == (1 if CASES[name].split else 0)
    for instruction in ("wgmma.mma_async", "cp.async.bulk.tensor", "setmaxnreg", "mbarrier"):
        assert instruction in made.ptx
    assert made.cubin is not None
    sass = disassemble(made.cubin)
    if sass is None:
        pytest.skip("NOT TESTED: machine code, for there is neither nvdisasm nor cuobjdump")
    body = next(part for part in _FUNCTION.split(sass) if part.startswith(first.symbol))
    found = [match[1] for line in body.splitlines() if (match := _INSTRUCTION.match(line))]
    # parts leave their states as they are in registers
    stores = () if joins else ("UTMASTG", "STSM")
    for word in ("HGMMA", "UTMALDG", "USETMAXREG", *stores):
        assert any(x.startswith(word) for x in found), word
    check_order(found, ARITHMETIC[CASES[name].normaliser])
    assert built.tiles is not None
    check_turns(found, turns=built.tiles.turns)


def check_turns(found: list[str], *, turns: bool) -> None:
    """Whoever waits at a barrier for a turn issues all products of a chunk, then gives it on.

    Nothing that takes long stands between: no special functions, no wait, no second barrier.
    """
    arrivals = [i for i, x in enumerate(found) if x.startswith("BAR.ARV")]
    if not turns:
        assert not arrivals
        return
    # the first turn is given without one; then one for each loop over chunks
    gaps = [found[_last(found, "BAR.SYNC", i) : i] for i in arrivals]
    held = [gap for gap in gaps if any(x.startswith("HGMMA") for x in gap)]
    assert 1 <= len(held) == len(arrivals) - 1
    for gap in held:
        slow = ("MUFU", "WARPGROUP.DEPBAR", "SYNCS", "BRA", "FMUL", "F2FP")
        assert not [x for x in gap if x.startswith(slow)]
        after = sum(x == "WARPGROUP.ARRIVE" for x in gap)
        assert after == 2, "first and last products"


def _last(found: list[str], word: str, end: int) -> int:
    """The last instruction of a kind before a place, 0 where there is none."""
    return max((i for i in range(end) if found[i].startswith(word)), default=0)


def check_order(found: list[str], arithmetic: str) -> None:
    """The arithmetic of a loop stands between two waits: products are under way beside it."""
    waits = [i for i, x in enumerate(found) if x.startswith("WARPGROUP.DEPBAR")]
    parts = [found[start:end] for start, end in pairwise(waits)]
    overlapped = (is_overlapped(*pair, arithmetic) for pair in pairwise(parts))
    assert any(overlapped), f"no {arithmetic} beside products"


def is_overlapped(products: list[str], between: list[str], arithmetic: str) -> bool:
    """Up to one wait products were issued, up to the next one none, but instructions of a kind."""

    def count(part: list[str], kind: str) -> int:
        return sum(x.startswith(kind) for x in part)

    beside = count(between, arithmetic)
    alone = count(products, arithmetic)
    issued, more = count(products, "HGMMA"), count(between, "HGMMA")
    return issued > 2 and more == 0 and beside >= 16 and alone < 0.1 * beside


def test_registers_are_shared_out() -> None:
    """The driver gives a block what it was compiled for; setmaxnreg moves it."""
    for warps, blocks in ((8, 1), (12, 1), (4, 2)):
        consumers = consumer_registers(TileSchedule(warps=warps))
        used = 128 * PRODUCER_REGISTERS + 32 * warps * consumers
        assert blocks * used <= PER_MULTIPROCESSOR
