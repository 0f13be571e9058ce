"""A spinner on stderr for what takes more than a second; nothing where stderr is no terminal."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["progress"]


@contextmanager
def progress(text: str) -> Iterator[None]:
    """Show `text` while the block runs."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console

    with Console(stderr=True).status(f"{text} ..."):
        yield
