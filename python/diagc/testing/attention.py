"""Attention as text, in the forms in which its kernels are tested."""

from dataclasses import dataclass

from diagc.testing.diagrams import diagram

__all__ = ["MASKS", "Attention", "TailedAttention", "two_sums"]


@dataclass(frozen=True)
class Attention:
    """Arguments Q, K and V, scores S, their normaliser along x, and the average O of values.

    Args:
        where: the condition on scores; "" for none.
        dtype: of arguments and results.
        d: the length of queries and keys.
        e: the length of values; 0 for d. They have the axis d where it is the same.
        normaliser: of scores.
        scores: what is normalised.
        arguments: further ones, such as a bias "B: q x f32".
        heads: axes that all arrays have, as they are declared: "b, g = 2".
        group: the heads of queries, r, that share their keys; 0 for no such axis.
        queries: the axis of rows, as it is declared; "" where the group is all rows.
        group_last: r stands behind queries in arrays.
        statistic: of scores, the second result.
        result: the type of the first result, where it is another.
    """

    where: str = ""
    dtype: str = "bf16"
    d: int = 64
    e: int = 0
    normaliser: str = "softmax"
    scores: str = "S * 0.125"
    arguments: str = ""
    heads: str = "h"
    group: int = 0
    queries: str = "q"
    group_last: bool = False
    statistic: str = ""
    result: str = ""

    @property
    def text(self) -> str:
        """The diagram."""
        group = f"r = {self.group}" if self.group else ""
        own = self.e not in (0, self.d)
        value = f"e = {self.e}" if own else ""
        declared = [self.heads, group, self.queries, "x", f"d = {self.d}", value]
        heads, r, q = (_labels(axes) for axes in (self.heads, group, self.queries))
        rows = [*heads, *q, *r] if self.group_last else [*heads, *r, *q]
        keys, t, e = [*heads, "x"], self.dtype, "e" if own else "d"
        wires = {"Q": [*rows, "d"], "K": [*keys, "d"], "V": [*keys, e]}
        arguments = [f"{name}: {' '.join(axes)} {t}" for name, axes in wires.items()]
        where = f" where ({self.where})" if self.where else ""
        body = (
            f"S: {' '.join([*heads, *r, *q])} x f32 = Q . K over d",
            *([f"Z = {self.statistic}"] if self.statistic else []),
            f"P = {self.normaliser}({self.scores}) along x{where}",
            f"O: {' '.join([*rows, e])} {self.result or t} = P . V over x",
            "return O, Z" if self.statistic else "return O",
        )
        parameters = ", ".join(filter(None, [*arguments, self.arguments]))
        return diagram(parameters, *body, axes=f"axis {', '.join(filter(None, declared))}")


def _labels(axes: str) -> list[str]:
    return [axis.split("=")[0].strip() for axis in axes.split(",") if axis]


MASKS = ("none", "causal", "bottom_right", "window", "dilated")


@dataclass(frozen=True)
class TailedAttention:
    """Attention with sizes for which every buffer of a kernel is used twice and once more.

    Every row sees at least 2 * stages + 1 chunks of keys, and there are at least two tiles of rows;
    the last ones of both are partly filled.

    Args:
        mask: one of `MASKS`.
        tile: rows of a block.
        tails: keys of the last chunk and rows of the last tile.
        passed: tiles of rows that a window leaves behind.
    """

    normaliser: str
    mask: str
    dtype: str
    d: int
    e: int = 0
    chunk: int = 32
    stages: int = 2
    group: int = 0
    tile: int = 128
    tails: tuple[int, int] = (1, 7)
    passed: int = 1

    @property
    def seen(self) -> int:
        """Keys that a row sees."""
        return 2 * self.stages * self.chunk + self.tails[0]

    @property
    def keys(self) -> int:
        """A window leaves some behind."""
        return self.seen + (self.passed * self.tile if self.mask == "window" else 0)

    @property
    def rows(self) -> int:
        """The last row sees the last key where the mask is causal."""
        least = self.tile + self.tails[1]
        if self.mask not in ("causal", "window"):
            return least
        return -(-max(self.keys, least) // self.tile) * self.tile + self.tails[1]

    @property
    def text(self) -> str:
        """The diagram."""
        where = {
            "none": "",
            "causal": "q >= x",
            "bottom_right": f"q + {self.keys - self.rows} >= x",
            "window": f"(q >= x) and (q - x < {self.seen})",
            "dilated": "(q - x) % 3 == 0",
        }[self.mask]
        sizes = self.d, self.e, self.normaliser
        return Attention(where, self.dtype, *sizes, group=self.group).text


def two_sums(d: int) -> str:
    """Attention whose rows are divided by the sum of their absolute scores, a result as well."""
    body = (
        "S: h q x f32 = Q . K over d",
        "Z = sum(abs(S)) over x",
        "O: h q d f32 = S . V over x",
        "return O / Z, Z",
    )
    arguments = "Q: h q d bf16, K: h x d bf16, V: h x d bf16"
    return diagram(arguments, *body, axes=f"axis h, q, x, d = {d}")
