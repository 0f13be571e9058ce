"""From compiler to disk to another process that has no compiler, and how fast that is."""

import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

from diagc.runtime.cache import KernelCache, cache_key
from diagc.runtime.elf import load_object

SCRIPT = """
    import sys
    from pathlib import Path
    import numpy as np
    from diagc.runtime.cache import KernelCache
    from diagc.runtime.cpu_kernel import CpuKernel
    from diagc.runtime.numpy_launch import call_numpy
    from diagc.runtime.signature import KernelSignature

    entry = KernelCache(Path(sys.argv[1])).get(sys.argv[2])
    kernel = CpuKernel(KernelSignature.from_json(entry.metadata["signature"]), entry.payload)
    x, y = (np.random.default_rng(i).standard_normal((50, 37)).astype("f4") for i in range(2))
    for threads in (1, 2):
        (total,) = call_numpy(kernel, [x, y], threads=threads)
        assert np.array_equal(total, x + y)
    assert not {"torch", "torch_mlir", "llvmlite"} & set(sys.modules)
    import torch
    from diagc.runtime.torch_launch import call
    for threads in (1, 2):
        (result,) = call(kernel, [torch.from_numpy(x), torch.from_numpy(y)], threads=threads)
        assert np.array_equal(result.numpy(), x + y)
    assert not {"torch_mlir", "llvmlite"} & set(sys.modules)
"""


def test_kernel_from_the_cache_runs_without_the_compiler(
    add_object: bytes, add_signature: Any, tmp_path: Path
) -> None:
    key = cache_key("add", "cpu", {})
    metadata = {"signature": add_signature().to_json()}
    KernelCache(tmp_path / "cache").put(key, add_object, metadata)
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(SCRIPT), str(tmp_path / "cache"), key],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == 0, done.stderr


def test_reload_takes_less_than_a_millisecond(add_object: bytes, tmp_path: Path) -> None:
    cache = KernelCache(tmp_path / "cache")
    key = cache_key("add", "cpu", {})
    # as long as the object of an attention kernel; a linker ignores what no header names
    cache.put(key, add_object.ljust(40 * 1024, b"\0"), {})
    seconds = []
    for _ in range(20):
        start = time.perf_counter()
        entry = cache.get(key)
        assert entry is not None
        load_object(entry.payload)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 1e-3
