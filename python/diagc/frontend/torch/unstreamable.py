"""Torch ops that no law lets a stream compute, and which law fails."""

__all__ = ["NO_RULE", "failing_law"]

NO_RULE = "no rule for this op"

_ORDER = (
    "streaming fails: its result depends on the order of all values of a row, and no state of "
    "fixed size that chunks update, B(f(x), y) = f(x + y), keeps that"
)
_RANDOM = (
    "sliding over a copy fails: it draws random numbers, so that each copy, or "
    "each chunk, would draw others"
)
_SCAN = "fusing fails: every result needs those at the positions before it, in their order"

_LAWS: dict[str, str] = {
    **dict.fromkeys(
        (
            *("median", "nanmedian", "mode", "kthvalue", "quantile", "nanquantile"),
            *("sort", "argsort", "msort", "topk", "_unique2", "unique_dim"),
        ),
        _ORDER,
    ),
    **dict.fromkeys(
        (
            *("dropout", "native_dropout", "feature_dropout", "alpha_dropout", "bernoulli"),
            *("rand_like", "randn_like", "rand", "randn", "multinomial", "normal", "rrelu"),
        ),
        _RANDOM,
    ),
    **dict.fromkeys(("cumsum", "cumprod", "cummax", "cummin", "logcumsumexp"), _SCAN),
}


def failing_law(packet: str) -> str:
    """Why an op without a rule stays outside.

    Args:
        packet: name of the op without its overload, `aten.sort`.
    """
    return _LAWS.get(packet.rpartition(".")[2].rstrip("_"), NO_RULE)
