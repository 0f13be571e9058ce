"""The diag dialect object and the base class of its ops."""

import traceback
from typing import Any

from diagc.dialects.diag.types import VerifyError
from diagc.mlir import ext

__all__ = ["Diag", "DiagOp"]

NO_ATTRIBUTES: dict[str, Any] = {}


class Diag(ext.Dialect, name="diag"):
    """Neural circuit diagrams: wires are named axes, boxes are contractions, maps, reductions."""


class DiagOp(Diag.Operation):
    """Base of all diag ops: optional attributes, and a verifier that lets no exception escape.

    Semantic rules go in `check`, which raises `VerifyError`. They run from
    `verify_region_invariants`, after the structural (IRDL) constraints and after nested ops; an
    exception there would unwind through MLIR's C++ frames, hence the catch-all.
    """

    # no annotation: ext would read an annotated name as a field of the op
    OPTIONAL = NO_ATTRIBUTES

    def check(self) -> None:
        """Raise `VerifyError` where a rule of the op is broken."""

    def optional(self, name: str) -> Any:
        """The optional attribute `name`, or None."""
        attributes = self.operation.attributes
        return attributes.get(name, None)

    def _check_optional(self) -> None:
        for name, kind in self.OPTIONAL.items():
            attr = self.optional(name)
            if attr is not None and not isinstance(attr, kind):
                raise VerifyError(f"attribute '{name}' must be a {kind.__name__}, found {attr}")

    def verify_region_invariants(self) -> bool:
        """Run the rules of the op; called by MLIR, must return a real bool."""
        name = self.operation.name
        try:
            with self.operation.location:  # type builders need an ambient location
                self._check_optional()
                self.check()
        except VerifyError as error:
            (error.loc or self.operation.location).emit_error(f"'{name}' op {error}")
            return False
        except Exception as error:  # a verifier bug must not unwind through C++
            report = f"{type(error).__name__}: {error}\n{traceback.format_exc()}"
            self.operation.location.emit_error(f"'{name}' op verifier crashed: {report}")
            return False
        return True
