"""A LevelDB table: sorted keys and values in blocks, each with its checksum.

    +--------------------------------+
    | data block 0     | trailer     |
    | ...                            |
    | data block n-1   | trailer     |
    | metaindex block  | trailer     |  empty in TensorFlow's tables
    | index block      | trailer     |  one entry a data block: a key not less than its last one -> its handle
    +--------------------------------+
    | footer, the last 48 bytes      |
    +--------------------------------+

    trailer:  type     1 byte    0 as it is, 1 snappy
              crc32c   uint32    masked, over the (compressed) contents and the type
    handle:   offset   varint
              size     varint    without the trailer
    footer:   metaindex handle, index handle, zeros up to 40 bytes, magic 0xdb4775248b80fb57 (uint64)

All fixed numbers are little-endian. Answers to LevelDB's `doc/table_format.md`, and to
`tensorflow/core/lib/io/format.cc` and `table.cc`.

No checksum covers the footer. TensorFlow looks at its index handle and magic only; `Table.check` also reads
the metaindex, looks for bytes other than zero in the padding, and for bytes that belong to no block.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cramjam

from ckptctl.bundle.block import Block
from ckptctl.bundle.checksum import crc32c, unmask
from ckptctl.bundle.coding import CodingError, read_varint
from ckptctl.bundle.findings import Finding, FindingKind, Report
from ckptctl.bundle.source import read_exactly
from ckptctl.errors import BundleError, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ckptctl.bundle.source import Source

FOOTER_BYTES = 48
TRAILER_BYTES = 5
MAGIC = 0xDB4775248B80FB57

MAX_BLOCK_BYTES = 1 << 24
"""The largest block that is read into memory; TensorFlow ends a block once it has 256 KiB."""

_PADDED_BYTES = FOOTER_BYTES - 8
UNCOMPRESSED = 0
"""The type of a block that stands in the file as it is."""

_SNAPPY = 1
# Snappy's densest element makes 64 bytes of 3: whatever claims more than that is lying.
_SNAPPY_EXPANSION = 64 / 3


class BlockTooLargeError(UnsupportedError):
    """A block is larger than what may be read into memory; nothing else is known to be wrong with it."""


@dataclass(frozen=True, slots=True)
class BlockHandle:
    """Where a block is.

    Attributes:
        offset: From the beginning of the file.
        size: Of its contents, without the trailer.
    """

    offset: int
    size: int

    @property
    def end(self) -> int:
        """Behind its trailer."""
        return self.offset + self.size + TRAILER_BYTES


@dataclass(frozen=True, slots=True)
class Footer:
    """What stands at the end of a table.

    Attributes:
        metaindex: Where the metaindex block is.
        index: Where the index block is.
        padding: What fills the footer up; zeros.
    """

    metaindex: BlockHandle
    index: BlockHandle
    padding: bytes

    @property
    def expected_padding(self) -> int:
        """How long the padding is if no number takes more bytes than it needs."""
        handles = (self.metaindex, self.index)
        bits = [number.bit_length() for handle in handles for number in (handle.offset, handle.size)]
        return _PADDED_BYTES - sum(max(1, (count + 6) // 7) for count in bits)


class Table:
    """A table, opened: the footer and the index block are read, data blocks are when they are asked for.

    Args:
        source: The file.

    Raises:
        BundleError: It is no table, or its index block cannot be read.
        UnreadableError: The system refuses.
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        self.footer = read_footer(source)
        self._index = read_block(source, self.footer.index, "the index block")
        self._last: tuple[BlockHandle, Block] | None = None

    def handles(self) -> Iterator[tuple[bytes, BlockHandle]]:
        """Yields for each data block a key that is not less than any of its keys, and where it is.

        Raises:
            BundleError: The index block does not hold together, or blocks overlap or do not ascend: as each
                has its own place in the file, reading all of them costs no more than reading the file.
        """
        end = 0
        for key, value in self._index:
            handle = self._handle(value)
            if handle.offset < end or handle.end > self.source.size - FOOTER_BYTES:
                raise BundleError(
                    f"{self.source.name}: the index block places a block in bytes {handle.offset} to "
                    f"{handle.end}, expected it behind byte {end} and before the footer"
                )
            end = handle.end
            yield key, handle

    def block(self, handle: BlockHandle) -> Block:
        """Reads a data block; the last one is kept, as lookups tend to go on where they were.

        Raises:
            BundleError: It cannot be read, or fails its checksum.
        """
        if self._last is None or self._last[0] != handle:
            self._last = (handle, read_block(self.source, handle, "a data block"))
        return self._last[1]

    def get(self, key: bytes) -> bytes | None:
        """The value of a key, or None. Reads the one data block that can have it.

        Raises:
            BundleError: What had to be looked at does not hold together.
        """
        handle = self.locate(key)
        return None if handle is None else self.block(handle).get(key)

    def locate(self, key: bytes) -> BlockHandle | None:
        """The one data block that can have a key, or None.

        Raises:
            BundleError: What had to be looked at does not hold together.
        """
        entry = self._index.seek(key)
        return None if entry is None else self._handle(entry[1])

    def check(self, report: Report) -> None:
        """Reports what no lookup would notice: the metaindex block, the padding, bytes between the blocks.

        Data blocks are not read.
        """
        name = self.source.name
        expected = 0
        try:
            read_block(self.source, self.footer.metaindex, "the metaindex block")
            for _, handle in self.handles():
                if handle.offset != expected:
                    report.add(_stray(name, expected, handle.offset))
                expected = handle.end
            for handle in (self.footer.metaindex, self.footer.index):
                if handle.offset != expected:
                    report.add(_stray(name, expected, handle.offset))
                expected = handle.end
        except BundleError as error:
            report.add(Finding(FindingKind.BLOCK, str(error)))
            return
        end = self.source.size - FOOTER_BYTES
        if expected != end:
            report.add(_stray(name, expected, end))
        if any(self.footer.padding) or len(self.footer.padding) != self.footer.expected_padding:
            report.add(
                Finding(
                    FindingKind.PADDING,
                    f"{name}: expected nothing but zeros behind the footer's handles",
                    offset=self.source.size - 8 - len(self.footer.padding),
                )
            )

    def _handle(self, value: bytes) -> BlockHandle:
        try:
            handle, end = _read_handle(value, 0, len(value))
        except CodingError as error:
            raise BundleError(
                f"{self.source.name}: the index block holds a broken handle: {error}"
            ) from error
        if end != len(value):
            raise BundleError(
                f"{self.source.name}: the index block holds {len(value) - end} bytes behind a handle"
            )
        return handle


def read_footer(source: Source) -> Footer:
    """Reads a table's footer.

    Raises:
        BundleError: The file is no table.
        UnreadableError: The system refuses.
    """
    if source.size < FOOTER_BYTES:
        raise BundleError(
            f"{source.name}: expected a footer of {FOOTER_BYTES} bytes, the file has {source.size}"
        )
    begin = source.size - FOOTER_BYTES
    data = read_exactly(source, FOOTER_BYTES, begin, "the footer")
    magic = int.from_bytes(data[_PADDED_BYTES:], "little")
    if magic != MAGIC:
        raise BundleError(
            f"{source.name}: at byte {begin + _PADDED_BYTES}: expected the table's magic {MAGIC:#x}, "
            f"found {magic:#018x}"
        )
    try:
        metaindex, position = _read_handle(data, 0, _PADDED_BYTES)
        index, position = _read_handle(data, position, _PADDED_BYTES)
    except CodingError as error:
        raise BundleError(
            f"{source.name}: at byte {begin}: a broken handle in the footer: {error}"
        ) from error
    return Footer(metaindex, index, data[position:_PADDED_BYTES])


def read_block(source: Source, handle: BlockHandle, what: str, max_bytes: int = MAX_BLOCK_BYTES) -> Block:
    """Reads a block, checks it and decompresses it.

    Args:
        source: The file.
        handle: Where the block is.
        what: Which one it is, for messages.
        max_bytes: How large it may be, before and after decompression.

    Raises:
        BlockTooLargeError: It takes more memory than it may.
        BundleError: It is not inside the file, fails its checksum, or cannot be decompressed.
        UnreadableError: The system refuses.
    """
    where = f"{source.name}: {what} at byte {handle.offset}"
    if handle.size > max_bytes:
        raise BlockTooLargeError(f"{where}: claims {handle.size} bytes, expected at most {max_bytes}")
    data = read_exactly(source, handle.size + TRAILER_BYTES, handle.offset, what)
    stored = unmask(int.from_bytes(data[-4:], "little"))
    actual = crc32c(memoryview(data)[:-4])
    if stored != actual:
        raise BundleError(f"{where}: checksum {actual:#010x}, expected {stored:#010x}")
    contents = data[:-TRAILER_BYTES]
    kind = data[-TRAILER_BYTES]
    if kind == _SNAPPY:
        contents = _decompress(contents, where, max_bytes)
    elif kind != UNCOMPRESSED:
        raise BundleError(f"{where}: block type {kind}, expected 0 (uncompressed) or 1 (snappy)")
    return Block(contents, where)


def _decompress(data: bytes, where: str, max_bytes: int) -> bytes:
    """Undoes raw snappy, whose first bytes are a varint: the length of the result."""
    try:
        length, _ = read_varint(data, 0, len(data))
        if length > _SNAPPY_EXPANSION * len(data):
            raise BundleError(f"{where}: {len(data)} snappy bytes claim to hold {length}")
        if length > max_bytes:
            raise BlockTooLargeError(f"{where}: holds {length} bytes, expected at most {max_bytes}")
        contents = bytearray(length)
        count = cramjam.snappy.decompress_raw_into(data, contents)
    except (CodingError, cramjam.DecompressionError) as error:
        raise BundleError(f"{where}: broken snappy data: {error}") from error
    if count != length:
        raise BundleError(f"{where}: snappy data hold {count} bytes, expected {length}")
    return bytes(contents)


def _read_handle(data: bytes, position: int, limit: int) -> tuple[BlockHandle, int]:
    offset, position = read_varint(data, position, limit)
    size, position = read_varint(data, position, limit)
    return BlockHandle(offset, size), position


def _stray(name: str, begin: int, end: int) -> Finding:
    message = f"{name}: expected a block to begin at byte {begin}, the next one begins at byte {end}"
    return Finding(FindingKind.BLOCK, message, offset=begin)
