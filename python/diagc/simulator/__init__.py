"""Runs GPU kernels on the CPU from their own LLVM IR, and says what is wrong with them.

>>> report = simulate(llvm_text, "kernel", [Buffer(x, "x"), Buffer(y, "y", writable=True), n],
...                   grid=(4,), block_threads=128)        # doctest: +SKIP
>>> print(report)                                          # doctest: +SKIP
"""

from diagc.simulator.buffers import Buffer, TensorMap
from diagc.simulator.findings import KINDS, Finding
from diagc.simulator.kernel import SimulatedKernel, simulate_kernel
from diagc.simulator.launch import SimulatorOptions, simulate
from diagc.simulator.report import Counters, Report

__all__ = [
    "KINDS",
    "Buffer",
    "Counters",
    "Finding",
    "Report",
    "SimulatedKernel",
    "SimulatorOptions",
    "TensorMap",
    "simulate",
    "simulate_kernel",
]
