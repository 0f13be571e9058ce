"""Makes the package importable for the programs that tests start, installed or not."""

import os
from pathlib import Path

_PYTHON = str(Path(__file__).resolve().parents[2] / "python")
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [_PYTHON, os.environ.get("PYTHONPATH")]))
