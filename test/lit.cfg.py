"""The suite for lit: `lit -v test`. For daily work pytest runs the same files in one process."""

import os
import sys
import tempfile
from pathlib import Path

import lit.formats

root = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(root / "python"))

from diagc.testing.features import available_features  # noqa: E402
from diagc.testing.lit_runner import SUFFIXES  # noqa: E402

config = globals()["config"]  # lit puts it there
filecheck = os.environ.get("FILECHECK", f"{sys.executable} -m filecheck")

config.name = "diagc"
config.test_format = lit.formats.ShTest(execute_external=False)  # has pipes, `not`, redirection
config.suffixes = list(SUFFIXES)
config.excludes = ["Inputs", "Output", "python", "lit.cfg.py"]
config.test_source_root = str(root / "test")
config.test_exec_root = os.environ.get("LIT_OUTPUT", f"{tempfile.gettempdir()}/diagc-lit")
config.environment["PYTHONPATH"] = str(root / "python")
config.available_features |= available_features()
config.substitutions += [
    (r"\bdiagc-opt\b", f"{sys.executable} -m diagc.opt"),
    (r"\bdiagc compile\b", f"{sys.executable} -m diagc compile"),
    (r"\bdiagc opt\b", f"{sys.executable} -m diagc.opt"),
    (r"\b(filecheck|FileCheck)\b", filecheck),
]
