"""Runs a function in a forked process, with a limit of time."""

import os
import select
import signal
import traceback
from collections.abc import Callable

__all__ = ["in_fork"]


def in_fork(function: Callable[[], bool], seconds: float) -> bool:
    """Whether the function gives True in a child, in time; a child that hangs is ended."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writer, b"1" if function() else b"0")
        except BaseException:  # shown here, for the parent does not see it
            traceback.print_exc()
        finally:
            os._exit(0)
    os.close(writer)
    ready, _, _ = select.select([reader], [], [], seconds)
    if not ready:
        os.kill(child, signal.SIGKILL)
    told = os.read(reader, 1)
    os.close(reader)
    os.waitpid(child, 0)
    return told == b"1"
