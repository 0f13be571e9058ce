"""Warpgroups: columns of any number, where values are stored with keys along their lines."""

import pytest

from diagc.testing.warpgroup_runs import TOLERANCE, run_diagram

TEXT = """axis h, q, x, d = 32, e = {e}
diagram columns(Q: h q d bf16, K: h x d bf16, V: h e x bf16) {{
  S: h q x f32 = Q . K over d
  P = softmax(S * 0.125) along x
  O: h q e {dtype} = P . V over x
  return O
}}
"""


@pytest.mark.parametrize(
    ("e", "dtype"), [(20, "bf16"), (8, "bf16"), (8, "f32"), (24, "f32"), (40, "f32")]
)
def test_columns_that_are_no_multiple_of_16(e: int, dtype: str) -> None:
    """Tiles are whole groups of 16: later stages begin with the pattern, results fill panels."""
    built, run = run_diagram(
        TEXT.format(e=e, dtype=dtype), {"g": 2, "l": 70, "s": 168}, chunk=32, stages=2
    )
    assert len(built.tensor_maps) == (4 if dtype == "f32" else 3), "lines of 32 bytes are boxes"
    assert run.error_of_averages() < TOLERANCE["bf16"]
