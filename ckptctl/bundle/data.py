"""The bytes of tensors in a shard, checked in bounded memory and by several threads.

A shard, `P.data-NNNNN-of-MMMMM`, holds nothing but the bytes of its tensors, each where its entry says:

    numbers        the elements in row-major order, in the byte order of the machine that wrote the bundle
    DT_STRING,     see `ckptctl.bundle.strings`
    DT_VARIANT
    DT_RESOURCE,   no writer of TensorFlow's makes these; their bytes are checked as they are
    unknown types

No checksum covers bytes between tensors, which only a writer that aligns leaves: they have to be zero.

A shard is cut into jobs of about the same size. Small tensors that lie next to each other make up one job
with a single read; a large one is cut into parts whose CRCs are combined, so that one giant tensor keeps
all threads busy.

Answers to `BundleReader::GetValue` in `tensorflow/core/util/tensor_bundle/tensor_bundle.cc`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ckptctl.bundle.checksum import crc32c, crc32c_combine
from ckptctl.bundle.dtypes import STRING, VARIANT
from ckptctl.bundle.findings import Finding, FindingKind
from ckptctl.bundle.finite import Tally, tally_of
from ckptctl.bundle.source import CHUNK_BYTES, stream
from ckptctl.bundle.strings import crc_of_strings, crc_of_variants
from ckptctl.bundle.structure import MAX_ALIGNMENT
from ckptctl.errors import BundleError, CkptctlError, UnreadableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from ckptctl.bundle.entries import TensorEntry
    from ckptctl.bundle.source import Source

PART_BYTES = 16 * CHUNK_BYTES
"""How much of a large tensor is one job; a multiple of every element's size."""

_MAX_BATCH = 4096
_NOTHING = Tally()


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a tensor, or all of it.

    Attributes:
        entry: The tensor's.
        begin: Where it begins, from the beginning of the tensor.
        size: How many bytes it has.
    """

    entry: TensorEntry
    begin: int
    size: int


@dataclass(frozen=True, slots=True)
class PartResult:
    """What came of reading a part.

    Attributes:
        part: Which.
        crc: Of its bytes, or what the tensor's entry should have for strings and variants.
        tally: How many of its elements are not finite, as far as that was asked for.
        finding: Why it could not be read.
    """

    part: Part
    crc: int = 0
    tally: Tally = _NOTHING
    finding: Finding | None = None


@dataclass(slots=True)
class TensorCheck:
    """Puts the parts of one tensor together again; they come in any order.

    Attributes:
        name: What messages call the shard.
        entry: The tensor's.
        parts: How many there are in all.
        results: Those that have come.
    """

    name: str
    entry: TensorEntry
    parts: int
    results: list[PartResult] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """Whether all parts have come."""
        return len(self.results) == self.parts

    def add(self, result: PartResult) -> list[Finding]:
        """Takes a part; with the last one, returns what is wrong with the tensor."""
        self.results.append(result)
        return self._conclude() if self.complete else []

    def _conclude(self) -> list[Finding]:
        entry = self.entry
        self.results.sort(key=lambda result: result.part.begin)
        broken = [result.finding for result in self.results if result.finding is not None]
        if broken:
            return broken[:1]
        crc = self.results[0].crc
        for result in self.results[1:]:
            crc = crc32c_combine(crc, result.crc, result.part.size)
        if crc != entry.crc32c:
            # What its bytes mean is not worth a word when they are not the ones that were saved.
            message = (
                f"{self.name}: tensor {entry.label!r} in bytes {entry.offset} to {entry.end}: "
                f"checksum {crc:#010x}, expected {entry.crc32c:#010x}"
            )
            return [_finding(FindingKind.CHECKSUM, message, entry)]
        total = sum((result.tally for result in self.results), _NOTHING)
        if not total.nan + total.inf:
            return []
        message = (
            f"{self.name}: tensor {entry.label!r} at byte {entry.offset}: "
            f"{total.nan} NaN and {total.inf} Inf among {entry.elements} elements"
        )
        return [_finding(FindingKind.NOT_FINITE, message, entry)]


def jobs(entries: Iterable[TensorEntry]) -> Iterator[list[Part]]:
    """Cuts a shard into jobs.

    Args:
        entries: Tensors of one shard in the order of their offsets, none of which overlap.

    Yields:
        Parts of one large tensor, or small tensors that lie within `CHUNK_BYTES`.
    """
    batch: list[Part] = []
    for entry in entries:
        if entry.dtype in {STRING, VARIANT}:
            yield [Part(entry, 0, entry.size)]
            continue
        if entry.size > CHUNK_BYTES:
            for begin in range(0, entry.size, PART_BYTES):
                yield [Part(entry, begin, min(PART_BYTES, entry.size - begin))]
            continue
        if batch and (entry.end - batch[0].entry.offset > CHUNK_BYTES or len(batch) == _MAX_BATCH):
            yield batch
            batch = []
        batch.append(Part(entry, 0, entry.size))
    if batch:
        yield batch


def run_job(
    source: Source, job: list[Part], buffer: memoryview, *, big_endian: bool, finite: bool
) -> list[PartResult]:
    """Reads the parts of a job.

    Args:
        source: The shard.
        job: See `jobs`.
        buffer: Of the thread's own, of `CHUNK_BYTES`.
        big_endian: Of the machine that wrote the bundle.
        finite: Whether to count NaN and Inf.
    """
    window = _window(source, job, buffer) if len(job) > 1 else None
    results = []
    for part in job:
        entry = part.entry
        try:
            if entry.dtype == STRING:
                result = PartResult(part, crc_of_strings(source, entry, buffer, big_endian=big_endian))
            elif entry.dtype == VARIANT:
                result = PartResult(part, crc_of_variants(source, entry, buffer, big_endian=big_endian))
            else:
                tally = tally_of(entry, big_endian=big_endian) if finite else None
                result = _read_part(part, _pieces(source, part, buffer, window), tally)
        except UnreadableError as error:
            result = PartResult(part, finding=_finding(FindingKind.UNREADABLE, str(error), entry))
        except BundleError as error:
            result = PartResult(part, finding=_finding(FindingKind.LAYOUT, str(error), entry))
        results.append(result)
    return results


def check_gap(source: Source, shard: int, begin: int, end: int, buffer: memoryview) -> Finding | None:
    """Looks at bytes that belong to no tensor, which have to be padding.

    Args:
        source: The shard.
        shard: Its number.
        begin: Where they begin.
        end: Where they end.
        buffer: For streaming.
    """
    place = f"{source.name}: bytes {begin} to {end} belong to no tensor"
    if end - begin >= MAX_ALIGNMENT:
        return Finding(FindingKind.PADDING, f"{place}, more than alignment leaves", shard=shard, offset=begin)
    try:
        if any(any(piece) for piece in stream(source, end - begin, begin, buffer, "padding")):
            return Finding(FindingKind.PADDING, f"{place}, and are not zero", shard=shard, offset=begin)
    except CkptctlError as error:
        return Finding(FindingKind.UNREADABLE, str(error), shard=shard, offset=begin)
    return None


def _window(source: Source, job: list[Part], buffer: memoryview) -> tuple[int, memoryview] | None:
    """Reads the range of a whole job at once: where it begins, and its bytes."""
    begin = job[0].entry.offset
    try:
        return begin, buffer[: source.preadinto(buffer[: job[-1].entry.end - begin], begin)]
    except UnreadableError:
        return None  # the parts are tried one by one, and say which of them it is


def _pieces(
    source: Source, part: Part, buffer: memoryview, window: tuple[int, memoryview] | None
) -> Iterator[memoryview]:
    if window is None:
        what = f"tensor {part.entry.label!r}"
        return stream(source, part.size, part.entry.offset + part.begin, buffer, what)
    begin, data = window
    at = part.entry.offset - begin
    if at + part.size > len(data):
        raise BundleError(
            f"{source.name}: ended before byte {part.entry.end}, in tensor {part.entry.label!r}"
        )
    return iter((data[at : at + part.size],))


def _read_part(
    part: Part, pieces: Iterator[memoryview], tally: Callable[[memoryview], Tally] | None
) -> PartResult:
    crc = 0
    total = _NOTHING
    for piece in pieces:
        crc = crc32c(piece, crc)
        if tally is not None:
            total += tally(piece)
    return PartResult(part, crc, total)


def _finding(kind: FindingKind, message: str, entry: TensorEntry) -> Finding:
    return Finding(kind, message, entry.name, entry.shard_id, entry.offset)
