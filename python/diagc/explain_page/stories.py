"""What each pass does, for readers who know tensors but no compilers."""

from typing import NamedTuple

from diagc.passes import find_pass, is_pass

__all__ = ["PROPERTIES", "PassStory", "story_of"]


class PassStory(NamedTuple):
    """A heading, what is done, and the law that makes it legal."""

    heading: str
    text: str
    law: str


_STORIES = {
    "expand-normalizers": PassStory(
        "Normalisers are written out",
        "A normaliser such as softmax is short for a formula: functions of single elements and "
        "sums (or maxima) over an axis. Written out, its parts can be moved on their own.",
        "The definition: N(x)ᵢ = a₁(xᵢ) / b(Σⱼ a₂(xⱼ)), in a form that does not overflow.",
    ),
    "split-pads": PassStory(
        "A padded axis is taken apart",
        "Where a few positions were joined to an axis, such as one more score to each row, sums "
        "and maxima along it are those of the rest, combined with these few.",
        "A reduction of a row is that of its parts, combined: f(x ⊕ y) = f(x) + f(y), or the "
        "maximum of both.",
    ),
    "balance-exponentials": PassStory(
        "Exponentials stay in range",
        "Exponentials that are summed get the maximum of their row subtracted first, which no "
        "result can tell; logarithms of sums and of products are taken apart. Then softmax, "
        "however it was written, has one form.",
        "exp(x) / Σ exp(x) = exp(x − m) / Σ exp(x − m), and log(exp(u) · c) = u + log c.",
    ),
    "fuse-normalization": PassStory(
        "Factors leave the sum",
        "A factor that is the same at every position of an axis need not be multiplied in before "
        "that axis is summed over: it is applied once, to the result.",
        "Distributivity: Σᵢ r · xᵢ yᵢ = r · Σᵢ xᵢ yᵢ where r does not depend on i.",
    ),
    "reassociate-contractions": PassStory(
        "Products are taken in a cheaper order",
        "Contractions in a row can be taken in any order. Another order can avoid the largest "
        "array in between altogether, so that the cost grows with the length, not its square.",
        "Associativity: (Q Kᵀ) V = Q (Kᵀ V), and Σⱼ (q · kⱼ)² = qᵀ (Kᵀ K) q.",
    ),
    "derive-streams": PassStory(
        "Reductions become streams",
        "A long axis is read chunk by chunk. A small state is kept that says all that matters "
        "about what has been read, so nothing as long as that axis is ever stored.",
        "f is streamable when some B gives B(f(x), y) = f(x ⊕ y): the result for a longer input "
        "follows from the result so far and the new piece alone.",
    ),
    "join-blocks": PassStory(
        "Blocks of scales are one axis",
        "An axis that was split only because each block of it has a scale is one axis again; the "
        "scale is repeated for every position.",
        "A view: position n of the axis is position n mod B of block ⌊n / B⌋.",
    ),
    "factor-scales": PassStory(
        "Scales of narrow numbers leave products",
        "The scale of a line goes behind the sum, or to the other input, so that the products are "
        "those of the numbers of 8 or 16 bits as they lie in memory.",
        "Linearity: Σ q · (s k) = s Σ q · k, and Σₘ p (sₘ vₘ) = Σₘ (p sₘ) vₘ.",
    ),
    "round-operands": PassStory(
        "Products are those of 8-bit numbers",
        "What a kernel computes may be rounded to 8 bits where it meets 8-bit numbers, if the "
        "precision that was asked for allows it.",
        "No identity: each number is wrong by up to 2⁻⁴ of itself.",
    ),
    "split-words": PassStory(
        "Products with small matrices are those of 16-bit words",
        "A matrix in f32 that meets rows of bf16 is the sum of two matrices of bf16: both products "
        "take half the time of one in f32 on tensor cores. Results are rounded to bf16.",
        "No identity: each number of the matrix is wrong by up to 2⁻¹⁷ of itself.",
    ),
    "slide-scales": PassStory(
        "Scales are applied to the smaller array",
        "A constant factor of a contraction may be multiplied into either of its inputs. It goes "
        "to the one that is not read chunk by chunk, where it is applied once.",
        "Linearity: (c · x) · y = c · (x · y).",
    ),
    "block-streams": PassStory(
        "Large products go to the library",
        "A matrix product inside a stream that the library multiplies faster is taken a block of "
        "the axis at a time: the library multiplies a block, the stream takes it in.",
        "A stream may be cut anywhere: it goes on from the state that it has.",
    ),
    "stream-products": PassStory(
        "Large products take in what is around them",
        "A matrix product becomes a loop over pieces of the axis that it sums over. Sums of its "
        "rows are taken in the same loop, and what they scale is scaled at the end.",
        "Linearity: (c · x) · w = c · (x · w); a sum may be taken piece by piece.",
    ),
    "form-kernels": PassStory(
        "What belongs together becomes a kernel",
        "Operations that can share one pass over their data become one kernel: it reads from main "
        "memory once, keeps what is in between on chip, and writes its results once.",
        "The function that is computed stays the same; only where values live changes.",
    ),
    "select-schedule": PassStory(
        "Each kernel gets a schedule",
        "It says how the work is cut: into independent groups of positions (g), which run side by "
        "side, and into chunks (s) of the axes that are streamed.",
        "An axis that only weaves may be split into groups, a streamed one into chunks; neither "
        "changes the result.",
    ),
}

PROPERTIES = {
    "monoid": "states of two parts may be merged, so the axis may be shared out to several tasks",
    "commutative": "in any order",
    "ordered": "only in order, from the first chunk to the last",
}
"""What may be done with the states of a stream."""


def story_of(name: str) -> PassStory:
    """The story of a pass; that of one unknown here is its own summary."""
    if name in _STORIES:
        return _STORIES[name]
    return PassStory(name, find_pass(name).summary() if is_pass(name) else name, "")
