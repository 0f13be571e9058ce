"""In how many parts blocks share a stream: decided when a launch is planned, by sizes alone.

The same sizes on the same kind of GPU give the same parts, whatever else runs, so results are the
same every time.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from diagc.errors import InternalError
from diagc.runtime.factors import Factor, check_factor, element_count

__all__ = ["PARTS", "Sharing"]

PARTS = "#parts"
"""Stands for the number of parts where sizes are named by label; no axis has such a label."""


@dataclass(frozen=True)
class Sharing:
    """A stream that blocks may share: each visits a part of the axis, another launch joins them.

    Args:
        axis: label of the stream in the signature; its size is given where the axis is open.
        chunk: positions that a block works on at a time; parts are whole chunks.
        least: positions of a part; a multiple of `chunk`.
        blocks: of one part, a product.
        blocks_per_sm: how many of them a multiprocessor takes at a time.
    """

    axis: str
    chunk: int
    least: int
    blocks: tuple[Factor, ...]
    blocks_per_sm: int = 1

    def __post_init__(self) -> None:
        """Check what the code depends on."""
        object.__setattr__(self, "blocks", tuple(self.blocks))
        numbers = self.chunk, self.least, self.blocks_per_sm
        whole = all(type(number) is int and number > 0 for number in numbers)
        if not whole or self.least % self.chunk or not isinstance(self.axis, str):
            raise InternalError(f"a shared stream is malformed: {self}")
        for factor in self.blocks:
            check_factor(factor)

    def parts(self, sizes: Mapping[str, int], multiprocessors: int | None = None) -> int:
        """How many parts, 1 or more.

        Blocks share where half of the multiprocessors or more would have none, then until there is
        one for every place of the device; no part is shorter than `least`. So scratch memory never
        exceeds the states of as many blocks as run at a time.

        Args:
            sizes: of all axes.
            multiprocessors: of the device; None for as many parts as the axis has.
        """
        chunks = -(-sizes[self.axis] // self.chunk)
        most = max(-(-chunks * self.chunk // self.least), 1)
        if multiprocessors is not None:
            blocks = max(element_count(self.blocks, sizes), 1)
            idle = 2 * blocks <= multiprocessors
            most = min(most, self.blocks_per_sm * multiprocessors // blocks) if idle else 1
        return -(-chunks // self.chunks_of_part(chunks, most)) if chunks else 1

    @staticmethod
    def chunks_of_part(chunks: int, parts: int) -> int:
        """Chunks that a part has, but for the last ones: the code of the parts says the same."""
        return max(-(-chunks // parts), 1)
