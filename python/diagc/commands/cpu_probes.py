"""Small loops in LLVM IR that keep one resource of a core busy: multiply-adds, reads of memory."""

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from time import perf_counter
from typing import Any

from llvmlite import binding

__all__ = ["Probes"]

_TYPES = {32: "float", 64: "double"}
_READS = 8
"""Vectors that one turn of the reading loop loads, each added to a sum of its own."""

_LOOP = """
define void @{name}({arguments}) {{
entry:
  br label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %next, %loop ]
{phis}
{body}
  %next = add i64 %i, 1
  %more = icmp slt i64 %next, %turns
  br i1 %more, label %loop, label %exit
exit:
{stores}
  ret void
}}
"""
"""Adds to sums `%s0`... what the body makes `%n0`..., for so many `%turns`, and stores them."""


@dataclass(frozen=True)
class Probes:
    """Compiled loops for vectors of some bytes.

    Args:
        vector_bytes: of a register.
        registers: how many there are.
    """

    vector_bytes: int
    registers: int

    def fma_rate(self, bits: int, chains: int | None = None) -> float:
        """FLOPs per second of one core, with so many independent sums; by default with many."""
        chains = chains or self._most_chains
        run = self._function(f"fma_f{bits}_{chains}", (ctypes.c_int64, ctypes.c_void_p))
        turns = 200_000
        seconds = _best(lambda: run(turns, self._out_address))
        return 2.0 * chains * turns * self._lanes(bits) / seconds

    def fma_in_flight(self) -> int:
        """Vector operations that keep all units busy: what many sums gain over a single one."""
        return max(1, round(self.fma_rate(32) / self.fma_rate(32, 1)))

    def read(self, address: int, size: int, repeats: int) -> None:
        """Read an array several times; `size` is in bytes, a power of two of at least 4 KiB."""
        types = (ctypes.c_int64, ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p)
        turns = size // (_READS * self.vector_bytes)
        self._function("read", types)(turns * repeats, address, turns - 1, self._out_address)

    @property
    def _most_chains(self) -> int:
        return self.registers - 4

    def _lanes(self, bits: int) -> int:
        return self.vector_bytes * 8 // bits

    @cached_property
    def _out(self) -> Any:
        return ctypes.create_string_buffer(64 * self.vector_bytes)

    @property
    def _out_address(self) -> int:
        return ctypes.addressof(self._out)

    @cached_property
    def _engine(self) -> Any:
        binding.initialize_native_target()
        binding.initialize_native_asmprinter()
        target = binding.Target.from_default_triple()
        features = binding.get_host_cpu_features().flatten()
        machine = target.create_target_machine(
            cpu=binding.get_host_cpu_name(), features=features, opt=2
        )
        module = binding.parse_assembly(self._text())
        module.verify()
        engine = binding.create_mcjit_compiler(module, machine)
        engine.finalize_object()
        return engine

    def _function(self, name: str, types: tuple[Any, ...]) -> Callable[..., None]:
        return ctypes.CFUNCTYPE(None, *types)(self._engine.get_function_address(name))

    def _text(self) -> str:
        loops = [self._fma_text(bits, self._most_chains) for bits in _TYPES]
        loops += [self._fma_text(32, 1), self._read_text()]
        return "\n".join([*loops, *(self._declaration(bits) for bits in _TYPES)])

    def _vector(self, bits: int) -> str:
        return f"<{self._lanes(bits)} x {_TYPES[bits]}>"

    def _declaration(self, bits: int) -> str:
        vector = self._vector(bits)
        arguments = ", ".join([vector] * 3)
        return f"declare {vector} @llvm.fma.v{self._lanes(bits)}f{bits}({arguments})"

    def _fma_text(self, bits: int, chains: int) -> str:
        vector, half = self._vector(bits), f"splat ({_TYPES[bits]} 0.5)"
        fma = f"call {vector} @llvm.fma.v{self._lanes(bits)}f{bits}"
        body = "\n".join(
            f"  %n{k} = {fma}({vector} %s{k}, {vector} {half}, {vector} {half})"
            for k in range(chains)
        )
        arguments = "i64 %turns, ptr %out"
        return self._loop(f"fma_f{bits}_{chains}", arguments, vector, chains, body)

    def _read_text(self) -> str:
        vector, step = self._vector(32), _READS * self.vector_bytes
        lines = [
            "  %turn = and i64 %i, %mask",
            f"  %offset = mul i64 %turn, {step}",
            "  %base = getelementptr i8, ptr %in, i64 %offset",
        ]
        for k in range(_READS):
            lines.append(f"  %p{k} = getelementptr i8, ptr %base, i64 {k * self.vector_bytes}")
            lines.append(f"  %v{k} = load {vector}, ptr %p{k}, align 4")
            lines.append(f"  %n{k} = fadd {vector} %s{k}, %v{k}")
        arguments = "i64 %turns, ptr %in, i64 %mask, ptr %out"
        return self._loop("read", arguments, vector, _READS, "\n".join(lines))

    def _loop(self, name: str, arguments: str, vector: str, sums: int, body: str) -> str:
        return _LOOP.format(
            name=name,
            arguments=arguments,
            phis=_phis(vector, sums),
            body=body,
            stores=_stores(vector, sums, self.vector_bytes),
        )


def _phis(vector: str, count: int) -> str:
    return "\n".join(
        f"  %s{k} = phi {vector} [ zeroinitializer, %entry ], [ %n{k}, %loop ]"
        for k in range(count)
    )


def _stores(vector: str, count: int, size: int) -> str:
    lines = []
    for k in range(count):
        lines.append(f"  %o{k} = getelementptr i8, ptr %out, i64 {k * size}")
        lines.append(f"  store {vector} %n{k}, ptr %o{k}, align 4")
    return "\n".join(lines)


def _best(run: Callable[[], None], rounds: int = 15) -> float:
    """Seconds of the fastest of several runs."""
    found = float("inf")
    for _ in range(rounds):
        start = perf_counter()
        run()
        found = min(found, perf_counter() - start)
    return found
