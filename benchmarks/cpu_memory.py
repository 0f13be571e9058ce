"""Peak memory of attention over 16384 positions: nothing of quadratic size may ever exist.

Prints by how much the resident set grows at its peak over what it was with the inputs, less the
outputs. One head's scores alone would be 1 GiB in f32. The limit is 64 MB.
"""

import argparse
import ctypes
import sys
from pathlib import Path

import torch
from cpu_attention import absolute, causal, softmax, spherical
from harness import save_json

import diagc

HEADS, LENGTH, WIDTH = 4, 16384, 64
LIMIT_MB = 64.0
MB = 1024 * 1024


def resident() -> float:
    return status("VmRSS")


def peak_of(call: object) -> tuple[float, float]:
    """Megabytes by which the resident set grows at its peak, and megabytes of the results."""
    assert callable(call)
    ctypes.CDLL(None).malloc_trim(0)  # memory that was freed but kept would hide growth
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = resident()
    result = call()
    return status("VmHWM") - before, result.numel() * result.element_size() / MB


def status(name: str) -> float:
    """A value of /proc/self/status in megabytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return float(line.split()[1]) / 1024
    raise SystemExit(f"/proc/self/status does not tell {name}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gate", action="store_true", help="exit with 1 when the limit is passed")
    args = parser.parse_args()
    q, k, v = (torch.randn(1, HEADS, LENGTH, WIDTH) for _ in range(3))
    grown: dict[str, float] = {}
    for function in (softmax, causal, absolute, spherical):
        compiled = diagc.compile(function, q, k, v)
        with torch.no_grad():
            peak, output = peak_of(lambda compiled=compiled: compiled(q, k, v))
        grown[function.__name__] = peak - output
        print(f"{function.__name__:12} grows by {peak - output:6.1f} MB over the output")
    results = {"heads": HEADS, "length": LENGTH, "width": WIDTH, "grown_mb": grown}
    print(f"written to {save_json('cpu_memory', results, vars(args))}")
    return 1 if args.gate and max(grown.values()) > LIMIT_MB else 0


if __name__ == "__main__":
    sys.exit(main())
