"""Rows of the table: every model of `diagc.testing.models` at one size, three at published widths.

Sizes are fixed before anything is measured. All others are small because what a call costs beside
its kernels weighs more there, and because the whole table should not take hours.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from diagc.testing.models import MODELS, Model
from diagc.testing.scale import Scale

__all__ = ["ROWS", "Row"]

MEDIUM = Scale(width=256, heads=4, tokens=256, batch=2, vocabulary=1000, patch=8)
LARGE = Scale(width=768, heads=12, tokens=1024, batch=1, vocabulary=30522, patch=16)
PUBLISHED = {"bert": "BERT-base", "vit": "ViT-B", "gpt2": "GPT-2 small"}


@dataclass(frozen=True)
class Row:
    """A model at a size, with a way of attention.

    Args:
        name: unique, without the way.
        model: how it is built.
        way: of attention.
        scale: sizes.
        published: whether it has the width of a published model: then it has to be faster than
            torch.compile, too.
    """

    name: str
    model: Model
    way: str
    scale: Scale
    published: bool = False

    @property
    def title(self) -> str:
        """For people."""
        return f"{self.name}, {self.way}" if len(self.model.ways) > 1 else self.name

    @property
    def size(self) -> str:
        """Width, and tokens."""
        return f"{self.scale.width}, {self.scale.batch} x {self.scale.tokens}"


ROWS: Sequence[Row] = (
    *(
        Row(PUBLISHED[model.name], model, way, LARGE, published=True)
        for model in MODELS
        if model.name in PUBLISHED
        for way in model.ways
    ),
    *(Row(model.name, model, way, MEDIUM) for model in MODELS for way in model.ways),
)
