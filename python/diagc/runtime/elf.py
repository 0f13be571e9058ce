"""Load a relocatable ELF64 x86-64 object into this process: no linker, no compiler, < 1 ms.

The image has three page-aligned segments, text (with stubs), constants, data. It is filled while
it is writable and not executable; then text becomes read-execute and constants read-only, so no
page is ever writable and executable. Nothing of the object runs before a symbol is called.
"""

import ctypes
import mmap
import os
import struct
from collections.abc import Mapping

from diagc.errors import TargetError
from diagc.runtime import elf_format, externs
from diagc.runtime.elf_format import ObjectFile, Relocation, Symbol, damaged

__all__ = ["LoadedObject", "load_object"]

_LIBC = ctypes.CDLL(None, use_errno=True)
_PAGE = mmap.PAGESIZE
_STUB = struct.Struct("<6sQ")  # jmp *[rip]; .quad target
_STUB_SIZE = 16
_JUMP = b"\xff\x25\x00\x00\x00\x00"
_ABS64, _PC32, _PLT32, _PC64 = 1, 2, 4, 24
_REFUSED = {10: "R_X86_64_32", 11: "R_X86_64_32S", 9: "R_X86_64_GOTPCREL", 3: "R_X86_64_GOT32"}
_GLOBAL, _WEAK = 1, 2


class LoadedObject:
    """An object in executable memory; the memory lives as long as this object does."""

    def __init__(self, image: mmap.mmap, functions: Mapping[str, int]) -> None:
        """Take over a finished image; use `load_object` instead."""
        self._image = image
        self.functions = dict(functions)

    def address(self, name: str) -> int:
        """Give the address of an exported function.

        Raises:
            CacheError: the object exports no such function.
        """
        if name not in self.functions:
            raise damaged(f"it exports no function '{name}'")
        return self.functions[name]

    @property
    def size(self) -> int:
        """Bytes of memory that the image takes."""
        return len(self._image)


def load_object(blob: bytes, symbols: Mapping[str, int] | None = None) -> LoadedObject:
    """Load an object and bind what it refers to: first `symbols`, then `externs.resolve`.

    Raises:
        CacheError: the object is damaged, needs an unsupported relocation, or refers to a
            function that the run time does not provide.
        TargetError: this system gives no executable memory.
    """
    parsed = elf_format.parse(blob)
    layout = _Layout(parsed)
    image = mmap.mmap(-1, layout.size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    base = ctypes.addressof(ctypes.c_char.from_buffer(image))
    for index, place in layout.places.items():
        section = parsed.sections[index]
        if section.type != elf_format.SHT_NOBITS:
            end = place + section.size
            image[place:end] = blob[section.offset : section.offset + section.size]
    linker = _Linker(parsed, layout, image, base, symbols or {})
    for relocation in parsed.relocations:
        linker.apply(relocation)
    _protect(base, layout.text_end, mmap.PROT_READ | mmap.PROT_EXEC)
    _protect(base + layout.text_end, layout.data_start - layout.text_end, mmap.PROT_READ)
    return LoadedObject(image, _exported(parsed, layout, base))


class _Layout:
    """Where each allocated section stands in the image (offsets in bytes)."""

    def __init__(self, parsed: ObjectFile) -> None:
        self.places: dict[int, int] = {}
        undefined = sum(symbol.section == elf_format.SHN_UNDEF for symbol in parsed.symbols)
        self.stubs = self._place(parsed, 0, executable=True, writable=False)
        self.text_end = _round_up(self.stubs + undefined * _STUB_SIZE, _PAGE)
        end = self._place(parsed, self.text_end, executable=False, writable=False)
        self.data_start = _round_up(end, _PAGE)
        end = self._place(parsed, self.data_start, executable=False, writable=True)
        self.size = max(_round_up(end, _PAGE), _PAGE)

    def _place(self, parsed: ObjectFile, offset: int, *, executable: bool, writable: bool) -> int:
        for index, section in enumerate(parsed.sections):
            kind = (
                bool(section.flags & elf_format.SHF_EXECINSTR),
                bool(section.flags & elf_format.SHF_WRITE),
            )
            if section.allocated and kind == (executable, writable):
                offset = _round_up(offset, max(section.alignment, 1))
                self.places[index] = offset
                offset += section.size
        return _round_up(offset, _STUB_SIZE)


class _Linker:
    """Resolves symbols and patches the image."""

    def __init__(
        self,
        parsed: ObjectFile,
        layout: _Layout,
        image: mmap.mmap,
        base: int,
        symbols: Mapping[str, int],
    ) -> None:
        self._parsed, self._layout, self._image, self._base = parsed, layout, image, base
        self._given = symbols
        self._next_stub = layout.stubs
        self._stubs: dict[int, int] = {}
        self._addresses: dict[int, int] = {}

    def apply(self, relocation: Relocation) -> None:
        """Patch one place, as the x86-64 psABI's table of relocation types says."""
        kind = relocation.type
        if kind not in (_ABS64, _PC32, _PLT32, _PC64):
            raise damaged(f"unsupported relocation {_REFUSED.get(kind, f'type {kind}')}")
        width = 4 if kind in (_PC32, _PLT32) else 8
        if relocation.offset + width > self._parsed.sections[relocation.section].size:
            raise damaged(f"a relocation at {relocation.offset} lies outside its section")
        place = self._layout.places[relocation.section] + relocation.offset
        if width == 4:
            struct.pack_into("<i", self._image, place, self._displacement(relocation, place))
            return
        value = self._address(relocation.symbol) + relocation.addend
        if kind == _PC64:
            value -= self._base + place
        struct.pack_into("<Q", self._image, place, value % 2**64)

    def _displacement(self, relocation: Relocation, place: int) -> int:
        """32-bit distance to the symbol, or to a stub that jumps to it when it is too far."""
        origin = self._base + place - relocation.addend
        for target in (self._address, self._stub):
            distance = target(relocation.symbol) - origin
            if -(2**31) <= distance < 2**31:
                return distance
        raise damaged(f"the relocation at {relocation.offset} is out of reach")

    def _address(self, index: int) -> int:
        if index not in self._addresses:
            self._addresses[index] = self._resolve(index, self._parsed.symbols[index])
        return self._addresses[index]

    def _resolve(self, index: int, symbol: Symbol) -> int:
        if symbol.section == elf_format.SHN_ABS or index == 0:
            return symbol.value
        if symbol.section in self._layout.places:
            return self._base + self._layout.places[symbol.section] + symbol.value
        if symbol.section != elf_format.SHN_UNDEF:
            raise damaged(f"it refers to '{symbol.name}' in a section that is not loaded")
        address = self._given.get(symbol.name)
        if address is None:
            address = externs.resolve(symbol.name)
        if address is None:
            raise damaged(f"it refers to '{symbol.name}', which the run time does not provide")
        return address

    def _stub(self, index: int) -> int:
        """Address of a jump to a function that a 32-bit displacement does not reach."""
        if self._parsed.symbols[index].section != elf_format.SHN_UNDEF or index == 0:
            raise damaged(f"symbol {index} is out of reach of a 32-bit relocation")
        if index not in self._stubs:
            _STUB.pack_into(self._image, self._next_stub, _JUMP, self._address(index))
            self._stubs[index] = self._base + self._next_stub
            self._next_stub += _STUB_SIZE
        return self._stubs[index]


def _exported(parsed: ObjectFile, layout: _Layout, base: int) -> dict[str, int]:
    """Addresses of the global functions that lie in loaded executable sections."""
    return {
        symbol.name: base + layout.places[symbol.section] + symbol.value
        for symbol in parsed.symbols
        if symbol.binding in (_GLOBAL, _WEAK)
        and symbol.section in layout.places
        and parsed.sections[symbol.section].flags & elf_format.SHF_EXECINSTR
    }


def _round_up(value: int, alignment: int) -> int:
    return -(-value // alignment) * alignment


def _protect(address: int, size: int, protection: int) -> None:
    if size == 0:
        return
    if _LIBC.mprotect(ctypes.c_void_p(address), ctypes.c_size_t(size), protection) != 0:
        reason = os.strerror(ctypes.get_errno())
        raise TargetError(
            f"this system does not give executable memory to kernels: {reason}",
            remedy="allow it (SELinux: execmem), or compile for another target",
        )
