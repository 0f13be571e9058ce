"""Functions for the laws of `diagc.register_normalizer`, of one number each.

>>> from diagc.scalars import exp
>>> diagc.register_normalizer("softmax1", exp, [exp], lambda z: 1 + z)     # doctest: +SKIP

They take the symbols that a law is called with, and Python's numbers.
"""

from diagc.algebra.tracing import Scalar, Traced, apply

__all__ = [
    "absolute",
    "cos",
    "erf",
    "exp",
    "log",
    "maximum",
    "minimum",
    "relu",
    "sigmoid",
    "sign",
    "sin",
    "sqrt",
    "square",
    "tanh",
    "where",
]


def exp(x: Scalar) -> Traced:
    """Exponential function."""
    return apply("exp", x)


def log(x: Scalar) -> Traced:
    """Natural logarithm."""
    return apply("log", x)


def sqrt(x: Scalar) -> Traced:
    """Square root."""
    return apply("sqrt", x)


def tanh(x: Scalar) -> Traced:
    """Hyperbolic tangent."""
    return apply("tanh", x)


def sin(x: Scalar) -> Traced:
    """Sine."""
    return apply("sin", x)


def cos(x: Scalar) -> Traced:
    """Cosine."""
    return apply("cos", x)


def erf(x: Scalar) -> Traced:
    """Error function."""
    return apply("erf", x)


def absolute(x: Scalar) -> Traced:
    """Absolute value; Python's `abs` does the same."""
    return apply("abs", x)


def maximum(x: Scalar, y: Scalar) -> Traced:
    """The larger of two numbers."""
    return apply("max", x, y)


def minimum(x: Scalar, y: Scalar) -> Traced:
    """The smaller of two numbers."""
    return apply("min", x, y)


def where(condition: Traced, x: Scalar, y: Scalar) -> Traced:
    """X where the condition holds, else y."""
    return apply("select", condition, x, y)


def sign(x: Scalar) -> Traced:
    """-1, 0 or 1."""
    return where(apply("lt", x, 0.0), -1.0, where(apply("lt", 0.0, x), 1.0, 0.0))


def relu(x: Scalar) -> Traced:
    """The positive part."""
    return maximum(x, 0.0)


def square(x: Scalar) -> Traced:
    """X times itself."""
    return apply("mul", x, x)


def sigmoid(x: Scalar) -> Traced:
    """1 / (1 + exp(-x))."""
    return 1.0 / (1.0 + exp(apply("neg", x)))
