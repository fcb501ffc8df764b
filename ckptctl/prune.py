"""Carries a plan out: the state file without the victims first, then the victims, oldest first.

1. The directory is locked, and what an earlier run left when it was killed is put right.
2. Scan and plan.
3. The state file is replaced by one that no longer lists the victims (see `ckptctl.exchange`). If the trainer
   spoke in the meantime, scan and plan are made again from its words, and only what was a victim before *and*
   is one now goes on being one.
4. The state file, the newest checkpoints and the directory are waited for until they are on the disk: no
   trainer does that, and after a power cut the old ones must not be gone with the new ones empty. Where the
   disk does not say that it has them, nothing is deleted.
5. Each victim: its index, then its shards, then its .meta (see `ckptctl.removal`). Before each, a look at the
   state file: if the trainer has written it since, step 3's reading is done again; and one at the directory's
   path: if that leads elsewhere by now (a mount that went away, another directory in its place), it ends.

A crash at any point leaves leftovers at worst: never a state that names a victim as the latest, never a
checkpoint with an index and without its data, but for the moment that `ckptctl.removal` tells of. An entry in
the state whose files are gone is harmless to TensorFlow, so where the state file cannot be replaced safely it
is left alone, and the victims go even so.

Ctrl-C and the like are heard between two victims, never while the state file or a victim is in hand, so that
nothing is left half done.
"""

from __future__ import annotations

import contextlib
import errno
import os
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from ckptctl import exchange, openfiles, posix, recovery, removal, rights, statefile
from ckptctl.errors import CkptctlError, RefusedError
from ckptctl.model import ABSENT, Checkpoint, Failure, Plan, Report, State, Status
from ckptctl.naming import STATE_FILE
from ckptctl.plan import DEFAULT_PROTECTIONS, Protections, plan
from ckptctl.proof import Proofs
from ckptctl.scan import scan_open
from ckptctl.verify import Level

if TYPE_CHECKING:
    from collections.abc import Callable

    from ckptctl.model import Directory
    from ckptctl.policy import Policy
    from ckptctl.posix import OpenDirectory
    from ckptctl.snapshot import Snapshot
    from ckptctl.statefile import Memory

_ATTEMPTS = 8
"""How often the state file is tried because the trainer spoke meanwhile, before it stays as it wants it."""
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_FORBIDDEN = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
"""How the system says that the state file is not ours to write; any other error puts it in doubt."""


def prune(
    path: str | os.PathLike[str],
    policy: Policy,
    protections: Protections = DEFAULT_PROTECTIONS,
    *,
    latest_filename: str = STATE_FILE,
    proofs: Proofs | None = None,
    offline: bool = False,
    dry_run: bool = False,
    announce: Callable[[Plan], None] = lambda _: None,
    stop: Callable[[], bool] = lambda: False,
) -> Report:
    """Deletes the checkpoints of a directory that a policy does not keep.

    Args:
        path: The directory.
        policy: Which checkpoints stay.
        protections: Which stay besides.
        latest_filename: The state file's name.
        proofs: What a checkpoint has to pass to count; without it, having a whole index and shards as long as
            that says is enough.
        offline: No trainer is at work: where the file system cannot exchange names, the state file is
            compared and renamed over. Elsewhere it changes nothing.
        dry_run: Plan only, touch nothing.
        announce: Is shown the plan before anything is done.
        stop: Asked before each change whether to leave the rest.

    Returns:
        What was done. What could not be deleted is in `Report.failed`; the rest went on.

    Raises:
        UnreadableError: The directory is not there or cannot be read.
        RefusedError: Going on might cost data, see `ckptctl.plan`; nothing was deleted.
        LockedError: Another ckptctl is at work there.
        StoppedError: `stop` said so before anything was deleted.
        KeyboardInterrupt: Ctrl-C, where that raises it; the deletion in hand was finished first.
    """
    with posix.open_directory(os.fspath(path)) as directory:
        return prune_open(
            directory,
            policy,
            protections,
            latest_filename=latest_filename,
            proofs=proofs,
            offline=offline,
            dry_run=dry_run,
            announce=announce,
            stop=stop,
        )


def prune_open(
    directory: OpenDirectory,
    policy: Policy,
    protections: Protections = DEFAULT_PROTECTIONS,
    *,
    latest_filename: str = STATE_FILE,
    proofs: Proofs | None = None,
    offline: bool = False,
    dry_run: bool = False,
    announce: Callable[[Plan], None] = lambda _: None,
    stop: Callable[[], bool] = lambda: False,
    memory: Memory | None = None,
) -> Report:
    """Does what `prune` does in a directory that is held open; see there. `memory`: see `statefile.read`."""
    work = _Work(
        directory, policy, protections, latest_filename, proofs or Proofs(Level.INDEX), stop, offline, memory
    )
    if dry_run:
        state, snapshot = statefile.read(directory, latest_filename, memory)
        if snapshot is not None:
            snapshot.close()
        with contextlib.closing(work):
            made = work.plan(state)
            with contextlib.suppress(OSError):  # the listing that counts has been made
                if recovery.left_behind(directory, latest_filename):
                    work.notes.append(
                        "an interrupted run has left something, which a prune puts right before it plans: it "
                        "may delete others than these"
                    )
            announce(made)
            return Report(made, dry_run=True, notes=tuple(work.notes))
    with recovery.locked(directory, latest_filename) as unlocked:
        if unlocked is not None:
            work.notes.append(unlocked)
        return work.run(announce)


@dataclass(slots=True)
class _Work:
    """One run over one directory."""

    directory: OpenDirectory
    policy: Policy
    protections: Protections
    latest_filename: str
    proofs: Proofs
    stop: Callable[[], bool]
    offline: bool
    memory: Memory | None
    notes: list[str] = field(default_factory=list)
    state: State = ABSENT
    current: Snapshot | None = None
    """The file that `state` was read from, held open."""
    usual: Snapshot | None = None
    """The usual state file, where one of another name was asked for."""
    victims: dict[str, Checkpoint] = field(default_factory=dict)
    missing: set[str] = field(default_factory=set)
    """What the state lists and the disk does not have; it goes from the state together with the victims."""

    def plan(self, state: State) -> Plan:
        self.state = state
        statefile.refuse_misspelt(self.directory, self.latest_filename, state)
        scanned = self._heard(scan_open(self.directory, state))
        self.missing = {c.name for c in scanned.checkpoints if c.status is Status.MISSING}
        made = self.proofs.plan(self.directory, scanned, self._decide, self.stop)
        if not made.delete or not self.protections.skip_open:
            return made
        return self.proofs.plan(self.directory, self._used(scanned), self._decide, self.stop)

    def _heard(self, scanned: Directory) -> Directory:
        """What was scanned, with the latest of the usual state file: another Saver's, or TensorFlow's own."""
        if self.latest_filename == STATE_FILE:
            return scanned
        if self.usual is not None:
            self.usual.close()
            self.usual = None
        state, self.usual = statefile.read(self.directory, STATE_FILE, self.memory)
        if state.problem is not None:
            remedy = (
                "run ckptctl as a user who may read it" if state.forbidden else "`ckptctl repair` mends it"
            )
            raise RefusedError(
                f"{self.directory.path}: {STATE_FILE}, the usual state file, cannot be read: "
                f"{state.problem}. What it names as the latest has to stay: {remedy}, or move it aside"
            )
        latest = None if state.latest is None else state.latest.name
        return replace(
            scanned,
            checkpoints=tuple(
                replace(one, latest_elsewhere=True) if one.name == latest else one
                for one in scanned.checkpoints
            ),
        )

    def _used(self, scanned: Directory) -> Directory:
        """What was scanned, with who has it open."""
        on_disk = [one for one in scanned.checkpoints if one.on_disk]
        found = openfiles.users(self.directory, [file for one in on_disk for file in one.files])
        if found.hidden:
            self.notes.append(f"what other users have open cannot be seen here (processes: {found.hidden:,})")

        def used_by(one: Checkpoint) -> int | None:
            return next((found.pids[file.name] for file in one.files if file.name in found.pids), None)

        return replace(
            scanned, checkpoints=tuple(replace(one, used_by=used_by(one)) for one in scanned.checkpoints)
        )

    def _decide(self, scanned: Directory) -> Plan:
        level = Level.DATA if self.proofs.level is Level.INDEX else self.proofs.level
        return plan(scanned, self.policy, self.protections, level=level.value)

    def run(self, announce: Callable[[Plan], None]) -> Report:
        with contextlib.ExitStack() as held:
            held.callback(self.close)
            state, self.current = statefile.read(self.directory, self.latest_filename, self.memory)
            made = self.plan(state)
            announce(made)
            self.victims = {decision.checkpoint.name: decision.checkpoint for decision in made.delete}
            recorded = self.stop() or self._record()
            if self.victims and not self.stop():
                self._sync(made)
            with posix.signals_held() as signals:
                report = self._delete(made, lambda: bool(signals) or self.stop())
            if not recorded:
                report = self._record_late(report)
            notes = tuple(dict.fromkeys(self.notes))
            return replace(report, notes=notes, state=state)

    def _record(self) -> bool:
        """Takes the victims out of the state file; False if the disk is too full to write it."""
        try:
            for _ in range(_ATTEMPTS):
                if not self.victims or self._replace():
                    break
        except NotImplementedError:
            self.notes.append(
                "the state file was left alone, since this file system cannot exchange names: what it lists "
                "beyond the checkpoints that stay is harmless to TensorFlow; where no trainer is at work, "
                "--offline writes it"
            )
        except FileNotFoundError:
            pass  # it is gone, which is noticed before the first deletion
        except OSError as error:
            if error.errno in _FULL:
                return False
            if error.errno not in _FORBIDDEN:
                raise RefusedError(
                    f"{self.directory.path}: the state file cannot be written: {posix.reason(error)}"
                ) from error
            self.notes.append(f"the state file was left alone: {posix.reason(error)}")
        return True

    def _record_late(self, report: Report) -> Report:
        try:
            if self._record():
                self.notes.append("the disk was full: the state file was written after the deletions")
        except CkptctlError as error:
            return replace(report, refused=str(error))
        return report

    def _sync(self, made: Plan) -> None:
        """Waits until what stays is on the disk, as far as the deletions lean on it.

        Raises:
            RefusedError: The disk does not say so.
        """
        counting = [decision.checkpoint for decision in made.keep if decision.counts]
        try:
            for file in [file for checkpoint in counting for file in checkpoint.files]:
                # The trainer has deleted it, or another user lets nobody open it.
                with contextlib.suppress(FileNotFoundError, PermissionError):
                    fd = posix.open_regular(self.directory.fd, file.name)
                    try:
                        posix.sync(fd)
                    finally:
                        os.close(fd)
            if self.current is not None:
                posix.sync(self.current.fd)
            posix.sync(self.directory.fd)
        except OSError as error:
            raise RefusedError(
                f"{self.directory.path}: it cannot be told whether what is to stay is on the disk: "
                f"{posix.reason(error)}; nothing was deleted"
            ) from error

    def _replace(self) -> bool:
        """Replaces the state file once; False if the trainer spoke in between, and its words stand again.

        They are put back as they are, at once: until then a reader sees a state that is older than they.
        """
        base = self.current
        text = statefile.without(self.state, self.victims.keys() | self.missing)
        if base is None or text is None:
            return True
        spoke = False

        def edit(words: Snapshot) -> bytes:
            nonlocal spoke
            spoke = words is not base
            return words.text if spoke else text

        with posix.signals_held():
            try:
                try:
                    self.current = exchange.replace(self.directory.fd, self.latest_filename, base, edit)
                except NotImplementedError:
                    if not self.offline:
                        raise
                    self.current = exchange.replace_alone(self.directory.fd, self.latest_filename, base, text)
            except RefusedError as error:
                raise RefusedError(f"{self.directory.path}: {error}") from error
            base.close()
        if spoke:
            words = statefile.parse(self.directory, self.latest_filename, self.current, self.memory)
            self._derive(words)
        return not spoke

    def _delete(self, made: Plan, stop: Callable[[], bool]) -> Report:
        deleted: list[str] = []
        failed: list[Failure] = []
        freed = 0
        refused = None
        for decision in made.delete:
            name = decision.checkpoint.name
            if stop():
                self.notes.append("stopped before everything was deleted")
                break
            try:
                self._look_again()
            except CkptctlError as error:
                if not deleted:
                    raise
                refused = str(error)
                break
            if name not in self.victims:
                continue
            try:
                for file in decision.checkpoint.files:
                    freed += removal.remove(self.directory.fd, file)
                deleted.append(name)
            except removal.WrittenAgainError:
                del self.victims[name]
            except OSError as error:
                remedy = rights.why_not_deleted(error, self.directory.fd)
                failed.append(Failure(name, f"{error.filename or name}: {posix.reason(error)}{remedy}"))
        done = {*self.victims, *deleted, *(failure.name for failure in failed)}
        spared = tuple(d.checkpoint.name for d in made.delete if d.checkpoint.name not in done)
        return Report(made, False, tuple(deleted), spared, tuple(failed), freed, refused=refused)

    def _look_again(self) -> None:
        """Derives the victims anew if the trainer has written the state file since they were.

        Raises:
            RefusedError: Nobody knows any more what is to go, see `ckptctl.plan`; or the directory's path
                leads elsewhere.
            UnreadableError: The directory cannot be listed.
            StoppedError: See `prune`.
        """
        posix.expect_at_path(self.directory)
        try:
            if self._is_current():
                return
            self.close()
            state, self.current = statefile.read(self.directory, self.latest_filename, self.memory)
            self._derive(state)
        except OSError as error:
            raise RefusedError(
                f"{self.directory.path} cannot be looked at again: {posix.reason(error)}"
            ) from error

    def _is_current(self) -> bool:
        """Whether the state files are those that were read last, or still absent."""
        known = [(self.latest_filename, self.current)]
        if self.latest_filename != STATE_FILE:
            known.append((STATE_FILE, self.usual))
        for name, snapshot in known:
            if snapshot is not None:
                if not snapshot.is_current(self.directory.fd, name):
                    return False
                continue
            with contextlib.suppress(FileNotFoundError):
                os.stat(name, dir_fd=self.directory.fd, follow_symlinks=False)
                return False
        return True

    def _derive(self, state: State) -> None:
        """Keeps as victims only what is one by the trainer's newest words too. Raises: see `_look_again`."""
        made = self.plan(state)
        now = {decision.checkpoint.name: decision.checkpoint for decision in made.delete}
        self.victims = {
            name: victim
            for name, victim in self.victims.items()
            if name in now and now[name].files == victim.files
        }

    def close(self) -> None:
        """Lets the state files go."""
        for snapshot in (self.current, self.usual):
            if snapshot is not None:
                snapshot.close()
        self.current = self.usual = None
