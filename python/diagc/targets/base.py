"""What a target is: a name, a test whether this machine has it, a module that is loaded late."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from diagc.errors import TargetError

if TYPE_CHECKING:
    from diagc.cost import Device

__all__ = ["Target", "TargetInfo"]


@dataclass(frozen=True)
class TargetInfo:
    """One line of `diagc targets`."""

    name: str
    available: bool
    why_not: str | None
    """Why the target cannot be used here; None when it can."""
    description: str


@dataclass(frozen=True)
class Target:
    """One kind of code that diagc makes.

    `obstacle` says why this machine cannot use the target, or gives None; it must be quick and
    must not raise. The code stands in the package `diagc.targets.<name>`. `check_arch` gives the
    full name of an architecture, or raises TargetError; targets without it have but one. `device`
    is the kind of torch device that its kernels run on.
    """

    name: str
    description: str
    obstacle: Callable[[], str | None]
    check_arch: Callable[[str], str] | None = None
    arch: str = ""
    device: str = "cpu"

    @property
    def spec(self) -> str:
        """What `get_target` makes this target of: `cpu`, `nvptx:sm_90`."""
        return f"{self.name}:{self.arch}" if self.arch else self.name

    def with_arch(self, arch: str) -> "Target":
        """The target for one of its architectures, the default one if `arch` is empty.

        Raises:
            TargetError: it has no such architecture.
        """
        if self.check_arch is not None:
            return replace(self, arch=self.check_arch(arch))
        if arch:
            raise TargetError(
                f"target '{self.name}' takes no architecture", found=f"'{arch}'", expected="none"
            )
        return self

    def info(self) -> TargetInfo:
        """Ask whether the target can be used on this machine."""
        why_not = self.obstacle()
        return TargetInfo(self.name, why_not is None, why_not, self.description)

    def load(self) -> ModuleType:
        """Import the package of the target."""
        return import_module(f"diagc.targets.{self.name}")

    @property
    def kind(self) -> str:
        """The kind of device: "cpu" or "gpu"."""
        return "gpu" if self.device == "cuda" else "cpu"

    def describe(self, device: str = "") -> "Device":
        """The description of a device by name or file; by default what the target stands for.

        Raises:
            UserError: no such device, or a malformed file.
            TargetError: the target makes no code for it.
        """
        from diagc.cost import device_of_architecture, find_device, machine_device

        if not device:
            return device_of_architecture(self.arch) if self.arch else machine_device()
        found = find_device(device)
        if found.kind != self.kind:
            raise TargetError(
                f"target '{self.spec}' makes no code for the device '{found.name}'",
                expected=f"a device of the kind {self.kind}",
                found=f"a {found.kind}",
                remedy="leave out --target, or see 'diagc targets'",
            )
        if self.arch and self.arch.rstrip("a") > found.architecture:
            raise TargetError(
                f"code for {self.arch} does not run on the device '{found.name}'",
                expected=f"an architecture up to {found.architecture}",
                found=self.arch,
                remedy=f"write --target={self.name}:{found.architecture}",
            )
        return found

    def pass_options(self) -> dict[str, Any]:
        """Options of passes that this target sets, such as the width of its vectors, by name."""
        options: Callable[[], dict[str, Any]] = getattr(self.load(), "pass_options", dict)
        return options()
