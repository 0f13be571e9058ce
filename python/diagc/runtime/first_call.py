"""`check="first-call"`: the first call of every program is compared with eager torch."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from diagc.debug import logger
from diagc.errors import MismatchError
from diagc.runtime.comparison import Comparison, compare_results
from diagc.runtime.dispatch_keys import plain_dispatch

__all__ = ["FirstCallCheck"]


@dataclass(frozen=True)
class FirstCallCheck:
    """Compares results with eager torch's, as `diagc.runtime.comparison` has it.

    Args:
        name: of the function.
        calls: what it stands for in the user's program, one line each.
    """

    name: str
    calls: tuple[str, ...] = ()

    def __call__(
        self,
        function: Callable[..., Any],
        call: tuple[tuple[Any, ...], Mapping[str, Any]],
        results: Sequence[torch.Tensor],
        pick: Callable[[Any], list[torch.Tensor]],
        report: Any,
    ) -> None:
        """Run `function`, and compare with the results that were found.

        `results` are the program's; `pick` takes theirs out of what `function` gives.

        A function that draws random numbers is not compared; the log says so.

        Raises:
            MismatchError: a result is wrong by more than rounding.
        """
        with _aside() as state:
            args, kwargs = call
            eager = pick(function(*args, **kwargs))
            if not torch.equal(state, torch.get_rng_state()):
                reason = "it draws random numbers"
                logger("check").warning("'%s' is not compared with eager: %s", self.name, reason)
                return
            found = compare_results(function, args, eager, list(results), kwargs, pick)
        if not found.equal:
            raise self._mismatch(found, report)
        logger("check").info("'%s' equals eager: %s", self.name, found.text())

    def _mismatch(self, found: Comparison, report: Any) -> MismatchError:
        kernels = ", ".join(kernel.name for kernel in report.kernels) or "none"
        calls = [f"it stands for {call}" for call in self.calls]
        return MismatchError(
            f"'{self.name}' differs from eager torch",
            expected=f"an error up to {found.allowed:.2e}, against {found.reference}",
            found=f"{found.error:.2e}",
            remedy="'diagc bisect FILE:NAME' finds the pass or kernel at fault; "
            "DIAGC_KERNELS_OFF=KERNEL runs without one",
            notes=(f"its kernels: {kernels}", *calls),
        )


@contextmanager
def _aside() -> Iterator[torch.Tensor]:
    """Eager torch outside of any op, gradient or random state of the caller's; gives that state."""
    with torch.random.fork_rng(), plain_dispatch(), torch.no_grad():
        yield torch.get_rng_state()
