"""Diagrams that tests of every target run: parameters, then the lines of the body."""

__all__ = ["BROADCASTS", "LAYOUTS", "REDUCED_AXES", "ROWS", "STATISTICS", "diagram"]

AXES = "axis a, n, m, d = 64, e = 24, f = 768, g = 3, h = 33, k = 5000"


def diagram(parameters: str, *body: str, axes: str = AXES) -> str:
    """The text of a diagram called `test`."""
    lines = "\n  ".join(body)
    return f"{axes}\ndiagram test({parameters}) {{\n  {lines}\n}}\n"


BROADCASTS: dict[str, tuple[str, ...]] = {
    "chain": ("X: n m, Y: n m", "return X * 2 + Y / (1 + exp(X)) - tanh(Y)"),
    "chain of static axes": ("X: f e, Y: f e", "return gelu(X) * Y"),
    "short static rows": ("X: n g, Y: n g", "return X * Y + X"),
    "along rows": ("X: n m, Y: m", "return X * Y + 1"),
    "along columns": ("X: n m, Y: n", "return X * Y + 1"),
    "bias of short rows": ("X: n g, Y: g", "return X * Y + 1"),
    "bias of odd rows": ("X: a n h, Y: h", "return tanh(X + Y)"),
    "bias of long rows": ("X: n f, Y: f", "return gelu(X + Y)"),
    "outer product": ("X: n, Y: m", "return X * Y + 1"),
    "outer product, static": ("X: n, Y: d", "return X * Y + 1"),
    "one vector": ("X: n", "return exp(X) - X"),
    "three results": ("X: n m, Y: n m", "return X + Y, X - Y * 2, X * Y"),
    "equal results and an input": ("X: n m, Y: n m", "Z = X * Y - Y", "return X, Z, Z"),
    "gates": ("X: n f, G: n f", "return silu(G) * X"),
    "rank 4": ("X: a n m g", "return max(X * 0.125, 0) - X"),
    "a scalar of a reduction": ("X: n m, Y: n m", "s = sum(X) over n m", "return Y * s + 1"),
}
"""Maps of arrays of different ranks."""

LAYOUTS: dict[str, tuple[str, ...]] = {
    "transposed": ("X: n m, Y: m n", "Z: n m = X * 2 + Y", "return Z"),
    "transposed, static": ("X: d e, Y: e d", "Z: d e = X * 2 + Y", "return Z"),
    "only transposed": ("X: n m", "Z: m n = X * 2 + 1", "return Z"),
    "rotated": ("X: n a m, Y: m a n", "Z: a n m = X + Y * 2", "return Z"),
    "two results in two orders": ("X: n m", "Z: m n = X * 2 + 1", "return Z, X - 1"),
    "short rows turned": ("X: n g, Y: g n", "Z: n g = X * 2 + Y", "return Z"),
    "slices": ("X: n f", "return X[f = 2 * d + 5] * 2 + 1"),
    "shifted views": ("X: n f", "return (X[f = d + 1] - X[f = d]) * 0.5"),
    "slices as columns": ("X: f n", "return (X[f = d + 1] - X[f = d]) * 0.5"),
    "several slices": ("X: d g", "return X[d = e] + 1, X[d = e * 2] - 1"),
}
"""Maps of arrays whose axes lie in different orders, and of their views."""

REDUCED_AXES: dict[str, tuple[str, ...]] = {
    "last": ("X: n m", "m"),
    "first": ("X: n m", "n"),
    "middle": ("X: a n m", "n"),
    "only": ("X: n", "n"),
    "last, static": ("X: n f", "f"),
    "first, static": ("X: f n", "f"),
    "middle, static": ("X: a d m", "d"),
    "middle of static axes": ("X: a d e", "d"),
    "only, static": ("X: f", "f"),
    "short": ("X: n g", "g"),
    "odd": ("X: n h", "h"),
    "long and static": ("X: n k", "k"),
    "two, apart": ("X: a n m", "a m"),
    "two, together": ("X: a n m", "n m"),
    "all": ("X: n m", "n m"),
    "two static": ("X: n d e", "d e"),
    "two static, apart": ("X: d n e", "d e"),
    "all static": ("X: d e", "d e"),
    "a dynamic and a static one": ("X: n m e", "m e"),
}
"""Parameters, and the axes that a reduction runs over."""

ROWS: dict[str, tuple[str, ...]] = {
    "products": ("X: n h", "return prod(X) over h"),
    "counts": ("X: n m", "return sum(where(X > 0, 1.0, 0.0)) over m"),
    "sum and sum of squares": ("X: n m", "return sum(X) over m, sum(X * X) over m"),
    "over both axes": ("X: n m", "return sum(X) over m, sum(X) over n"),
    "a weighted sum": ("X: n m, W: m", "return sum(X * W) over m"),
    "dot products of rows": ("X: n f, Y: n f", "return X . Y over f"),
    "dot products of open rows": ("X: n m, Y: n m", "return X . Y over m"),
    "a sum of shifted products": ("X: n f", "return sum(X[f = d] * X[f = d + 1]) over d"),
    "l1 rows": ("X: n f", "return l1(X) along f"),
    "l2 rows": ("X: n m", "return l2(X) along m"),
    "softmax": ("X: n m", "return softmax(X) along m"),
    "softmax of static rows": ("X: n f", "return softmax(X) along f"),
    "softmax of long rows": ("X: n k", "return softmax(X) along k"),
    "softmax of short rows": ("X: n g", "return softmax(X) along g"),
    "softmax along columns": ("X: n m", "return softmax(X) along n"),
    "softmax along the middle": ("X: a n d", "return softmax(X) along n"),
    "softmax along two axes": ("X: n d e", "return softmax(X) along d e"),
    "softmax by hand": (
        "X: n f",
        "E = exp(X - (max(X) over f))",
        "return E / (sum(E) over f)",
    ),
    "largest absolute value": ("X: n m", "return max(abs(X)) over m"),
    "group norm": ("X: a g e d", "return layer(X) along e d eps 1e-5"),
    "rms norm": ("X: n f, W: f", "return (rms(X) along f eps 1e-6) * W"),
    "layer norm": ("X: n f, W: f, B: f", "return (layer(X) along f eps 1e-5) * W + B"),
    "layer norm of odd rows": ("X: n h, W: h", "return (layer(X) along h eps 1e-5) * W"),
    "residual and layer norm": (
        "X: n f, R: n f, W: f, B: f",
        "Y = X + R",
        "return (layer(Y) along f eps 1e-5) * W + B, Y",
    ),
}
"""Reductions, and maps of their results."""

STATISTICS: dict[str, tuple[str, ...]] = {
    "variance": ("X: n m", "mu = mean(X) over m", "return mean((X - mu) * (X - mu)) over m"),
    "variance of static rows": (
        "X: n f",
        "mu = mean(X) over f",
        "return mean((X - mu) * (X - mu)) over f",
    ),
    "log-sum-exp": ("X: n m", "r = max(X) over m", "return log(sum(exp(X - r)) over m) + r"),
    "pooling by softmax": (
        "X: n m",
        "return sum((softmax(X) along m) * X) over m, (sum(X * X) over m) ** 0.5",
    ),
    "entropy": (
        "X: n m",
        "P = softmax(X) along m",
        "return sum(P * X) over m",
    ),
    "centred by the mean, scaled by the largest": (
        "X: n m, Y: n m",
        "D = X - Y",
        "C = D - (mean(D) over m)",
        "return C / (max(abs(C)) over m)",
    ),
    "two means": ("X: n m", "return mean(X) over m, mean(X * X) over m, mean(X) over n"),
}
"""Those that are no numbers where there is nothing to reduce."""
