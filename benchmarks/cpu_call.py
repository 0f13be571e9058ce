"""What a call costs beside its work: in a loop, and after other work has used the caches.

A model runs other functions between two calls of one, so what it pays is the cold time. Tensors of
a few hundred elements leave next to no work: decoding, compiled and through torch.
"""

import argparse
import sys
from collections.abc import Callable, Mapping
from functools import partial
from statistics import median
from time import perf_counter

import torch
from cpu_attention import decode
from harness import save_json

import diagc

FLUSH_BYTES = 64 << 20
"""More than a cache holds."""


def calls() -> Mapping[str, Callable[[], object]]:
    """The same function on the same tensors."""
    tensors = [torch.randn(shape) for shape in ((1, 4, 1, 8), (1, 2, 16, 8), (1, 2, 16, 8))]
    return {
        "diagc": partial(diagc.compile(decode, *tensors), *tensors),
        "sdpa": partial(decode, *tensors),
    }


def microseconds(call: Callable[[], object]) -> float:
    start = perf_counter()
    call()
    return (perf_counter() - start) * 1e6


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=200)
    args = parser.parse_args()
    torch.set_num_threads(1)
    flush = torch.zeros(FLUSH_BYTES // 4)
    results = {}
    with torch.no_grad():
        for name, call in calls().items():
            times: dict[str, list[float]] = {"cold": [], "warm": []}
            for _ in range(args.rounds + 1):  # the first one compiles or warms up
                flush.add_(1.0)
                times["cold"].append(microseconds(call))
                times["warm"].append(microseconds(call))
            results[name] = {state: median(found[1:]) for state, found in times.items()}
            cold, warm = results[name]["cold"], results[name]["warm"]
            print(f"{name:8} cold {cold:7.1f} us, warm {warm:6.1f} us")
    print(f"written to {save_json('cpu_call', {'microseconds': results}, vars(args))}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
