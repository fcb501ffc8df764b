"""What watchdog looks at for a watcher: the directories that were named, or where they will appear.

Nothing depends on an event being seen. At every rescan each watch is compared with what its path leads to by
now, so that a directory that went and came back is watched again, and so is one whose emitter died. Where the
limits of inotify are reached, or a tree is too deep for the recursion by which watchdog goes down, it polls.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from watchdog import events
from watchdog.observers import Observer
from watchdog.observers.polling import PollingObserverVFS
from watchdog.utils import BaseThread

from ckptctl import locks, posix
from ckptctl.errors import LockedError, UnreadableError
from ckptctl.roots import Place, expect_directory, real_path, run_directory

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator, Sequence

    from watchdog.events import FileSystemEvent
    from watchdog.observers.api import BaseObserver, ObservedWatch

    from ckptctl.voice import Voice

_TOO_MANY = frozenset({errno.ENOSPC, errno.EMFILE, errno.ENFILE})
"""How inotify says that one of its limits is reached."""
_POLLED_DEPTH = 200
"""How many slashes a path may have for what is in it to be polled: Python allows watchdog some hundred levels
of recursion, and whoever may write below a root could make more. Deeper there is the rescan."""
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


@dataclass(slots=True)
class Root:
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


class Lookout:
    """Marks directories in which something has changed.

    Args:
        paths: The directories; they need not exist yet.
        recursive: Whether every directory below them is watched too.
        poll: Ask the file system again and again in place of waiting for its events.
        mark: Is given a directory that is to be looked at, in the thread that calls `aim`.
        post: The same, in any thread.
        voice: Says what there is to say.

    Attributes:
        roots: The directories, each once.

    Raises:
        UnreadableError: A path leads nowhere, since the current directory has been deleted.
    """

    def __init__(
        self,
        paths: Sequence[str],
        *,
        recursive: bool,
        poll: bool,
        mark: Callable[[str], None],
        post: Callable[[str], None],
        voice: Voice,
    ) -> None:
        self.roots = [Root(path) for path in {real_path(path): path for path in paths}.values()]
        self._recursive = recursive
        self._poll = poll
        self._mark = mark
        self._post = post
        self._voice = voice
        self._observer: BaseObserver
        self._threads: set[BaseThread] = set()

    def prepare(self) -> None:
        """Sees that each path leads to a directory or may do so some day, and gets ready to listen.

        Raises:
            UnreadableError: One of the paths leads to something that is not a directory, or may not be read.
        """
        for root in self.roots:
            expect_directory(root.path)
        self._observer = self._new_observer()
        logging.getLogger("watchdog").setLevel(logging.CRITICAL)  # the rescan mends what it complains of

    def start(self) -> None:
        """Begins to listen; what to is for `aim` to say."""
        with self._noting_threads():
            self._observer.start()

    def claim(self) -> None:
        """Keeps a second watcher away.

        Raises:
            LockedError: Another watcher has one of the directories.
        """
        for root in self.roots:
            self._claim(root)

    def end(self) -> None:
        """Lets go of everything."""
        self._end_observer()
        for root in self.roots:
            if root.claim is not None:
                root.claim.close()

    def place(self, path: str) -> tuple[Root, Place]:
        """The root that a marked path was made from, and how to get from there to it."""
        for root in self.roots:
            if path == root.path:
                return root, Place(path)
        root = next(root for root in self.roots if path.startswith(os.path.join(root.path, "")))
        return root, Place(root.path, tuple(path.removeprefix(os.path.join(root.path, "")).split("/")))

    def aim(self, root: Root) -> None:
        """Has watchdog look at what the root's path leads to now, or at the ancestor where it will appear."""
        if self._is_deaf():
            self._begin_anew()
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
        except RecursionError:
            self._poll_instead("a tree below is too deep")
        except OSError as error:
            self._poll_if_too_many(error)
        if there != root.there:
            first, root.there = root.there is None, there
            if there:
                self._claim_again(root)
                self._voice.say("watching", root.path)
            else:
                self._voice.say("waiting" if first else "gone", root.path)

    def _claim(self, root: Root) -> None:
        if root.claim is None:
            with contextlib.suppress(UnreadableError), posix.open_directory(root.path) as directory:
                root.claim = locks.claim(directory, "watch")

    def _claim_again(self, root: Root) -> None:
        """The claim follows the path to another directory; if that is watched already, this watch goes on."""
        if root.claim is not None:
            root.claim.close()
            root.claim = None
        try:
            self._claim(root)
        except LockedError as error:
            self._voice.say_once("refused", root.path, error=str(error))

    def _is_alive(self, root: Root) -> bool:
        return any(
            emitter.watch == root.watch and emitter.is_alive() for emitter in list(self._observer.emitters)
        )

    def _watch(self, root: Root, seen: tuple[str, int, int], *, recursive: bool) -> None:
        if root.watch is not None:
            with contextlib.suppress(KeyError, OSError):
                self._observer.unschedule(root.watch)
            root.watch = root.watched = None
        handler = _Handler(lambda event: self._on_event(root, seen[0], event))
        with self._noting_threads():
            root.watch = self._observer.schedule(
                handler, seen[0], recursive=recursive, event_filter=_OF_INTEREST
            )
        root.watched = seen

    @contextlib.contextmanager
    def _noting_threads(self) -> Iterator[None]:
        """Takes note of the threads that watchdog starts: it tells of none but its emitters'."""
        before = set(threading.enumerate())
        yield
        started = {one for one in threading.enumerate() if isinstance(one, BaseThread) and one not in before}
        self._threads = {one for one in self._threads if one.should_keep_running()} | started

    def _is_deaf(self) -> bool:
        """Whether a thread ended that nobody told to: by an error, as a tree too deep for its recursion."""
        return any(one.should_keep_running() and not one.is_alive() for one in self._threads)

    def _new_observer(self) -> BaseObserver:
        if not self._poll:
            try:
                with self._noting_threads():
                    return Observer()
            except OSError as error:
                if error.errno not in _TOO_MANY:
                    raise
                self._voice.say("polling", "", reason=posix.reason(error))
        self._poll = True
        return PollingObserverVFS(os.lstat, _listed)

    def _poll_if_too_many(self, error: OSError) -> None:
        """Otherwise the directory went while we looked: its parent, or the next rescan, tells."""
        if error.errno in _TOO_MANY:
            self._poll_instead(posix.reason(error))

    def _poll_instead(self, reason: str) -> None:
        """Events cannot be had: goes on without. Where polling fails too, each rescan tries again."""
        if not self._poll:
            self._poll = True
            self._voice.say("polling", "", reason=reason)
            self._begin_anew()

    def _begin_anew(self) -> None:
        self._end_observer()
        self._threads.clear()
        self._observer = self._new_observer()
        self.start()
        for root in self.roots:
            root.watch = root.watched = None
        for root in self.roots:
            self.aim(root)

    def _end_observer(self) -> None:
        try:
            self._observer.stop()
        except (KeyError, OSError):
            return  # it lost count of directories that were exchanged; its threads hold up no process's end
        self._observer.join()

    def _on_event(self, root: Root, target: str, event: FileSystemEvent) -> None:
        """Runs in watchdog's thread."""
        if not self._recursive or not root.there:
            self._post(root.path)
            return
        for path in {os.fsdecode(event.src_path), os.fsdecode(event.dest_path)}:
            inside = os.path.relpath(path, target) if path else ".."
            if inside == ".." or inside.startswith("../"):
                continue
            if event.is_directory:
                self._post(run_directory(root.path, inside))
            self._post(run_directory(root.path, os.path.dirname(inside)))


def is_listener(thread: threading.Thread | None) -> bool:
    """Whether a thread is one of watchdog's."""
    return isinstance(thread, BaseThread)


def _listed(path: str | None) -> Iterator[os.DirEntry[str]]:
    """What is polled in a directory."""
    if path is None or path.count(os.sep) > _POLLED_DEPTH:
        return iter(())
    return os.scandir(path)


class _Handler(events.FileSystemEventHandler):
    """What watchdog hands events to."""

    def __init__(self, call: Callable[[FileSystemEvent], None]) -> None:
        self._call = call

    def dispatch(self, event: FileSystemEvent) -> None:
        """Takes every event as it comes."""
        self._call(event)
