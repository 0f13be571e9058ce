"""A compiled program: runs on torch tensors or numpy arrays, and tells its results' shapes."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from diagc.errors import LaunchError
from diagc.runtime.guards import check_inputs
from diagc.runtime.plan import Plan
from diagc.runtime.plan_scope import Externs, Kernel, Resources
from diagc.runtime.planning import Layout
from diagc.runtime.sizes import Sizes, array_sizes, label_sizes, tensor_shape
from diagc.runtime.steps import HostProgram, Input, Output, Step
from diagc.runtime.torch_launch import TORCH_DTYPES

if TYPE_CHECKING:
    import numpy as np

__all__ = ["Program", "plan_key"]

_MAX_PLANS = 64  # a decoder sees a new length at every step; plans must not pile up


class Program:
    """Steps on labelled arrays, with loaded kernels.

    Results are fresh and dense in the order that each output asks for; one that is a mere view of
    an input stays a view of it. Gradients are not recorded here.

    Args:
        inputs: arguments in order.
        steps: what to do.
        outputs: results in order.
        kernels: what `KernelCall` steps number.
        externs: callables on tensors, by the symbols of `ExternCall` steps.
        float64: compute every float in f64, whatever the types say (the interpreter's mode).
        device: kind of device that its kernels run on: "cpu" or "cuda".
    """

    def __init__(
        self,
        inputs: Sequence[Input],
        steps: Sequence[Step],
        outputs: Sequence[Output],
        kernels: Sequence[Kernel] = (),
        externs: Externs | None = None,
        float64: bool = False,
        device: str = "cpu",
    ) -> None:
        """Work out what does not depend on sizes."""
        self.inputs = tuple(inputs)
        self.steps = tuple(steps)
        self.outputs = tuple(outputs)
        self.kernels = tuple(kernels)
        self.externs = dict(externs or {})
        self.float64 = float64
        self.device = device
        self.report: Any = None  # report.Report: what was done, from the compiler
        layout = Layout(HostProgram(self.inputs, self.steps, self.outputs))
        self.types = layout.types
        self._layout = layout
        self._plans: dict[tuple[Any, ...], Plan] = {}

    def __call__(self, tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Run on tensors.

        Raises:
            LaunchError: they do not fit the inputs.
        """
        return self.execute(self.find_plan(tensors) or self.prepare(tensors), tensors)

    def run(self, arrays: Sequence["np.ndarray[Any, Any]"]) -> list["np.ndarray[Any, Any]"]:
        """Run on numpy arrays, which are converted to the dtypes of the inputs.

        Results are float64 when the program computes so; bf16 comes as float32.

        Raises:
            LaunchError: they do not fit the inputs.
        """
        if self.device != "cpu":
            raise LaunchError(
                "this program does not run on numpy arrays",
                expected=f"torch tensors on a {self.device} device",
                remedy=f'call it with torch.from_numpy(array).to("{self.device}")',
            )
        if len(arrays) != len(self.inputs):
            raise LaunchError(
                "wrong number of arrays", expected=len(self.inputs), found=len(arrays)
            )
        tensors = [
            torch.tensor(array, dtype=None if self.float64 else TORCH_DTYPES[entry.type.dtype])
            for entry, array in zip(self.inputs, arrays, strict=True)
        ]
        plan = self.find_plan(tensors) or self.prepare(tensors)
        results = plan.run(self._computed(tensors))
        return [(r.float() if r.dtype == torch.bfloat16 else r).numpy() for r in results]

    # ---- plans -------------------------------------------------------------------------------

    def find_plan(self, tensors: Sequence[torch.Tensor]) -> Plan | None:
        """The plan for tensors of these shapes, strides and dtypes, if there is one."""
        try:
            return self._plans.get(plan_key(tensors))
        except (RuntimeError, AttributeError):  # no strides: sparse, nested, or no tensor at all
            return None

    def prepare(self, tensors: Sequence[torch.Tensor]) -> Plan:
        """Check tensors and lay the program out for them.

        Raises:
            SizeMismatch: the program was compiled for other sizes.
            LaunchError: they do not fit the inputs in another way.
        """
        check_inputs(self.inputs, tensors, self.float64, self.device)
        with torch._C._AutoDispatchBelowAutograd():
            computed = self._computed(tensors)
            plan = self._layout.plan(computed, self._resources(computed))
        if len(self._plans) >= _MAX_PLANS:
            self._plans.clear()
        self._plans[plan_key(tensors)] = plan
        return plan

    def _resources(self, tensors: Sequence[torch.Tensor]) -> Resources:
        device = tensors[0].device if tensors else torch.empty(0, device=self.device).device
        return Resources(self.kernels, self.externs, self.float64, device)

    def execute(
        self, plan: Plan, tensors: Sequence[torch.Tensor], fresh: bool = False
    ) -> list[torch.Tensor]:
        """Run a plan on tensors that it is for; `fresh`: no result may be a view of anything."""
        records = torch.is_grad_enabled() and not plan.direct
        if not records and not fresh and not self.float64:
            return plan.run(tensors)
        # below autograd: nothing is recorded, and views of parameters may be taken
        with torch._C._AutoDispatchBelowAutograd():
            results = plan.run(self._computed(tensors))
            if fresh:
                results = self._without_aliases(results, plan.owned)
            if not self.float64:
                return results
            dtypes = self.result_dtypes()
            return [result.to(dtype) for result, dtype in zip(results, dtypes, strict=True)]

    def _computed(self, tensors: Sequence[torch.Tensor]) -> Sequence[torch.Tensor]:
        if not self.float64:
            return tensors
        return [t.to(torch.float64) if t.is_floating_point() else t for t in tensors]

    def _without_aliases(
        self, results: Sequence[torch.Tensor], owned: Sequence[bool]
    ) -> list[torch.Tensor]:
        """Copies, dense in the order of the output, of results that share memory."""
        return [
            result if own else _dense_copy(result, output.order)
            for result, own, output in zip(results, owned, self.outputs, strict=True)
        ]

    # ---- results -----------------------------------------------------------------------------

    def result_shapes(self, shapes: Sequence[Sizes]) -> list[Sizes]:
        """Shapes of the results for inputs of these shapes, which may be symbolic."""
        known = label_sizes(self.inputs, shapes)
        sizes = array_sizes(
            [tuple(known[label] for label in entry.type.labels) for entry in self.inputs],
            self.steps,
        )
        return [
            tensor_shape(self.types[output.source].labels, sizes[output.source], output.dims)
            for output in self.outputs
        ]

    def result_dtypes(self) -> list[torch.dtype]:
        """Dtypes of the results."""
        return [TORCH_DTYPES[self.types[output.source].dtype] for output in self.outputs]


def plan_key(tensors: Sequence[torch.Tensor]) -> tuple[Any, ...]:
    """What a plan depends on: equal for tensors that share one.

    Raises:
        RuntimeError: a tensor without strides.
    """
    return tuple([(t.shape, t.stride(), t.dtype, t.device, t.is_neg()) for t in tensors])


def _dense_copy(tensor: torch.Tensor, order: Sequence[int]) -> torch.Tensor:
    copy = tensor.permute(*order).clone(memory_format=torch.contiguous_format)
    return copy.permute([order.index(dim) for dim in range(len(order))])
