"""How long a kernel for a GPU takes to compile, and to come from the cache; no GPU is needed.

| what | limit |
|---|---|
| a kernel of diag IR to PTX and cubin, the compiler being loaded and nothing cached | 0.7 s |
| the same from the cache on disk | 5 ms |

Each in a fresh process that has compiled another kernel before, as imports and the start of the
worker process count once. The figures are the median of some processes. Without ptxas there is no
cubin, and the figures say so.
"""

import argparse
import sys
import tempfile
from statistics import median

from cpu_compile_time import python
from harness import save_json

from diagc.targets.nvptx.ptxas import find_tool
from diagc.testing.attention import Attention

LIMITS = {"cold": 0.7, "cached": 0.005}

NORM = """axis n, d = 1024
diagram norm(X: n d bf16) {
  M: n f32 = sum(X) over d
  return X - M * 0.0009765625
}
"""
SOURCES = {
    "causal softmax, d = 64": Attention("q >= x").text,
    "causal softmax, d = 128": Attention("q >= x", d=128).text,
    "softmax, d = 64": Attention().text,
    "l2, d = 64": Attention(normaliser="l2").text,
    "centred rows": NORM,
}

# kernels of a diagram: seconds of each, printed
MEASURE = """
import sys, time
from diagc.compiler import run_pipeline
from diagc.context import make_context
from diagc.dialects import diag
from diagc.frontend.text import parse
from diagc.mlir import ir
from diagc.options import CompileOptions, use
from diagc.targets.nvptx import lower_kernel
options = CompileOptions(target="nvptx:sm_80", library="none")
def lower(text):
    module = parse(text)
    run_pipeline(module, options)
    seconds = []
    for op in [op for op in diag.functions(module) if diag.is_kernel(op)]:
        start = time.perf_counter()
        kernel = lower_kernel(op, options)
        seconds.append(time.perf_counter() - start)
        assert kernel.cache == CACHE, kernel.cache
    return seconds
with make_context(), ir.Location.unknown(), use(options):
    first, text = sys.stdin.read().split("----")
    CACHE = WANTED
    lower(first)
    print(max(lower(text)))
"""
FIRST = "axis n, m\ndiagram first(X: n m f32) { return X * 2.0 }\n"


def seconds(text: str, wanted: str, cache: str) -> float:
    """Of the slowest kernel of a diagram."""
    code = MEASURE.replace("WANTED", repr(wanted))
    return float(python(code, cache, f"{FIRST}----{text}"))


def measure(text: str, rounds: int) -> dict[str, float]:
    """Medians, each cold figure with an empty cache and each other with the one that it left."""
    found: dict[str, list[float]] = {"cold": [], "cached": []}
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as cache:
            found["cold"].append(seconds(text, "miss", cache))
            found["cached"].append(seconds(text, "hit", cache))
    return {name: median(values) for name, values in found.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--gate", action="store_true", help="exit with 1 when a limit is passed")
    parser.add_argument("--no-save", action="store_true", help="write no result file")
    args = parser.parse_args()
    has_ptxas = find_tool() is not None
    print("PTX and cubin" if has_ptxas else "PTX ONLY: there is no ptxas")
    results = {name: measure(text, args.rounds) for name, text in SOURCES.items()}
    missed = False
    for name, figures in results.items():
        for kind, value in figures.items():
            late = value > LIMITS[kind]
            missed |= late
            verdict = f"  MISSED: limit {LIMITS[kind] * 1e3:.0f} ms" if late else ""
            print(f"{name:24} {kind:7} {value * 1e3:8.1f} ms{verdict}")
    if not args.no_save:
        record = {"seconds": results, "ptxas": has_ptxas}
        print(f"written to {save_json('gpu_compile_time', record, vars(args))}")
    return 1 if args.gate and missed else 0


if __name__ == "__main__":
    sys.exit(main())
