"""The kernel cache: what is kept, what is refused, and that trouble never stops work."""

import errno
import os
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diagc import debug
from diagc.errors import CacheError, InternalError
from diagc.private_directory import prepare
from diagc.runtime.cache import Entry, KernelCache, cache_key, default_cache

KEY = cache_key("kernel", "cpu", {"diagc": "1"})
OTHER = cache_key("kernel", "cpu", {"diagc": "2"})
ENTRY = Entry(b"\x7fELF code", {"symbol": "f", "sizes": [1, 2]})


def filled(directory: Path) -> Path:
    KernelCache(directory).put(KEY, ENTRY.payload, ENTRY.metadata)
    (path,) = directory.glob("*.entry")
    return path


def run(script: str, *arguments: object) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )


def test_key_depends_on_every_part_and_on_where_one_ends() -> None:
    keys = {
        cache_key("ab", "c", {}),
        cache_key("a", "bc", {}),
        cache_key("ab", "c", {"x": "1"}),
        cache_key("ab", "c", {"x": "2"}),
        cache_key("ab", "c", {"x1": ""}),
    }
    assert len(keys) == 5
    assert cache_key("a", "b", {"x": "1", "y": "2"}) == cache_key("a", "b", {"y": "2", "x": "1"})


def test_entry_survives_the_process(tmp_path: Path) -> None:
    filled(tmp_path / "cache")
    script = """
        import sys; from pathlib import Path; from diagc.runtime.cache import KernelCache
        entry = KernelCache(Path(sys.argv[1])).get(sys.argv[2])
        assert entry.payload == b"\\x7fELF code" and entry.metadata["sizes"] == [1, 2]
        assert not {"torch", "numpy", "torch_mlir"} & set(sys.modules)
    """
    done = run(script, tmp_path / "cache", KEY)
    assert done.returncode == 0, done.stderr


def test_missing_entry_is_none_and_second_put_replaces(tmp_path: Path, log: list[str]) -> None:
    cache = KernelCache(tmp_path / "a" / "b")
    assert cache.get(KEY) is None
    cache.put(KEY, b"1", {})
    cache.put(KEY, b"2", {})
    assert cache.get(KEY) == Entry(b"2", {})
    cache.remove(KEY)
    assert cache.get(KEY) is None
    assert not log


def test_directory_and_entries_are_private(tmp_path: Path) -> None:
    path = filled(tmp_path / "cache")
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert path.stat().st_mode & 0o777 == 0o600
    assert [p.name for p in path.parent.iterdir()] == [path.name]


@given(data=st.data())
@settings(max_examples=200, deadline=None)
def test_any_changed_bit_or_length_is_noticed(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = filled(tmp_path_factory.mktemp("cache") / "cache")
    blob = bytearray(path.read_bytes())
    if data.draw(st.booleans()):
        bit = data.draw(st.integers(0, 8 * len(blob) - 1))
        blob[bit // 8] ^= 1 << bit % 8
    else:
        blob = blob[: data.draw(st.integers(0, len(blob) - 1))]
    path.write_bytes(blob)
    with debug.LOG.override("off"):
        assert KernelCache(path.parent).get(KEY) is None
    assert not path.exists()


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda b: b[:10], "cut short"),
        (lambda b: b[:-1], "bytes"),
        (lambda b: b + b"!", "bytes"),
        (lambda b: b[:-1] + b"!", "hash"),
        (lambda b: b"NOTCACHE" + b[8:], "not a kernel entry"),
        (lambda b: b[:8] + b"\xff" + b[9:], "not a kernel entry of version 1"),
    ],
)
def test_damaged_entry_is_removed_logged_and_made_again(
    damage: "type[bytes]", reason: str, tmp_path: Path, log: list[str]
) -> None:
    path = filled(tmp_path / "cache")
    path.write_bytes(damage(path.read_bytes()))
    cache = KernelCache(path.parent)
    assert cache.get(KEY) is None
    assert not path.exists()
    (message,) = log
    assert str(path) in message
    assert reason in message
    cache.put(KEY, ENTRY.payload, ENTRY.metadata)
    assert KernelCache(path.parent).get(KEY) == ENTRY


def test_entry_under_another_name_is_refused(tmp_path: Path, log: list[str]) -> None:
    path = filled(tmp_path / "cache")
    path.rename(path.with_name(OTHER + ".entry"))
    assert KernelCache(path.parent).get(OTHER) is None
    assert "hash" in log[0]


def test_directory_that_others_can_enter_is_refused_once(tmp_path: Path, log: list[str]) -> None:
    directory = tmp_path / "cache"
    path = filled(directory)
    directory.chmod(0o755)
    cache = KernelCache(directory)
    assert cache.get(KEY) is None
    cache.put(KEY, b"new", {})
    assert cache.get(KEY) == Entry(b"new", {})
    assert KernelCache(directory).get(KEY) is None
    first, _ = log
    assert "expected mode 0700, found 0755; chmod 700" in first
    assert path.exists()


def test_file_in_the_place_of_the_directory_is_refused(tmp_path: Path, log: list[str]) -> None:
    (tmp_path / "cache").write_text("mine")
    cache = KernelCache(tmp_path / "cache")
    cache.put(KEY, b"new", {})
    assert cache.get(KEY) == Entry(b"new", {})
    assert len(log) == 1
    assert "cannot be made or read" in log[0]
    assert (tmp_path / "cache").read_text() == "mine"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_directory_of_another_user_is_refused(tmp_path: Path) -> None:
    directory = tmp_path / "cache"
    directory.mkdir(mode=0o700)
    os.chown(directory, 65534, 65534)
    with pytest.raises(CacheError, match=r"belongs to somebody else.*found user 65534"):
        prepare(directory)


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES, errno.ENOSPC])
def test_unwritable_directory_warns_once_and_keeps_kernels_in_memory(
    code: int, tmp_path: Path, log: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = filled(tmp_path / "cache")
    cache = KernelCache(path.parent)
    real = os.open

    def fail(name: "str | os.PathLike[str]", flags: int, mode: int = 0o777) -> int:
        if flags & os.O_CREAT:
            raise OSError(code, os.strerror(code))
        return real(name, flags, mode)

    monkeypatch.setattr(os, "open", fail)
    for _ in range(3):
        cache.put(OTHER, b"new", {})
    assert cache.get(OTHER) == Entry(b"new", {})
    assert cache.get(KEY) == ENTRY
    assert len(log) == 1
    assert f"cannot write to {path.parent}: {os.strerror(code)}" in log[0]


@pytest.mark.skipif(os.geteuid() != 0, reason="another user is needed")
def test_read_only_directory_of_an_ordinary_user(tmp_path: Path) -> None:
    directory = tmp_path / "cache"
    filled(directory)
    for path in (*tmp_path.parents, tmp_path):
        if path.stat().st_uid == os.geteuid() and path.name.startswith(("pytest-", "test_")):
            path.chmod(0o755)
    for path in (directory, *directory.iterdir()):
        os.chown(path, 65534, 65534)
    directory.chmod(0o500)
    script = """
        import logging, os, sys; from pathlib import Path
        from diagc.runtime.cache import KernelCache
        os.seteuid(65534)
        cache = KernelCache(Path(sys.argv[1]))
        assert cache.get(sys.argv[2]).payload == b"\\x7fELF code"
        cache.put(sys.argv[3], b"new", {})
        cache.put(sys.argv[3], b"new", {})
        assert cache.get(sys.argv[3]).payload == b"new"
    """
    done = run(script, directory, KEY, OTHER)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("WARNING") == 1
    assert "Permission denied" in done.stderr


def test_longest_unused_entries_go_first(tmp_path: Path) -> None:
    cache = KernelCache(tmp_path / "cache", limit=5000)
    keys = [cache_key(str(i), "cpu", {}) for i in range(5)]
    for age, key in zip((50, 40, 30, 20), keys[:4], strict=True):
        cache.put(key, bytes(1000), {})
        path = tmp_path / "cache" / f"{key}.entry"
        os.utime(path, (path.stat().st_mtime - age,) * 2)
    assert cache.get(keys[0]) is not None
    cache.put(keys[4], bytes(1000), {})
    kept = [key for key in keys if cache.get(key) is not None]
    assert kept == [keys[0], keys[2], keys[3], keys[4]]


def test_entry_larger_than_the_limit_is_kept_until_the_next(tmp_path: Path) -> None:
    cache = KernelCache(tmp_path / "cache", limit=1000)
    cache.put(KEY, bytes(5000), {})
    assert cache.get(KEY) is not None
    cache.put(OTHER, bytes(10), {})
    assert cache.get(KEY) is None
    assert cache.get(OTHER) is not None


def test_abandoned_temporary_files_are_deleted(tmp_path: Path) -> None:
    path = filled(tmp_path / "cache")
    old, young = path.with_name(".1-old.tmp"), path.with_name(".2-young.tmp")
    old.touch()
    young.touch()
    os.utime(old, (0, 0))
    filled(tmp_path / "cache")
    assert not old.exists()
    assert young.exists()


def test_threads_and_processes_may_share_a_directory(tmp_path: Path) -> None:
    script = """
        import sys; from pathlib import Path; from diagc.runtime.cache import KernelCache, cache_key
        cache = KernelCache(Path(sys.argv[1]), limit=40_000)
        for turn in range(150):
            i = turn % 10
            key = cache_key(str(i), "cpu", {})
            entry = cache.get(key)
            assert entry is None or entry.payload == bytes([i]) * 5000
            cache.put(key, bytes([i]) * 5000, {"i": i})
    """
    with ThreadPoolExecutor(3) as pool:
        done = list(pool.map(lambda _: run(script, tmp_path / "cache"), range(3)))
    for process in done:
        assert process.returncode == 0, process.stderr
        assert process.stderr == ""
    files = list((tmp_path / "cache").iterdir())
    assert all(file.suffix == ".entry" for file in files)
    assert sum(file.stat().st_size for file in files) <= 3 * 40_000


def test_keys_that_are_no_hashes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InternalError, match="not a cache key"):
        KernelCache(tmp_path).get("../../etc/passwd")


def test_switches_choose_the_directory_or_memory(tmp_path: Path) -> None:
    with debug.CACHE_DIR.override(tmp_path / "chosen"):
        default_cache().put(KEY, b"1", {})
        assert (tmp_path / "chosen" / f"{KEY}.entry").exists()
        with debug.CACHE.override(False):
            assert default_cache().get(KEY) is None
            default_cache().put(OTHER, b"1", {})
            assert default_cache().get(OTHER) is not None
    assert len(list((tmp_path / "chosen").iterdir())) == 1
