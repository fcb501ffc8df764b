"""Writes TensorBundles and V1 checkpoints, from the description of the formats alone.

Nothing here comes from `ckptctl.bundle`, so that a reader and a writer which share a mistake do not agree.
Protos are put together byte by byte, from the field numbers in TensorFlow's `.proto` files. Tests use it for
what TensorFlow no longer writes, or never would.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from crc32c import crc32c

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

MAGIC = 0xDB4775248B80FB57

Extents = tuple[tuple[int, int] | None, ...]
"""Start and length in each dimension; None for a whole one."""

ITEM_BYTES = {1: 4, 2: 8, 3: 4, 4: 1, 5: 2, 6: 1, 8: 8, 9: 8, 10: 1, 14: 2, 18: 16, 19: 2, 24: 1}


def varint(value: int) -> bytes:
    """LevelDB's and protobuf's varint; a negative number is taken as its 64 bits."""
    value &= (1 << 64) - 1
    out = bytearray()
    while value >= 0x80:
        out.append(value % 0x80 + 0x80)
        value //= 0x80
    out.append(value)
    return bytes(out)


def rotated(crc: int) -> int:
    """A CRC32C as it is stored: turned by 15 bits, plus a constant."""
    return ((crc // (1 << 15)) + (crc % (1 << 15)) * (1 << 17) + 0xA282EAD8) % (1 << 32)


def masked(data: bytes) -> int:
    """The CRC32C of some bytes as it is stored."""
    return rotated(crc32c(data))


# --- protos ----------------------------------------------------------------------------------------------


def number_field(tag: int, value: int) -> bytes:
    """A field of type int32, int64, bool or enum; the default is left out, as proto3 does."""
    return varint(tag << 3) + varint(value) if value else b""


def bytes_field(tag: int, value: bytes) -> bytes:
    """A field of type bytes, string or message."""
    return varint(tag << 3 | 2) + varint(len(value)) + value


def fixed32_field(tag: int, value: int) -> bytes:
    """A field of type fixed32."""
    return varint(tag << 3 | 5) + struct.pack("<I", value)


def shape_proto(shape: Sequence[int]) -> bytes:
    """A TensorShapeProto."""
    return b"".join(bytes_field(2, number_field(1, size)) for size in shape)


def slice_proto(extents: Extents) -> bytes:
    """A TensorSliceProto."""
    out = b""
    for extent in extents:
        start, length = extent or (0, None)
        length_field = b"" if length is None else varint(2 << 3) + varint(length)
        out += bytes_field(1, number_field(1, start) + length_field)
    return out


def header_proto(
    num_shards: int, *, big_endian: bool = False, producer: int = 1, min_consumer: int = 0
) -> bytes:
    """A BundleHeaderProto."""
    version = number_field(1, producer) + number_field(2, min_consumer)
    return number_field(1, num_shards) + number_field(2, int(big_endian)) + bytes_field(3, version)


def entry_proto(
    dtype: int,
    shape: Sequence[int],
    *,
    shard: int = 0,
    offset: int = 0,
    size: int = 0,
    crc: int = 0,
    slices: Iterable[Extents] = (),
) -> bytes:
    """A BundleEntryProto; `crc` is the masked one."""
    return (
        number_field(1, dtype)
        + bytes_field(2, shape_proto(shape))
        + number_field(3, shard)
        + number_field(4, offset)
        + number_field(5, size)
        + (fixed32_field(6, crc) if crc else b"")
        + b"".join(bytes_field(7, slice_proto(extents)) for extents in slices)
    )


# --- ordered code ----------------------------------------------------------------------------------------


def ordered_number(value: int) -> bytes:
    """An unsigned number of the ordered code."""
    digits = b""
    while value:
        digits = bytes([value % 256]) + digits
        value //= 256
    return bytes([len(digits)]) + digits


def ordered_string(value: bytes) -> bytes:
    """A string of the ordered code."""
    out = b""
    for byte in value:
        out += {0: b"\x00\xff", 255: b"\xff\x00"}.get(byte, bytes([byte]))
    return out + b"\x00\x01"


def ordered_signed(value: int) -> bytes:
    """A signed number of the ordered code, written as its bits."""
    length = 1
    while not -(1 << (7 * length - 1)) <= value < 1 << (7 * length - 1):
        length += 1
    sign = "0" if value < 0 else "1"
    payload = format(value % (1 << (7 * length - 1)), f"0{7 * length - 1}b")
    bits = sign * length + ("1" if value < 0 else "0") + payload
    return int(bits, 2).to_bytes(length, "big")


def slice_key(name: bytes, extents: Extents) -> bytes:
    """The key of a slice."""
    out = ordered_number(0) + ordered_string(name) + ordered_number(len(extents))
    for extent in extents:
        start, length = extent or (0, -1)
        out += ordered_signed(start) + ordered_signed(length)
    return out


# --- tables ----------------------------------------------------------------------------------------------


def snappy(data: bytes) -> bytes:
    """Raw snappy: literals, and a copy wherever the four bytes before repeat."""
    out = bytearray(varint(len(data)))
    literal = bytearray()

    def flush() -> None:
        while literal:
            piece = bytes(literal[:60])
            del literal[:60]
            out.append(len(piece) - 1 << 2)
            out.extend(piece)

    position = 0
    while position < len(data):
        if position >= 4 and data[position : position + 4] == data[position - 4 : position] != b"":
            flush()
            length = 4
            while (
                length < 60
                and data[position + length - 4 : position + length - 3]
                == (data[position + length : position + length + 1])
                != b""
            ):
                length += 1
            out.append(length - 1 << 2 | 2)  # a copy with a two-byte offset
            out += struct.pack("<H", 4)
            position += length
        else:
            literal.append(data[position])
            position += 1
    flush()
    return bytes(out)


def block(entries: Sequence[tuple[bytes, bytes]], restart_interval: int = 16) -> bytes:
    """The contents of a block."""
    out = bytearray()
    restarts = []
    previous = b""
    for number, (key, value) in enumerate(entries):
        shared = 0
        if number % restart_interval == 0:
            restarts.append(len(out))
        else:
            while shared < min(len(previous), len(key)) and previous[shared] == key[shared]:
                shared += 1
        out += varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
        previous = key
    restarts = restarts or [0]
    return bytes(out) + b"".join(struct.pack("<I", at) for at in restarts) + struct.pack("<I", len(restarts))


def with_trailer(contents: bytes, kind: int = 0) -> bytes:
    """A block as it stands in the file."""
    data = snappy(contents) + b"\x01" if kind == 1 else contents + bytes([kind])
    return data + struct.pack("<I", masked(data))


def footer(metaindex: tuple[int, int], index: tuple[int, int]) -> bytes:
    """The last 48 bytes of a table."""
    handles = b"".join(varint(number) for number in (*metaindex, *index))
    return handles.ljust(40, b"\x00") + struct.pack("<Q", MAGIC)


def table(
    entries: Sequence[tuple[bytes, bytes]],
    *,
    block_bytes: int = 1 << 18,
    compress: bool = False,
    restart_interval: int = 16,
) -> bytes:
    """A whole table of entries that are sorted already."""
    out = bytearray()
    index = []

    def append(contents: bytes) -> tuple[int, int]:
        offset = len(out)
        out.extend(with_trailer(contents, int(compress)))
        return offset, len(out) - offset - 5

    pending: list[tuple[bytes, bytes]] = []
    for entry in entries:
        pending.append(entry)
        if sum(len(key) + len(value) for key, value in pending) >= block_bytes:
            index.append((pending[-1][0], varint_pair(append(block(pending, restart_interval)))))
            pending = []
    if pending:
        index.append((pending[-1][0] + b"\x01", varint_pair(append(block(pending, restart_interval)))))
    metaindex = append(block([]))
    index_handle = append(block(index, 1))
    return bytes(out) + footer(metaindex, index_handle)


def varint_pair(handle: tuple[int, int]) -> bytes:
    """A handle as the index block has it."""
    return varint(handle[0]) + varint(handle[1])


# --- bundles ---------------------------------------------------------------------------------------------


@dataclass
class BundleWriter:
    """Collects tensors, then makes the files of a bundle.

    Attributes:
        num_shards: How many data files.
        big_endian: As if written on such a machine; data are handed over as they are to stand in the file.
        alignment: Each tensor begins at a multiple of it.
        block_bytes: How large a block of the index grows.
        compress: Whether the index's blocks are snappy.
        restart_interval: After how many entries a key is written in full.
        entries: What the index will hold; tests may put lies in it.
        shards: The data files.
    """

    num_shards: int = 1
    big_endian: bool = False
    alignment: int = 1
    block_bytes: int = 1 << 18
    compress: bool = False
    restart_interval: int = 16
    entries: dict[bytes, bytes] = field(default_factory=dict)
    shards: list[bytearray] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.shards = [bytearray() for _ in range(self.num_shards)]

    @property
    def _order(self) -> str:
        return ">" if self.big_endian else "<"

    def add(self, name: bytes, dtype: int, shape: Sequence[int], data: bytes, shard: int = 0) -> None:
        """Adds a tensor of numbers."""
        self._add(name, dtype, shape, data, masked(data), shard)

    def add_strings(
        self, name: bytes, shape: Sequence[int], strings: Sequence[bytes], shard: int = 0
    ) -> None:
        """Adds a string tensor: varint lengths, their checksum, the strings."""
        lengths = b"".join(varint(len(string)) for string in strings)
        fixed = b"".join(struct.pack(f"{self._order}I", len(string)) for string in strings)
        checksum = struct.pack(f"{self._order}I", masked(fixed))
        text = b"".join(strings)
        self._add(name, 7, shape, lengths + checksum + text, masked(fixed + checksum + text), shard)

    def add_variants(
        self, name: bytes, shape: Sequence[int], elements: Sequence[bytes], shard: int = 0
    ) -> None:
        """Adds a variant tensor: for each element a varint length, its bytes, the checksum of all so far."""
        data = b""
        covered = b""
        for element in elements:
            covered += struct.pack(f"{self._order}Q", len(element)) + element
            checksum = struct.pack(f"{self._order}I", masked(covered))
            covered += checksum
            data += varint(len(element)) + element + checksum
        self._add(name, 21, shape, data, masked(covered), shard)

    def add_partitioned(
        self, name: bytes, dtype: int, shape: Sequence[int], parts: Sequence[tuple[Extents, bytes, int]]
    ) -> None:
        """Adds a tensor in slices, each with its extents, its data and its shard."""
        self.entries[name] = entry_proto(dtype, shape, slices=[extents for extents, _, _ in parts])
        for extents, data, shard in parts:
            sizes = [
                size if extent is None else extent[1] for extent, size in zip(extents, shape, strict=True)
            ]
            self.add(slice_key(name, extents), dtype, sizes, data, shard)

    def add_object_graph(self, key: bytes, variables: int = 1, children: int | None = None) -> None:
        """Adds the graph of a root and so many variables, `v1` the first, all stored under one key.

        Args:
            key: The key.
            variables: How many.
            children: How many of them the root refers to; None for all.
        """
        named = range(1, 1 + (variables if children is None else children))
        root = b"".join(bytes_field(1, number_field(1, n) + bytes_field(2, b"v%d" % n)) for n in named)
        variable = bytes_field(2, bytes_field(1, b"VARIABLE_VALUE") + bytes_field(3, key))
        graph = b"".join(bytes_field(1, node) for node in [root, *[variable] * variables])
        self.add_strings(b"_CHECKPOINTABLE_OBJECT_GRAPH", [], [graph])

    def _add(self, name: bytes, dtype: int, shape: Sequence[int], data: bytes, crc: int, shard: int) -> None:
        file = self.shards[shard]
        self.entries[name] = entry_proto(dtype, shape, shard=shard, offset=len(file), size=len(data), crc=crc)
        file += data
        file += bytes(-len(file) % self.alignment)

    def index(self) -> bytes:
        """The index file."""
        header = header_proto(self.num_shards, big_endian=self.big_endian)
        return table(
            sorted({b"": header, **self.entries}.items()),
            block_bytes=self.block_bytes,
            compress=self.compress,
            restart_interval=self.restart_interval,
        )

    def write(self, directory: Path, prefix: str) -> None:
        """Writes the files."""
        (directory / f"{prefix}.index").write_bytes(self.index())
        for number, shard in enumerate(self.shards):
            (directory / f"{prefix}.data-{number:05d}-of-{self.num_shards:05d}").write_bytes(shard)


# --- V1 --------------------------------------------------------------------------------------------------


def v1_table(
    tensors: Sequence[tuple[bytes, int, Sequence[int], Sequence[tuple[Extents, bytes]]]],
    *,
    block_bytes: int = 1 << 18,
    compress: bool = False,
) -> bytes:
    """A V1 checkpoint file.

    Args:
        tensors: Name, dtype, shape, and slices: extents with a serialized TensorProto.
        block_bytes: How large a block grows.
        compress: Whether blocks are snappy.
    """
    meta = b""
    records = []
    for name, dtype, shape, slices in tensors:
        listed = b"".join(bytes_field(4, slice_proto(extents)) for extents, _ in slices)
        meta += bytes_field(
            1, bytes_field(1, name) + bytes_field(2, shape_proto(shape)) + number_field(3, dtype) + listed
        )
        for extents, data in slices:
            saved = bytes_field(1, name) + bytes_field(2, slice_proto(extents)) + bytes_field(3, data)
            records.append((slice_key(name, extents), bytes_field(2, saved)))
    meta += bytes_field(2, number_field(1, 1))
    entries = [(b"", bytes_field(1, meta)), *sorted(records)]
    return table(entries, block_bytes=block_bytes, compress=compress)
