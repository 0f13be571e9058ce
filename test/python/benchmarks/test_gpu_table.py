"""The performance table without a GPU: rows, gates, peers, plots, and the whole as a dry run."""

import ast
import importlib.util
import inspect
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import groupby, pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "benchmarks"))

from gpu import functions as f  # noqa: E402
from gpu import measure, peers, plots, worker  # noqa: E402
from gpu.correctness import Check, check  # noqa: E402
from gpu.measure import Ceilings, Times  # noqa: E402
from gpu.table import PREFIX, TABLE  # noqa: E402
from gpu.variants import Gate, Variant  # noqa: E402

TRITON = ROOT / "benchmarks" / "gpu" / "triton_attention.py"
GATED = {
    "table-full-d128-n16384": [1.0],
    "table-spherical-streamed-d128-n16384": [1.1, 0.75],
    "table-spherical-reassociated-d128-n16384": [25.0],
    "table-causal-d128-n16384": [0.95],
}


def test_rows_that_decide_come_first() -> None:
    assert list(TABLE)[:4] == list(GATED)
    for name, ratios in GATED.items():
        assert [gate.ratio for gate in TABLE[name].gates] == ratios


def test_the_manual_says_what_each_gate_decides() -> None:
    lines = (ROOT / "docs" / "usage.md").read_text(encoding="utf-8").splitlines()
    for row in TABLE.values():
        if row.gates:
            (line,) = (x for x in lines if x.startswith("| ") and f"`{row.name}`" in x)
            assert all(re.search(rf"[|;] {gate.ratio:g} (x|of)", line) for gate in row.gates)


def test_rows_of_a_package_are_the_same_function() -> None:
    packages: dict[str, Variant] = {}
    for row in TABLE.values():
        first = packages.setdefault(row.package_name, row)
        assert first.function is row.function or row.forward is not None
        assert first.options == row.options
        assert first.shapes[0][-1] == row.shapes[0][-1]
        assert first is row or row.is_open
    lengths = {row.shapes[1][-2] for row in TABLE.values() if row.name.startswith("table-full")}
    assert lengths == {1024, 2048, 4096, 8192, 16384, 32768}


@pytest.mark.parametrize("name", ["table-grouped-causal-d128-n4096", "table-full-d64-n4096"])
def test_few_heads_are_compared(name: str) -> None:
    row = TABLE[name]
    inputs = row.inputs(0, "cpu", True)
    few = row.few(inputs)
    assert [t.shape[0] for t in few] == [2, 2, 2]
    (exact,) = row.reference(few)
    (found,) = row.few([row.function(*inputs)], arguments=False)
    assert (found.double() - exact).abs().max() < 0.05
    assert row.operations == 4 * row.shapes[0][0] * (8 if "grouped" in name else 1) * (
        4096 * 4096 * row.shapes[0][-1] // (2 if "causal" in name else 1)
    )


@pytest.mark.parametrize("problem", ["not finite", "two runs"])
def test_heads_between_those_compared_are_seen(problem: str) -> None:
    row = replace(TABLE["table-full-d64-n4096"], small=((4, 20, 64),) * 3)
    runs = 0

    def spoiled(*inputs: torch.Tensor) -> torch.Tensor:
        nonlocal runs
        runs += 1
        out = row.eager(*inputs)[0].clone()
        out[1:3] = float("nan") if problem == "not finite" else float(runs)
        return out

    found = check(row, spoiled, "cpu", True)
    assert found.error <= found.allowed
    assert problem in str(found.problem)


def test_spherical_by_hand_is_the_same() -> None:
    q, k, v = torch.randn(3, 2, 50, 16, dtype=torch.float64).unbind()
    exact = f.spherical(q, k, v)
    assert (f.spherical_by_hand(q, k, v) - exact).abs().max() < 1e-6  # sums in f32


def test_gradients_are_those_of_torch() -> None:
    q, k, v, g = torch.randn(4, 1, 30, 16, dtype=torch.float64).unbind()
    found = f.gradients(f.causal)(q, k, v, g)
    reference = peers.sdpa_backward("sdpa math", True)(q, k, v, g)
    for a, b in zip(found, reference, strict=True):
        assert (a - b).abs().max() < 1e-10


def test_missing_peers_say_so() -> None:
    if importlib.util.find_spec("triton") is not None:
        pytest.skip("Triton is here")
    q = torch.zeros(1, 4, 16)
    with pytest.raises(peers.MissingPeer, match="there is no Triton here"):
        peers.attention_peers(False)["triton"](q, q, q)


def outcome(ratios: dict[str, float], operations: float = 0.0) -> worker.Outcome:
    times = Times({}, {name: (x, x, x) for name, x in ratios.items()}, {}, 5)
    return worker.Outcome("x", "ok", times=times, operations=operations)


def test_gates_count_the_faster_peer() -> None:
    gates = (Gate("better", 1.0, ("a", "b")), Gate("matmul", 0.75), Gate("c", 1.0))
    found = worker._gates(
        outcome({"a": 1.5, "b": 0.9, "other": 0.1}, 600.0), gates, Ceilings(1.0, 700.0, 1.0)
    )
    assert [(g["measured"], g["met"]) for g in found] == [(0.9, False), (600 / 700, True)]
    for present in ("other", "a", "b"):  # the better of one is not the better of both
        assert worker._gates(outcome({present: 2.0}), gates[:1], Ceilings(1.0, 1.0, 1.0)) == []


def test_turns_are_taken_in_changing_orders() -> None:
    calls: list[str] = []

    def contender(name: str) -> Callable[[], None]:
        return lambda: calls.append(name)

    names = [measure.OURS, "a", "b", "c"]
    times = measure.measure({name: contender(name) for name in names}, [()], "cpu", 0.0)
    last = [name for name, _ in groupby(calls)][-4 * (times.rounds - 1) :]
    assert set(calls) == set(names) == times.milliseconds.keys()
    before = {tuple(pair) for pair in pairwise(last)}
    assert len(before) > 6  # of twelve; in one order there would be four


def test_wrong_peers_do_not_take_part() -> None:
    row = TABLE["table-causal-d64-n4096"]
    inputs = row.inputs(1, "cpu", True)
    result = worker.Outcome("x", "ok", check=Check(0.0, 0.0, 0.01, True, None))
    calls = {"good": f.causal, "bad": f.softmax, "bad (softmax)": f.softmax, "eager": f.softmax}
    assert list(worker._wrong_peers(result, row, calls, inputs)) == ["bad"]
    assert result.peer_errors["good"] < 0.04 < result.peer_errors["bad"]


def broken(*_arguments: torch.Tensor) -> torch.Tensor:
    """As where a peer's compiler needs one for C, and there is none."""
    raise subprocess.CalledProcessError(1, "gcc")


def test_peers_that_cannot_be_built_are_absent() -> None:
    row = TABLE["table-causal-d64-n4096"]
    inputs = row.inputs(1, "cpu", True)
    result = worker.Outcome("x", "ok", check=Check(0.0, 0.0, 0.01, True, None))
    assert worker._wrong_peers(result, row, {"broken": broken}, inputs) == {}
    times = measure.measure({measure.OURS: f.causal, "broken": broken}, [inputs], "cpu", 0.0)
    assert times.ratios == {}
    assert "CalledProcessError: Command 'gcc'" in times.absent["broken"]
    with pytest.raises(subprocess.CalledProcessError):
        measure.measure({measure.OURS: broken}, [inputs], "cpu", 0.0)


def record(small: bool = False) -> dict[str, Any]:
    rows = ["table-full-d128-n1024", "table-full-d128-n4096", "table-decode-d128-n8192"]
    milliseconds = {"diagc": 2.0, "sdpa cudnn": 4.0}
    outcomes: list[dict[str, Any]] = [
        {
            "variant": name,
            "status": "ok",
            "times": {"milliseconds": milliseconds},
            "flops": None if "decode" in name else 8 * 10**12,
            "moved": 2 * 10**9,
            "shapes": [list(shape) for shape in TABLE[name].shapes],
        }
        for name in rows
    ]
    outcomes.append({"variant": "table-causal-d128-n1024", "status": "skipped", "times": None})
    return {
        "device": "a GPU",
        "time": "2026-01-01T00:00:00",
        "small": small,
        "ceilings": {"copy_bytes_per_second": 4e12, "bf16_operations_per_second": 8e14},
        "outcomes": outcomes,
    }


def test_plots_are_drawn(tmp_path: Path) -> None:
    written = list(plots.draw(record(), tmp_path))
    assert [path.name for path in written] == [
        f"{PREFIX}{group}{suffix}"
        for group in ("full-d128", "bandwidth")
        for suffix in (".png", ".svg")
    ]
    assert written[0].read_bytes().startswith(b"\x89PNG")
    assert "matmul of this run" in written[1].read_text() or "<svg" in written[1].read_text()
    found = plots.series(record()["outcomes"][:2])
    assert found["diagc"] == [(1024, 4000.0), (4096, 4000.0)]
    assert found["sdpa cudnn"] == [(1024, 2000.0), (4096, 2000.0)]


def test_all_rows_are_in_the_table() -> None:
    lines = plots.table(record()).splitlines()
    assert "| table-full-d128-n1024 | ok | 2.0000 | 4000.0 | 1000 | 2.00 |" in lines
    assert "| table-decode-d128-n8192 | ok | 2.0000 |  | 1000 | 2.00 |" in lines
    assert "| table-causal-d128-n1024 | skipped |  |  |  |  |" in lines


def test_other_algorithms_are_drawn_by_the_time_they_save() -> None:
    """The re-associated form has no FLOPs of its own: attention's count, half if causal."""
    row = TABLE["table-spherical-causal-d128-n16384"]
    entry = {"flops": None, "shapes": [list(shape) for shape in row.shapes]}
    assert plots._flops(entry, causal=True) == row.operations


# ---- Triton's peer -------------------------------------------------------------------------------


def test_triton_file_calls_what_it_defines() -> None:
    """As far as can be seen without Triton: every call has the arguments that are declared."""
    tree = ast.parse(TRITON.read_text())
    counts = {
        node.name: len(node.args.args) for node in tree.body if isinstance(node, ast.FunctionDef)
    }
    calls = [n for n in ast.walk(tree) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)]
    walks = [call for call in calls if isinstance(call.func, ast.Name) and call.func.id == "_walk"]
    assert [len(call.args) for call in walks] == [counts["_walk"]] * 2
    (start,) = [
        n for n in ast.walk(tree) if isinstance(n, ast.Call) and isinstance(n.func, ast.Subscript)
    ]
    given = 0
    for argument in start.args:
        assert isinstance(argument, ast.Starred)
        assert isinstance(argument.value, ast.Tuple)
        given += len(argument.value.elts)
    tuned = 2  # rows and keys, from the configurations
    assert given + len(start.keywords) + tuned == counts["_forward"]


def test_tables_rows_fill_the_tiles_of_triton() -> None:
    """So that its walk without a mask is the one that is measured, tuned for each row."""
    tiles = re.findall(r"\((\d+), (\d+), \d, \d\)", TRITON.read_text())
    widest = max(int(keys) for _rows, keys in tiles)
    rows = [row for row in TABLE.values() if "triton" in row.peers]
    assert rows
    assert all(row.shapes[1][-2] % widest == 0 for row in rows)


def test_triton_kernel_is_right() -> None:
    """In Triton's interpreter, where Triton is installed."""
    if importlib.util.find_spec("triton") is None:
        pytest.skip("NOT TESTED: the peer in Triton, for there is no Triton")
    code = inspect.getsource(_interpret) + "\n_interpret()\n"
    env = {**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": str(ROOT / "benchmarks")}
    subprocess.run([sys.executable, "-c", code], check=True, env=env)


def _interpret() -> None:
    import torch
    from gpu.triton_attention import _forward

    kernel: Any = _forward.fn
    for causal in (False, True):
        for heads, group, n, d in ((2, 1, 150, 64), (4, 2, 70, 32), (2, 1, 192, 32)):
            q = torch.randn(heads, n, d)
            k, v = (torch.randn(heads // group, n, d) for _ in range(2))
            out = torch.full_like(q, float("nan"))
            strides = [s for t in (q, k, v, out) for s in t.stride()[:2]]
            tiles = {"ROWS": 64, "KEYS": 32}
            kernel[-(-n // 64), heads](
                *(q, k, v, out, *strides, n, n, group, 1.4426950408889634 / d**0.5),
                D=d, CAUSAL=causal, EVEN=n % tiles["KEYS"] == 0, **tiles,
            )  # fmt: skip
            q, k, v = (t[None].double() for t in (q, k, v))
            exact = torch.nn.functional.scaled_dot_product_attention(
                q, k, v, is_causal=causal, enable_gqa=True
            )[0]
            assert (out - exact).abs().max() < 1e-5


# ---- static gates --------------------------------------------------------------------------------


def gates() -> ModuleType:
    from gpu import gates as module

    return module


SASS = """
.section .text.first,"ax"
        /*0000*/                   HGMMA.64x128x16.F32.BF16 R24, gdesc[UR8] ;
        /*0010*/              @!P0 UTMALDG.3D [UR4], [UR6] ;
        /*0020*/                   USETMAXREG.DEALLOC.CTAPOOL 0x18 ;
        /*0030*/                   MUFU.EX2 R1, R2 ;
        /*0040*/                   MUFU.RCP R1, R2 ;
.section .text.second,"ax"
        /*0000*/                   HMMA.16816.F32.BF16 R4, R8, R12, R4 ;
"""


def test_instructions_are_counted_by_function() -> None:
    module = gates()
    found = module._counts(SASS)
    numbers = {name: module._number(found["first"], name) for name in module.COUNTED}
    assert numbers == {
        "HGMMA": 1, "HMMA": 0, "UTMALDG": 1, "USETMAXREG": 1, "LDGSTS": 0, "MUFU.EX2": 1
    }  # fmt: skip
    assert module._number(found["second"], "HMMA") == 1


def test_missed_gates_are_said() -> None:
    from diagc.runtime.gpu_kernel import GpuLaunch

    launch = GpuLaunch("f", 384, 0, ((),))
    problem = gates()._problem
    whole = dict.fromkeys(gates().COUNTED, 1)
    assert problem(launch, 168, 170, 0, whole, True) is None
    assert problem(launch, 168, 170, 8, whole, True) == "8 bytes of registers spill"
    assert "do not leave room" in problem(launch, 200, 170, 0, whole, True)
    assert problem(launch, 168, 170, 0, {**whole, "HGMMA": 0}, True) == "no HGMMA"
    assert problem(launch, 168, 170, 0, {**whole, "HGMMA": 0}, False) is None
