"""Makes the package importable for programs that tests start; keeps what tests write apart."""

import atexit
import gc
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING
from zlib import crc32

import pytest
from hypothesis import settings

from diagc import debug
from diagc.errors import CacheError
from diagc.private_directory import prepare
from diagc.testing.seed import SEED

if TYPE_CHECKING:
    from diagc.testing.fake_cuda import FakeCuda

_PYTHON = str(Path(__file__).resolve().parents[2] / "python")
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [_PYTHON, os.environ.get("PYTHONPATH")]))

# Kernels of an earlier version of the compiler in the user's cache must not make a test pass.
_SCRATCH = Path(tempfile.mkdtemp(prefix="diagc-test-"))
atexit.register(shutil.rmtree, _SCRATCH, ignore_errors=True)


def _share_simulator(cache: Path) -> None:
    """Link the user's directory of the simulator's run time into ours, where it may be used.

    A library is named by a digest of its sources and of all else that it depends on, and takes ten
    seconds of processor time, which each process of tests would spend again.
    """
    with suppress(CacheError):
        root = debug.CACHE_DIR.get()
        for directory in (root, root / "simulator", cache):
            prepare(directory)
        (cache / "simulator").symlink_to((root / "simulator").resolve())


_share_simulator(_SCRATCH / "cache")
os.environ["DIAGC_CACHE_DIR"] = str(_SCRATCH / "cache")
os.environ["DIAGC_REPRODUCER_DIR"] = str(_SCRATCH / "reproducers")

# A shared machine is slow at times; what fails is printed so that it can be run again.
# Where a seed is given, hypothesis repeats its examples too.
_REPEAT = "DIAGC_TEST_SEED" in os.environ
settings.register_profile("diagc", deadline=None, print_blob=not _REPEAT, derandomize=_REPEAT)
settings.load_profile("diagc")


def pytest_report_header() -> str:
    return f"seed {SEED} (DIAGC_TEST_SEED={SEED} repeats this run)"


def pytest_collection_finish() -> None:
    """What modules hold stays: to look for garbage among torch's objects takes 0.13 s each time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _torch_seed(request: pytest.FixtureRequest) -> None:
    """Data of torch's depend on the seed and on the test, not on the tests before it."""
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.manual_seed(SEED ^ crc32(request.node.nodeid.encode()))


@pytest.fixture(scope="session")
def fake_cuda_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from diagc.testing.fake_cuda import build

    found = build(tmp_path_factory.mktemp("fake"))
    if found is None:
        pytest.skip("NOT TESTED: the CUDA launcher, for there is no C compiler (cc)")
    return found


@pytest.fixture
def cuda(fake_cuda_library: Path, monkeypatch: pytest.MonkeyPatch) -> "Iterator[FakeCuda]":
    """A fresh fake that has leaked nothing when the test is over."""
    from diagc.testing.fake_cuda import FakeCuda, forget, pose

    fake = FakeCuda(fake_cuda_library)
    before = fake.loaded
    pose(fake, monkeypatch)
    yield fake
    forget()
    gc.collect()
    assert (fake.loaded, fake.retained, fake.depth, fake.capture_mode) == (before, 0, 0, 0)


@pytest.fixture
def registry() -> Iterator[None]:
    """Normalisers that the test registers are gone after it, whatever happens."""
    from diagc.algebra.normalizers import BUILT_IN, NORMALIZERS
    from diagc.normalizers import unregister_normalizer

    yield
    for name in set(NORMALIZERS) - BUILT_IN:
        unregister_normalizer(name)


@pytest.fixture
def fresh_dynamo() -> Iterator[None]:
    """The test meets no graphs of another, nor leaves any."""
    import torch

    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.fixture
def regions_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Regions and kernels that were compiled before, or are compiled here, serve nobody else."""
    import torch

    from diagc import debug
    from diagc.torch_backend import backend

    torch._dynamo.reset()
    monkeypatch.setattr(backend, "_COMPILED", {})
    with debug.CACHE_DIR.override(tmp_path / "cache"):
        yield
    torch._dynamo.reset()
    gc.collect()
