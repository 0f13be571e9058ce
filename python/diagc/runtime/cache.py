"""Compiled kernels on disk: content-addressed, private, checked by hash, safe between processes.

An entry is one file `<key>.entry`: a header (magic, format version, lengths, SHA-256), metadata as
JSON, the payload. Files appear by rename, so readers never see half of one; the hash covers key,
metadata and payload, so whatever else happened to a file is found out before it is used.
"""

import hashlib
import json
import os
import re
import struct
import threading
import time
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from secrets import token_hex
from typing import Any, TypeVar

from diagc import debug
from diagc.errors import CacheError, InternalError
from diagc.private_directory import prepare

__all__ = ["Entry", "KernelCache", "cache_key", "default_cache"]

T = TypeVar("T")

DEFAULT_LIMIT = 1 << 30
_MAGIC = b"DIAGCKRN"
_VERSION = 1
_HEADER = struct.Struct("<8sIIQ32s")  # magic, version, bytes of metadata, of payload, SHA-256
_SUFFIX = ".entry"
_KEY = re.compile(r"[0-9a-f]{64}")
_KEEP_SHARE = 0.9  # eviction goes a little below the limit, so that not every put scans
_STALE_SECONDS = 3600  # an abandoned temporary file is older than this


@dataclass(frozen=True)
class Entry:
    """What was stored under a key."""

    payload: bytes
    metadata: Mapping[str, Any]


def cache_key(text: str, target: str, versions: Mapping[str, str]) -> str:
    """Key of a kernel: SHA-256 over its location-free text, the target and all versions.

    Every part is hashed with its length, so no two different inputs run together.
    """
    digest = hashlib.sha256()
    for part in (text, target, *(item for pair in sorted(versions.items()) for item in pair)):
        data = part.encode()
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.hexdigest()


class KernelCache:
    """A directory of entries with a size limit; in memory only when the directory is unusable.

    Trouble with the disk never fails a compilation: it gives one warning, and work goes on.

    Args:
        directory: None for memory only.
        limit: bytes on disk; the entries that were used longest ago go first.
    """

    def __init__(self, directory: Path | None, limit: int = DEFAULT_LIMIT) -> None:
        """Touch nothing yet: the directory is made and checked on first use."""
        self._directory = directory
        self._limit = limit
        self._memory: dict[str, Entry] = {}
        self._lock = threading.Lock()
        self._readable: bool | None = None
        self._writable = True
        self._used: int | None = None

    def get(self, key: str) -> Entry | None:
        """Give the entry of `key`; a damaged one is removed, logged, and counts as missing."""
        path = self._path(key)
        if key in self._memory:
            return self._memory[key]
        if path is None:
            return None
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            self._log(f"cannot read {path}: {error.strerror}")
            return None
        return self._checked(key, path, data)

    def load(self, key: str, read: Callable[[Entry], T]) -> T | None:
        """What `read` makes of the entry of `key`; one that it cannot read is removed, and logged.

        Args:
            key: of the entry.
            read: it may raise `CacheError`, and what bad data lead to: KeyError, TypeError,
                ValueError and zlib.error.
        """
        entry = self.get(key)
        if entry is None:
            return None
        try:
            return read(entry)
        except (CacheError, KeyError, TypeError, ValueError, zlib.error) as error:
            self._log(f"removed a cache entry that cannot be loaded: {error}")
            self.remove(key)
            return None

    def put(self, key: str, payload: bytes, metadata: Mapping[str, Any]) -> None:
        """Store an entry, whether or not there is one already."""
        path = self._path(key)
        if path is not None and self._writable:
            try:
                self._write(path, _pack(key, payload, metadata))
                return
            except OSError as error:
                self._writable = False
                self._log(f"kernels are not kept: cannot write to {path.parent}: {error.strerror}")
        with self._lock:
            self._memory[key] = Entry(payload, dict(metadata))

    def remove(self, key: str) -> None:
        """Forget an entry, e.g. one that its reader could not use."""
        path = self._path(key)
        self._memory.pop(key, None)
        if path is not None:
            _unlink(path)

    def _path(self, key: str) -> Path | None:
        """File of `key`, or None when there is no directory to use."""
        if not _KEY.fullmatch(key):
            raise InternalError(f"'{key}' is not a cache key")
        if self._directory is None or not self._usable(self._directory):
            return None
        return self._directory / (key + _SUFFIX)

    def _usable(self, directory: Path) -> bool:
        if self._readable is None:
            try:
                prepare(directory)
                self._readable = True
            except CacheError as error:
                self._readable = False
                self._log(f"kernels are not kept: {error}")
        return self._readable

    def _checked(self, key: str, path: Path, data: bytes) -> Entry | None:
        try:
            entry = _unpack(key, data)
        except CacheError as error:
            self._log(f"removed the cache entry {path}: {error}")
            _unlink(path)
            return None
        with suppress(OSError):  # a read-only directory keeps its order
            os.utime(path)  # the time of the last use decides what is evicted
        return entry

    def _write(self, path: Path, data: bytes) -> None:
        temporary = path.with_name(f".{os.getpid()}-{token_hex(8)}.tmp")
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        try:
            with os.fdopen(os.open(temporary, flags, 0o600), "wb") as file:
                file.write(data)
            temporary.replace(path)
        except OSError:
            _unlink(temporary)
            raise
        with self._lock:
            self._evict(path, len(data))

    def _evict(self, newest: Path, size: int) -> None:
        """Delete the longest unused entries when the directory has grown over its limit."""
        if self._used is not None and self._used + size <= self._limit:
            self._used += size
            return
        entries = _scan(newest.parent)
        used = sum(entry.size for entry in entries)
        if used > self._limit:
            for entry in entries:
                if used <= self._limit * _KEEP_SHARE:
                    break
                if entry.path != newest:
                    _unlink(entry.path)
                    used -= entry.size
        self._used = used

    def _log(self, message: str) -> None:
        debug.logger("cache").warning(message)


@dataclass(frozen=True)
class _File:
    path: Path
    size: int
    used: float


def _scan(directory: Path) -> list[_File]:
    """Entries, longest unused first; temporary files that nobody finished are deleted."""
    files = []
    now = time.time()
    with os.scandir(directory) as items:
        for item in items:
            try:
                stat = item.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            if item.name.endswith(_SUFFIX):
                files.append(_File(Path(item.path), stat.st_size, stat.st_mtime))
            elif item.name.endswith(".tmp") and now - stat.st_mtime > _STALE_SECONDS:
                _unlink(Path(item.path))
    return sorted(files, key=lambda file: file.used)


def _unlink(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        debug.logger("cache").info(f"cannot remove {path}: {error.strerror}")


def _digest(key: str, metadata: bytes, payload: bytes) -> bytes:
    digest = hashlib.sha256(key.encode())
    digest.update(metadata)
    digest.update(payload)
    return digest.digest()


def _pack(key: str, payload: bytes, metadata: Mapping[str, Any]) -> bytes:
    text = json.dumps(dict(metadata), sort_keys=True).encode()
    digest = _digest(key, text, payload)
    return _HEADER.pack(_MAGIC, _VERSION, len(text), len(payload), digest) + text + payload


def _unpack(key: str, data: bytes) -> Entry:
    """Check and split the contents of a file.

    Raises:
        CacheError: not an entry of this version, of other lengths, or with another hash.
    """
    if len(data) < _HEADER.size:
        raise CacheError("it is cut short", expected="a header", found=f"{len(data)} bytes")
    magic, version, metadata_size, payload_size, digest = _HEADER.unpack_from(data)
    if (magic, version) != (_MAGIC, _VERSION):
        raise CacheError(f"it is not a kernel entry of version {_VERSION}")
    expected = _HEADER.size + metadata_size + payload_size
    if len(data) != expected:
        raise CacheError("it is damaged", expected=f"{expected} bytes", found=len(data))
    metadata = data[_HEADER.size : _HEADER.size + metadata_size]
    payload = data[_HEADER.size + metadata_size :]
    if _digest(key, metadata, payload) != digest:
        raise CacheError("it is damaged: its contents do not have the hash in its header")
    return Entry(payload, json.loads(metadata))


@cache
def _cache_of(directory: Path | None) -> KernelCache:
    return KernelCache(directory)


def default_cache() -> KernelCache:
    """Give this process' cache in `DIAGC_CACHE_DIR`; memory only when `DIAGC_CACHE=0`."""
    if not debug.CACHE.get():
        return _cache_of(None)
    return _cache_of(debug.CACHE_DIR.get())
