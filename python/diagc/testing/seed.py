"""The seed of a run of the tests: fresh, or `DIAGC_TEST_SEED=<number>`, which repeats a run."""

import os
import secrets

__all__ = ["SEED"]

SEED = int(os.environ.get("DIAGC_TEST_SEED") or secrets.randbelow(2**31))
"""Of this process; printed above and below what pytest prints."""
