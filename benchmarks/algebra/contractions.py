"""Rows of the group `contractions`."""

from collections.abc import Sequence

from .rows import Row

__all__ = ["ROWS"]

ROWS: Sequence[Row] = ()
