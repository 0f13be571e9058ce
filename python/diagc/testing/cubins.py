"""What a cubin says of the machine code in it, without a disassembler."""

import struct

__all__ = ["INSTRUCTION_BYTES", "instruction_count"]

INSTRUCTION_BYTES = 16
"""Of every instruction since sm_70."""

# ELF-64: e_shoff, e_shentsize, e_shnum, e_shstrndx; of a section: sh_name, sh_offset, sh_size
_HEADER = struct.Struct("<40xQ10xHHH")
_SECTION = struct.Struct("<I20xQQ")


def instruction_count(cubin: bytes, symbol: str) -> int:
    """Machine instructions of a function, the few that fill its last 128 bytes included.

    Raises:
        KeyError: the cubin has no such function.
    """
    start, size, count, names_number = _HEADER.unpack_from(cubin)
    sections = [_SECTION.unpack_from(cubin, start + size * i) for i in range(count)]
    names = sections[names_number][1]
    for name, _offset, length in sections:
        begin = names + name
        if cubin[begin : cubin.index(b"\0", begin)].decode() == f".text.{symbol}":
            return int(length) // INSTRUCTION_BYTES
    raise KeyError(symbol)
