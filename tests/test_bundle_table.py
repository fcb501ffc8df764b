"""Tables: blocks, footers, lookups, snappy, and what lies in their place."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

import bundle_writer as writer
import cramjam
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ckptctl.bundle.findings import FindingKind, Report
from ckptctl.bundle.source import BytesSource
from ckptctl.bundle.table import MAX_BLOCK_BYTES, BlockTooLargeError, Table
from ckptctl.errors import BundleError

Entries = list[tuple[bytes, bytes]]

ENTRIES: Entries = [(b"", b"header")] + [(b"layer/%05d/kernel" % n, b"v" * (n % 9)) for n in range(500)]

SMALL: Entries = [(b"", b"header"), (b"a", b"1"), (b"ab", b"22"), (b"b", b"333")]


@dataclass
class Counting:
    """A source that writes down which ranges are read."""

    data: bytes
    name: str = "counted"
    reads: list[tuple[int, int]] = field(default_factory=list)

    @property
    def size(self) -> int:
        """See Source."""
        return len(self.data)

    def pread(self, length: int, offset: int) -> bytes:
        """See Source."""
        self.reads.append((offset, length))
        return self.data[offset : offset + length]

    def preadinto(self, buffer: memoryview, offset: int) -> int:
        """See Source."""
        data = self.pread(len(buffer), offset)
        buffer[: len(data)] = data
        return len(data)


def opened(data: bytes) -> Table:
    """A table over bytes."""
    return Table(BytesSource(data, "P.index"))


def everything(table: Table) -> Entries:
    """All entries of a table."""
    return [entry for _, handle in table.handles() for entry in table.block(handle)]


@pytest.mark.parametrize("compress", [False, True], ids=["plain", "snappy"])
@pytest.mark.parametrize("restart_interval", [1, 2, 16])
@pytest.mark.parametrize("block_bytes", [1, 100, 1 << 18])
def test_reads_what_was_written(block_bytes: int, restart_interval: int, compress: bool) -> None:  # noqa: FBT001
    """Iteration yields every entry, and a lookup finds each of them and none between, before or behind."""
    data = writer.table(
        ENTRIES, block_bytes=block_bytes, restart_interval=restart_interval, compress=compress
    )
    table = opened(data)
    assert everything(table) == ENTRIES
    for key, value in ENTRIES:
        assert table.get(key) == value
        assert table.get(key + b"\x00") is None
    assert table.get(b"zzz") is None
    assert table.get(b"layer") is None
    report = Report()
    table.check(report)
    assert not report.findings


@given(
    st.dictionaries(st.binary(max_size=40), st.binary(max_size=300), max_size=40),
    st.integers(1, 500),
    st.integers(1, 20),
    st.booleans(),
)
def test_any_entries(
    entries: dict[bytes, bytes],
    block_bytes: int,
    restart_interval: int,
    compress: bool,  # noqa: FBT001
) -> None:
    """Whatever keys and values a table has, they are read as they were written."""
    rows = sorted(entries.items())
    table = opened(
        writer.table(rows, block_bytes=block_bytes, restart_interval=restart_interval, compress=compress)
    )
    assert everything(table) == rows
    assert all(table.get(key) == value for key, value in rows)


def test_lookup_reads_one_block() -> None:
    """A lookup reads the footer, the index block, and the one data block that can have the key."""
    source = Counting(writer.table(ENTRIES, block_bytes=100))
    table = Table(source)
    assert len(source.reads) == 2
    handles = dict(table.handles())
    assert len(handles) > 50
    key = ENTRIES[300][0]
    assert table.get(key) == ENTRIES[300][1]
    (offset, length) = source.reads[2]
    assert len(source.reads) == 3
    assert key <= min(limit for limit, handle in handles.items() if handle.offset == offset)
    assert length < 200
    table.get(ENTRIES[300][0])
    assert len(source.reads) == 3, "the block that was read last is kept"


def test_snappy_of_another_writer() -> None:
    """Snappy that a common compressor made is read like any other."""
    contents = writer.block(ENTRIES)
    compressed = bytes(cramjam.snappy.compress_raw(contents))
    data = writer.table(SMALL)
    body = compressed + b"\x01"
    body += struct.pack("<I", writer.masked(body))
    start = len(body)
    metaindex = writer.with_trailer(writer.block([]))
    index = writer.with_trailer(writer.block([(b"zz", writer.varint_pair((0, len(compressed))))], 1))
    footer = writer.footer((start, len(metaindex) - 5), (start + len(metaindex), len(index) - 5))
    data = body + metaindex + index + footer
    assert everything(opened(data)) == ENTRIES


@pytest.mark.parametrize("compress", [False, True], ids=["plain", "snappy"])
def test_cut_at_every_length(compress: bool) -> None:  # noqa: FBT001
    """A table that is cut anywhere is an error, and nothing else."""
    data = writer.table(SMALL, block_bytes=1, compress=compress)
    for length in range(len(data)):
        with pytest.raises(BundleError):
            opened(data[:length])


@pytest.mark.parametrize("compress", [False, True], ids=["plain", "snappy"])
def test_every_flipped_bit_is_found(compress: bool) -> None:  # noqa: FBT001
    """No bit of a table can be flipped unnoticed, not even in the footer's padding."""
    data = writer.table(SMALL, block_bytes=1, compress=compress)
    for position in range(len(data)):
        for bit in range(8):
            damaged = bytearray(data)
            damaged[position] ^= 1 << bit
            report = Report()
            try:
                table = opened(bytes(damaged))
                table.check(report)
                everything(table)
            except BundleError:
                continue
            assert report.findings, f"bit {bit} of byte {position}"


def one_block(contents: bytes, kind: int = 0, handle: tuple[int, int] | None = None) -> bytes:
    """A table with one data block of these very bytes."""
    data = contents + bytes([kind])
    data += struct.pack("<I", writer.masked(data))
    metaindex = writer.with_trailer(writer.block([]))
    at = handle or (0, len(contents))
    index = writer.with_trailer(writer.block([(b"\xff", writer.varint_pair(at))], 1))
    metaindex_at = len(data)
    index_at = metaindex_at + len(metaindex)
    return (
        data
        + metaindex
        + index
        + writer.footer((metaindex_at, len(metaindex) - 5), (index_at, len(index) - 5))
    )


RESTART = struct.pack("<II", 0, 1)


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        (b"", "count of restarts"),
        (b"\x00\x00\x00\x80", "claims 2147483648 restarts"),
        (b"\x01\x01\x01ab" + RESTART, "shares 1 bytes with a key of 0"),
        (b"\x00\x7f\x01ab" + RESTART, "ends at byte"),
        (b"\x00\x01" + writer.varint(2**63) + b"a" + RESTART, "ends at byte"),
        (b"\x00" + writer.varint(2**64 - 1) + b"\x01a" + RESTART, "ends at byte"),
        (b"\x00\x01\x00a" * 2 + RESTART, "does not follow"),
        (b"\x00\x01\x00b\x00\x01\x00a" + RESTART, "does not follow"),
        (b"\xff" * 40 + RESTART, "64 bits"),
    ],
    ids=[
        "empty",
        "restarts",
        "shared",
        "key-beyond",
        "value-of-2**63",
        "key-of-2**64",
        "twice",
        "descending",
        "varint",
    ],
)
def test_entries_that_lie(contents: bytes, message: str) -> None:
    """Numbers in a block that cannot be are named, with the place where they stand."""
    with pytest.raises(BundleError, match=message):
        everything(opened(one_block(contents)))


@pytest.mark.parametrize(
    "handle",
    [(0, 2**63), (2**63, 10), (2**64 - 1, 2**64 - 1), (10, 60), (1 << 40, 4), (0, MAX_BLOCK_BYTES)],
    ids=str,
)
def test_handles_that_lie(handle: tuple[int, int]) -> None:
    """A handle that leads outside the file is an error, and nothing of its size is allocated."""
    data = one_block(writer.block([(b"a", b"1")]), handle=handle)
    with pytest.raises(BundleError):
        everything(opened(data))
    with pytest.raises(BundleError):
        opened(data).get(b"a")


def test_handles_that_repeat() -> None:
    """Two handles to one block are an error: a small index cannot make its reader work without an end."""
    contents = writer.with_trailer(writer.block([(b"a", b"1")]))
    metaindex = writer.with_trailer(writer.block([]))
    handle = writer.varint_pair((0, len(contents) - 5))
    index = writer.with_trailer(writer.block([(b"b%d" % n, handle) for n in range(9)], 1))
    at = len(contents) + len(metaindex)
    data = (
        contents
        + metaindex
        + index
        + writer.footer((len(contents), len(metaindex) - 5), (at, len(index) - 5))
    )
    with pytest.raises(BundleError, match="expected it behind byte"):
        everything(opened(data))


def test_index_block_that_is_its_own_data() -> None:
    """A handle that leads back to the index block is an error."""
    index = writer.with_trailer(writer.block([(b"a", writer.varint_pair((0, 14)))], 1))
    metaindex = writer.with_trailer(writer.block([]))
    data = index + metaindex + writer.footer((len(index), len(metaindex) - 5), (0, len(index) - 5))
    table = opened(data)
    report = Report()
    table.check(report)
    assert report.findings


def test_bytes_between_blocks_are_reported() -> None:
    """Bytes that belong to no block, and so to no checksum, are reported with their place."""
    first = writer.with_trailer(writer.block([(b"a", b"1")]))
    gap = b"gap"
    metaindex = writer.with_trailer(writer.block([]))
    index = writer.with_trailer(writer.block([(b"a", writer.varint_pair((0, len(first) - 5)))], 1))
    at = len(first) + len(gap)
    data = first + gap + metaindex + index
    data += writer.footer((at, len(metaindex) - 5), (at + len(metaindex), len(index) - 5))
    report = Report()
    opened(data).check(report)
    assert [(finding.kind, finding.offset) for finding in report.findings] == [
        (FindingKind.BLOCK, len(first))
    ]


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        (writer.varint(2**32 - 1) + b"\x00a", "claim to hold 4294967295"),
        (writer.varint(2**64 - 1) + b"\x00a", "claim to hold"),
        (writer.varint(2000) + b"\x00a" * 200, "broken snappy"),
        (writer.varint(3) + b"\x00a", "broken snappy"),
        (b"", "broken snappy"),
        (b"\xff\xff", "broken snappy"),
        (writer.varint(4) + b"\x01\x00", "broken snappy"),
    ],
    ids=["4GiB", "2**64", "short", "other-length", "nothing", "no-length", "copy-of-nothing"],
)
def test_snappy_that_lies(contents: bytes, message: str) -> None:
    """A compressed block that claims more than it can hold is an error before anything is allocated."""
    with pytest.raises(BundleError, match=message):
        everything(opened(one_block(contents, kind=1)))


def test_snappy_bomb() -> None:
    """A compressed block may not grow beyond what a block may have."""
    contents = bytes(cramjam.snappy.compress_raw(bytes(MAX_BLOCK_BYTES + 1)))
    with pytest.raises(BlockTooLargeError):
        everything(opened(one_block(contents, kind=1)))


@pytest.mark.parametrize("kind", [2, 3, 255])
def test_unknown_block_type(kind: int) -> None:
    """A block of a type that nobody writes is named as such."""
    with pytest.raises(BundleError, match=f"block type {kind}, expected 0 .uncompressed. or 1 .snappy."):
        everything(opened(one_block(writer.block([(b"a", b"1")]), kind=kind)))


def test_keys_out_of_proportion() -> None:
    """Entries of a few bytes that each stand for a huge key are given up, and not read for hours."""
    contents = bytearray(b"\x00" + writer.varint(100_000) + b"\x00" + b"k" * 100_000)
    for number in range(100_000):
        contents += writer.varint(99_997) + b"\x03\x00" + number.to_bytes(3, "big")
    with pytest.raises(BundleError, match=r"out of all proportion|does not follow"):
        everything(opened(one_block(bytes(contents) + RESTART)))


@given(st.binary(max_size=200))
def test_any_bytes_as_a_block(contents: bytes) -> None:
    """Any bytes as a block give entries or a BundleError, read in order or looked up."""
    data = one_block(contents)
    table = opened(data)
    try:
        entries = everything(table)
    except BundleError:
        entries = []
    assert entries == sorted(entries)
    for key in (b"", b"a", b"\xff"):
        try:
            table.get(key)
        except BundleError:
            continue


@given(st.binary(max_size=100), st.booleans())
def test_any_bytes_as_a_table(data: bytes, magic: bool) -> None:  # noqa: FBT001
    """Any bytes as a table, with the right magic or without, give a table or a BundleError."""
    if magic:
        data += struct.pack("<Q", writer.MAGIC)
    try:
        everything(opened(data))
    except BundleError:
        return
