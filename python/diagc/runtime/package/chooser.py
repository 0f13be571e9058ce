"""The programs of a package that this machine can run, and which of them runs for which tensors."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from threading import Lock
from typing import Any

import torch

from diagc.debug import logger
from diagc.errors import PackageError
from diagc.runtime.guards import check_inputs
from diagc.runtime.package.choice import ONLY, Choice, Record, choose, machine_of
from diagc.runtime.package.kernels import check_machine, load_kernel
from diagc.runtime.package.manifest import Manifest, code_digest
from diagc.runtime.package.tuned_table import MEASURED
from diagc.runtime.package.tuning import device_of, is_capturing, measure_variants
from diagc.runtime.package.variants import best_of, shape_class
from diagc.runtime.plan_scope import Kernel
from diagc.runtime.program import Program
from diagc.runtime.steps import HostProgram

__all__ = ["Chooser"]

_MOST_CHOICES = 256  # a decoder sees a new length at every step; choices must not pile up

_MEASURING = Lock()
"""Of all packages: two that measure at the same time would slow each other down."""


class Chooser:
    """Loads programs, and remembers choices by shapes.

    Args:
        manifest: of the package.
        members: its contents by name.
        autotune: whether to measure where nothing was measured on this machine.

    Raises:
        PackageError, TargetError: this machine can run none of the programs.
    """

    def __init__(
        self, manifest: Manifest, members: Mapping[str, bytes], autotune: bool = False
    ) -> None:
        """Load the kernels that this machine takes."""
        self._manifest, self._members, self._autotune = manifest, members, autotune
        self.programs = _programs(manifest, members)
        self._first = next(iter(self.programs.values()))
        self._chosen: dict[tuple[Any, ...], Program] = {}

    def program_for(self, tensors: Sequence[torch.Tensor]) -> Program:
        """The program that runs on these inputs.

        Raises:
            LaunchError: they are not such as it was compiled for.
        """
        if len(self.programs) == 1:
            return self._first
        key = tuple((tensor.shape, tensor.device) for tensor in tensors)
        found = self._chosen.get(key)
        if found is None:
            found = self.programs[self._decide(tensors).variant]
            if len(self._chosen) >= _MOST_CHOICES:
                self._chosen.clear()
            if not is_capturing(device_of(found, tensors)):  # then it may be measured later
                self._chosen[key] = found
        return found

    def choice_for(self, tensors: Sequence[torch.Tensor]) -> Choice:
        """What is known by now.

        Raises:
            LaunchError: the tensors are not such as the package was compiled for.
        """
        sizes = check_inputs(self._first.inputs, tensors, device=self._first.device)
        variants = self._manifest.variants
        if variants is None or len(self.programs) == 1:
            return Choice(next(iter(self.programs)), ONLY)
        return choose(variants, tuple(self.programs), sizes, self.record(tensors))

    def measure(self, tensors: Sequence[torch.Tensor]) -> dict[str, float]:
        """Seconds of all variants on these inputs, kept for this machine; the chosen one first.

        Empty where none of them runs.
        """
        known = self.choice_for(tensors).variant
        seconds = measure_variants(self.programs, tensors)
        if not seconds:
            return {}
        best = best_of(seconds, known)
        shape = shape_class(check_inputs(self._first.inputs, tensors, device=self._first.device))
        self.record(tensors).put(shape, best, seconds)
        logger("tuned").info("%s: %s of %s", shape, best, seconds)
        return {best: seconds[best], **seconds}

    def record(self, tensors: Sequence[torch.Tensor]) -> Record:
        """What was measured of this package where the tensors are."""
        return Record(machine_of(device_of(self._first, tensors)), self._code)

    def _decide(self, tensors: Sequence[torch.Tensor]) -> Choice:
        known = self.choice_for(tensors)
        device = device_of(self._first, tensors)
        if not self._autotune or known.source == MEASURED or is_capturing(device):
            return known
        with _MEASURING:
            known = self.choice_for(tensors)  # by now another thread may have measured
            if known.source == MEASURED:
                return known
            best = next(iter(self.measure(tensors)), None)
            return known if best is None else Choice(best, MEASURED)

    @cached_property
    def _code(self) -> str:
        return code_digest(self._manifest, self._members)


def _programs(manifest: Manifest, members: Mapping[str, bytes]) -> dict[str, Program]:
    """Programs by the names of their variants; kernels that several share are loaded once."""
    kernels: dict[int, Kernel] = {}

    def load(host: HostProgram, numbers: Sequence[int]) -> Program:
        for number in numbers:
            check_machine(manifest.kernels[number])
        for number in numbers:
            if number not in kernels:
                kernels[number] = load_kernel(manifest.kernels[number], members)
        mine = [kernels[number] for number in numbers]
        return Program(
            *(host.inputs, host.steps, host.outputs, mine, manifest.externs),
            device=manifest.device,
        )

    if manifest.variants is None:
        return {"": load(manifest.program, range(len(manifest.kernels)))}
    found, refusals = {}, []
    for entry in manifest.variants.entries:
        try:
            found[entry.name] = load(entry.program, entry.kernels)
        except PackageError as error:
            refusals.append(error)
    if not found:
        raise refusals[0]
    return found
