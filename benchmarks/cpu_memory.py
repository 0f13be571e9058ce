"""Peak memory of attention over 16384 positions: nothing of quadratic size may ever exist.

Prints by how much the resident set grows at its peak over what it was with the inputs, less the
outputs. One head's scores alone would be 1 GiB in f32. The limit is 64 MB.
"""

import argparse
import sys
from functools import partial

import torch
from cpu_attention import absolute, causal, softmax, spherical
from harness import save_json

import diagc
from diagc.testing.memory import peak_of

HEADS, LENGTH, WIDTH = 4, 16384, 64
LIMIT_MB = 64.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gate", action="store_true", help="exit with 1 when the limit is passed")
    args = parser.parse_args()
    q, k, v = (torch.randn(1, HEADS, LENGTH, WIDTH) for _ in range(3))
    grown: dict[str, float] = {}
    for function in (softmax, causal, absolute, spherical):
        compiled = diagc.compile(function, q, k, v)
        with torch.no_grad():
            peak, output = peak_of(partial(compiled, q, k, v))
        grown[function.__name__] = peak - output
        print(f"{function.__name__:12} grows by {peak - output:6.1f} MB over the output")
    results = {"heads": HEADS, "length": LENGTH, "width": WIDTH, "grown_mb": grown}
    print(f"written to {save_json('cpu_memory', results, vars(args))}")
    return 1 if args.gate and max(grown.values()) > LIMIT_MB else 0


if __name__ == "__main__":
    sys.exit(main())
