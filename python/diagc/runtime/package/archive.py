"""The file of a package: a zip that is read whole, checked before it is used, written atomically.

Nothing is ever unpacked to disk. What a file may cost is bounded before anything is read: names are
plain, members do not overlap, nothing expands without measure.
"""

import os
import re
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from secrets import token_hex

from diagc.errors import PackageError

__all__ = ["read_members", "write_members"]

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*")
_MEMBERS = 10_000
_COMPRESSED_BYTES = 1 << 30  # that compressed members may expand to, all together
_RATIO, _RATIO_BYTES = 200, 1 << 20  # machine code and PTX are below 20; small members may be more
_DATE = (1980, 1, 1, 0, 0, 0)  # equal contents give equal files
_ENCRYPTED = 1


def read_members(path: Path) -> dict[str, bytes]:
    """All members of a file by name.

    Raises:
        PackageError: it cannot be read, is no zip, is damaged, or is not what `write_members`
            writes.
    """
    try:
        with path.open("rb") as file:
            return _read(path, file.read())
    except OSError as error:
        raise PackageError(f"cannot read {path}", found=error.strerror) from None


def write_members(path: Path, members: Mapping[str, bytes], stored: frozenset[str]) -> None:
    """Replace a file, in one step, by a zip of these members.

    Args:
        path: of the file.
        members: contents by name.
        stored: those that are not compressed, for they would not get smaller.

    Raises:
        PackageError: it cannot be written.
    """
    temporary = path.with_name(f".{path.name}-{os.getpid()}-{token_hex(8)}.tmp")
    try:
        with temporary.open("xb") as file, zipfile.ZipFile(file, "w") as archive:
            for name, data in members.items():
                info = zipfile.ZipInfo(name, _DATE)
                info.external_attr = 0o644 << 16
                kind = zipfile.ZIP_STORED if name in stored else zipfile.ZIP_DEFLATED
                archive.writestr(info, data, compress_type=kind)
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise PackageError(f"cannot write {path}", found=error.strerror) from None


def _read(path: Path, data: bytes) -> dict[str, bytes]:
    from io import BytesIO

    if not data.startswith(b"PK\x03\x04"):
        found = "an empty file" if not data else "something else"
        raise PackageError(f"{path} is no package", expected="a .diagpkg file", found=found)
    try:
        with zipfile.ZipFile(BytesIO(data)) as archive:
            infos = archive.infolist()
            _check(path, infos, len(data))
            return {info.filename: archive.read(info) for info in infos}
    except (zipfile.BadZipFile, EOFError, zlib.error, NotImplementedError) as error:
        raise _damaged(path, str(error)) from None
    except (ValueError, RuntimeError, UnicodeError, OSError, IndexError) as error:
        raise _damaged(path, str(error)) from None


def _check(path: Path, infos: list[zipfile.ZipInfo], size: int) -> None:
    """Refuse what would be dangerous or dear to read, by the directory alone."""
    names = [info.filename for info in infos]
    if len(infos) > _MEMBERS:
        raise _suspicious(path, f"it has {len(infos)} members")
    if len(set(names)) != len(names):
        raise _suspicious(path, "a name comes twice")
    for info in infos:
        _check_member(path, info)
    expanded = sum(i.file_size for i in infos if i.compress_type != zipfile.ZIP_STORED)
    if expanded > _COMPRESSED_BYTES:
        raise _suspicious(path, f"it would expand to {expanded} bytes")
    ordered = sorted(infos, key=lambda info: info.header_offset)
    starts = [info.header_offset for info in ordered[1:]] + [size]
    for info, following in zip(ordered, starts, strict=True):
        if info.header_offset + info.compress_size > following:
            raise _suspicious(path, f"member {info.filename!r} overlaps another")


def _check_member(path: Path, info: zipfile.ZipInfo) -> None:
    name = info.filename
    if not _NAME.fullmatch(name) or name != info.orig_filename:
        raise _suspicious(path, f"a member is called {name!r}")
    if info.flag_bits & _ENCRYPTED:
        raise _suspicious(path, f"member {name!r} is encrypted")
    if info.compress_type == zipfile.ZIP_STORED:
        if info.file_size != info.compress_size:
            raise _suspicious(path, f"member {name!r} has two sizes")
    elif info.compress_type != zipfile.ZIP_DEFLATED:
        raise _suspicious(path, f"member {name!r} is compressed by method {info.compress_type}")
    elif info.file_size > max(_RATIO * info.compress_size, _RATIO_BYTES):
        found = f"{info.compress_size} bytes that expand to {info.file_size}"
        raise _suspicious(path, f"member {name!r} has {found}")


def _damaged(path: Path, why: str) -> PackageError:
    remedy = "copy or compile it again"
    return PackageError(f"{path} is damaged or cut short: {why}", remedy=remedy)


def _suspicious(path: Path, why: str) -> PackageError:
    return PackageError(f"{path} is no package of ours: {why}", remedy="do not trust it")
