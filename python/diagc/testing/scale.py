"""How large the models of `diagc.testing.models` are built."""

from dataclasses import dataclass
from math import isqrt

__all__ = ["SMALL", "Scale"]


@dataclass(frozen=True)
class Scale:
    """Sizes that all models share; two layers each, inner layers four times as wide.

    Args:
        width: features of a token.
        heads: of attention.
        tokens: of a sequence; images have the largest square of patches that is no more than this.
        batch: sequences, or images.
        vocabulary: different tokens.
        patch: side of a patch, in pixels.
    """

    width: int
    heads: int
    tokens: int
    batch: int
    vocabulary: int
    patch: int

    @property
    def inner(self) -> int:
        """Features between the two linear layers behind attention."""
        return 4 * self.width

    @property
    def side(self) -> int:
        """Patches along a side of an image."""
        return isqrt(self.tokens)

    @property
    def pixels(self) -> int:
        """Along a side of an image."""
        return self.side * self.patch


SMALL = Scale(width=64, heads=4, tokens=160, batch=2, vocabulary=100, patch=8)
"""Of tests."""
