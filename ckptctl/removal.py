"""Removes a file, unless somebody wrote it again since it was looked at.

Between a look at a name and the unlink of that name a trainer can put a new file there: it saves `ckpt-5` a
second time after going back to an older checkpoint. To close that gap the file is first renamed to a private
name, looked at again, and only then unlinked; if it is not the one that was scanned it gets its name back.
A kill in between leaves the private name, which tells what the file was called, and `recover` gives it back.

Linux unlinks by name, and by nothing else that could be asked for. So there is one moment that is nobody's: a
trainer saves a name again between the first look and the rename, and we are killed between the rename and
the second look. Its file then lies under the private name, whole, until the next run.

Some file systems that rename by copying (gcsfuse) give a file another inode number with another name. There
the second look goes by size and time of the last writing, and only once a file of our own has been seen to
change its number by a rename. What a trainer writes in between has another time.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from typing import TYPE_CHECKING

from ckptctl import posix
from ckptctl.naming import PRIVATE_PREFIX, UNFINISHED

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ckptctl.model import File

_TAKEN = PRIVATE_PREFIX + "taken-"
_NAME_MAX = 255


class WrittenAgainError(Exception):
    """The name no longer leads to the file that was scanned; it was left where it is."""


def remove(directory: int, file: File) -> int:
    """Removes a file if it is still the one that was scanned.

    Args:
        directory: The descriptor of the directory that holds it.
        file: What was scanned.

    Returns:
        The bytes that the file system gets back: 0 if the file is gone already, or has another name besides.

    Raises:
        WrittenAgainError: Something else bears that name now.
        OSError: It cannot be removed.
    """
    try:
        _check(file, directory, file.name)
        taken = take(directory, file.name)
    except FileNotFoundError:
        _expect_gone(directory, file.name)
        return 0
    try:
        return unlink(directory, file, taken)
    except BaseException:
        give_back(directory, taken)
        raise


def take(directory: int, name: str) -> str:
    """Renames a file, or a directory with all that is in it, to a private name; no trainer knows of that.

    Returns:
        The private name, for `give_back`.
    """
    taken = _TAKEN + name
    os.rename(name, taken, src_dir_fd=directory, dst_dir_fd=directory)
    return taken


def unlink(directory: int, file: File, name: str) -> int:
    """Unlinks what was taken, by itself or with its directory. See `remove`.

    Args:
        directory: The descriptor of the directory that holds it.
        file: What was scanned.
        name: What it is called now.
    """
    found = _check(file, directory, name)
    os.unlink(name, dir_fd=directory)
    return found.st_size if found.st_nlink == 1 else 0


def is_removable(name: str) -> bool:
    """Whether the private name that a removal needs is one that a file system takes."""
    length = len(name) if name.isascii() else len(os.fsencode(name))
    return len(_TAKEN) + length <= _NAME_MAX


def given_name(name: str) -> str:
    """What something is called without the private name that a killed run may have left it."""
    while name.startswith(_TAKEN):
        name = name.removeprefix(_TAKEN)
    return name


def is_taken(entry: str) -> bool:
    """Whether an entry is what `recover` is for."""
    return entry.startswith(_TAKEN)


def recover(directory: int, names: Iterable[str]) -> None:
    """Gives back the names that a killed run had taken. The caller holds the directory's lock.

    Args:
        directory: A descriptor.
        names: What there is in it under private names.

    Raises:
        OSError: One of them cannot be renamed.
    """
    for entry in names:
        if is_taken(entry):
            give_back(directory, entry)


def give_back(directory: int, taken: str) -> None:
    """Gives what was taken its name again, unless something newer bears it.

    Raises:
        OSError: It cannot be renamed.
    """
    try:
        posix.rename_new(directory, taken, given_name(taken))
    except FileExistsError:
        # The file that was taken would be overwritten by now. A directory waits for `ckptctl clean`, and so
        # does what another user's run had taken, where only that user may remove it.
        with contextlib.suppress(IsADirectoryError, PermissionError):
            os.unlink(taken, dir_fd=directory)


def _expect_gone(directory: int, name: str) -> None:
    """Looks a second time before it is believed that a file is gone: what goes after it, goes for good."""
    with contextlib.suppress(FileNotFoundError):
        os.stat(name, dir_fd=directory, follow_symlinks=False)
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), name)


def _check(file: File, directory: int, name: str) -> os.stat_result:
    found = os.stat(name, dir_fd=directory, follow_symlinks=False)
    same = (found.st_size, found.st_mtime_ns) == (file.size, file.mtime_ns) and stat.S_ISREG(found.st_mode)
    if same and found.st_ino != file.inode:
        same = name != file.name and _numbers_go_by_names(directory)
    if not same:
        raise WrittenAgainError(file.name)
    return found


def _numbers_go_by_names(directory: int) -> bool:
    """Whether a rename gives a file another inode number, by the proof of a file of our own."""
    old, new = (UNFINISHED + os.urandom(8).hex() for _ in range(2))
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        os.close(os.open(old, flags, 0o600, dir_fd=directory))
        before = os.stat(old, dir_fd=directory, follow_symlinks=False)
        os.rename(old, new, src_dir_fd=directory, dst_dir_fd=directory)
        after = os.stat(new, dir_fd=directory, follow_symlinks=False)
    except OSError:
        return False
    finally:
        for name in (old, new):
            with contextlib.suppress(OSError):
                os.unlink(name, dir_fd=directory)
    return before.st_ino != after.st_ino
