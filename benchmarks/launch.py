"""Time that starting a GPU kernel takes on the CPU: the native launcher and the one over ctypes.

Against the fake driver of the tests, which does nothing, so what is timed is diagc's part alone: no
GPU is needed. The kernel has the parameters of attention: 4 tensors of rank 4, open sizes. Given
are microseconds of processor time of one launch (so that a busy machine counts less), the median
and the least of rounds that take both launchers in turns.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import thread_time

import pytest
import torch
from harness import save_json

from diagc.runtime.cuda import CudaKernel
from diagc.runtime.cuda import launcher as launchers
from diagc.runtime.gpu_kernel import GpuKernel, GpuLaunch
from diagc.runtime.native import native_launcher, why_not_native
from diagc.runtime.signature import Axis, KernelSignature, Wire
from diagc.runtime.torch_launch import call
from diagc.testing.fake_cuda import PTX, STREAM, FakeCuda, build, pose

LABELS = ("b", "h", "q", "d")
LAUNCHES = 2000


def attention() -> GpuKernel:
    keys = ("b", "h", "x", "d")
    wires = [Wire(name, "bf16", LABELS if name in "qo" else keys) for name in "qkvo"]
    axes = tuple(Axis(label) for label in (*LABELS, "x"))
    signature = KernelSignature("attention", tuple(wires[:3]), tuple(wires[3:]), axes)
    launch = GpuLaunch("attention", 128, 0, ((("q", 64),), ("b", "h")))
    return GpuKernel(signature, (launch,), (), "sm_80", PTX)


def make_calls(native: bool, patch: pytest.MonkeyPatch) -> dict[str, Callable[[], object]]:
    """What is timed, from the innermost to the whole call."""
    if not native:
        patch.setattr(launchers, "native_launcher", lambda: None)
    kernel = CudaKernel(attention())
    tensors = [torch.zeros(2, 4, 128, 64, dtype=torch.bfloat16) for _ in range(3)]
    result = call(kernel, tensors)[0]
    patch.undo()
    (plan,) = kernel.plans.values()
    pointers = [tensor.data_ptr() for tensor in (*tensors, result)]
    return {
        "launcher": lambda: plan.launcher(STREAM, pointers),
        "kernel on a plan": lambda: kernel.launch(plan, pointers),
        "call on tensors": lambda: call(kernel, tensors),
    }


def microseconds(function: Callable[[], object]) -> float:
    start = thread_time()
    for _ in range(LAUNCHES):
        function()
    return (thread_time() - start) / LAUNCHES * 1e6


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=31)
    args = parser.parse_args()
    if native_launcher() is None:
        print(f"the native launcher is {why_not_native()}")
        return 1
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        library = build(Path(folder))
        if library is None:
            print("there is no C compiler (cc) for the fake driver")
            return 1
        fake = FakeCuda(library)
        pose(fake, patch)
        fake.quiet(True)
        fake.push(0x100)  # torch has made the context current
        calls: dict[tuple[str, str], Callable[[], object]] = {}
        for name in ("native", "ctypes"):
            with pytest.MonkeyPatch.context() as inner:
                calls |= {
                    (what, name): f for what, f in make_calls(name == "native", inner).items()
                }
        rounds = [{key: microseconds(f) for key, f in calls.items()} for _ in range(args.rounds)]
    results = {}
    for what, name in sorted(calls, key=lambda key: list(calls).index(key) % 3):
        times = [times[what, name] for times in rounds]
        results[f"{what}, {name}"] = {"median_us": median(times), "least_us": min(times)}
        print(f"{what:18} {name:7} median {median(times):6.2f} us, least {min(times):6.2f} us")
    print(f"written to {save_json('launch', results, vars(args))}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
