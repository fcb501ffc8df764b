"""The daemon: events -> settle -> plan -> prune.

Events do one thing: they mark a directory. One loop waits until a marked directory has been quiet for a while
(or has been busy for too long), and then does what `prune` does. Nothing depends on an event being seen: at
every rescan each directory is looked at, and each watch is compared with what its path leads to by now, so a
lost event, a directory that went and came back, and an emitter that died cost one rescan at the most.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import math
import os
import queue
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from watchdog import events
from watchdog.observers import Observer
from watchdog.observers.polling import PollingObserver

from ckptctl import naming, posix, tensorflow
from ckptctl.contention import Contention
from ckptctl.errors import CkptctlError, LockedError, SavedModelError, StoppedError, UnreadableError
from ckptctl.plan import DEFAULT_PROTECTIONS, Protections
from ckptctl.prune import prune_open
from ckptctl.roots import expect_directory, is_directory, real_path, run_directories, run_directory

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Sequence

    from watchdog.events import FileSystemEvent
    from watchdog.observers.api import BaseObserver, ObservedWatch

    from ckptctl.model import Report
    from ckptctl.policy import Policy
    from ckptctl.proof import Proofs

_PATIENCE = 10
"""A directory that is never quiet is pruned after this many times the settle time all the same."""
_LONGEST_WAIT = 3600.0
"""Seconds; a system has a limit for how long a wait may be."""
_RETRY_SECONDS = 1.0
"""How soon a directory is looked at again that another ckptctl had locked."""
_TOO_MANY = frozenset({errno.ENOSPC, errno.EMFILE, errno.ENFILE})
"""How inotify says that one of its limits is reached."""
_OF_INTEREST: list[type[FileSystemEvent]] = [
    events.DirCreatedEvent,
    events.DirDeletedEvent,
    events.DirModifiedEvent,
    events.DirMovedEvent,
    events.FileClosedEvent,
    events.FileCreatedEvent,
    events.FileDeletedEvent,
    events.FileModifiedEvent,
    events.FileMovedEvent,
]
"""What tells of a change. The system is asked for no more: the rest comes from looking, ours included."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that a watcher has to say.

    Attributes:
        time: Seconds since the epoch.
        event: `watching`, `waiting` (the directory is not there yet), `gone`, `pruned`, `refused` (data would
            be at risk), `failed` (something could not be deleted or read), `warning` (the trainer works
            against it), `polling`, or `stopped`.
        directory: The directory that it is about; empty where it is about all.
        details: What belongs to the event, ready for JSON.
    """

    time: float
    event: str
    directory: str
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class _Root:
    """A directory that the user named.

    Attributes:
        path: As it was named.
        watched: What watchdog looks at: the real path of the directory, or of its nearest ancestor as long as
            it is not there itself; with the device and inode that the path led to.
        watch: Watchdog's name for it.
        there: Whether the directory was there when it was last looked at; None before that.
        claim: What keeps a second watcher away.
    """

    path: str
    watched: tuple[str, int, int] | None = None
    watch: ObservedWatch | None = None
    there: bool | None = None
    claim: socket.socket | None = None


@dataclass(slots=True)
class _Due:
    """When a directory was marked first and last; monotonic seconds."""

    first: float
    last: float


class Watcher:
    """Keeps directories pruned until it is stopped.

    Args:
        paths: The directories; they need not exist yet.
        policy: Which checkpoints stay.
        protections: Which stay besides.
        latest_filename: The state file's name.
        proofs: What a checkpoint has to pass to count, see `ckptctl.prune`.
        recursive: Whether every directory below them is watched too.
        settle: Seconds of quiet in a directory before it is looked at.
        rescan: Seconds between looks at everything.
        poll: Ask the file system again and again in place of waiting for its events.
        dry_run: Say what would be deleted, and touch nothing.
        report: Is given every event.

    Raises:
        UnreadableError: A path leads nowhere, since the current directory has been deleted.
    """

    def __init__(
        self,
        paths: Sequence[str],
        policy: Policy,
        protections: Protections = DEFAULT_PROTECTIONS,
        *,
        latest_filename: str = naming.STATE_FILE,
        proofs: Proofs | None = None,
        recursive: bool = False,
        settle: float = 1.0,
        rescan: float = 60.0,
        poll: bool = False,
        dry_run: bool = False,
        report: Callable[[Event], None] = lambda _: None,
    ) -> None:
        self._roots = [_Root(path) for path in {real_path(path): path for path in paths}.values()]
        self._policy = policy
        self._protections = protections
        self._latest_filename = latest_filename
        self._proofs = proofs
        self._recursive = recursive
        self._settle = settle
        self._rescan = rescan
        self._dry_run = dry_run
        self._report = report
        self._marks: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._due: dict[str, _Due] = {}
        self._said: dict[str, object] = {}
        self._contention: dict[str, Contention] = {}
        self._stopping = False
        self._poll = poll
        self._observer: BaseObserver

    def stop(self) -> None:
        """Ends `run` after the deletion in hand. May be called from a signal handler or another thread."""
        self._stopping = True
        self._marks.put(None)

    def run(self) -> None:
        """Watches until `stop`.

        Raises:
            UnreadableError: One of the paths leads to something that is not a directory, or may not be read.
            LockedError: Another watcher has one of the directories.
            TensorFlowError: TensorFlow cannot be loaded.
        """
        for root in self._roots:
            expect_directory(root.path)
        self._observer = self._new_observer()
        logging.getLogger("watchdog").setLevel(logging.CRITICAL)  # the rescan mends what it complains of
        tensorflow.preload()
        self._observer.start()
        try:
            for root in self._roots:
                self._claim(root)
            next_rescan = -math.inf
            while not self._stopping:
                now = time.monotonic()
                if now >= next_rescan:
                    self._look_everywhere()
                    next_rescan = now + self._rescan
                self._work_off()
                self._wait(next_rescan)
        finally:
            self._end_observer()
            for root in self._roots:
                if root.claim is not None:
                    root.claim.close()
        self._say("stopped", "")

    # The loop

    def _wait(self, next_rescan: float) -> None:
        """Waits for a mark or until something is due, and takes the marks that there are by then."""
        if self._stopping:
            return
        wake = min([next_rescan, *(self._due_at(due) for due in self._due.values())])
        with contextlib.suppress(queue.Empty):
            marks = [self._marks.get(timeout=min(_LONGEST_WAIT, max(0.0, wake - time.monotonic())))]
            # No more than these: where they come as fast as they are taken, this would go on for ever.
            marks += [self._marks.get_nowait() for _ in range(self._marks.qsize())]
            for mark in dict.fromkeys(marks):
                if mark is not None:
                    self._mark(mark)

    def _mark(self, path: str) -> None:
        now = time.monotonic()
        self._due.setdefault(path, _Due(now, now)).last = now

    def _due_at(self, due: _Due) -> float:
        return min(due.last + self._settle, due.first + _PATIENCE * self._settle)

    def _work_off(self) -> None:
        now = time.monotonic()
        for path in [path for path, due in self._due.items() if self._due_at(due) <= now]:
            if self._stopping:
                return
            del self._due[path]
            self._prune(path)

    def _look_everywhere(self) -> None:
        for root in self._roots:
            self._aim(root)
            for path in run_directories(root.path) if self._recursive else (root.path,):
                self._due[path] = _Due(-math.inf, -math.inf)

    # One directory

    def _prune(self, path: str) -> None:
        root, names = self._place(path)
        if not names:
            self._aim(root)
            if not root.there:
                return
        try:
            # A link may have taken the place of a directory since it was marked; none is followed on the way.
            with posix.open_directory(root.path) as top, posix.open_below(top, names) as directory:
                report = prune_open(
                    directory,
                    self._policy,
                    self._protections,
                    latest_filename=self._latest_filename,
                    proofs=self._proofs,
                    dry_run=self._dry_run,
                    stop=lambda: self._stopping,
                )
        except LockedError:
            at = time.monotonic() + _RETRY_SECONDS
            self._due[path] = _Due(at, at)
            return
        except UnreadableError as error:
            if not names or is_directory(path):  # else it was removed since it was marked
                self._say_once("failed", path, error=str(error))
            return
        except (SavedModelError, StoppedError):
            return
        except (CkptctlError, OSError) as error:
            self._say_once("refused", path, error=str(error))
            return
        self._tell(path, report)

    def _tell(self, path: str, report: Report) -> None:
        """Says what came of a look at a directory."""
        for warning in self._contention.setdefault(path, Contention()).warnings(report):
            self._say("warning", path, warning=warning)
        notes = [*report.plan.notes, *report.notes]
        deleted = [d.checkpoint.name for d in report.plan.delete] if self._dry_run else list(report.deleted)
        staying = len(report.plan.decisions) - len(deleted)
        details = {"deleted": deleted, "freed_bytes": report.freed_bytes, "kept": staying, "notes": notes}
        if self._dry_run:
            self._say_once("pruned", path, dry_run=True, **details)
        elif deleted:
            self._say("pruned", path, **details)
        failed = [{"name": failure.name, "error": failure.error} for failure in report.failed]
        if failed:
            self._say_once("failed", path, failed=failed)
        elif report.refused is not None:
            self._say_once("refused", path, error=report.refused)
        else:
            self._said.pop(path, None)

    def _place(self, path: str) -> tuple[_Root, list[str]]:
        """The root that a marked path was made from, and the names that lead from there to it."""
        for root in self._roots:
            if path == root.path:
                return root, []
        root = next(root for root in self._roots if path.startswith(os.path.join(root.path, "")))
        return root, path.removeprefix(os.path.join(root.path, "")).split("/")

    def _say(self, event: str, path: str, **details: Any) -> None:
        self._report(Event(time.time(), event, path, details))

    def _say_once(self, event: str, path: str, **details: Any) -> None:
        """Says what may stay as it is for days only when it changes."""
        if self._said.get(path) != (event, details):
            self._said[path] = (event, details)
            self._say(event, path, **details)

    # What is watched

    def _claim(self, root: _Root) -> None:
        if root.claim is None:
            with contextlib.suppress(UnreadableError), posix.open_directory(root.path) as directory:
                root.claim = posix.claim(directory, "watch")

    def _claim_again(self, root: _Root) -> None:
        """The claim follows the path to another directory; if that is watched already, this watch goes on."""
        if root.claim is not None:
            root.claim.close()
            root.claim = None
        try:
            self._claim(root)
        except LockedError as error:
            self._say_once("refused", root.path, error=str(error))

    def _aim(self, root: _Root) -> None:
        """Has watchdog look at what the root's path leads to now, or at the ancestor where it will appear."""
        there = os.path.isdir(root.path)
        target = real_path(root.path)
        while not os.path.isdir(target):
            target = os.path.dirname(target)
        try:
            found = os.stat(target)
            seen = (target, found.st_dev, found.st_ino)
            elsewhere = seen != root.watched
            if elsewhere or not self._is_alive(root):
                self._watch(root, seen, recursive=there and self._recursive)
                if elsewhere:
                    self._mark(root.path)  # what came between our look and this watch made no event
                if there and root.claim is not None:
                    self._claim_again(root)
        except OSError as error:
            if error.errno in _TOO_MANY:
                self._poll_instead(error)
            # Otherwise it went while we looked: its parent, or the next rescan, tells.
        if there != root.there:
            first, root.there = root.there is None, there
            if there:
                self._claim_again(root)
                self._say("watching", root.path)
            else:
                self._say("waiting" if first else "gone", root.path)

    def _is_alive(self, root: _Root) -> bool:
        return any(
            emitter.watch == root.watch and emitter.is_alive() for emitter in list(self._observer.emitters)
        )

    def _watch(self, root: _Root, seen: tuple[str, int, int], *, recursive: bool) -> None:
        if root.watch is not None:
            with contextlib.suppress(KeyError, OSError):
                self._observer.unschedule(root.watch)
            root.watch = root.watched = None
        handler = _Handler(lambda event: self._on_event(root, seen[0], event))
        root.watch = self._observer.schedule(handler, seen[0], recursive=recursive, event_filter=_OF_INTEREST)
        root.watched = seen

    def _new_observer(self) -> BaseObserver:
        if not self._poll:
            try:
                return Observer()
            except OSError as error:
                if error.errno not in _TOO_MANY:
                    raise
                self._say("polling", "", reason=posix.reason(error))
        return PollingObserver()

    def _poll_instead(self, error: OSError) -> None:
        """The limits of inotify are reached: goes on without it."""
        self._say("polling", "", reason=posix.reason(error))
        self._end_observer()
        self._observer = PollingObserver()
        self._observer.start()
        for root in self._roots:
            root.watch = root.watched = None
        for root in self._roots:
            self._aim(root)

    def _end_observer(self) -> None:
        try:
            self._observer.stop()
        except (KeyError, OSError):
            return  # it lost count of directories that were exchanged; its threads hold up no process's end
        self._observer.join()

    def _on_event(self, root: _Root, target: str, event: FileSystemEvent) -> None:
        """Runs in watchdog's thread."""
        if not self._recursive or not root.there:
            self._marks.put(root.path)
            return
        for path in {os.fsdecode(event.src_path), os.fsdecode(event.dest_path)}:
            inside = os.path.relpath(path, target) if path else ".."
            if inside == ".." or inside.startswith("../"):
                continue
            if event.is_directory:
                self._marks.put(run_directory(root.path, inside))
            self._marks.put(run_directory(root.path, os.path.dirname(inside)))


class _Handler(events.FileSystemEventHandler):
    """What watchdog hands events to."""

    def __init__(self, call: Callable[[FileSystemEvent], None]) -> None:
        self._call = call

    def dispatch(self, event: FileSystemEvent) -> None:
        """Takes every event as it comes."""
        self._call(event)
