"""The paths of directories that are watched, whether or not they are there."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
from typing import TYPE_CHECKING, NamedTuple

from ckptctl import naming, posix
from ckptctl.errors import UnreadableError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from ckptctl.posix import OpenDirectory


MAX_DEPTH = 64
"""How many directories may lie on the way from one that is watched to a run below it: each look at the run
opens all of them, one in the other."""


class Place(NamedTuple):
    """Where a directory is to be found.

    Attributes:
        root: The path that a user named.
        names: Those that lead from there to it, one after the other; none if it is the root itself.
    """

    root: str
    names: tuple[str, ...] = ()

    @property
    def path(self) -> str:
        """Its path."""
        return os.path.join(self.root, *self.names)

    @contextlib.contextmanager
    def open(self) -> Iterator[OpenDirectory]:
        """Holds it open. A link as the root is followed, since the user typed it, and none on the way down.

        Raises:
            UnreadableError: It is not there, or may not be read.
        """
        with posix.open_directory(self.root) as root, posix.open_below(root, self.names) as directory:
            yield directory


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
        if path and not posix.belongs_to_checkpoint(path):
            return
    except (OSError, ValueError):
        pass  # told in the same words as ever, right below
    with posix.open_directory(path):
        pass


def is_directory(path: str) -> bool:
    """Whether a path leads to a directory that is no link."""
    return os.path.isdir(path) and not os.path.islink(path)


def is_run(path: str) -> bool:
    """Whether a trainer has written there, as far as names tell; a SavedModel that it exported is no run.

    Data sets and graphs may be called as parts of a checkpoint are: they are no run's before there is one.
    """
    with contextlib.suppress(OSError, UnreadableError), posix.open_directory(path) as directory:
        names = set(os.listdir(directory.fd))
        if naming.STATE_FILE in names or naming.checkpoints_among(names):
            prefixes = {parsed.prefix for parsed in map(naming.parse, names) if parsed is not None}
            return not is_saved_model(directory, prefixes)
    return False


def is_saved_model(directory: OpenDirectory, prefixes: Collection[str]) -> bool:
    """Whether it is `variables/` of an export, which TensorFlow writes before the `saved_model.pb` beside it.

    Args:
        directory: The directory, held open.
        prefixes: What checkpoints in it are called.
    """
    if "variables" not in prefixes:
        return False
    return os.path.basename(os.path.realpath(directory.path)) == "variables" or any(
        posix.exists(directory.fd, f"../{name}", follow=True)
        for name in ("saved_model.pb", "saved_model.pbtxt")
    )


def run_directories(root: str, too_deep: Callable[[str], object] = lambda _: None) -> Iterator[Place]:
    """A directory and all below it that a trainer may write to; no link is followed.

    How deep it goes is for whoever may write there to say: so there is a limit, and no recursion as in
    `os.walk` before Python 3.12.

    Args:
        root: Where to begin.
        too_deep: Is told of each directory in which there are others that are left out, since they lie deeper
            than `MAX_DEPTH`; and of each whose path is longer than the system takes.
    """
    waiting = [Place(root)]
    yield from waiting
    while waiting:
        place = waiting.pop()
        path = place.path
        if place.names and os.path.islink(path):  # since it was listed
            continue
        try:
            below = [Place(root, (*place.names, name)) for name in _directories_in(path)]
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                too_deep(path)
            continue
        if len(place.names) < MAX_DEPTH:
            yield from below
            waiting.extend(reversed(below))
        elif below:
            too_deep(path)


def _directories_in(path: str) -> list[str]:
    """The names of those right in one that a trainer may write to, in order."""
    with os.scandir(path) as entries:
        names = [entry.name for entry in entries if _is_directory(entry)]
    return sorted(filter(naming.may_be_a_run, names))


def _is_directory(entry: os.DirEntry[str]) -> bool:
    with contextlib.suppress(OSError):
        return entry.is_dir(follow_symlinks=False)
    return False


def run_directory(root: str, inside: str) -> str:
    """The directory that a trainer writes to, for one in which parts of a save, or of a copy, are made.

    Args:
        root: A directory that is watched.
        inside: The path of one below it, relative to it.
    """
    parts = [part for part in inside.split("/") if part not in {"", "."}]
    return os.path.join(root, *itertools.takewhile(naming.may_be_a_run, parts))
