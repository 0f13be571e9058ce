"""What kernels of all targets share: a signature, and launch plans that are remembered."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Generic, TypeVar

from diagc.runtime.launch_plan import ArrayInfo, LaunchPlan
from diagc.runtime.signature import KernelSignature

__all__ = ["PlannedKernel"]

PlanT = TypeVar("PlanT", bound=LaunchPlan)

_MAX_PLANS = 256  # a decoder sees a new length at every step; plans must not pile up


class PlannedKernel(ABC, Generic[PlanT]):
    """A kernel whose launches are checked once for given shapes, strides and dtypes.

    Args:
        signature: its calling convention.
    """

    def __init__(self, signature: KernelSignature) -> None:
        """No plan is known yet."""
        self.signature = signature
        self.plans: dict[tuple[Any, ...], PlanT] = {}

    @abstractmethod
    def make_plan(self, args: Sequence[ArrayInfo], outs: Sequence[ArrayInfo] = ()) -> PlanT:
        """Check arrays and encode what does not change between launches.

        Args:
            args: the arguments.
            outs: the results when the caller has allocated them; else they are fresh.

        Raises:
            LaunchError: the arrays do not fit the signature.
        """

    @abstractmethod
    def launch(self, plan: PlanT, pointers: Sequence[int]) -> None:
        """Run a plan on data; the caller vouches that the arrays are those of the plan.

        Args:
            plan: from `plan` or `make_plan` of this kernel.
            pointers: addresses of the arguments, then of the results.
        """

    def plan(
        self, key: tuple[Any, ...], args: Sequence[ArrayInfo], outs: Sequence[ArrayInfo] = ()
    ) -> PlanT:
        """Make a plan and remember it under a key that tells all that it depends on.

        Raises:
            LaunchError: the arrays do not fit the signature.
        """
        plan = self.make_plan(args, outs)
        if len(self.plans) >= _MAX_PLANS:
            self.plans.clear()
        self.plans[key] = plan
        return plan
