"""The index of a TensorBundle, `P.index`: a table whose values are protos.

    key             value
    ""              BundleHeaderProto   num_shards, endianness, version
    <tensor name>   BundleEntryProto    dtype, shape, and where the bytes are: shard_id, offset, size, crc32c
                                        or, of a partitioned tensor: dtype, shape, slices
    <slice key>     BundleEntryProto    one slice of a partitioned tensor; see `ckptctl.bundle.slices`

Every byte of the index is covered by a block's checksum, but for the footer's 48: there a change of the magic
or of a handle makes the table unreadable, and a change of the padding is reported by `Table.check`.

Answers to `tensorflow/core/util/tensor_bundle/tensor_bundle.cc` and `tensor_bundle.proto`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ckptctl.bundle.entries import BundleHeader, TensorEntry, parse_entry, parse_header
from ckptctl.bundle.findings import Finding, FindingKind, Report
from ckptctl.bundle.slices import TensorSlice, slice_key
from ckptctl.bundle.table import Table
from ckptctl.errors import BundleError, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ckptctl.bundle.block import Block
    from ckptctl.bundle.source import Source
    from ckptctl.bundle.table import BlockHandle

MAX_INDEX_BYTES = 1 << 28
"""The largest index that is read as a whole; a million tensors take less than a quarter of it."""

MAX_ENTRIES = 1 << 20

# Keys share prefixes, so they come to more than the file has; a writer's to at most 16 times as much.
_KEY_ALLOWANCE = 1 << 26
_MAX_KEY_EXPANSION = 16

# TensorFlow compresses no index. What another writer compresses may hold this much, and twice its size: many
# times what a million tensors take.
_CONTENTS_ALLOWANCE = 1 << 26
_MAX_CONTENTS_EXPANSION = 2

# Each slice that an entry lists is stored under a key of its own, and those come before the entry. Without
# them it is damaged, and says little; counted are slices and their dimensions.
_SLICES_ALLOWANCE = 1 << 18


@dataclass(frozen=True, slots=True)
class Index:
    """An index, read as a whole.

    Attributes:
        name: What messages call its file.
        header: What holds for the whole bundle.
        entries: All of them by their key, slices too, in the order of the index.
    """

    name: str
    header: BundleHeader
    entries: dict[bytes, TensorEntry]

    def get(self, key: bytes) -> TensorEntry | None:
        """The entry of a key, or None."""
        return self.entries.get(key)

    def tensors(self) -> Iterator[TensorEntry]:
        """The tensors, as a user knows them: a partitioned one is one tensor."""
        return (entry for entry in self.entries.values() if entry.slice_of is None)

    def stored(self) -> Iterator[TensorEntry]:
        """What has bytes in a shard: tensors that are whole, and slices."""
        return (entry for entry in self.entries.values() if not entry.slices)

    def parts(self, entry: TensorEntry) -> tuple[TensorEntry, ...]:
        """The entries that hold the bytes of a tensor: its slices in the order of the entry, or itself.

        Raises:
            BundleError: A slice has no entry.
        """
        return tuple(self._part(entry, part) for part in entry.slices) or (entry,)

    def _part(self, entry: TensorEntry, part: TensorSlice) -> TensorEntry:
        stored = self.entries.get(slice_key(entry.key, part))
        if stored is None:
            raise BundleError(f"{self.name}: tensor {entry.name!r}: slice {part} has no entry")
        return stored

    def tensor_bytes(self, entry: TensorEntry) -> int:
        """How many bytes a tensor has in the shards, all slices together.

        Raises:
            BundleError: A slice has no entry.
        """
        return sum(part.size for part in self.parts(entry))

    @property
    def data_bytes(self) -> int:
        """How many bytes all tensors have together."""
        return sum(entry.size for entry in self.stored())


class IndexReader:
    """An index, of which only what is asked for is read.

    Args:
        source: The file.

    Raises:
        BundleError: It is no table, or has no header that we can read.
        UnreadableError: The system refuses.
    """

    def __init__(self, source: Source) -> None:
        self._table = Table(source)
        self.name = source.name
        self.header = _read_header(self._table)

    def get(self, key: bytes) -> TensorEntry | None:
        """The entry of a key, or None. Reads the one block that can have it.

        Raises:
            BundleError: What had to be looked at does not hold together.
        """
        value = self._table.get(key)
        return None if value is None else parse_entry(self.name, self.header, key, value)


def read_index(source: Source) -> Index:
    """Reads a whole index, every checksum of it.

    Args:
        source: The file.

    Raises:
        BundleError: Anything in it is not as the format asks for.
        UnreadableError: The system refuses.
    """
    table = Table(source)
    header = _read_header(table)
    return Index(source.name, header, {entry.key: entry for entry in _entries(table, header, None)})


def check_index(source: Source, report: Report) -> Index | None:
    """Reads as much of an index as can be read, and reports what cannot.

    Args:
        source: The file.
        report: Takes the findings.

    Returns:
        What could be read; None if there is no table or no header.

    Raises:
        UnreadableError: The system refuses.
    """
    try:
        table = Table(source)
        header = _read_header(table)
    except BundleError as error:
        report.add(Finding(FindingKind.INDEX, str(error)))
        return None
    table.check(report)
    entries = {}
    try:
        for entry in _entries(table, header, report):
            entries[entry.key] = entry
    except BundleError as error:
        report.add(Finding(FindingKind.INDEX, str(error)))
    return Index(source.name, header, entries)


def _read_header(table: Table) -> BundleHeader:
    value = table.get(b"")
    if value is None:
        raise BundleError(f"{table.source.name}: expected a header under the empty key, found none")
    return parse_header(table.source.name, value)


def _entries(table: Table, header: BundleHeader, report: Report | None) -> Iterator[TensorEntry]:
    """Every tensor's entry, and every slice's; those that cannot be read are reported, or raise."""
    name = table.source.name
    allowance = _SLICES_ALLOWANCE
    for key, value in _values(table, report):
        try:
            entry = parse_entry(name, header, key, value)
        except BundleError as error:
            if report is None:
                raise
            report.add(Finding(FindingKind.ENTRY, str(error), key.decode("utf-8", "surrogateescape")))
            continue
        if entry.slices:
            allowance -= len(entry.slices) * (1 + len(entry.shape))
            if allowance < 0:
                raise UnsupportedError(f"{name}: entry {key!r}: has slices out of all proportion")
        elif entry.slice is not None:
            allowance += 1 + len(entry.slice.extents)
        yield entry


def _values(table: Table, report: Report | None) -> Iterator[tuple[bytes, bytes]]:
    """Every key but the header's, with its value; blocks that cannot be read are reported, or raise."""
    name, size = table.source.name, table.source.size
    if size > MAX_INDEX_BYTES:
        raise UnsupportedError(f"{name}: has {size} bytes, expected at most {MAX_INDEX_BYTES} of an index")
    allowance = _KEY_ALLOWANCE + _MAX_KEY_EXPANSION * size
    contents = _CONTENTS_ALLOWANCE + _MAX_CONTENTS_EXPANSION * size
    entries = 0
    last = b""
    for limit, handle in table.handles():
        try:
            block = table.block(handle)
            contents -= block.size
            if contents < 0:
                break
            for key, value in _block_values(table, handle, block, last, limit):
                last = key
                entries += 1
                allowance -= len(key)
                if entries > MAX_ENTRIES or allowance < 0:
                    break
                yield key, value
        except BundleError as error:
            if report is None:
                raise
            report.add(Finding(FindingKind.BLOCK, str(error), offset=handle.offset))
        if entries > MAX_ENTRIES or allowance < 0:
            raise UnsupportedError(
                f"{name}: has more than {MAX_ENTRIES} entries, or keys out of all proportion"
            )
    if contents < 0:
        raise UnsupportedError(f"{name}: {size} bytes hold contents out of all proportion")


def _block_values(
    table: Table, handle: BlockHandle, block: Block, last: bytes, limit: bytes
) -> Iterator[tuple[bytes, bytes]]:
    """The entries of a data block, if their keys lie between `last` and its key in the index block."""
    for key, value in block:
        if not (last < key or handle.offset == 0) or key > limit:
            raise BundleError(
                f"{table.source.name}: data block at byte {handle.offset}: expected a key behind {last!r} "
                f"and up to {limit!r}, found {key!r}"
            )
        if key:  # the empty one is the header's
            yield key, value
