"""The process that runs LLVM's NVPTX code generator: LLVM IR text in, PTX out.

LLVM aborts its process where it cannot select an instruction or a feature; `codegen` starts this
file as a process of its own, and keeps it. It imports nothing of diagc, so that it starts fast.

Frames on stdin and stdout are a length (4 bytes, little endian) and JSON: `{"text", "cpu",
"features"}` is answered by `{"ptx"}` or `{"error"}`.
"""

import json
import struct
import sys
from typing import IO

from llvmlite import binding

__all__ = ["compile_text", "main", "read_frame", "write_frame"]

_LENGTH = struct.Struct("<I")
_TRIPLE = "nvptx64-nvidia-cuda"


def read_frame(stream: IO[bytes]) -> dict[str, str] | None:
    """The next frame, or None at the end of the stream."""
    head = stream.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    (size,) = _LENGTH.unpack(head)
    body = stream.read(size)
    found: dict[str, str] | None = json.loads(body) if len(body) == size else None
    return found


def write_frame(stream: IO[bytes], content: dict[str, str]) -> None:
    """Send a frame at once."""
    body = json.dumps(content).encode()
    stream.write(_LENGTH.pack(len(body)) + body)
    stream.flush()


def compile_text(text: str, cpu: str, features: str) -> str:
    """PTX of a module.

    Raises:
        RuntimeError: the text is no LLVM IR, or needs intrinsics that this LLVM does not know; it
            would make external calls of them.
    """
    module = binding.parse_assembly(text)
    module.triple = _TRIPLE
    unknown = _unknown_intrinsics(module)
    if unknown:
        version = ".".join(map(str, binding.llvm_version_info))
        raise RuntimeError(f"LLVM {version} has no intrinsic {', '.join(unknown)}")
    # 0 would serialise asynchronous products; 3 adds global value numbering, which takes a fifth of
    # the time and finds nothing after MLIR's cse
    machine = binding.Target.from_triple(_TRIPLE).create_target_machine(
        cpu=cpu, features=features, opt=2
    )
    module.data_layout = str(machine.target_data)
    # 0: LLVM's middle end undoes immediate offsets of addresses (920 instead of 808 instructions
    # of a streamed product); only functions marked so are inlined
    options = binding.create_pipeline_tuning_options(speed_level=0)
    passes = binding.create_pass_builder(machine, options)
    passes.getModulePassManager().run(module, passes)
    return str(machine.emit_assembly(module))


def _unknown_intrinsics(module: binding.ModuleRef) -> list[str]:
    """Declared intrinsics without attributes: LLVM gives them to every one that it knows."""
    return [
        function.name
        for function in module.functions
        if function.is_declaration
        and function.name.startswith("llvm.")
        and "#" not in str(function).strip().split("\n")[-1]
    ]


def main() -> None:
    """Answer frames until stdin ends."""
    # it starts anew after each change: half of the time of a kernel with many branches, for less
    # than half a per cent of its instructions, which are as often more as they are fewer
    binding.set_option("diagc", "-disable-cgp")
    # a fifth of the time; of 15 kernels 4 get 1 to 3 % fewer instructions and up to 8 % fewer
    # registers without it, one 4 % more instructions, the others the same
    binding.set_option("diagc", "-disable-lsr")
    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()
    while (request := read_frame(sys.stdin.buffer)) is not None:
        try:
            answer = {"ptx": compile_text(request["text"], request["cpu"], request["features"])}
        except RuntimeError as error:
            answer = {"error": ": ".join(str(error).strip().splitlines()[:2])}
        write_frame(sys.stdout.buffer, answer)


if __name__ == "__main__":
    main()
