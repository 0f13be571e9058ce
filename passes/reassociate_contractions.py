"""Choose the cheapest order of chains of contractions (rewrites follow)."""

from dataclasses import dataclass
from typing import ClassVar

from diagc.mlir import ir
from diagc.passes.base import Pass

__all__ = ["ReassociateContractionsPass"]


@dataclass(frozen=True)
class ReassociateContractionsPass(Pass):
    """Choose the cheapest order of chains of contractions."""

    name: ClassVar[str] = "reassociate-contractions"
    reassociate: str = "auto"

    def run(self, op: ir.Operation) -> None:
        """Leave the order as it is."""
