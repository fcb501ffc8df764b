"""Pins checkpoints: they are kept whatever a policy says, until they are unpinned."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ckptctl import atomic, pinfile, posix, recovery
from ckptctl.errors import RefusedError, SavedModelError
from ckptctl.model import ABSENT
from ckptctl.naming import PINS_FILE, STATE_FILE
from ckptctl.opened import find
from ckptctl.scan import scan_open

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from ckptctl.posix import OpenDirectory


@dataclass(frozen=True, slots=True)
class PinReport:
    """What became of a directory's pins.

    Attributes:
        directory: Its path.
        changed: The names that were pinned, or unpinned; those that were so before are not among them.
        pinned: All that are pinned now, sorted.
        notes: What else the user should know.
    """

    directory: str
    changed: tuple[str, ...]
    pinned: tuple[str, ...]
    notes: tuple[str, ...] = ()


def pin(path: str, names: Sequence[str]) -> PinReport:
    """Pins checkpoints of a directory.

    Args:
        path: The directory.
        names: Their names.

    Returns:
        What was done.

    Raises:
        UnreadableError: The directory cannot be read, or one of the checkpoints is not there: none
            is pinned then.
        RefusedError: The pins that there are cannot be read, or it is a SavedModel's `variables/`.
        LockedError: Another ckptctl is at work there.
        OSError: The file cannot be written; it is as it was.
    """
    return _change(path, names, pinned=True)


def unpin(path: str, names: Sequence[str]) -> PinReport:
    """Unpins checkpoints of a directory, whether or not they are still there. See `pin`.

    Raises:
        UnreadableError: The directory cannot be read, or one of the names is not pinned and no checkpoint's.
        RefusedError: The pins cannot be read.
        LockedError: Another ckptctl is at work there.
        OSError: The file cannot be written; it is as it was.
    """
    return _change(path, names, pinned=False)


def _change(path: str, names: Sequence[str], *, pinned: bool) -> PinReport:
    with (
        posix.open_directory(path) as directory,
        recovery.locked(directory, STATE_FILE) as unlocked,
    ):
        text, like = _load(directory)
        before = _names(directory, text)
        found = scan_open(directory, ABSENT)
        if found.saved_model:
            raise SavedModelError(f"{path} belongs to a SavedModel: its variables are no checkpoint to pin")
        known = {one.name for one in found.checkpoints} | (set() if pinned else before)
        _expect(directory, names, known)
        changed = tuple(name for name in dict.fromkeys(names) if (name in before) is not pinned)
        if changed:
            with posix.signals_held(), posix.naming_paths(directory):
                _write(directory, _edited(text, changed, pinned=pinned), like)
        now = before.union(changed) if pinned else before.difference(changed)
        return PinReport(path, changed, tuple(sorted(now)), () if unlocked is None else (unlocked,))


def _load(directory: OpenDirectory) -> tuple[bytes, os.stat_result | None]:
    try:
        with posix.naming_paths(directory):
            return pinfile.load(directory)
    except FileNotFoundError:
        return b"", None


def _names(directory: OpenDirectory, text: bytes) -> set[str]:
    try:
        return set(pinfile.names(text))
    except RefusedError as error:
        where = os.path.join(directory.path, PINS_FILE)
        raise RefusedError(f"{where}: {error}. Put it right first") from error


def _edited(text: bytes, names: Collection[str], *, pinned: bool) -> bytes | None:
    return pinfile.added(text, names) if pinned else pinfile.removed(text, names)


def _write(directory: OpenDirectory, text: bytes | None, like: os.stat_result | None) -> None:
    """Writes the file; None removes it."""
    if text is not None and like is not None:
        atomic.replace(directory.fd, PINS_FILE, text, like=like)
        return
    if text is not None:
        try:  # there was nothing to read: then there may be nothing to write over
            atomic.create(directory.fd, PINS_FILE, text)
        except FileExistsError:
            raise RefusedError(
                f"{os.path.join(directory.path, PINS_FILE)} is there, and could not be opened; try again"
            ) from None
        return
    os.unlink(PINS_FILE, dir_fd=directory.fd)
    posix.sync(directory.fd)


def _expect(directory: OpenDirectory, names: Sequence[str], known: Collection[str]) -> None:
    """Raises UnreadableError for what is not known and no checkpoint. See `find`."""
    for name in names:
        if name not in known:  # of a V1 checkpoint without a number no scan tells by itself
            find(directory, name, follow=True, known=known)
