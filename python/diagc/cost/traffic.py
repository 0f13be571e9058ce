"""Bytes that a kernel moves between a GPU's global memory and its multiprocessors."""

from dataclasses import dataclass

__all__ = ["Traffic"]


@dataclass(frozen=True)
class Traffic:
    """Bytes that threads ask for, of all blocks and launches together; what caches save counts."""

    read: int = 0
    written: int = 0

    @property
    def total(self) -> int:
        """Both directions."""
        return self.read + self.written

    def __add__(self, other: "Traffic") -> "Traffic":
        """Both together."""
        return Traffic(self.read + other.read, self.written + other.written)

    def __mul__(self, times: int) -> "Traffic":
        """Of so many calls."""
        return Traffic(self.read * times, self.written * times)
