"""The daemon: events -> settle -> plan -> prune.

Events do one thing: they mark a directory. One loop waits until a marked directory has been quiet for a while
(or has been busy for too long), and then does what `prune` does. Nothing depends on an event being seen: at
every rescan each directory is looked at, and each watch is compared with what its path leads to by now, so a
lost event, a directory that went and came back, and an emitter that died cost one rescan at the most.
"""

from __future__ import annotations

import math
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from ckptctl import keras_formats, naming, tensorflow
from ckptctl.contention import Contention
from ckptctl.errors import (
    CkptctlError,
    LockedError,
    NoMetricError,
    NoRuleError,
    SavedModelError,
    StoppedError,
    UnreadableError,
)
from ckptctl.lookout import Lookout
from ckptctl.marks import Marks
from ckptctl.notify import Notifier
from ckptctl.prune import prune_open
from ckptctl.roots import MAX_DEPTH, Place, is_directory, is_run, run_directories
from ckptctl.statefile import Memory
from ckptctl.tally import Tally
from ckptctl.verify import Level
from ckptctl.voice import Voice

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ckptctl.model import Report
    from ckptctl.plan import Protections
    from ckptctl.policy import Policy
    from ckptctl.posix import OpenDirectory
    from ckptctl.proof import Proofs
    from ckptctl.voice import Event

_PATIENCE = 10
"""A directory that is never quiet is pruned after this many times the settle time all the same."""
_LONGEST_WAIT = 3600.0
"""Seconds; a system has a limit for how long a wait may be."""
_RETRY_SECONDS = 1.0
"""How soon a directory is looked at again that another ckptctl had locked."""


@dataclass(slots=True)
class _Due:
    """When a directory was marked first and last; monotonic seconds."""

    first: float
    last: float


class Terms(Protocol):
    """What holds in a directory."""

    @property
    def policy(self) -> Policy:
        """Which checkpoints stay."""
        ...

    @property
    def protections(self) -> Protections:
        """Which stay besides."""
        ...

    @property
    def notes(self) -> Sequence[str]:
        """What the user should know of where these are from."""
        ...


class Watcher:
    """Keeps directories pruned until it is stopped.

    Args:
        paths: The directories; they need not exist yet.
        terms: Which checkpoints stay in a directory; asked at each look.
        latest_filename: The state file's name.
        proofs: What a checkpoint has to pass to count, see `ckptctl.prune`.
        recursive: Whether every directory below them is watched too.
        settle: Seconds of quiet in a directory before it is looked at.
        rescan: Seconds between looks at everything.
        poll: Ask the file system again and again in place of waiting for its events.
        dry_run: Say what would be deleted, and touch nothing.
        report: Is given every event.
        notifier: Is told when each directory was looked at for the first time, and from then on how it goes.

    Attributes:
        tally: What has come of it so far.

    Raises:
        UnreadableError: A path leads nowhere, since the current directory has been deleted.
    """

    def __init__(
        self,
        paths: Sequence[str],
        terms: Callable[[OpenDirectory], Terms],
        *,
        latest_filename: str = naming.STATE_FILE,
        proofs: Proofs | None = None,
        recursive: bool = False,
        settle: float = 1.0,
        rescan: float = 60.0,
        poll: bool = False,
        dry_run: bool = False,
        report: Callable[[Event], None] = lambda _: None,
        notifier: Notifier | None = None,
    ) -> None:
        self._terms = terms
        self._latest_filename = latest_filename
        self._proofs = proofs
        self._recursive = recursive
        self._settle = settle
        self._rescan = rescan
        self._dry_run = dry_run
        self._verifies = proofs is not None and proofs.level is not Level.INDEX
        self.tally = Tally()
        self._notifier = notifier or Notifier({})
        self._marks = Marks()
        self._due: dict[str, _Due] = {}
        self._memory = Memory()
        self._contention: dict[str, Contention] = {}
        self._cut: set[str] = set()
        self._keras: set[str] = set()
        self._stopping = False
        self._voice = Voice(report)
        self._lookout = Lookout(
            paths, recursive=recursive, poll=poll, mark=self._mark, post=self._marks.put, voice=self._voice
        )

    def stop(self) -> None:
        """Ends `run` after the deletion in hand. May be called from a signal handler or another thread."""
        self._stopping = True
        self._marks.wake()

    def run(self) -> None:
        """Watches until `stop`.

        Raises:
            UnreadableError: One of the paths leads to something that is not a directory, or may not be read.
            LockedError: Another watcher has one of the directories.
            TensorFlowError: TensorFlow cannot be loaded.
        """
        self._lookout.prepare()
        tensorflow.preload()
        self._lookout.start()
        try:
            self._lookout.claim()
            next_rescan = -math.inf
            while not self._is_stopping():
                now = time.monotonic()
                if now >= next_rescan:
                    self._look_everywhere()
                    next_rescan = now + self._rescan
                self._work_off()
                if not self._stopping:
                    # Not earlier: whoever is started after us, as a trainer on a full disk, finds it tidied.
                    self._notifier.ready(self.tally.summary)
                    self._wait(next_rescan)
        finally:
            self._notifier.stopping()
            self._lookout.end()
        self._voice.say("stopped", "")

    # The loop

    def _wait(self, next_rescan: float) -> None:
        """Waits for a mark or until something is due, and takes the marks that there are by then."""
        wake = min([next_rescan, self._notifier.due, *(self._due_at(due) for due in self._due.values())])
        for path in self._marks.take(min(_LONGEST_WAIT, max(0.0, wake - time.monotonic()))):
            self._mark(path)

    def _mark(self, path: str) -> None:
        now = time.monotonic()
        self._due.setdefault(path, _Due(now, now)).last = now

    def _due_at(self, due: _Due) -> float:
        return min(due.last + self._settle, due.first + _PATIENCE * self._settle)

    def _work_off(self) -> None:
        now = time.monotonic()
        for path in [path for path, due in self._due.items() if self._due_at(due) <= now]:
            if self._is_stopping():
                return
            del self._due[path]
            self._prune(path)

    def _is_stopping(self) -> bool:
        """Whether to leave the rest. Asked often, whatever the work is: as long as it is, nothing hangs."""
        self._notifier.alive()
        return self._stopping

    def _look_everywhere(self) -> None:
        found = set()
        for root in self._lookout.roots:
            self._lookout.aim(root)
            cut: list[str] = []
            for place in run_directories(root.path, cut.append) if self._recursive else (Place(root.path),):
                if self._is_stopping():
                    return
                self._due[place.path] = _Due(-math.inf, -math.inf)
                found.add(place.path)
            self._tell_of_cut(root.path, cut)
        for path in self._contention.keys() - found:
            self._forget(path)

    def _tell_of_cut(self, root: str, cut: Sequence[str]) -> None:
        """Says once that there is what is not looked at; there may be more of it than a log can hold."""
        if not cut:
            self._cut.discard(root)
        elif root not in self._cut:
            self._cut.add(root)
            told = f"{cut[0]}: too deep: what is below it is not watched, as all that lies more than"
            self._voice.say("failed", root, error=f"{told} {MAX_DEPTH} directories below {root}")

    def _forget(self, path: str) -> None:
        """Lets go of a directory below a root that is not there any more; there may be new ones for ever."""
        self._contention.pop(path, None)
        self._keras.discard(path)
        self._voice.forget(path)
        self.tally.gone(path, named=False)

    # One directory

    def _prune(self, path: str) -> None:
        root, place = self._lookout.place(path)
        names = place.names
        if not names:
            self._lookout.aim(root)
            if not root.there:
                self.tally.gone(path, named=True)
        if len(names) > MAX_DEPTH or not (names or root.there):  # events come from any depth
            return
        contention = self._contention.setdefault(path, Contention())
        try:
            # A link may have taken the place of a directory since it was marked; none is followed on the way.
            with place.open() as directory:
                terms = self._terms(directory)
                report = prune_open(
                    directory,
                    terms.policy,
                    terms.protections,
                    latest_filename=self._latest_filename,
                    proofs=self._proofs,
                    dry_run=self._dry_run,
                    stop=self._is_stopping,
                    memory=self._memory,
                )
                self._tell_of_keras(path, directory, report)
        except LockedError:
            at = time.monotonic() + _RETRY_SECONDS
            self._due[path] = _Due(at, at)
            return
        except UnreadableError as error:
            if names and not is_directory(path):  # it was removed since it was marked
                self._forget(path)
            else:
                self._refuse(path, error, "failed")
            return
        except (SavedModelError, StoppedError):
            return
        except (CkptctlError, OSError) as error:
            self._refuse(path, error)
            return
        self.tally.looked(path, report, time.time(), named=not names, verifies=self._verifies)
        for warning in contention.warnings(report):
            self._voice.say("warning", path, warning=warning)
        self._tell(path, report, terms.notes)

    def _tell_of_keras(self, path: str, directory: OpenDirectory, report: Report) -> None:
        """Says once that files in another format are in the place of checkpoints."""
        told = None if report.plan.decisions else keras_formats.told(os.listdir(directory.fd))
        if told is None:
            self._keras.discard(path)
        elif path not in self._keras:
            self._keras.add(path)
            self._voice.say("warning", path, warning=told)

    def _refuse(self, path: str, error: Exception, event: str = "refused") -> None:
        if isinstance(error, NoRuleError | NoMetricError) and self._recursive and not is_run(path):
            return  # runs may bring policies and events of their own: what lies between them needs none
        self.tally.failed(path)
        self._voice.say_once(event, path, error=str(error))

    def _tell(self, path: str, report: Report, more: Sequence[str]) -> None:
        """Says what came of a look at a directory."""
        notes = [*report.plan.notes, *more, *report.notes]
        deleted = [d.checkpoint.name for d in report.plan.delete] if self._dry_run else list(report.deleted)
        staying = len(report.plan.decisions) - len(deleted)
        details = {"deleted": deleted, "freed_bytes": report.freed_bytes, "kept": staying, "notes": notes}
        foreseen = self._dry_run and report.plan.decisions  # with -r, parents and logs are looked at too
        if foreseen:
            self._voice.say_once("pruned", path, dry_run=True, **details)
        elif deleted:
            self._voice.say("pruned", path, **details)
        failed = [{"name": failure.name, "error": failure.error} for failure in report.failed]
        if failed:
            self._voice.say_once("failed", path, failed=failed)
        elif report.refused is not None:
            self._voice.say_once("refused", path, error=report.refused)
        elif not foreseen:  # what it says stays as it is until it changes
            self._voice.forget(path)
