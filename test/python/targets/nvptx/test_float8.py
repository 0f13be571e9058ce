"""Attention on f8E4M3FN with scales, in the simulator with all of its checks, against float64.

The reference takes the f8 numbers as they are. On tiles weights are rounded to tf32. On warpgroups
they are rounded to f8, as `float8_matmul_precision="high"` allows.
"""

import numpy as np
import pytest

from diagc.mlir import ir
from diagc.options import CompileOptions, current, use
from diagc.targets.nvptx.arch import parse_arch
from diagc.targets.nvptx.tiles.schedule import TileSchedule
from diagc.targets.nvptx.warpgroups.lower import lower_warpgroups
from diagc.testing.seed import SEED
from diagc.testing.tile_kernels import kernels_of, random_inputs, run_tiles, translate_module

HIGH = CompileOptions(float8_matmul_precision="high")


def attention(
    d: int = 64, normaliser: str = "softmax", condition: str = "", lines: str = "x d", rows: str = ""
) -> str:
    where = f" where ({condition})" if condition else ""
    return f"""axis h, q, x, d = {d}{", r = 2" if rows else ""}
diagram attention(Q: h {rows}q d f8E4M3FN, K: h x d f8E4M3FN, V: h {lines} f8E4M3FN,
                  A: h {rows}q f32, B: h x f32, C: h x f32) {{
  Y = f32(Q) * A
  Z = f32(K) * B
  W = f32(V) * C
  S: h {rows}q x f32 = Y . Z over d
  P = {normaliser}(S * 0.125) along x{where}
  O: h {rows}q d f32 = P . W over x
  return O
}}
"""
