"""Load a package: check it, check the machine, and give something to call."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from diagc.errors import LaunchError, PackageError, UserError
from diagc.files import as_path
from diagc.runtime.guards import holds
from diagc.runtime.package.choice import Choice
from diagc.runtime.package.chooser import Chooser
from diagc.runtime.package.kernels import requirements
from diagc.runtime.package.manifest import Manifest, TensorEntry, consistent, read_package
from diagc.runtime.package.structure import build, flatten
from diagc.runtime.program import Program
from diagc.runtime.torch_launch import TORCH_DTYPES

__all__ = ["PackagedProgram", "load"]

Tensors = Sequence[torch.Tensor]


def load(
    path: str | Path,
    weights: Mapping[str, torch.Tensor] | None = None,
    *,
    autotune: bool = False,
) -> "PackagedProgram":
    """Load what `diagc compile FILE -o FILE.diagpkg` has written.

    A package holds machine code: load only packages whose origin you trust, as with a library.

    Args:
        path: of the package.
        weights: parameters and buffers by name, such as `model.state_dict()` or a safetensors file;
            others than the package asks for do not matter.
        autotune: whether the first call of every class of shapes measures the variants of the
            package, if there are several, and keeps the fastest for this machine.

    Raises:
        UserError: `path` is no path, or `weights` is no mapping.
        PackageError: it is unreadable, damaged, of another version, for another machine, or needs
            weights that are not given.
        TargetError: it is for a GPU, and there is none, or no driver.
    """
    path = as_path(path, "a package")
    if weights is not None and not isinstance(weights, Mapping):
        expected, found = "a mapping of names to tensors", type(weights).__name__
        remedy = "load(path, weights=model.state_dict())"
        raise UserError("these are no weights", expected=expected, found=found, remedy=remedy)
    manifest, members = read_package(path)
    with consistent(path):
        return PackagedProgram(manifest, members, weights or {}, autotune=autotune)


class PackagedProgram:
    """A program from a package; called like the function that it was made from.

    Tensors must be on the package's kind of device. Gradients are not recorded. Weights are used as
    they are at each call, so they may be updated in place; on another device than the call's they
    are copied, once.

    Args:
        manifest: of the package.
        members: its contents by name.
        weights: see `load`.
        autotune: see `load`.

    Raises:
        PackageError: this machine cannot run it, or weights are missing.
    """

    def __init__(
        self,
        manifest: Manifest,
        members: Mapping[str, bytes],
        weights: Mapping[str, torch.Tensor],
        autotune: bool = False,
    ) -> None:
        """Load all kernels."""
        _check_weights(manifest, weights)
        self.manifest = manifest
        self.__name__ = manifest.name
        self._chooser = Chooser(manifest, members, autotune)
        inside = [_tensor(entry, members[entry.member]) for entry in manifest.tensors]
        self._fixed = {
            source: weights[source].detach() if isinstance(source, str) else inside[source[1]]
            for source in manifest.sources
            if not isinstance(source, int)
        }
        self._moved: dict[torch.device, dict[Any, torch.Tensor]] = {}

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the program.

        Raises:
            LaunchError: the arguments are not such as it was compiled for.
        """
        inputs = self._inputs(args, kwargs)
        return build(self.manifest.results, self._chooser.program_for(inputs)(inputs))

    def _inputs(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[torch.Tensor]:
        tensors = flatten(self.manifest.arguments, (args, dict(kwargs)), "the call")
        _check_tensors(tensors)
        if not holds(self.manifest.conditions, [tuple(tensor.shape) for tensor in tensors]):
            raise LaunchError(
                "sizes are not such as the package was compiled for",
                expected=" and ".join(self.manifest.conditions),
                found=", ".join(str(tuple(tensor.shape)) for tensor in tensors),
            )
        fixed = self._fixed_on(tensors[0].device if tensors else None)
        return [tensors[s] if isinstance(s, int) else fixed[s] for s in self.manifest.sources]

    @property
    def program(self) -> Program:
        """The program that the compiler prefers of those that this machine can run."""
        return next(iter(self._chooser.programs.values()))

    @property
    def variants(self) -> tuple[str, ...]:
        """Names of the programs that may be chosen here; one if there is no choice."""
        return tuple(self._chooser.programs)

    def choice(self, *args: Any, **kwargs: Any) -> Choice:
        """Which variant runs for such a call, and who says so; measures nothing.

        Raises:
            LaunchError: the arguments are not such as it was compiled for.
        """
        return self._chooser.choice_for(self._inputs(args, kwargs))

    @property
    def report(self) -> Mapping[str, Any]:
        """What the compiler did, as `explain("json")` gave it."""
        return self.manifest.report

    @property
    def requirements(self) -> tuple[str, ...]:
        """What the machine must have, in words."""
        return tuple(sorted({requirements(entry) for entry in self.manifest.kernels}))

    def _fixed_on(self, device: torch.device | None) -> Mapping[Any, torch.Tensor]:
        """Weights and inner tensors on a device; None for the current one of the package's kind."""
        if not self._fixed:
            return self._fixed
        if device is None:
            device = torch.empty(0, device=self.manifest.device).device
        if device not in self._moved:
            moved = {source: tensor.to(device) for source, tensor in self._fixed.items()}
            self._moved[device] = moved
        return self._moved[device]


def _check_weights(manifest: Manifest, weights: Mapping[str, torch.Tensor]) -> None:
    missing = [name for name in manifest.weights if name not in weights]
    if missing:
        shown = ", ".join(missing[:5]) + (f" and {len(missing) - 5} more" if missing[5:] else "")
        raise PackageError(
            f"package '{manifest.name}' needs weights that are not given",
            expected=shown,
            found=f"{len(weights)} others" if weights else "none",
            remedy="load(path, weights=model.state_dict()), or compile it with --with-weights",
        )
    for name in manifest.weights:
        if not isinstance(weights[name], torch.Tensor):
            found = type(weights[name]).__name__
            raise PackageError(f"weight '{name}' is no tensor", found=found)


def _check_tensors(tensors: Sequence[Any]) -> None:
    for number, tensor in enumerate(tensors):
        if not isinstance(tensor, torch.Tensor):
            raise LaunchError(
                f"tensor {number} of the call is no tensor",
                expected="torch.Tensor",
                found=type(tensor).__name__,
                remedy="convert it with torch.from_numpy",
            )
        if tensor.requires_grad and torch.is_grad_enabled():
            raise LaunchError(
                f"tensor {number} of the call requires gradients, which packages do not record",
                remedy="call it under torch.no_grad(), or pass .detach()",
            )


def _tensor(entry: TensorEntry, data: bytes) -> torch.Tensor:
    """A tensor of the package.

    Raises:
        PackageError: its bytes do not fit its shape.
    """
    dtype, count = TORCH_DTYPES[entry.dtype], 1
    for size in entry.shape:
        count *= size
    if len(data) != count * dtype.itemsize or min((0, *entry.shape)) < 0:
        expected = f"{count * dtype.itemsize} bytes"
        raise PackageError(f"tensor '{entry.name}' is damaged", expected=expected, found=len(data))
    if not data:
        return torch.empty(entry.shape, dtype=dtype)
    return torch.frombuffer(bytearray(data), dtype=dtype).reshape(entry.shape)
