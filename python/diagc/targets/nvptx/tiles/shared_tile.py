"""Tiles in shared memory, swizzled so that ldmatrix and quads read without bank conflicts.

A tile has lines of a power of two or a multiple of 128 bytes, cut into chunks of 16 bytes. Chunk c
of line y stands at place c ^ s(y), where s changes the low bits only, so that the same chunk of
eight lines in a row lies in different banks. Addresses are a register per pattern of these low
bits, and a constant: everything that a thread does not choose by its number is an immediate.
"""

from dataclasses import dataclass

__all__ = ["CHUNK_BYTES", "ROW_BYTES", "SharedTile", "staged_dtype"]

CHUNK_BYTES = 16
ROW_BYTES = 128  # all 32 banks


def staged_dtype(dtype: str) -> str:
    """The type that elements of a dtype have in shared memory: f16 holds all numbers of f8."""
    return "f16" if dtype == "f8E4M3FN" else dtype


@dataclass(frozen=True)
class SharedTile:
    """Shape and place of a tile.

    Args:
        offset: bytes from the beginning of the block's shared memory, of the first stage.
        lines: number of lines, a multiple of 8.
        width: elements of a line that are used, a multiple of 16.
        element_bytes: 1, 2 or 4.
        stage_bytes: distance of the stages of a streamed tile, 0 where there is one.
    """

    offset: int
    lines: int
    width: int
    element_bytes: int
    stage_bytes: int = 0

    @property
    def chunk_elements(self) -> int:
        """Elements of a chunk."""
        return CHUNK_BYTES // self.element_bytes

    @property
    def pitch(self) -> int:
        """Bytes of a line."""
        used = self.width * self.element_bytes
        if used >= ROW_BYTES:
            return -(-used // ROW_BYTES) * ROW_BYTES
        return max(1 << (used - 1).bit_length(), CHUNK_BYTES)

    @property
    def size(self) -> int:
        """Bytes of one stage."""
        return self.lines * self.pitch

    @property
    def mask(self) -> int:
        """The bits of a chunk's number that are swizzled."""
        return min(self.pitch, ROW_BYTES) // CHUNK_BYTES - 1

    @property
    def shift(self) -> int:
        """Of a line's number: so many lines stand in one row of banks."""
        return (8 // (self.mask + 1)).bit_length() - 1

    def split(self, line: int, chunk: int) -> tuple[int, int]:
        """(pattern, offset in bytes) of a line, a multiple of 8, and a chunk."""
        offset = line * self.pitch + (chunk & ~self.mask) * CHUNK_BYTES
        return chunk & self.mask, offset
