"""Compiles the simulator's run time, C++ in `native/`, with the system's compiler, once."""

import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

from diagc import debug
from diagc.errors import InternalError, TargetError
from diagc.private_directory import prepare

__all__ = ["find_compiler", "runtime_library"]

_SOURCES = Path(__file__).with_name("native")
_FLAGS = (
    *("-std=c++17", "-O2", "-march=native", "-fPIC", "-fvisibility=hidden", "-pthread"),
    "-ftls-model=initial-exec",  # the worker of a thread is asked for at every access
)


def find_compiler() -> str | None:
    """The C++ compiler: that of the environment variable CXX, else the system's; None if none."""
    names = (os.environ.get("CXX", ""), "c++", "g++", "clang++")
    return next((path for name in names if name and (path := shutil.which(name))), None)


@cache
def runtime_library() -> Path:
    """Path of the compiled run time; it is made when it is not in the cache.

    Raises:
        TargetError: there is no C++ compiler.
        CacheError: the cache directory cannot be used.
        InternalError: the compiler refuses the sources.
    """
    sources = sorted(_SOURCES.glob("*.cpp"))
    compiler = find_compiler()
    if compiler is None:
        raise TargetError(
            "the simulator needs a C++ compiler for its run time",
            expected="c++, g++ or clang++ on PATH, or CXX in the environment",
            found="none of them",
            remedy="install one (Debian, Ubuntu: apt install g++)",
        )
    root = debug.CACHE_DIR.get()
    prepare(root)
    prepare(root / "simulator")
    path = root / "simulator" / f"runtime-{_key(compiler)}.so"
    if not path.exists():
        _compile(compiler, sources, path)
    return path


def _key(compiler: str) -> str:
    """Of all that the library depends on; `-march=native` makes one for each processor."""
    digest = hashlib.sha256(
        " ".join((compiler, *_FLAGS, platform.machine(), _processor())).encode()
    )
    for file in sorted(_SOURCES.iterdir()):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:24]


def _processor() -> str:
    from llvmlite import binding

    return f"{binding.get_host_cpu_name()} {binding.get_host_cpu_features().flatten()}"


def _compile(compiler: str, sources: list[Path], path: Path) -> None:
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        objects = [Path(folder) / f"{source.stem}.o" for source in sources]
        _run(
            [compiler, *_FLAGS, "-c", str(source), "-o", str(target)]
            for source, target in zip(sources, objects, strict=True)
        )
        library = Path(folder) / "runtime.so"
        parts = [str(target) for target in objects]
        _run([[compiler, *_FLAGS, "-shared", *parts, "-o", str(library)]])
        library.replace(path)  # readers see all of it or nothing


def _run(commands: Iterable[Sequence[str]]) -> None:
    """Run commands side by side, and wait for all of them.

    Raises:
        InternalError: with the output of one that failed.
    """
    jobs = [
        subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for words in commands
    ]
    outputs = [job.communicate()[0] for job in jobs]
    for job, output in zip(jobs, outputs, strict=True):
        if job.returncode:
            raise InternalError(f"the simulator's run time does not compile: {output[-2000:]}")
