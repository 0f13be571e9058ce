"""Read a relocatable ELF64 x86-64 object from bytes, every offset checked before it is used.

Layouts are those of the System V ABI (gABI chapter 4) and its x86-64 supplement. Nothing here
allocates executable memory or trusts the input: a damaged object gives a CacheError with a reason.
"""

import struct
from collections.abc import Iterator
from typing import NamedTuple

from diagc.errors import CacheError

__all__ = [
    "SHF_EXECINSTR",
    "SHF_WRITE",
    "SHN_ABS",
    "SHN_UNDEF",
    "SHT_NOBITS",
    "ObjectFile",
    "Relocation",
    "Section",
    "Symbol",
    "parse",
]

SHT_SYMTAB, SHT_STRTAB, SHT_RELA, SHT_NOBITS, SHT_REL = 2, 3, 4, 8, 9
SHF_WRITE, SHF_ALLOC, SHF_EXECINSTR, SHF_TLS = 1, 2, 4, 0x400
SHN_UNDEF, SHN_ABS, SHN_COMMON, SHN_LORESERVE = 0, 0xFFF1, 0xFFF2, 0xFF00
STT_TLS, STT_GNU_IFUNC = 6, 10
_ET_REL, _EM_X86_64 = 1, 62
_MACHINES = {3: "i386", 40: "arm", _EM_X86_64: "x86-64", 183: "aarch64", 243: "riscv"}
_MAX_ALIGNMENT = 4096  # sections are placed inside page-aligned segments
_MAX_IMAGE = 1 << 30  # a kernel is tens of KB; a corrupt .bss must not exhaust memory

_HEADER = struct.Struct("<4sBBB9xHHIQQQIHHHHHH")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_RELA = struct.Struct("<QQq")


class Section(NamedTuple):
    """One section header (Elf64_Shdr)."""

    name: int
    type: int
    flags: int
    address: int
    offset: int
    size: int
    link: int
    info: int
    alignment: int
    entry_size: int

    @property
    def allocated(self) -> bool:
        """Whether the section is part of the memory image."""
        return bool(self.flags & SHF_ALLOC)


class Symbol(NamedTuple):
    """One symbol; `section` is an index, SHN_UNDEF or SHN_ABS."""

    name: str
    type: int
    binding: int
    section: int
    value: int


class Relocation(NamedTuple):
    """One RELA entry; `section` is the index of the section that it patches."""

    section: int
    offset: int
    type: int
    symbol: int
    addend: int


class ObjectFile(NamedTuple):
    """A checked object: sections, symbols, and the relocations of allocated sections."""

    sections: list[Section]
    symbols: list[Symbol]
    relocations: list[Relocation]


def damaged(reason: str) -> CacheError:
    """Make the error for an object that cannot be loaded."""
    return CacheError(f"the compiled object is not loadable: {reason}")


def parse(blob: bytes) -> ObjectFile:
    """Check and split an object.

    Raises:
        CacheError: not an ELF64 x86-64 relocatable object, or an offset, size, index, name or
            alignment in it is out of range.
    """
    sections = _sections(blob)
    symtabs = [i for i, section in enumerate(sections) if section.type == SHT_SYMTAB]
    if len(symtabs) != 1:
        raise damaged(f"expected one symbol table, found {len(symtabs)}")
    symbols = list(_symbols(blob, sections, sections[symtabs[0]]))
    relocations = [
        relocation
        for section in sections
        if section.type in (SHT_RELA, SHT_REL)
        for relocation in _relocations(blob, sections, section, symtabs[0], len(symbols))
    ]
    return ObjectFile(sections, symbols, relocations)


def _sections(blob: bytes) -> list[Section]:
    if len(blob) < _HEADER.size:
        raise damaged(f"{len(blob)} bytes are too few for an ELF header")
    header = _HEADER.unpack_from(blob)
    magic, word_class, endian, version, kind, machine = header[:6]
    if magic != b"\x7fELF":
        raise damaged("the ELF magic is missing")
    if (word_class, endian, version, kind) != (2, 1, 1, _ET_REL):
        raise damaged("it is not a relocatable little-endian ELF64 file")
    if machine != _EM_X86_64:
        raise damaged(f"it is for {_MACHINES.get(machine, f'machine {machine}')}, not x86-64")
    offset, entry_size, count = header[9], header[14], header[15]
    if entry_size != _SECTION.size:
        raise damaged(f"section headers of {entry_size} bytes instead of {_SECTION.size}")
    table = _slice(blob, offset, count * entry_size, "the section header table")
    sections = [Section(*fields) for fields in _SECTION.iter_unpack(table)]
    for index, section in enumerate(sections):
        _check_section(blob, index, section)
    if sum(section.size for section in sections if section.allocated) > _MAX_IMAGE:
        raise damaged(f"its image is larger than {_MAX_IMAGE} bytes")
    return sections


def _slice(blob: bytes, offset: int, size: int, what: str) -> bytes:
    if offset + size > len(blob):
        raise damaged(f"{what} ends at byte {offset + size} of {len(blob)}")
    return blob[offset : offset + size]


def _check_section(blob: bytes, index: int, section: Section) -> None:
    if section.type != SHT_NOBITS:
        end = section.offset + section.size
        if end > len(blob):
            raise damaged(f"section {index} ends at byte {end} of {len(blob)}")
    if not section.allocated:
        return
    alignment = section.alignment
    if alignment & (alignment - 1) or alignment > _MAX_ALIGNMENT:
        raise damaged(f"section {index} has the alignment {alignment}")
    if section.flags & SHF_TLS:
        raise damaged(f"section {index} is thread-local, which is not supported")
    if section.flags & SHF_WRITE and section.flags & SHF_EXECINSTR:
        raise damaged(f"section {index} is both writable and executable")


def _symbols(blob: bytes, sections: list[Section], table: Section) -> Iterator[Symbol]:
    if table.size % _SYMBOL.size or table.link >= len(sections):
        raise damaged("the symbol table is malformed")
    names = sections[table.link]
    if names.type != SHT_STRTAB:
        raise damaged("the symbol table has no string table")
    strings = blob[names.offset : names.offset + names.size]
    entries = blob[table.offset : table.offset + table.size]
    for index, (name, info, _, section, value, _) in enumerate(_SYMBOL.iter_unpack(entries)):
        _check_symbol(index, info & 15, section, value, sections)
        yield Symbol(_string(strings, name), info & 15, info >> 4, section, value)


def _string(strings: bytes, offset: int) -> str:
    end = strings.find(b"\0", offset)
    if offset >= len(strings) or end < 0:
        raise damaged(f"the symbol name at {offset} is outside the string table")
    return strings[offset:end].decode("ascii", "backslashreplace")


def _check_symbol(index: int, kind: int, section: int, value: int, sections: list[Section]) -> None:
    if kind in (STT_TLS, STT_GNU_IFUNC):
        raise damaged(f"symbol {index} is of the unsupported type {kind}")
    if section in (SHN_UNDEF, SHN_ABS):
        return
    if section == SHN_COMMON:
        raise damaged(f"symbol {index} is a common symbol, which is not supported")
    if section >= len(sections):
        raise damaged(f"symbol {index} lies in section {section} of {len(sections)}")
    if sections[section].allocated and value > sections[section].size:
        raise damaged(f"symbol {index} lies outside its section")


def _relocations(
    blob: bytes, sections: list[Section], table: Section, symtab: int, symbol_count: int
) -> Iterator[Relocation]:
    if table.info >= len(sections):
        raise damaged(f"relocations of section {table.info} of {len(sections)}")
    target = sections[table.info]
    if not target.allocated:
        return
    if table.type == SHT_REL or table.link != symtab or table.size % _RELA.size:
        raise damaged(f"the relocations of section {table.info} are malformed")
    if target.type == SHT_NOBITS:
        raise damaged(f"relocations of section {table.info}, which has no contents")
    entries = blob[table.offset : table.offset + table.size]
    for offset, info, addend in _RELA.iter_unpack(entries):
        if info >> 32 >= symbol_count:
            raise damaged(f"a relocation names symbol {info >> 32} of {symbol_count}")
        yield Relocation(table.info, offset, info & 0xFFFFFFFF, info >> 32, addend)
