"""Puts a mended state file in the place of the old one, beside a trainer that may be at work.

The old file stays as `checkpoint.bak-<time>`, which is on the disk before anything else is done. Then the new
text takes its place by an exchange (see `ckptctl.exchange`), or, where there was no file, under a name that
has to be free: a trainer that speaks in between is heard, and all is looked at again.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import stat
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from ckptctl import atomic, exchange, naming, posix, recovery, statefile
from ckptctl.errors import RefusedError, UnreadableError
from ckptctl.mending import Mended, mend
from ckptctl.model import StateStatus
from ckptctl.proof import Proofs, expect_known
from ckptctl.scan import scan_open
from ckptctl.verify import Level, VerdictStatus, open_scanned

if TYPE_CHECKING:
    from ckptctl.chronology import Order
    from ckptctl.model import Checkpoint, Directory, File, State
    from ckptctl.posix import OpenDirectory
    from ckptctl.snapshot import Snapshot

_ATTEMPTS = 8
"""How often it is tried anew because the trainer spoke meanwhile."""


@dataclass(frozen=True, slots=True)
class RepairReport:
    """What came of a repair.

    Attributes:
        directory: The directory's path.
        state_file: The state file's name.
        mended: What the state is to be, and why.
        before: The text that was there; None if there was no file.
        after: The text that takes its place.
        dry_run: If true, nothing was touched.
        backup: The name under which the old file stays.
        notes: What the user should know.
    """

    directory: str
    state_file: str
    mended: Mended
    before: bytes | None
    after: bytes
    dry_run: bool = False
    backup: str | None = None
    notes: tuple[str, ...] = ()


def repair(
    path: str | os.PathLike[str],
    *,
    latest_filename: str = naming.STATE_FILE,
    proofs: Proofs | None = None,
    order: Order | None = None,
    offline: bool = False,
    dry_run: bool = False,
) -> RepairReport:
    """Mends the state file of a directory.

    Args:
        path: The directory.
        latest_filename: The state file's name.
        proofs: What the latest has to pass; without it, having a whole index and shards as long as that says
            is enough.
        order: What makes a checkpoint newer, where time, step and name disagree.
        offline: No trainer is at work: where the file system cannot exchange names, the state file is
            compared and renamed over. Elsewhere it changes nothing.
        dry_run: Look only, touch nothing.

    Returns:
        What was done; with no reasons if there was nothing to mend.

    Raises:
        UnreadableError: The directory or its state file cannot be read, or no checkpoint passes.
        RefusedError: It might cost the user data: the state file is no regular file, the latest may be under
            way, it is not clear which is the newest, names cannot be exchanged, or it is a SavedModel's.
        LockedError: Another ckptctl is at work there.
        OSError: Something cannot be written; the state file is as it was.
    """
    with posix.open_directory(os.fspath(path)) as directory:
        work = _Work(directory, latest_filename, proofs, order, offline, dry_run)
        if dry_run:
            return work.run()
        with recovery.locked(directory, latest_filename) as unlocked:
            report = work.run()
            return report if unlocked is None else replace(report, notes=(unlocked, *report.notes))


@dataclass(slots=True)
class _Work:
    """One repair of one directory."""

    directory: OpenDirectory
    latest_filename: str
    proofs: Proofs | None
    order: Order | None
    offline: bool
    dry_run: bool
    verdicts: dict[tuple[File, ...], str | None] = field(default_factory=dict)

    def run(self) -> RepairReport:
        for _ in range(_ATTEMPTS):
            with contextlib.ExitStack() as held:
                state, base = statefile.read(self.directory, self.latest_filename)
                if base is not None:
                    held.callback(base.close)
                report = self._attempt(state, base)
                if report is not None:
                    return report
        raise RefusedError(
            f"{self.directory.path}: the trainer writes the state file again and again; try again later"
        )

    def _attempt(self, state: State, base: Snapshot | None) -> RepairReport | None:
        """Mends the state as it was read; None if the trainer spoke in between."""
        if base is None and state.status is not StateStatus.ABSENT:
            raise self._unopened(state)
        statefile.refuse_misspelt(self.directory, self.latest_filename, state)
        scanned = scan_open(self.directory, state)
        mended = mend(
            scanned, self._doubt, order=self.order, elsewhere=self._elsewhere(scanned), now=time.time()
        )
        text = statefile.text(mended.state)
        report = RepairReport(
            self.directory.path,
            self.latest_filename,
            mended,
            None if base is None else base.text,
            text,
            self.dry_run,
            notes=mended.notes,
        )
        if self.dry_run or not mended.reasons:
            return report
        with posix.signals_held():
            if base is not None:
                backup = self._replace(base, text)
                return None if backup is None else replace(report, backup=backup)
            try:
                atomic.create(self.directory.fd, self.latest_filename, text)
            except FileExistsError:
                return None
            return report

    def _replace(self, base: Snapshot, text: bytes) -> str | None:
        """Puts the old file aside and the text in its place; returns the old file's new name.

        None if the trainer spoke in between: its words stand, and what they replaced is put aside by nobody.
        """
        fd, name = self.directory.fd, self.latest_filename
        spoke = False

        def edit(words: Snapshot) -> bytes:
            nonlocal spoke
            spoke = words is not base
            return words.text if spoke else text

        backup = self._back_up(base)
        done = False
        try:
            try:
                exchange.replace(fd, name, base, edit).close()
            except NotImplementedError:
                if not self.offline:
                    raise RefusedError(
                        f"{self.directory.path}: this file system cannot exchange names, and without that a "
                        "word of the trainer could be lost; with no trainer at work, --offline repairs it"
                    ) from None
                exchange.replace_alone(fd, name, base, text).close()
            done = not spoke
        except FileNotFoundError:
            pass  # it is gone: looked at again as one that is absent
        finally:
            if not done:
                os.unlink(backup, dir_fd=fd)
        return backup if done else None

    def _back_up(self, base: Snapshot) -> str:
        first = f"{self.latest_filename}.bak-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}"
        for name in itertools.chain([first], (f"{first}.{number}" for number in itertools.count(2))):
            try:
                atomic.create(self.directory.fd, name, base.text, like=base.stat)
            except FileExistsError:
                continue
            return name
        raise AssertionError("the numbers do not end")

    def _doubt(self, one: Checkpoint) -> str | None:
        # A scan does not look behind links.
        proofs = Proofs(Level.INDEX) if self.proofs is None else self.proofs
        if one.regular and not proofs.asks(one):
            return None
        if one.files not in self.verdicts:
            verdict = proofs.prove(open_scanned(self.directory, one, follow=True))
            # An older one would take its place.
            expect_known(self.directory.path, one, verdict)
            passes = verdict.status in {VerdictStatus.OK, VerdictStatus.READABLE}
            self.verdicts[one.files] = None if passes else verdict.findings[0].message
        return self.verdicts[one.files]

    def _elsewhere(self, scanned: Directory) -> set[str]:
        """Paths that lead out of the directory to what is there: TensorFlow can use them, and they stay."""
        here = {one.name for one in scanned.checkpoints if one.on_disk}
        entries = (*scanned.state.entries, *filter(None, [scanned.state.latest]))
        foreign = {entry.path for entry in entries if entry.foreign and entry.name not in here}
        return {path for path in foreign if self._leads_somewhere(path)}

    def _leads_somewhere(self, path: str) -> bool:
        for file in (f"{path}.index", path):
            with contextlib.suppress(OSError, ValueError):
                if stat.S_ISREG(os.stat(file, dir_fd=self.directory.fd).st_mode):
                    return True
        return False

    def _unopened(self, state: State) -> RefusedError | UnreadableError:
        where = os.path.join(self.directory.path, self.latest_filename)
        with contextlib.suppress(OSError):
            found = os.lstat(self.latest_filename, dir_fd=self.directory.fd)
            if stat.S_ISLNK(found.st_mode):
                target = os.readlink(self.latest_filename, dir_fd=self.directory.fd)
                return RefusedError(
                    f"{where} is a link to {target}, and is left alone: repair the directory that it leads "
                    "to, or remove the link"
                )
            if not stat.S_ISREG(found.st_mode):
                return RefusedError(f"{where} is not a regular file, and is left alone: move it aside")
        return UnreadableError(f"{where} cannot be read: {state.problem}")
