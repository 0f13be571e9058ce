"""How long compilation takes, each in a fresh process: with an empty cache and with a full one.

| what | cold | warm |
|---|---|---|
| from verified diag IR to something callable, imports done | 1 s | 20 ms |
| `diagc.compile(function, ...)` as a whole, torch imported | 3 s | 1.5 s |
| `diagc opt --help` | 0.4 s | |
"""

import argparse
import os
import subprocess
import sys
import tempfile
from statistics import median
from time import perf_counter

from harness import save_json

LIMITS = {
    "ir to callable, cold": 1.0,
    "ir to callable, warm": 0.020,
    "diagc.compile, cold": 3.0,
    "diagc.compile, warm": 1.5,
    "opt --help": 0.4,
}

COMPILE = """
import time, torch
from cpu_attention import softmax
import diagc
q = torch.randn(1, 16, 2048, 64)
start = time.perf_counter()
compiled = diagc.compile(softmax, q, q, q)
print(time.perf_counter() - start)
"""

IR_TO_CALLABLE = """
import sys, time, torch
from diagc.compiler import compile_module
from diagc.context import make_context
from diagc.mlir import ir
import diagc.targets.cpu, diagc.runtime.program
with make_context():
    module = ir.Module.parse(sys.stdin.read())
    module.operation.verify()
    start = time.perf_counter()
    compile_module(module, "cpu")
    print(time.perf_counter() - start)
"""

SOURCE_IR = """
import torch
from cpu_attention import softmax
import diagc
q = torch.randn(1, 16, 2048, 64)
print(diagc.compile(softmax, q, q, q).source_ir)
"""


def python(code: str, cache: str, text: str = "") -> str:
    """What a fresh Python prints that keeps its kernels in the directory `cache`."""
    environment = {**os.environ, "DIAGC_CACHE_DIR": cache}
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=text,
        capture_output=True,
        text=True,
        env=environment,
        cwd=os.path.dirname(os.path.abspath(__file__)),
        check=False,
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    return done.stdout


def cold(code: str, text: str, rounds: int) -> float:
    seconds = []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as cache:
            seconds.append(float(python(code, cache, text)))
    return median(seconds)


def warm(code: str, text: str, rounds: int) -> float:
    with tempfile.TemporaryDirectory() as cache:
        python(code, cache, text)
        return median(float(python(code, cache, text)) for _ in range(rounds))


def opt_help(rounds: int) -> float:
    seconds = []
    for _ in range(rounds):
        start = perf_counter()
        command = [sys.executable, "-m", "diagc", "opt", "--help"]
        subprocess.run(command, capture_output=True, check=True)
        seconds.append(perf_counter() - start)
    return median(seconds)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--gate", action="store_true", help="exit with 1 when a limit is passed")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as cache:
        source = python(SOURCE_IR, cache)
    seconds = {
        "ir to callable, cold": cold(IR_TO_CALLABLE, source, args.rounds),
        "ir to callable, warm": warm(IR_TO_CALLABLE, source, args.rounds),
        "diagc.compile, cold": cold(COMPILE, "", args.rounds),
        "diagc.compile, warm": warm(COMPILE, "", args.rounds),
        "opt --help": opt_help(args.rounds),
    }
    for name, value in seconds.items():
        verdict = "" if value <= LIMITS[name] else f"  MISSED: limit {LIMITS[name] * 1e3:.0f} ms"
        print(f"{name:24} {value * 1e3:8.1f} ms{verdict}")
    print(f"written to {save_json('cpu_compile_time', {'seconds': seconds}, vars(args))}")
    missed = any(value > LIMITS[name] for name, value in seconds.items())
    return 1 if args.gate and missed else 0


if __name__ == "__main__":
    sys.exit(main())
