"""Makes the package importable for programs that tests start; keeps what tests write apart."""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

from hypothesis import settings

_PYTHON = str(Path(__file__).resolve().parents[2] / "python")
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [_PYTHON, os.environ.get("PYTHONPATH")]))

# Kernels of an earlier version of the compiler in the user's cache must not make a test pass.
_SCRATCH = Path(tempfile.mkdtemp(prefix="diagc-test-"))
atexit.register(shutil.rmtree, _SCRATCH, ignore_errors=True)
os.environ["DIAGC_CACHE_DIR"] = str(_SCRATCH / "cache")
os.environ["DIAGC_REPRODUCER_DIR"] = str(_SCRATCH / "reproducers")

# A shared machine is slow at times; what fails is printed so that it can be run again.
# Where a seed is given, hypothesis repeats its examples too.
_REPEAT = "DIAGC_TEST_SEED" in os.environ
settings.register_profile("diagc", deadline=None, print_blob=not _REPEAT, derandomize=_REPEAT)
settings.load_profile("diagc")
