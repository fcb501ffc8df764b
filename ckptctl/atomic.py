"""Writes a small file whole or not at all: under a private name, onto the disk, then renamed.

A kill in between leaves the private name, which `ckptctl.exchange.recover` removes at the next start.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from ckptctl import posix
from ckptctl.naming import UNFINISHED

if TYPE_CHECKING:
    from collections.abc import Iterator


def create(directory: int, name: str, text: bytes, *, like: os.stat_result | None = None) -> None:
    """Makes a file under a name that is free.

    Args:
        directory: A descriptor.
        name: The file's name in it.
        text: What it is to hold.
        like: Whose mode it gets, and owner as far as that is allowed; by default those of any new file.

    Raises:
        FileExistsError: The name is not free. Nothing was changed.
        OSError: The file cannot be written. Nothing was changed.
    """
    with _written(directory, name, text, like) as unfinished:
        posix.rename_new(directory, unfinished, name)
    posix.sync(directory)


def replace(directory: int, name: str, text: bytes, *, like: os.stat_result | None = None) -> None:
    """Makes a file, or puts it in the place of one that nobody else writes. See `create`.

    Raises:
        OSError: The file cannot be written. Nothing was changed.
    """
    with _written(directory, name, text, like) as unfinished:
        os.rename(unfinished, name, src_dir_fd=directory, dst_dir_fd=directory)
    posix.sync(directory)


@contextlib.contextmanager
def _written(directory: int, name: str, text: bytes, like: os.stat_result | None) -> Iterator[str]:
    """The private name of a file that is on the disk; removed if what follows fails."""
    unfinished = UNFINISHED + os.urandom(8).hex()
    try:
        try:
            _write(directory, unfinished, text, like)
        except OSError as error:
            raise OSError(error.errno, error.strerror, name) from error  # a name that the user knows
        yield unfinished
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(unfinished, dir_fd=directory)
        raise


def _write(directory: int, name: str, text: bytes, like: os.stat_result | None) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(name, flags, 0o666 if like is None else 0o600, dir_fd=directory)
    try:
        written = 0
        while written < len(text):
            written += os.write(fd, text[written:])
        if like is not None:
            with contextlib.suppress(PermissionError):
                posix.keep_owner(fd, like)
            posix.keep_mode(fd, like)
        posix.sync(fd)
    finally:
        os.close(fd)
