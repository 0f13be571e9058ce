"""Machine code from a module in the llvm dialect, in this process or in a worker process.

LLVM's code generator aborts the process on an operation that it cannot select ("LLVM ERROR: Cannot
select"). A worker process turns that into a LoweringError, for about 0.4 s more per kernel.

    python -m diagc.targets.cpu.codegen <opt level> < module.mlirbc > object.o
"""

import ctypes
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import diagc
from diagc.errors import LoweringError
from diagc.mlir import execution_engine, ir
from diagc.runtime import elf_format, externs

__all__ = ["check_references", "exported_symbols", "generate", "generate_isolated"]

_WORKER_SECONDS = 300
_NEVER_CALLED = ctypes.c_void_p(1)


def exported_symbols(module: ir.Module) -> tuple[str, ...]:
    """Names of the functions that a lowered module defines for others."""
    names = []
    for op in module.body.operations:
        function = op.operation
        if function.name != "llvm.func" or not function.regions[0].blocks:
            continue
        if "external" in str(function.attributes["linkage"]):
            names.append(ir.StringAttr(function.attributes["sym_name"]).value)
    return tuple(names)


def generate(module: ir.Module, opt_level: int) -> bytes:
    """Compile a module for the host, or for each function's `target_cpu`; gives an ELF object.

    Nothing of it is executed, hence it does not matter what run-time functions resolve to here, or
    whether they do: `check_references` looks at that in the object.

    Raises:
        LoweringError: the module cannot be translated to LLVM IR or compiled.
    """
    symbols = exported_symbols(module)
    if not symbols:
        raise LoweringError("the module exports no function")
    try:
        engine = execution_engine.ExecutionEngine(module, opt_level=opt_level)
        for name in _declared(module):
            engine.raw_register_runtime(name, _NEVER_CALLED)
        engine.raw_lookup(symbols[0])  # compiles
    except RuntimeError as error:
        raise LoweringError(f"LLVM cannot compile the kernel: {error}") from None
    with tempfile.TemporaryDirectory(prefix="diagc-") as directory:
        path = Path(directory, "kernel.o")
        engine.dump_to_object_file(str(path))
        code = path.read_bytes() if path.exists() else b""
    if not code:
        raise LoweringError("LLVM made no code of the kernel")
    return code


def check_references(code: bytes) -> None:
    """Refuse an object that calls what the run time does not provide.

    Raises:
        LoweringError: naming the functions, e.g. `__truncsfbf2`: LLVM calls it for a masked store
            of bf16 on a CPU without AVX512-BF16.
    """
    symbols = elf_format.parse(code).symbols
    undefined = [symbol.name for symbol in symbols[1:] if symbol.section == elf_format.SHN_UNDEF]
    missing = [name for name in undefined if externs.resolve(name) is None]
    if missing:
        raise LoweringError(
            f"the kernel calls {', '.join(missing)}, which this machine does not have"
        )


def _declared(module: ir.Module) -> list[str]:
    return [
        ir.StringAttr(op.operation.attributes["sym_name"]).value
        for op in module.body.operations
        if op.operation.name == "llvm.func" and not op.operation.regions[0].blocks
    ]


def generate_isolated(module: ir.Module, opt_level: int) -> bytes:
    """Do `generate` in a process of its own, which a crash of LLVM cannot outlive.

    Raises:
        LoweringError: as `generate`, or the worker died or took too long.
    """
    bytecode = BytesIO()
    module.operation.write_bytecode(bytecode)
    package_root = str(Path(diagc.__file__).parent.parent)
    paths = [package_root, *filter(None, [os.environ.get("PYTHONPATH")])]
    try:
        done = subprocess.run(
            [sys.executable, "-m", __name__, str(opt_level)],
            input=bytecode.getvalue(),
            capture_output=True,
            timeout=_WORKER_SECONDS,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise LoweringError(f"LLVM took more than {_WORKER_SECONDS} s for the kernel") from None
    if done.returncode != 0:
        raise LoweringError(f"LLVM cannot compile the kernel: {_reason(done)}")
    return done.stdout


def _reason(done: subprocess.CompletedProcess[bytes]) -> str:
    lines = done.stderr.decode(errors="replace").splitlines()
    errors = [line for line in lines if "error" in line.lower()] or lines[-1:]
    return errors[0] if errors else f"its process ended with {done.returncode}"


def _worker(arguments: Sequence[str]) -> int:
    with ir.Context(), ir.Location.unknown():
        module = ir.Module.parse(sys.stdin.buffer.read())
        try:
            code = generate(module, int(arguments[0]))
        except LoweringError as error:
            sys.stderr.write(f"error: {error}\n")
            return 1
    sys.stdout.buffer.write(code)
    return 0


if __name__ == "__main__":
    sys.exit(_worker(sys.argv[1:]))
