"""Proves a checkpoint as it lies on the disk: yields a verdict, with everything that is wrong.

A trainer may be at work meanwhile. A checkpoint that changes while it is read is read again, so that a save
under the same name is not taken for damage; one that is deleted is missing, and not broken.
"""

from __future__ import annotations

import contextlib
import enum
import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ckptctl import naming
from ckptctl.bundle.findings import Finding, FindingKind, Report
from ckptctl.bundle.index import read_index
from ckptctl.bundle.slices import check_disjoint
from ckptctl.bundle.table import MAGIC, BlockTooLargeError, Table
from ckptctl.bundle.v1 import check_v1, list_finding_kind, read_v1
from ckptctl.bundle.verification import verify_bundle
from ckptctl.errors import BundleError, UnreadableError, UnsupportedError
from ckptctl.model import Format
from ckptctl.opened import OpenCheckpoint
from ckptctl.posix import reason

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ckptctl.bundle.source import Source
    from ckptctl.model import Checkpoint
    from ckptctl.posix import OpenDirectory
    from ckptctl.restore import Restorer

    Progress = Callable[[int, int], None]
    """Is told the bytes done and the bytes in all."""

_ATTEMPTS = 3
"""How often a checkpoint is read that is written again each time."""

_MAGIC = MAGIC.to_bytes(8, "little")

_LACKING = frozenset({FindingKind.MISSING_SHARD, FindingKind.RANGE, FindingKind.SHARD_LENGTH})
"""What is found where bytes are not there; a shard that is too long has its length reported and no range."""


class Level(enum.Enum):
    """How much is looked at; each level includes those before."""

    INDEX = "index"
    """The index and the lengths of the shards; no data are read."""
    DATA = "data"
    """Every checksum."""
    FINITE = "finite"
    """Every number too: there is no NaN and no Inf."""
    RESTORE = "restore"
    """A restore, by TensorFlow itself, after one of those that read the data: see `verify`'s `restorer`."""


class VerdictStatus(enum.Enum):
    """What came of it."""

    OK = "ok"
    CORRUPT = "corrupt"
    """Something is there and is not what it should be."""
    INCOMPLETE = "incomplete"
    """What is there is right, and a shard, the end of one, or the end of the index is not there."""
    READABLE = "readable"
    """Every byte is right, and TensorFlow reads every tensor; that it restores could not be proven here."""
    UNRESTORABLE = "unrestorable"
    """Every byte is right, and TensorFlow fails to restore it, or dies of it."""
    MISSING = "missing"
    UNREADABLE = "unreadable"
    """The system does not let us read it, it is no regular file, or it is of a version not known here."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is known about a checkpoint after it was verified.

    Attributes:
        checkpoint: Its path, as TensorFlow takes it.
        status: See `VerdictStatus`.
        level: What was looked at. Of a V1 checkpoint the numbers are not.
        tensors: How many it lists.
        bytes: How many bytes these have; of a V1 checkpoint, how many its files have.
        findings: Everything that is wrong; after a restore also what could not be rebuilt for it.
    """

    checkpoint: str
    status: VerdictStatus
    level: Level
    tensors: int = 0
    bytes: int = 0
    findings: tuple[Finding, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether it passed."""
        return self.status is VerdictStatus.OK

    @property
    def lost(self) -> bool:
        """Whether TensorFlow's process was lost over it, for which this machine may be the reason."""
        kinds = {finding.kind for finding in self.findings}
        return FindingKind.LOST in kinds and FindingKind.RESTORE not in kinds

    @property
    def inconclusive(self) -> bool:
        """Whether it tells of the machine or of rights, and nothing of the checkpoint."""
        return self.status is VerdictStatus.UNREADABLE or self.lost


def verify(
    checkpoint: OpenCheckpoint,
    level: Level = Level.DATA,
    *,
    workers: int = 1,
    restorer: Restorer | None = None,
    progress: Progress | None = None,
) -> Verdict:
    """Verifies a checkpoint.

    Args:
        checkpoint: Which.
        level: How much of it is looked at.
        workers: How many threads read.
        restorer: Restores it if it passes; TensorFlow's reader is not to be trusted with what does not. None
            if no restore is asked for.
        progress: Called now and then, from the calling thread, with the bytes done and the bytes in all; also
            while TensorFlow restores what was read.

    Returns:
        The verdict; whatever is wrong with the checkpoint, nothing is raised.

    Raises:
        TensorFlowError: There is a restorer, and TensorFlow does not start.
    """
    verdict = _lost(checkpoint, level, VerdictStatus.MISSING, "is not there")
    for _ in range(_ATTEMPTS):
        before = _identity(checkpoint)
        if before is None:
            return _lost(checkpoint, level, VerdictStatus.MISSING, "is not there")
        verdict = _verify_once(checkpoint, level, workers, progress)
        if verdict.ok and restorer is not None:
            verdict = _restore(checkpoint, verdict, restorer, progress)
        if verdict.ok or _identity(checkpoint) == before:
            break
    return verdict


def open_scanned(directory: OpenDirectory, checkpoint: Checkpoint, *, follow: bool) -> OpenCheckpoint:
    """A checkpoint that a scan found, for `verify` to read.

    Args:
        directory: The directory that was scanned.
        checkpoint: One of it.
        follow: Whether its files may be links.
    """
    data = tuple(file.name for file in checkpoint.shards) if checkpoint.format is Format.V1 else ()
    return OpenCheckpoint(directory, checkpoint.name, checkpoint.format, data, follow=follow)


def _identity(checkpoint: OpenCheckpoint) -> tuple[tuple[int, int, int], ...] | None:
    """What changes when the checkpoint is written again; None if it is not there."""
    names = checkpoint.data if checkpoint.format is Format.V1 else (f"{checkpoint.name}.index",)
    try:
        found = [
            os.stat(name, dir_fd=checkpoint.directory.fd, follow_symlinks=checkpoint.follow) for name in names
        ]
    except FileNotFoundError:
        return None
    except OSError:
        return ()  # reading it will say why
    return tuple((one.st_ino, one.st_size, one.st_mtime_ns) for one in found)


def _verify_once(
    checkpoint: OpenCheckpoint, level: Level, workers: int, progress: Progress | None
) -> Verdict:
    try:
        if checkpoint.format is Format.V1:
            return _verify_v1(checkpoint, level, progress)
        return _verify_v2(checkpoint, level, workers, progress)
    except FileNotFoundError:
        return _lost(checkpoint, level, VerdictStatus.MISSING, "is not there")
    except (OSError, UnreadableError) as error:
        return _lost(checkpoint, level, VerdictStatus.UNREADABLE, f"cannot be read: {reason(error)}")


def _restore(
    checkpoint: OpenCheckpoint, verdict: Verdict, restorer: Restorer, progress: Progress | None
) -> Verdict:
    """The verdict on what passed, after a restore."""
    from ckptctl.restore import ProofStatus  # noqa: PLC0415 - only who restores has loaded it

    def waiting() -> None:
        if progress is not None:
            progress(verdict.bytes, verdict.bytes)

    proof = restorer.prove(checkpoint, verdict.bytes, verdict.tensors, waiting)
    status = {
        ProofStatus.PROVEN: VerdictStatus.OK,
        ProofStatus.READABLE: VerdictStatus.READABLE,
        ProofStatus.FAILED: VerdictStatus.UNRESTORABLE,
    }[proof.status]
    return replace(verdict, status=status, level=Level.RESTORE, findings=proof.findings)


def _verify_v2(checkpoint: OpenCheckpoint, level: Level, workers: int, progress: Progress | None) -> Verdict:
    with checkpoint.index() as source:
        found = verify_bundle(
            source,
            checkpoint.shard,
            data=level is not Level.INDEX,
            finite=level is Level.FINITE,
            workers=workers,
            progress=progress,
        )
        cut = _is_cut(source)
        if not found.ok and _is_unsupported(source):
            return Verdict(checkpoint.path, VerdictStatus.UNREADABLE, level, findings=found.findings)
    tensors = 0 if found.index is None else sum(1 for _ in found.index.tensors())
    size = 0 if found.index is None else found.index.data_bytes
    status = _judge(found.findings, cut=cut)
    return Verdict(checkpoint.path, status, level, tensors, size, found.findings)


def _verify_v1(checkpoint: OpenCheckpoint, level: Level, progress: Progress | None) -> Verdict:
    report = Report()
    level = Level.INDEX if level is Level.INDEX else Level.DATA
    with checkpoint.open_data() as sources:
        _check_v1_shards(checkpoint, report)
        total, done = sum(source.size for source in sources), 0
        for source in sources:
            if level is Level.DATA:
                check_v1(source, report)
            else:
                _check_v1_table(source, report)
            done += source.size
            if progress is not None:
                progress(done, total)
        tensors = _check_v1_tensors(sources, report, checked=level is Level.INDEX)
        cut = any(_is_cut(source) for source in sources)
    findings = report.all()
    return Verdict(checkpoint.path, _judge(findings, cut=cut), level, tensors, total, findings)


def _check_v1_shards(checkpoint: OpenCheckpoint, report: Report) -> None:
    """Reports numbers that lack among the names of a sharded checkpoint's files."""
    there: dict[int, set[int]] = {}
    for one in map(naming.parse, checkpoint.data):
        if one is not None:
            there.setdefault(one.shards, set()).add(one.shard)
    for shards, numbers in there.items():
        if len(numbers) < shards:  # how many is a name's word, and may be any number
            first = next(shard for shard in range(shards) if shard not in numbers)
            message = f"{checkpoint.name}: has {len(numbers)} of {shards} shards, shard {first} is not there"
            report.add(Finding(FindingKind.MISSING_SHARD, message, shard=first))


def _check_v1_table(source: Source, report: Report) -> None:
    """Checks a V1 file without its data."""
    try:
        Table(source).check(report)
    except BundleError as error:
        report.add(Finding(FindingKind.INDEX, str(error)))


def _check_v1_tensors(sources: Sequence[Source], report: Report, *, checked: bool) -> int:
    """Checks what all files together say about the tensors, and returns how many there are.

    Args:
        sources: The files.
        report: Takes the findings.
        checked: Whether the blocks that say it have yet to pass their checksums.
    """
    whole = not report.findings
    try:
        tensors = read_v1(sources, checked=checked)
    except BundleError as error:
        if whole:
            report.add(Finding(list_finding_kind(error), str(error)))
        return 0
    for tensor in tensors.values() if whole else ():
        try:
            with contextlib.suppress(UnsupportedError):
                check_disjoint(tensor.shape, tensor.slices)
        except BundleError as error:
            message = f"{sources[0].name}: tensor {tensor.name!r}: {error}"
            report.add(Finding(FindingKind.SLICES, message, tensor.name))
    return len(tensors)


def _is_cut(source: Source) -> bool:
    """Whether a table lacks its end: tables are written front to back."""
    return source.size < len(_MAGIC) or source.pread(len(_MAGIC), source.size - len(_MAGIC)) != _MAGIC


def _is_unsupported(source: Source) -> bool:
    """Whether nothing speaks against an index but that it is newer or larger than what is read here."""
    try:
        read_index(source)
    except BundleError as error:
        # A footer that is damaged may claim a block too large as well.
        return isinstance(error, UnsupportedError) and not isinstance(error, BlockTooLargeError)
    return False


def _judge(findings: Sequence[Finding], *, cut: bool) -> VerdictStatus:
    """The status that findings make.

    Args:
        findings: All of them.
        cut: Whether the index, or a V1 file, lacks its end.
    """
    short = {finding.shard for finding in findings if finding.kind is FindingKind.RANGE}
    kinds = set()
    for finding in findings:
        lacking = finding.kind in _LACKING or (cut and finding.kind is FindingKind.INDEX)
        if finding.kind is FindingKind.SHARD_LENGTH and finding.shard not in short:
            lacking = False  # too long
        if not lacking:
            kinds.add(finding.kind)
    if kinds - {FindingKind.UNREADABLE, FindingKind.OMITTED}:
        return VerdictStatus.CORRUPT
    if FindingKind.UNREADABLE in kinds:
        return VerdictStatus.UNREADABLE
    return VerdictStatus.INCOMPLETE if findings else VerdictStatus.OK


def _lost(checkpoint: OpenCheckpoint, level: Level, status: VerdictStatus, why: str) -> Verdict:
    message = f"{checkpoint.data[0] if checkpoint.data else checkpoint.name + '.index'} {why}"
    kind = FindingKind.UNREADABLE if status is VerdictStatus.UNREADABLE else FindingKind.INDEX
    return Verdict(checkpoint.path, status, level, findings=(Finding(kind, message),))
