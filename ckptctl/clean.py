"""Deletes what a save or a prune that was cut short left behind, where no save can be under way.

Each file is deleted only if it is still the one that was looked at (see `ckptctl.removal`), and a directory
of parts only if all in it is as it was, under a private name as a whole. Ctrl-C and the like are held back
while one of them is in hand.
"""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ckptctl import leftovers, posix, recovery, removal, rights, statefile
from ckptctl.errors import PolicyError, UnreadableError
from ckptctl.model import Failure, File
from ckptctl.naming import STATE_FILE
from ckptctl.plan import RESAVE_SECONDS, refuse
from ckptctl.scan import scan_open

if TYPE_CHECKING:
    from collections.abc import Callable

    from ckptctl.leftovers import Leftover, Tree
    from ckptctl.posix import OpenDirectory

OLDER_THAN = 3600.0
"""For how many seconds a directory has to have been quiet, unless the user says otherwise."""


@dataclass(frozen=True, slots=True)
class CleanPlan:
    """What is to go of what was left behind.

    Attributes:
        directory: The directory's path.
        older_than: For how many seconds it has to have been quiet.
        found: All that was left behind, by name.
    """

    directory: str
    older_than: float
    found: tuple[Leftover, ...]

    @property
    def delete(self) -> tuple[Leftover, ...]:
        """What goes."""
        return tuple(one for one in self.found if one.keep is None)


@dataclass(frozen=True, slots=True)
class CleanReport:
    """What carrying out such a plan came to.

    Attributes:
        plan: The plan.
        dry_run: If true, nothing was touched.
        deleted: Names, in the order of deletion.
        spared: What the plan would have deleted, and somebody wrote in the meantime.
        failed: What could not be deleted.
        freed_bytes: What the file system has got back.
        notes: What else the user should know.
    """

    plan: CleanPlan
    dry_run: bool = False
    deleted: tuple[str, ...] = ()
    spared: tuple[str, ...] = ()
    failed: tuple[Failure, ...] = ()
    freed_bytes: int = 0
    notes: tuple[str, ...] = ()


def clean(
    path: str | os.PathLike[str],
    *,
    older_than: float = OLDER_THAN,
    latest_filename: str = STATE_FILE,
    offline: bool = False,
    dry_run: bool = False,
    announce: Callable[[CleanPlan], None] = lambda _: None,
    stop: Callable[[], bool] = lambda: False,
) -> CleanReport:
    """Deletes what was left behind in a directory.

    Args:
        path: The directory.
        older_than: For how many seconds nothing may have been written there; a minute at least.
        latest_filename: The state file's name.
        offline: No trainer is at work, not even one that is suspended: what was written after the newest
            checkpoint goes too.
        dry_run: Plan only, touch nothing.
        announce: Is shown the plan before anything is done.
        stop: Asked before each deletion whether to leave the rest.

    Returns:
        What was done. What could not be deleted is in `CleanReport.failed`; the rest went on.

    Raises:
        PolicyError: `older_than` is so short that a save under way could not be told from a leftover.
        UnreadableError: The directory is not there or cannot be read.
        RefusedError: Going on might cost data: see `ckptctl.plan.refuse`.
        LockedError: Another ckptctl is at work there.
    """
    if not older_than >= RESAVE_SECONDS:
        raise PolicyError(
            f"--older-than has to be a minute at least: within {older_than:g} s a save under way cannot "
            "be told from one that was cut short"
        )
    with posix.open_directory(os.fspath(path)) as directory:
        if dry_run:
            made = _plan(directory, older_than, latest_filename, offline=offline)
            announce(made)
            return CleanReport(made, dry_run=True)
        with recovery.locked(directory, latest_filename) as unlocked:
            made = _plan(directory, older_than, latest_filename, offline=offline)
            announce(made)
            return _delete(directory, made, stop, [] if unlocked is None else [unlocked])


def _plan(directory: OpenDirectory, older_than: float, latest_filename: str, *, offline: bool) -> CleanPlan:
    state, snapshot = statefile.read(directory, latest_filename)
    if snapshot is not None:
        snapshot.close()
    statefile.refuse_misspelt(directory, latest_filename, state)
    scanned = scan_open(directory, state)
    refuse(scanned)
    found = leftovers.find(directory, scanned, latest_filename, older_than, time.time(), offline=offline)
    return CleanPlan(directory.path, older_than, found)


def _delete(
    directory: OpenDirectory, made: CleanPlan, stop: Callable[[], bool], notes: list[str]
) -> CleanReport:
    deleted: list[str] = []
    spared: list[str] = []
    failed: list[Failure] = []
    freed = 0
    for one in made.delete:
        if stop():
            notes.append("stopped before everything was deleted")
            break
        try:
            with posix.signals_held():
                freed += _remove(directory, one.item)
                deleted.append(one.path)
        except removal.WrittenAgainError:
            spared.append(one.path)
        except UnreadableError as error:
            failed.append(Failure(one.path, str(error)))
        except OSError as error:
            remedy = rights.why_not_deleted(error, directory.fd)
            failed.append(Failure(one.path, f"{error.filename or one.path}: {posix.reason(error)}{remedy}"))
    return CleanReport(made, False, tuple(deleted), tuple(spared), tuple(failed), freed, tuple(notes))


def _remove(directory: OpenDirectory, item: File | Tree) -> int:
    if isinstance(item, File):
        return removal.remove(directory.fd, item)
    _expect(item, _look(directory, item.name))
    taken = removal.take(directory.fd, item.name)
    try:
        # The rename has changed when it was changed last, and nothing else.
        _expect(item, replace(_look(directory, taken), name=item.name, changed=item.changed))
        with posix.open_below(directory, [taken]) as inside:
            freed = _empty(inside, item)
        os.rmdir(taken, dir_fd=directory.fd)
    except BaseException:
        removal.give_back(directory.fd, taken)
        raise
    return freed


def _look(directory: OpenDirectory, name: str) -> Tree:
    found = leftovers.look(directory, name)
    if found.unknown is not None and found.unknown.endswith(leftovers.UNREADABLE):
        with contextlib.suppress(FileNotFoundError):
            os.stat(name, dir_fd=directory.fd, follow_symlinks=False)
            raise UnreadableError(f"{name} cannot be read again")
    return found


def _expect(tree: Tree, found: Tree) -> None:
    if found != tree:
        raise removal.WrittenAgainError(tree.name)


def _empty(inside: OpenDirectory, tree: Tree) -> int:
    """Deletes what is in a tree that nobody else knows by its name any more."""
    freed = 0
    for below in tree.trees:
        with posix.open_below(inside, [below.name]) as deeper:
            freed += _empty(deeper, below)
        os.rmdir(below.name, dir_fd=inside.fd)
    return freed + sum(removal.unlink(inside.fd, file, file.name) for file in tree.files)
