"""Retention by proof: only what passes counts, so that no good checkpoint goes for the sake of a bad one.

What a scan calls complete is proved before it is counted, and nothing else is: the plan is made, what it
keeps as one of the newest is proved, and where that fails the plan is made again without it. So as many
checkpoints are read as are to stay, and each only once for as long as its files stay the same.

Even where index and lengths of the shards are enough, data that are younger than their index are read:
a save writes its index last, so that here one may have been cut off between the two.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from ckptctl.errors import StoppedError, UnreadableError
from ckptctl.model import Checkpoint, Directory, Plan, Status
from ckptctl.verify import Level, VerdictStatus, open_scanned, verify

if TYPE_CHECKING:
    from collections.abc import Callable

    from ckptctl.model import File
    from ckptctl.opened import OpenCheckpoint
    from ckptctl.posix import OpenDirectory
    from ckptctl.restore import Restorer
    from ckptctl.verify import Progress, Verdict

_LATE_SECONDS = 1.0
"""By how much data may be younger than their index; some file systems count in whole seconds."""


_AGAIN_SECONDS = 3600.0
"""How long it is believed that what could not be read, or restored for lack of memory or time, cannot be."""

_REMEMBERED = 10_000
"""Directories; what is known of one that is forgotten is read again."""


@dataclass(slots=True)
class Proofs:
    """Verdicts, remembered for as long as the files that they are about stay the same.

    Attributes:
        level: How much of a checkpoint is looked at; `Level.INDEX` for no more than every scan does.
        workers: How many threads read.
        restorer: For `Level.RESTORE`: what has TensorFlow restore it. Closing it is up to the caller.
    """

    level: Level
    workers: int = 1
    restorer: Restorer | None = None
    _verdicts: dict[tuple[int, int], dict[tuple[File, ...], Verdict]] = field(default_factory=dict)
    _asked_again: dict[tuple[int, int], float] = field(default_factory=dict)

    def plan(
        self,
        directory: OpenDirectory,
        scanned: Directory,
        decide: Callable[[Directory], Plan],
        stop: Callable[[], bool] = lambda: False,
    ) -> Plan:
        """Plans with what passes.

        Args:
            directory: The directory, held open.
            scanned: What a scan found there.
            decide: Makes a plan of that.
            stop: Asked while data are read whether to leave off.

        Returns:
            A plan in which each checkpoint that counts has passed.

        Raises:
            StoppedError: It was told to stop.
        """

        def progress(*_: int) -> None:
            if stop():
                raise StoppedError(f"{directory.path}: stopped before all that is to stay was verified")

        verdicts = self._remembered(directory, scanned)
        while True:
            if verdicts:
                scanned = replace(
                    scanned,
                    checkpoints=tuple(_judged(one, verdicts.get(one.files)) for one in scanned.checkpoints),
                )
            made = decide(scanned)
            counting = [one.checkpoint for one in made.keep if one.counts]
            unproved = [one for one in counting if self.asks(one) and one.files not in verdicts]
            if not unproved and self.level is Level.INDEX:
                return made
            if not unproved:
                return replace(made, policy=f"{made.policy}, of those that pass verify ({self.level.value})")
            for one in reversed(unproved):
                verdict = self.prove(open_scanned(directory, one, follow=False), progress)
                verdicts[one.files] = verdict
                if not verdict.ok:  # what passes changes no plan
                    break

    def _remembered(self, directory: OpenDirectory, scanned: Directory) -> dict[tuple[File, ...], Verdict]:
        """What is known of a directory's checkpoints, to be added to."""
        found = os.fstat(directory.fd)
        key = (found.st_dev, found.st_ino)
        known = self._verdicts.pop(key, {})
        files = {checkpoint.files for checkpoint in scanned.checkpoints} if known else frozenset()
        verdicts = {one: verdict for one, verdict in known.items() if one in files}
        now = time.monotonic()
        if self._asked_again.setdefault(key, now) + _AGAIN_SECONDS < now:
            verdicts = {one: verdict for one, verdict in verdicts.items() if not verdict.inconclusive}
            self._asked_again[key] = now
        self._verdicts[key] = verdicts
        while len(self._verdicts) > _REMEMBERED:  # there may be new runs for ever
            oldest = next(iter(self._verdicts))
            del self._verdicts[oldest]
            self._asked_again.pop(oldest, None)
        return verdicts

    def prove(self, checkpoint: OpenCheckpoint, progress: Progress | None = None) -> Verdict:
        """Verifies one checkpoint, and remembers nothing of it; see `ckptctl.verify.verify`."""
        reading = self.level if self.level is Level.FINITE else Level.DATA
        return verify(checkpoint, reading, workers=self.workers, restorer=self.restorer, progress=progress)

    def asks(self, checkpoint: Checkpoint) -> bool:
        """Whether a checkpoint has to be read before it counts."""
        if self.level is not Level.INDEX:
            return True
        index = checkpoint.index
        return index is not None and any(
            shard.mtime > index.mtime + _LATE_SECONDS for shard in checkpoint.shards
        )


def _judged(checkpoint: Checkpoint, verdict: Verdict | None) -> Checkpoint:
    """A checkpoint as its verdict has it."""
    if verdict is None or verdict.ok or not checkpoint.complete:
        return checkpoint
    problem = verdict.findings[0].message if verdict.findings else verdict.status.value
    if verdict.status is VerdictStatus.MISSING:
        return replace(checkpoint, status=Status.MISSING, problem=problem)
    if verdict.status in {VerdictStatus.CORRUPT, VerdictStatus.INCOMPLETE}:
        return replace(checkpoint, status=Status.BROKEN, problem=problem)
    # Its bytes are all right, or nobody could read them: that is no reason to delete it. TensorFlow may have
    # run out of memory or of time.
    known = verdict.status is VerdictStatus.UNRESTORABLE and not verdict.lost
    told = "TensorFlow does not restore it" if known else "it cannot be told whether it restores"
    return replace(checkpoint, doubt=f"{told}: {problem}")


def expect_known(path: str, one: Checkpoint, verdict: Verdict) -> None:
    """Sees that a verdict tells something of a checkpoint in whose place an older one would be taken.

    A trainer that goes on from the older one saves over the newer.

    Args:
        path: The directory.
        one: The checkpoint.
        verdict: What came of it.

    Raises:
        UnreadableError: It could not be read, or TensorFlow's process was lost over it.
    """
    if not verdict.inconclusive:
        return
    remedy = "; try again, with more memory or time if it lacks, or with --verify=data"
    raise unknown(path, one, f"{verdict.findings[0].message}{remedy if verdict.lost else ''}")


def unknown(path: str, one: Checkpoint, why: str) -> UnreadableError:
    """What is said where nobody knows whether a checkpoint restores, and an older one is not to be taken."""
    which = ", the latest in the state file," if one.latest else ""
    return UnreadableError(f"{path}: it cannot be told whether {one.name}{which} restores: {why}")
