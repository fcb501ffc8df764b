"""Proves a TensorBundle: its index, the lengths of its shards, and every tensor's checksum.

Findings are collected, never raised. A missing or short shard costs the tensors in it, not the check of the
others.
"""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ckptctl.bundle.data import Part, PartResult, TensorCheck, check_gap, jobs, run_job
from ckptctl.bundle.findings import Finding, FindingKind, Report
from ckptctl.bundle.index import Index, check_index
from ckptctl.bundle.source import new_buffer
from ckptctl.bundle.structure import by_shard, check_structure, gaps, readable
from ckptctl.errors import UnreadableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import ThreadPoolExecutor

    from ckptctl.bundle.entries import TensorEntry
    from ckptctl.bundle.source import OpenShard, Source


@dataclass(frozen=True, slots=True)
class Verification:
    """What came of verifying a bundle.

    Attributes:
        findings: Everything that is wrong, in the order of index, structure, data.
        index: As much of the index as could be read; None if there was none.
        checked_bytes: How many bytes of tensors were read and compared.
    """

    findings: tuple[Finding, ...]
    index: Index | None
    checked_bytes: int = 0

    @property
    def ok(self) -> bool:
        """Whether nothing was found."""
        return not self.findings


def verify_bundle(
    index: Source,
    open_shard: OpenShard,
    *,
    data: bool = True,
    finite: bool = False,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Verification:
    """Verifies a bundle as far as it is told to.

    Args:
        index: The index file.
        open_shard: Opens a shard, given its number and the number of shards.
        data: Whether to read the shards and check every tensor; else only index and lengths are looked at.
        finite: Whether to count NaN and Inf too.
        workers: How many threads read.
        progress: Called now and then, from the calling thread, with the bytes done and the bytes in all.

    Returns:
        All findings.

    Raises:
        UnreadableError: The system does not let us read the index.
    """
    report = Report()
    content = check_index(index, report)
    if content is None:
        return Verification(report.all(), None)
    # Where entries were lost, a shard may hold more than the rest of them tells.
    whole = not report.findings
    sizes = _shard_sizes(content, open_shard, report)
    check_structure(content, sizes, report, whole=whole)
    if not data:
        return Verification(report.all(), content)
    with _Reader(content, report, workers=workers, finite=finite, progress=progress) as reader:
        for shard, entries in by_shard(content):
            if sizes.get(shard) is not None:
                reader.read(open_shard, shard, entries, whole=whole)
        return Verification(report.all(), content, reader.checked)


def _shard_sizes(index: Index, open_shard: OpenShard, report: Report) -> dict[int, int | None]:
    """The length of each shard that is there; one that cannot be opened is reported."""
    sizes: dict[int, int | None] = {}
    for shard in range(index.header.num_shards):
        try:
            with open_shard(shard, index.header.num_shards) as source:
                sizes[shard] = source.size
        except FileNotFoundError:
            continue
        except (OSError, UnreadableError) as error:
            sizes[shard] = None
            report.add(_unreadable(index, shard, error))
    return sizes


def _pool(workers: int) -> ThreadPoolExecutor | None:
    if workers == 1:
        return None
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415 - takes 7 ms, which only reading pays for

    return ThreadPoolExecutor(workers)


class _Reader:
    """Reads shards with several threads, and puts the results together in one."""

    def __init__(
        self,
        index: Index,
        report: Report,
        *,
        workers: int,
        finite: bool,
        progress: Callable[[int, int], None] | None,
    ) -> None:
        self._index = index
        self._report = report
        self._finite = finite
        self._progress = progress
        self._total = index.data_bytes
        self._local = threading.local()
        self._pool = _pool(workers)
        self.checked = 0

    def __enter__(self) -> _Reader:  # noqa: PYI034 - typing.Self needs 3.11
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            # After an interruption what is queued is not worth waiting for.
            self._pool.shutdown(cancel_futures=True)

    def read(self, open_shard: OpenShard, shard: int, entries: list[TensorEntry], *, whole: bool) -> None:
        """Checks a shard's tensors, and what lies between them."""
        try:
            with open_shard(shard, self._index.header.num_shards) as source:
                if whole:
                    for begin, end in gaps(entries, source.size):
                        finding = check_gap(source, shard, begin, end, self._buffer())
                        if finding is not None:
                            self._report.add(finding)
                self._read_tensors(source, list(readable(entries, source.size)))
        except (OSError, UnreadableError) as error:
            self._report.add(_unreadable(self._index, shard, error))

    def _read_tensors(self, source: Source, entries: list[TensorEntry]) -> None:
        work = list(jobs(entries))
        parts = Counter(part.entry.key for job in work for part in job)
        checks: dict[bytes, TensorCheck] = {}
        found: dict[bytes, list[Finding]] = {}
        for results in self._run(source, work):
            for result in results:
                entry = result.part.entry
                check = checks.setdefault(entry.key, TensorCheck(source.name, entry, parts[entry.key]))
                findings = check.add(result)
                if findings:
                    found[entry.key] = findings
                if check.complete:
                    del checks[entry.key]
                self.checked += result.part.size
            if self._progress is not None:
                self._progress(self.checked, self._total)
        for entry in entries:
            for finding in found.get(entry.key, ()):
                self._report.add(finding)

    def _run(self, source: Source, work: list[list[Part]]) -> Iterator[list[PartResult]]:
        """Yields the results of each job, in any order."""
        if self._pool is None:
            yield from (self._job(source, job) for job in work)
            return
        from concurrent.futures import as_completed  # noqa: PLC0415 - as in `_pool`

        futures = [self._pool.submit(self._job, source, job) for job in work]
        for future in as_completed(futures):
            yield future.result()

    def _job(self, source: Source, job: list[Part]) -> list[PartResult]:
        big_endian = self._index.header.big_endian
        return run_job(source, job, self._buffer(), big_endian=big_endian, finite=self._finite)

    def _buffer(self) -> memoryview:
        """The buffer of the thread that asks."""
        buffer: memoryview | None = getattr(self._local, "buffer", None)
        if buffer is None:
            buffer = self._local.buffer = new_buffer()
        return buffer


def _unreadable(index: Index, shard: int, error: Exception) -> Finding:
    message = f"{index.name}: shard {shard} cannot be read: {error}"
    return Finding(FindingKind.UNREADABLE, message, shard=shard)
