"""What the simulator finds wrong: kinds, and one finding as data and as text."""

from dataclasses import dataclass

from diagc.simulator.emitter import Site

__all__ = ["KINDS", "Finding"]

KINDS = (
    "out-of-bounds",
    "misaligned",
    "unwritten-read",
    "race",
    "in-flight",
    "source-overwritten",
    "read-only",
    "divergent",
    "deadlock",
    "barrier-count",
    "endless",
    "inactive-lane",
    "division-by-zero",
    "copy-size",
    "accumulator",
    "fence",
    "mbarrier",
    "descriptor",
    "unwritten-result",
)
"""In the order of `Kind` in native/interface.h; the last one is found here."""

ACCESSES = ("read", "write", "atomic", "execution")


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, at its first occurrence.

    Args:
        kind: of `KINDS`.
        kernel: the launch's function.
        message: what happened, in one sentence.
        site: the instruction at which it was seen; None for a result that lacks elements.
        other: the second instruction: the other side of a race, the copy under way.
        block: indices of the block.
        thread: index in the block.
        count: how often it happened.
    """

    kind: str
    kernel: str
    message: str
    site: Site | None = None
    other: Site | None = None
    block: tuple[int, int, int] = (0, 0, 0)
    thread: int = 0
    count: int = 1

    def __str__(self) -> str:
        """A paragraph: kind and sentence, then each instruction with its place."""
        head = f"{self.kind}: {self.message}"
        if self.site is None:
            return f"{head} [kernel {self.kernel}]"
        block = ", ".join(map(str, self.block))
        again = f", {self.count} times" if self.count > 1 else ""
        lines = [f"{head} [kernel {self.kernel}, block ({block}), thread {self.thread}{again}]"]
        lines += _site_lines("by", self.site)
        if self.other is not None:
            lines += _site_lines("with", self.other)
        return "\n".join(lines)


def _site_lines(word: str, site: Site) -> list[str]:
    text = site.text if len(site.text) <= 160 else site.text[:157] + "..."
    return [f"  {word} {site}", *([f"     {text}"] if text else [])]
