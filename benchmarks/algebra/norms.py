"""Rows of the group `norms`."""

from collections.abc import Sequence

from .rows import Row

__all__ = ["ROWS"]

ROWS: Sequence[Row] = ()
