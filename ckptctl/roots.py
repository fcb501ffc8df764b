"""The paths of directories that are watched, whether or not they are there."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from ckptctl import naming, posix
from ckptctl.errors import UnreadableError

if TYPE_CHECKING:
    from collections.abc import Iterator


def real_path(path: str) -> str:
    """Where a path leads, now or once it is there.

    Raises:
        UnreadableError: It leads nowhere: the current directory has been deleted.
    """
    try:
        return os.path.realpath(path)
    except FileNotFoundError as error:
        raise UnreadableError(
            f"{path}: begins in the current directory, which has been deleted; go to one that is there, or "
            "name DIR by a path from the root"
        ) from error


def expect_directory(path: str) -> None:
    """Makes sure that a path leads to a directory, or may do so some day.

    Raises:
        UnreadableError: It leads to what no waiting will make a directory; or it may not be read.
    """
    try:
        os.stat(path)
    except FileNotFoundError:
        if path:
            return
    except (OSError, ValueError):
        pass  # told in the same words as ever, right below
    with posix.open_directory(path):
        pass


def is_directory(path: str) -> bool:
    """Whether a path leads to a directory that is no link."""
    return os.path.isdir(path) and not os.path.islink(path)


def is_run(path: str) -> bool:
    """Whether a trainer has written there, as far as names tell."""
    with contextlib.suppress(OSError):
        return any(name == naming.STATE_FILE or naming.parse(name) is not None for name in os.listdir(path))
    return False


def run_directories(root: str) -> Iterator[str]:
    """A directory and all below it that a trainer may write to; no link is followed."""
    yield root
    for path, names, _ in os.walk(root):
        names[:] = sorted(name for name in names if not naming.is_leftover_directory(name))
        yield from (below for name in names if not os.path.islink(below := os.path.join(path, name)))


def run_directory(root: str, inside: str) -> str:
    """The directory that a trainer writes to, for one in which parts of a save are made.

    Args:
        root: A directory that is watched.
        inside: The path of one below it, relative to it.
    """
    parts = [part for part in inside.split("/") if part not in {"", "."}]
    while parts and naming.is_leftover_directory(parts[-1]):
        parts.pop()
    return os.path.join(root, *parts)
