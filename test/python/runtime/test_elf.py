"""Loading objects: what works, what is refused, and that damage never crashes."""

import ctypes
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diagc.errors import CacheError
from diagc.runtime import elf_format
from diagc.runtime.elf import LoadedObject, load_object

PLT32, PC32, ABS64, SIGNED32 = 4, 2, 1, 11


def tiny_object(code: bytes, relocations: list[tuple[int, int, int]], function: str) -> bytes:
    """An object with `main` = code, and relocations (offset, type, addend) against `function`."""
    strings = b"\0main\0" + function.encode() + b"\0"
    symbols = bytes(24)
    symbols += struct.pack("<IBBHQQ", 1, 0x12, 0, 1, 0, len(code))
    symbols += struct.pack("<IBBHQQ", 6, 0x10, 0, 0, 0, 0)
    rela = b"".join(struct.pack("<QQq", at, 2 << 32 | kind, add) for at, kind, add in relocations)
    contents = [b"", code, rela, symbols, strings]
    # type, flags, link, info, alignment, entry size
    kinds = [
        (0, 0, 0, 0, 0, 0),
        (1, 6, 0, 0, 16, 0),
        (4, 0, 3, 1, 8, 24),
        (2, 0, 4, 1, 8, 24),
        (3, 0, 0, 0, 1, 0),
    ]
    body, headers = b"", b""
    for data, (kind, flags, link, info, alignment, entry) in zip(contents, kinds, strict=True):
        fields = (0, kind, flags, 0, 64 + len(body), len(data), link, info, alignment, entry)
        headers += struct.pack("<IIQQQQIIQQ", *fields)
        body += data
    ident = b"\x7fELF\x02\x01\x01" + bytes(9)
    table = 64 + len(body)
    header = struct.pack("<HHIQQQIHHHHHH", 1, 62, 1, 0, 0, table, 0, 64, 0, 0, 64, 5, 4)
    return ident + header + body + headers


# push rax; call <function>; pop rcx; ret
CALL = b"\x50\xe8\0\0\0\0\x59\xc3"
# movabs rax, <function>; push rcx; call rax; pop rcx; ret
CALL_FAR = b"\x48\xb8" + bytes(8) + b"\x51\xff\xd0\x59\xc3"


def permissions(address: int) -> str:
    for line in Path("/proc/self/maps").read_text().splitlines():
        low, high = (int(x, 16) for x in line.split()[0].split("-"))
        if low <= address < high:
            return line.split()[1]
    raise AssertionError("not mapped")


def writable_code() -> set[str]:
    """Mappings that are writable and executable; libffi's callbacks are."""
    maps = Path("/proc/self/maps").read_text().splitlines()
    return {line.split()[0] for line in maps if line.split()[1].startswith("rwx")}


def call(loaded: LoadedObject) -> int:
    return int(ctypes.CFUNCTYPE(ctypes.c_int)(loaded.address("main"))())


@ctypes.CFUNCTYPE(ctypes.c_int)
def forty_two() -> int:
    return 42


FORTY_TWO = ctypes.cast(forty_two, ctypes.c_void_p).value or 0


def test_absolute_and_relative_calls_reach_a_given_function() -> None:
    near = load_object(tiny_object(CALL, [(2, PLT32, -4)], "f"), {"f": FORTY_TWO})
    far = load_object(tiny_object(CALL_FAR, [(2, ABS64, 0)], "f"), {"f": FORTY_TWO})
    assert call(near) == call(far) == 42


def test_call_beyond_two_gigabytes_goes_through_a_stub() -> None:
    blob = tiny_object(CALL, [(2, PLT32, -4)], "f")
    far = 0x1234_5678_9ABC
    loaded = load_object(blob, {"f": far})
    main = loaded.address("main")
    displacement = ctypes.c_int32.from_address(main + 2).value
    stub = ctypes.string_at(main + 6 + displacement, 14)
    assert stub == b"\xff\x25\0\0\0\0" + struct.pack("<Q", far)


def test_pages_are_never_writable_and_executable(add_object: bytes) -> None:
    before = writable_code()
    loaded = load_object(add_object)
    assert permissions(loaded.address("add")).startswith("r-x")
    assert writable_code() == before


def test_memory_is_given_back_when_the_object_dies(add_object: bytes) -> None:
    loaded = load_object(add_object)
    address = loaded.address("add")
    assert permissions(address)
    del loaded
    with pytest.raises(AssertionError, match="not mapped"):
        permissions(address)


def test_unknown_function_is_refused_by_name() -> None:
    with pytest.raises(CacheError, match="refers to 'system', which the run time does not provide"):
        load_object(tiny_object(CALL, [(2, PLT32, -4)], "system"))


def test_functions_of_libm_and_libc_are_found_by_name() -> None:
    for name in ("expf", "tanh", "memset", "GOMP_parallel"):
        assert load_object(tiny_object(CALL_FAR, [(2, ABS64, 0)], name)).functions.keys() == {
            "main"
        }


def test_missing_export_is_refused_by_name(add_object: bytes) -> None:
    with pytest.raises(CacheError, match="exports no function 'mul'"):
        load_object(add_object).address("mul")


@pytest.mark.parametrize(
    ("kind", "reason"), [(SIGNED32, "R_X86_64_32S"), (9, "GOTPCREL"), (77, "type 77")]
)
def test_unsupported_relocation_is_refused_by_name(kind: int, reason: str) -> None:
    with pytest.raises(CacheError, match=reason):
        load_object(tiny_object(CALL, [(2, kind, 0)], "f"), {"f": FORTY_TWO})


@pytest.mark.parametrize("offset", [5, 8, 2**40, 2**64 - 1])
def test_relocation_outside_its_section_is_refused(offset: int) -> None:
    with pytest.raises(CacheError, match="outside its section"):
        load_object(tiny_object(CALL, [(offset, PC32, -4)], "f"), {"f": FORTY_TWO})


def test_addend_out_of_reach_is_refused() -> None:
    with pytest.raises(CacheError, match="out of reach"):
        load_object(tiny_object(CALL, [(2, PLT32, 2**62)], "f"), {"f": FORTY_TWO})


def patch(blob: bytes, offset: int, data: bytes) -> bytes:
    return blob[:offset] + data + blob[offset + len(data) :]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda b: b"", "too few"),
        (lambda b: b[:40], "too few"),
        (lambda b: b[:-1], "section header table"),
        (lambda b: b"MZ" + b[2:], "magic"),
        (lambda b: patch(b, 4, b"\x01"), "ELF64"),
        (lambda b: patch(b, 16, b"\x03"), "relocatable"),
        (lambda b: patch(b, 18, b"\xb7"), "aarch64, not x86-64"),
        (lambda b: patch(b, 58, b"\x20"), "section headers of 32 bytes"),
        (lambda b: patch(b, 40, b"\xff" * 8), "section header table"),
    ],
)
def test_damaged_header_is_refused_with_a_reason(
    change: Callable[[bytes], bytes], reason: str, add_object: bytes
) -> None:
    with pytest.raises(CacheError, match=reason):
        load_object(change(add_object))


def loads_or_is_refused(blob: bytes) -> bool:
    try:
        load_object(blob, {"f": FORTY_TWO})
    except CacheError:
        return False
    return True


@given(data=st.data())
@settings(max_examples=300, deadline=None)
def test_truncated_object_is_refused(data: st.DataObject, add_object: bytes) -> None:
    end = data.draw(st.integers(0, len(add_object) - 1))
    assert not loads_or_is_refused(add_object[:end])


@given(data=st.data())
@settings(max_examples=1000, deadline=None)
def test_flipped_bits_load_or_are_refused(data: st.DataObject, add_object: bytes) -> None:
    blob = bytearray(add_object)
    places = st.integers(0, 8 * len(blob) - 1)
    for bit in data.draw(st.lists(places, min_size=1, max_size=8)):
        blob[bit // 8] ^= 1 << bit % 8
    loads_or_is_refused(bytes(blob))


def headers_and_tables(blob: bytes) -> list[int]:
    """Offsets of the bytes that the loader interprets, all but the sections' contents."""
    sections = elf_format.parse(blob).sections
    (table,) = struct.unpack_from("<Q", blob, 40)
    ranges = [range(64), range(table, table + 64 * len(sections))]
    ranges += [range(s.offset, s.offset + s.size) for s in sections if s.type in (2, 3, 4)]
    return [offset for part in ranges for offset in part]


@given(data=st.data())
@settings(max_examples=1500, deadline=None)
def test_overwritten_headers_load_or_are_refused(data: st.DataObject, add_object: bytes) -> None:
    blob = bytearray(add_object)
    places = st.sampled_from(headers_and_tables(add_object))
    values = st.one_of(st.sampled_from([0, 1, 0x7F, 0x80, 0xFF]), st.integers(0, 255))
    for offset, value in data.draw(st.lists(st.tuples(places, values), min_size=1, max_size=6)):
        blob[offset] = value
    loads_or_is_refused(bytes(blob))


@given(blob=st.binary(max_size=600))
@settings(max_examples=300, deadline=None)
def test_random_bytes_are_refused(blob: bytes) -> None:
    assert not loads_or_is_refused(blob)
    assert not loads_or_is_refused(b"\x7fELF\x02\x01\x01" + bytes(9) + blob)
