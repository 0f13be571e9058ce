"""Code that an op of torch's must run as if it were not in one."""

import threading
from collections.abc import Callable
from contextvars import copy_context
from functools import partial
from typing import TypeVar

__all__ = ["in_plain_thread"]

T = TypeVar("T")


def in_plain_thread(function: Callable[[], T]) -> T:
    """Run what imports and compiles where no dispatch key or mode of an op is in force."""
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(function())
        except BaseException as error:
            errors.append(error)

    # switches and options that the caller has overridden hold there too
    inside = partial(copy_context().run, run)
    thread = threading.Thread(target=inside, name="diagc-compile")
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]
