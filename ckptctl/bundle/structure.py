"""What the index alone can prove or disprove: shards of the right length, ranges inside and not overlapping.

The writer puts a shard's tensors one behind the other, so that the largest offset + size is the shard's
length to the byte. A writer that was asked to align pads behind each tensor up to a multiple of a power of
two.

Answers to `BundleWriter::Add` and `BundleReader::GetValue` in
`tensorflow/core/util/tensor_bundle/tensor_bundle.cc`.
"""

from __future__ import annotations

import contextlib
from itertools import groupby
from typing import TYPE_CHECKING

from ckptctl.bundle.dtypes import STRING, VARIANT
from ckptctl.bundle.findings import Finding, FindingKind, Report
from ckptctl.bundle.slices import check_disjoint, slice_key
from ckptctl.errors import BundleError, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from ckptctl.bundle.entries import TensorEntry
    from ckptctl.bundle.index import Index

MAX_ALIGNMENT = 1 << 16
"""The largest alignment that is taken for one."""

# The fewest bytes of an element: a string has a varint, a variant a varint and a checksum.
_LEAST_BYTES = {STRING: 1, VARIANT: 5}
_LENGTHS_CHECKSUM_BYTES = 4


def check_structure(
    index: Index, shard_sizes: Mapping[int, int | None], report: Report, *, whole: bool = True
) -> None:
    """Reports what is wrong with a bundle without reading its data.

    Args:
        index: The index.
        shard_sizes: The length of each shard in bytes by its number, None for one that cannot be read; those
            that are not there are left out. One that no tensor needs may be missing: TensorFlow would not
            miss it either.
        report: Takes the findings.
        whole: Whether every entry of the index could be read. If not, bytes without a tensor and slices
            without their whole are not held against the bundle.
    """
    for entry in index.entries.values():
        _check_entry(index, entry, report, whole=whole)
    used = dict(by_shard(index))
    for shard in sorted(used.keys() | shard_sizes.keys()):
        if shard not in shard_sizes:
            message = f"{index.name}: shard {shard} of {index.header.num_shards} is not there"
            report.add(Finding(FindingKind.MISSING_SHARD, message, shard=shard))
            continue
        size = shard_sizes[shard]
        if size is not None:
            _check_shard(index.name, shard, used.get(shard, []), size, report, whole=whole)


def by_shard(index: Index) -> Iterator[tuple[int, list[TensorEntry]]]:
    """Yields each shard that has tensors, with what is stored in it, in the order of the offsets."""
    stored = sorted(index.stored(), key=lambda entry: (entry.shard_id, entry.offset, entry.size))
    for shard, entries in groupby(stored, key=lambda entry: entry.shard_id):
        yield shard, list(entries)


def readable(entries: Iterable[TensorEntry], size: int) -> Iterator[TensorEntry]:
    """Yields the tensors of a shard that are inside it and overlap none before: each byte is read but once.

    Args:
        entries: The shard's, in the order of their offsets.
        size: The shard's length.
    """
    end = 0
    for entry in entries:
        if entry.end <= size and (entry.offset >= end or not entry.size):
            end = max(end, entry.end)
            yield entry


def gaps(entries: Iterable[TensorEntry], size: int) -> Iterator[tuple[int, int]]:
    """Yields begin and end of each range of a shard that belongs to no tensor.

    Args:
        entries: The shard's, in the order of their offsets.
        size: The shard's length.
    """
    position = 0
    for entry in entries:
        if position < min(entry.offset, size):
            yield position, min(entry.offset, size)
        position = max(position, entry.end)
    if position < size:
        yield position, size


def _check_entry(index: Index, entry: TensorEntry, report: Report, *, whole: bool) -> None:
    if entry.slices:
        _check_slices(index, entry, report, whole=whole)
        return
    if entry.slice_of is not None and whole:
        partitioned = index.entries.get(entry.slice_of)
        if partitioned is None or entry.slice not in partitioned.slices:
            message = f"{index.name}: {entry.label!r} is stored, and no tensor has that slice"
            report.add(Finding(FindingKind.SLICES, message, entry.name))
    expected = entry.expected_size
    least = _LEAST_BYTES.get(entry.dtype, 0) * entry.elements
    if entry.dtype == STRING and entry.size:
        least += _LENGTHS_CHECKSUM_BYTES
    if expected is not None and entry.size != expected:
        wanted = f"{expected} bytes"
    elif entry.size < least:
        wanted = f"at least {least} bytes"
    else:
        return
    message = (
        f"{index.name}: tensor {entry.label!r}: {entry.dtype_name} of shape {list(entry.shape)} takes "
        f"{wanted}, the entry has {entry.size}"
    )
    report.add(Finding(FindingKind.SIZE, message, entry.name, entry.shard_id, entry.offset))


def _check_slices(index: Index, entry: TensorEntry, report: Report, *, whole: bool) -> None:
    """Checks that each slice of a partitioned tensor is stored, and that none has an element of another."""
    where = f"{index.name}: tensor {entry.name!r}"
    try:
        with contextlib.suppress(UnsupportedError):
            check_disjoint(entry.shape, entry.slices)
    except BundleError as error:
        report.add(Finding(FindingKind.SLICES, f"{where}: {error}", entry.name))
        return
    for part in entry.slices:
        stored = index.entries.get(slice_key(entry.key, part))
        shape = tuple(end - begin for begin, end in part.ranges(entry.shape))
        if stored is None and not whole:
            continue
        if stored is None:
            report.add(Finding(FindingKind.SLICES, f"{where}: slice {part} has no entry", entry.name))
        elif (stored.dtype, stored.shape) != (entry.dtype, shape) or stored.slices:
            message = (
                f"{where}: slice {part} is stored as {stored.dtype_name} of shape {list(stored.shape)}, "
                f"expected {entry.dtype_name} of shape {list(shape)}"
            )
            report.add(Finding(FindingKind.SLICES, message, entry.name, stored.shard_id, stored.offset))


def _check_shard(
    name: str, shard: int, entries: list[TensorEntry], size: int, report: Report, *, whole: bool
) -> None:
    end = 0
    holder = ""
    for entry in entries:
        where = f"{name}: tensor {entry.label!r} in bytes {entry.offset} to {entry.end} of shard {shard}"
        if entry.end > size:
            message = f"{where}, which has {size} bytes"
            report.add(Finding(FindingKind.RANGE, message, entry.name, shard, entry.offset))
        if entry.size and entry.offset < end:
            message = f"{where} overlaps {holder!r}, which ends at byte {end}"
            report.add(Finding(FindingKind.OVERLAP, message, entry.name, shard, entry.offset))
        if entry.end > end:
            end, holder = entry.end, entry.label
    if size < end or (whole and size > end and size != _aligned_end(entries, end)):
        message = f"{name}: shard {shard} has {size} bytes, expected {end}"
        report.add(Finding(FindingKind.SHARD_LENGTH, message, shard=shard, offset=min(size, end)))


def _aligned_end(entries: list[TensorEntry], end: int) -> int:
    """Where the shard ends if its writer aligned, which gaps between its tensors give away."""
    if next(gaps(entries, end), None) is None:
        return end
    alignment = MAX_ALIGNMENT
    for entry in entries:
        if entry.offset:
            alignment = min(alignment, entry.offset & -entry.offset)
    return -(-end // alignment) * alignment
