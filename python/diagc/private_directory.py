"""Make or check a directory that only its owner can enter: what we execute from must be ours."""

import os
import stat
from pathlib import Path

from diagc.errors import CacheError

__all__ = ["prepare"]


def prepare(directory: Path) -> None:
    """Create `directory` with mode 0700, or check that it is one of ours that nobody else enters.

    Raises:
        CacheError: it cannot be made, is no directory, belongs to somebody else, or others have
            permissions on it.
    """
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        directory.mkdir(mode=0o700, exist_ok=True)
        link, found = os.lstat(directory), os.stat(directory)
    except OSError as error:
        raise CacheError(
            f"the cache directory {directory} cannot be made or read: {error.strerror}",
            remedy="set DIAGC_CACHE_DIR to a directory of yours",
        ) from None
    user = os.geteuid()
    if found.st_uid != user or link.st_uid not in (user, 0):
        raise CacheError(
            f"the cache directory {directory} belongs to somebody else, who could put code into it",
            expected=f"user {user} as owner",
            found=f"user {found.st_uid if found.st_uid != user else link.st_uid}",
            remedy="set DIAGC_CACHE_DIR to a directory of yours",
        )
    mode = stat.S_IMODE(found.st_mode)
    if mode & 0o077:
        raise CacheError(
            f"the cache directory {directory} is open to others, who could put code into it",
            expected="mode 0700",
            found=f"{mode:04o}",
            remedy=f"chmod 700 {directory}",
        )
