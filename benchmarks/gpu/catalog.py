"""All variants: rows of the performance table, then the matrix of kernels."""

from collections.abc import Mapping

from gpu.table import TABLE
from gpu.variants import MATRIX, Variant

__all__ = ["VARIANTS"]

VARIANTS: Mapping[str, Variant] = {**TABLE, **MATRIX}
"""By name, in the order in which they are built and checked."""
