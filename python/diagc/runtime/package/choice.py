"""Which variant of a package runs: what was measured here, what comes along as measured, the model.

Measured choices are kept in the cache of kernels: entries are checked by their hash, appear whole,
and writers at the same time do not disturb each other.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from diagc.debug import logger
from diagc.runtime.cache import cache_key, default_cache
from diagc.runtime.cpu_features import host_features
from diagc.runtime.cuda import torch_streams
from diagc.runtime.cuda.device import find_device
from diagc.runtime.package.tuned_table import MEASURED, PREDICTED, table_of
from diagc.runtime.package.variants import Variants, shape_class

__all__ = ["ONLY", "TABLE", "Choice", "Machine", "Record", "choose", "machine_of"]

_KIND = {"kind": "variant"}
"""Of an entry of the cache."""

TABLE, ONLY = "table", "only"


@dataclass(frozen=True)
class Choice:
    """A variant, and why: "measured" here, "table", "predicted", or the "only" one that runs."""

    variant: str
    source: str


@dataclass(frozen=True)
class Machine:
    """What measurements are valid for: a device as the driver calls it, and the CUDA version.

    `driver` is the newest version of CUDA that the driver knows, not the driver's own number.
    """

    device: str
    driver: str


def machine_of(device: torch.device) -> Machine:
    """The machine that tensors are on.

    Args:
        device: of the tensors.

    Raises:
        TargetError: there is no GPU, or no driver.
    """
    if device.type == "cpu":
        return Machine(host_features().name, "")
    found = find_device(torch_streams.device_index(str(device), "of the package"))
    version = found.driver.version
    return Machine(found.name, f"CUDA {version // 1000}.{version % 1000 // 10}")


@dataclass(frozen=True)
class Record:
    """What was measured of one package on one machine.

    Args:
        machine: where.
        code: digest of the package's code.
    """

    machine: Machine
    code: str

    def get(self, shape: str) -> Mapping[str, float] | None:
        """Seconds of each variant that ran, the chosen one first; a bad entry is removed."""
        entry = default_cache().get(self._key(shape))
        if entry is None:
            return None
        try:
            return _times(json.loads(entry.payload))
        except (ValueError, TypeError) as error:
            logger("tuned").warning("removed a choice that cannot be used: %s", str(error))
            default_cache().remove(self._key(shape))
            return None

    def put(self, shape: str, chosen: str, seconds: Mapping[str, float]) -> None:
        """Keep times and the choice."""
        ordered = [[chosen, seconds[chosen]], *([n, t] for n, t in seconds.items() if n != chosen)]
        default_cache().put(self._key(shape), json.dumps(ordered).encode(), _KIND)

    def _key(self, shape: str) -> str:
        text = f"variant {self.code} {shape}"
        return cache_key(text, self.machine.device, {"driver": self.machine.driver})


def _times(pairs: Any) -> dict[str, float]:
    found = dict(pairs)
    right = all(isinstance(n, str) and isinstance(s, float) for n, s in found.items())
    if not found or not right:
        raise ValueError("it is no list of variants with seconds")
    return found


def choose(
    variants: Variants, usable: Sequence[str], sizes: Mapping[str, int], record: Record
) -> Choice:
    """The variant for tensors of some sizes.

    A measured choice that this machine or package does not have gives way to the next rule.

    Args:
        variants: of the package.
        usable: names of those that this machine can run.
        sizes: of all axes of the inputs.
        record: of what was measured here.
    """
    shape = shape_class(sizes)
    measured = next(iter(record.get(shape) or ()), None)
    if measured in usable:
        return Choice(str(measured), MEASURED)
    listed = table_of(record.machine.device).measured(variants.family, shape)
    if listed in usable:
        return Choice(str(listed), TABLE)
    return Choice(variants.predicted(sizes, usable), PREDICTED)
