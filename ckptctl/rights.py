"""Whose a file or a directory is, in words: what a user has to know where the system lets them do nothing."""

from __future__ import annotations

import contextlib
import errno
import os
import pwd
import stat


def owned(found: os.stat_result) -> str:
    """Whose something is, and who may do what with it: "belongs to root, mode 0644"."""
    return f"belongs to {_owner(found)}, mode {stat.S_IMODE(found.st_mode):04o}"


def why_not_read(error: Exception, directory: int, name: str) -> str:
    """Whose a file is that may not be read, for after the system's words; empty if that is not the trouble.

    Args:
        error: What came of opening it.
        directory: The descriptor of its directory.
        name: Its name there.
    """
    if not isinstance(error, PermissionError):
        return ""
    with contextlib.suppress(OSError):
        return f": {name} {owned(os.stat(name, dir_fd=directory, follow_symlinks=False))}"
    return ""


def why_not_deleted(error: OSError, directory: int) -> str:
    """What a deletion that the system did not permit would take, for after its words; empty if it is unknown.

    Args:
        error: What it said.
        directory: The descriptor of the directory that the file is in.
    """
    found = os.fstat(directory)
    if error.errno == errno.EACCES:
        return f"; deleting takes the right to write in the directory, which {owned(found)}"
    if error.errno == errno.EPERM and found.st_mode & stat.S_ISVTX:
        return (
            "; in a directory with the sticky bit only a file's owner deletes it, or the directory's, "
            f"which {owned(found)}"
        )
    return ""


def _owner(found: os.stat_result) -> str:
    try:
        return pwd.getpwuid(found.st_uid).pw_name
    except KeyError:
        return f"user {found.st_uid}"
