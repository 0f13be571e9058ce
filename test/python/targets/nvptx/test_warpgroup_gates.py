"""What ptxas makes of kernels on warpgroups: registers, no spills, nothing serialised."""

import re
from itertools import pairwise

import pytest

from diagc.mlir import ir
from diagc.targets.nvptx.arch import parse_arch
from diagc.targets.nvptx.kernel import compile_kernel
from diagc.targets.nvptx.pipeline import CompiledModule
from diagc.targets.nvptx.ptxas import disassemble, find_tool
from diagc.targets.nvptx.symbols import BULK
from diagc.targets.nvptx.tiles.schedule import TileSchedule
from diagc.targets.nvptx.warpgroups.schedule import PRODUCER_REGISTERS, consumer_registers
from diagc.testing.tile_kernels import kernels_of

pytestmark = pytest.mark.skipif(
    find_tool() is None, reason="NOT TESTED: registers and spills, for there is no ptxas"
)

ATTENTION = """axis h, q, x, d = {d}, e = {e}
diagram attention(Q: h q d {t}, K: h x d {t}, V: h x e {t}) {{
  S: h q x f32 = Q . K over d
  P = {n}(S * 0.125) along x{where}
  O: h q e {t} = P . V over x
  return O
}}
"""
# type, d, e, normaliser, mask, positions of a chunk
CASES = [
    ("bf16", 64, 64, "softmax", "q >= x", 128),
    ("f16", 128, 128, "softmax", "", 112),
    ("bf16", 192, 128, "softmax", "q >= x", 96),
    ("bf16", 256, 256, "softmax", "q >= x", 64),
]
PER_MULTIPROCESSOR, THREADS = 65536, 384
_INSTRUCTION = re.compile(r"^\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P[T0-9]+\s+)?([A-Z][A-Z0-9_.]*)")


def compiled(dtype: str, d: int, e: int, normaliser: str, mask: str, chunk: int) -> CompiledModule:
    where = f" where ({mask})" if mask else ""
    text = ATTENTION.format(t=dtype, d=d, e=e, n=normaliser, where=where)
    _module, (kernel,) = kernels_of(text)
    with kernel.context, ir.Location.unknown():
        built, made = compile_kernel(kernel, parse_arch("sm_90a"))
    assert built.tiles is not None
    assert (built.tiles.producers, built.tiles.chunk) == (4, chunk)
    (launch,) = built.bulk_launches
    assert launch.threads == THREADS
    return made


@pytest.mark.parametrize("case", CASES, ids=str)
def test_registers_and_overlap(case: tuple[str, int, int, str, str, int]) -> None:
    """Serialised products, of which ptxas has notes, are errors of `assemble`."""
    made = compiled(*case)
    (used,) = (used for name, used in made.resources.items() if name.endswith(BULK))
    assert used.spills == 0
    assert used.registers * THREADS <= PER_MULTIPROCESSOR
    for instruction in ("wgmma.mma_async", "cp.async.bulk.tensor", "setmaxnreg", "mbarrier"):
        assert instruction in made.ptx
    assert made.cubin is not None
    sass = disassemble(made.cubin)
    if sass is None:
        pytest.skip("NOT TESTED: machine code, for there is neither nvdisasm nor cuobjdump")
    check_order(sass, exponentials=case[3] == "softmax")


def check_order(sass: str, *, exponentials: bool) -> None:
    """The arithmetic of a loop stands between products that were issued and the wait for them."""
    body = sass[sass.index(BULK) :]
    found = [match[1] for line in body.splitlines() if (match := _INSTRUCTION.match(line))]
    for name in ("HGMMA", "UTMALDG", "USETMAXREG"):
        assert any(x.startswith(name) for x in found), name
    if not exponentials:
        return
    waits = [i for i, x in enumerate(found) if x.startswith("WARPGROUP.DEPBAR")]
    loops = [found[start:end] for start, end in pairwise(waits)]
    overlapped = [part for part in loops if is_overlapped(part)]
    assert overlapped, "no loop issues products, computes, issues products and waits"


def is_overlapped(part: list[str]) -> bool:
    """From one wait to the next: products, exponentials, then products."""
    products = [i for i, x in enumerate(part) if x.startswith("HGMMA")]
    powers = [i for i, x in enumerate(part) if x.startswith("MUFU.EX2")]
    if not products or len(powers) < 32:
        return False
    between = [i for i in powers if products[0] < i < products[-1]]
    return len(between) >= 0.9 * len(powers)


@pytest.mark.parametrize("warps", [4, 8])
def test_registers_are_shared_out(warps: int) -> None:
    """The driver gives a block what it was compiled for; setmaxnreg moves it."""
    consumers = consumer_registers(TileSchedule(warps=warps, producers=4))
    assert 128 * PRODUCER_REGISTERS + 32 * warps * consumers <= PER_MULTIPROCESSOR
