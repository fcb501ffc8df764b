"""A directory to oneself: locked, and with what an interrupted run left behind put right."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from ckptctl import exchange, locks, posix, removal
from ckptctl.errors import RefusedError
from ckptctl.naming import PRIVATE_PREFIX

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ckptctl.posix import OpenDirectory


@contextlib.contextmanager
def locked(directory: OpenDirectory, latest_filename: str) -> Iterator[str | None]:
    """Keeps other ckptctl processes out of a directory, and puts right what a killed one left there.

    Args:
        directory: The directory.
        latest_filename: The state file's name.

    Yields:
        None, or why the file system gives no lock, for the user to be told.

    Raises:
        LockedError: Another ckptctl is at work there.
        RefusedError: What was left behind cannot be put right.
    """
    with locks.lock(directory) as unlocked:
        with posix.signals_held():
            _recover(directory, latest_filename)
        yield unlocked


def left_behind(directory: OpenDirectory, latest_filename: str) -> list[str]:
    """What there is to be put right: an interrupted run's, or what one that is at work has in hand.

    Args:
        directory: The directory.
        latest_filename: The state file's name; what is left of another stays until that is named.

    Raises:
        OSError: The directory cannot be listed.
    """
    names = sorted(name for name in os.listdir(directory.fd) if name.startswith(PRIVATE_PREFIX))
    return [name for name in names if removal.is_taken(name) or exchange.is_left(name, latest_filename)]


def _recover(directory: OpenDirectory, latest_filename: str) -> None:
    try:
        ours = left_behind(directory, latest_filename)
        removal.recover(directory.fd, ours)
        exchange.recover(directory.fd, latest_filename, ours)
    except OSError as error:
        remedy = "; run the command once as root, or as the user whose run it was"
        raise RefusedError(
            f"{directory.path}: what an interrupted run left behind cannot be put right: "
            f"{error.filename or ''}: {posix.reason(error)}{remedy * isinstance(error, PermissionError)}"
        ) from error
