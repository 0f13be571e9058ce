"""Compiles the host's version of a kernel with LLVM's JIT."""

from functools import cache, lru_cache
from typing import Any

from llvmlite import binding

from diagc.errors import InternalError
from diagc.simulator.native import load_runtime
from diagc.simulator.rewrite import ENTRY, HostProgram, rewrite

__all__ = ["LoadedProgram", "load_program"]

# bf16 instructions of the host flush subnormal numbers, the GPU's conversions do not
_WITHOUT = ("avx512bf16", "avxneconvert", "amx-bf16", "avx10.2-512", "avx10.2-256")
_KEPT_PROGRAMS = 32


class LoadedProgram:
    """Machine code of a module, kept alive by its engine."""

    def __init__(self, program: HostProgram) -> None:
        self.program = program
        load_runtime()
        self._engine = _compile(program.text)

    def entry(self, kernel: str) -> int:
        """Address of the function that runs one thread of a kernel."""
        return int(self._engine.get_function_address(ENTRY + kernel))


@lru_cache(_KEPT_PROGRAMS)
def load_program(text: str) -> LoadedProgram:
    """The machine code of a module of LLVM IR for NVPTX; the last ones are kept.

    Raises:
        UnsupportedError: an instruction that the simulator has no model of.
        TargetError: there is no C++ compiler for the run time.
    """
    return LoadedProgram(rewrite(text))


@cache
def _features() -> str:
    features = binding.get_host_cpu_features()
    for name in _WITHOUT:
        if name in features:
            features[name] = False
    return str(features.flatten())


def _compile(text: str) -> Any:
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    try:
        module = binding.parse_assembly(text)
        module.verify()
    except RuntimeError as error:
        raise InternalError(
            f"the simulator made a module that LLVM refuses: {error}", files={"host.ll": text}
        ) from None
    # 0: an attention kernel of 1400 lines takes 0.11 s instead of 0.28 s with 1, and runs as fast,
    # for its time goes into the run time
    machine = binding.Target.from_default_triple().create_target_machine(
        cpu=binding.get_host_cpu_name(), features=_features(), opt=0, jit=True, codemodel="large"
    )
    engine = binding.create_mcjit_compiler(module, machine)
    engine.finalize_object()
    return engine
