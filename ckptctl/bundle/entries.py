"""What a TensorBundle's index says: the header, and an entry for each tensor.

    BundleHeaderProto   num_shards, endianness, version
    BundleEntryProto    dtype, shape, and where the bytes are: shard_id, offset, size, crc32c
                        or, of a partitioned tensor: dtype, shape, slices

Answers to `tensorflow/core/protobuf/tensor_bundle.proto`, and to the checks of `BundleReader` in
`tensorflow/core/util/tensor_bundle/tensor_bundle.cc`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

from ckptctl import protos
from ckptctl.bundle.checksum import unmask
from ckptctl.bundle.dtypes import DTYPES, dtype_name
from ckptctl.bundle.parts import PART_BYTES, expect_few
from ckptctl.bundle.slices import MAX_RANK, TensorSlice, parse_slice_key, parse_slices
from ckptctl.errors import BundleError, UnsupportedError

VERSION = 1
"""`kTensorBundleVersion`: what TensorFlow writes today, and has since it writes bundles."""

MAX_ENTRY_BYTES = 1 << 23
"""The largest entry that is parsed: a tensor in 100,000 slices has a smaller one."""

MAX_PARTS = 1 << 19
"""The most messages in an entry: 100,000 slices of four dimensions."""

MAX_SHARDS = 99_999
"""A shard's file name has five digits for it."""

_MAX_ELEMENTS = (1 << 63) - 1


@dataclass(frozen=True, slots=True)
class BundleHeader:
    """What holds for the whole bundle.

    Attributes:
        num_shards: How many data files there are.
        big_endian: Whether it was written on a big-endian machine.
        producer: The version of the format.
        min_consumer: The oldest version whose readers may read it.
    """

    num_shards: int
    big_endian: bool
    producer: int
    min_consumer: int


class TensorEntry(NamedTuple):
    """A tensor, or a slice of one, as the index has it.

    Attributes:
        key: As stored.
        dtype: Its number in `types.proto`; see `ckptctl.bundle.dtypes`.
        shape: Of a slice: the slice's own.
        shard_id: In which data file the bytes are.
        offset: Where they begin, in bytes.
        size: How many there are.
        crc32c: Of the bytes as the file has them, unmasked; for strings see `ckptctl.bundle.strings`.
        slices: The parts of a partitioned tensor; such an entry has no bytes of its own.
        slice_of: The name of the tensor of which this is a slice.
        slice: Which part of it.
    """

    key: bytes
    dtype: int
    shape: tuple[int, ...]
    shard_id: int
    offset: int
    size: int
    crc32c: int
    slices: tuple[TensorSlice, ...] = ()
    slice_of: bytes | None = None
    slice: TensorSlice | None = None

    @property
    def name(self) -> str:
        """The tensor's name. Bytes that are not UTF-8 stand in it as surrogate escapes, as in file names."""
        return (self.key if self.slice_of is None else self.slice_of).decode("utf-8", "surrogateescape")

    @property
    def label(self) -> str:
        """The name, and of a slice which one it is: `embeddings [0,10:-]`."""
        return self.name if self.slice is None else f"{self.name} [{self.slice}]"

    @property
    def dtype_name(self) -> str:
        """As `tf.DType.name` has it."""
        return dtype_name(self.dtype)

    @property
    def elements(self) -> int:
        """How many elements it has."""
        return math.prod(self.shape)

    @property
    def end(self) -> int:
        """Where its bytes end in the shard."""
        return self.offset + self.size

    @property
    def expected_size(self) -> int | None:
        """How many bytes dtype and shape ask for; None where they do not say (strings, unknown dtypes)."""
        dtype = DTYPES.get(self.dtype)
        return None if dtype is None else dtype.size * self.elements


def parse_header(name: str, value: bytes) -> BundleHeader:
    """Decodes the header.

    Args:
        name: What messages call the index file.
        value: A serialized BundleHeaderProto.

    Raises:
        BundleError: It is none, or not of a version that can be read here.
    """
    proto = protos.parse(protos.load().BundleHeaderProto, value, f"{name}: the header")
    header = BundleHeader(
        num_shards=proto.num_shards,
        big_endian=proto.endianness == proto.BIG,
        producer=proto.version.producer,
        min_consumer=proto.version.min_consumer,
    )
    if not 0 <= header.num_shards <= MAX_SHARDS:
        raise BundleError(f"{name}: the header claims {header.num_shards} shards, expected 0 to {MAX_SHARDS}")
    if proto.endianness not in {proto.LITTLE, proto.BIG}:
        raise BundleError(f"{name}: the header has endianness {proto.endianness}, expected 0 or 1")
    if header.min_consumer > VERSION or VERSION in proto.version.bad_consumers:
        raise UnsupportedError(
            f"{name}: version {header.producer} of the format, for readers of at least version "
            f"{header.min_consumer}; expected version {VERSION}"
        )
    return header


def parse_entry(name: str, header: BundleHeader, key: bytes, value: bytes) -> TensorEntry:
    """Decodes a tensor's entry.

    Args:
        name: What messages call the index file.
        header: The bundle's.
        key: The entry's.
        value: A serialized BundleEntryProto.

    Raises:
        BundleError: It is none, or holds a number that no writer puts there.
    """
    try:
        return _entry(header, key, value)
    except BundleError as error:
        raise type(error)(f"{name}: entry {key!r}: {error}") from error


def _entry(header: BundleHeader, key: bytes, value: bytes) -> TensorEntry:
    """Decodes an entry. An index has tens of thousands of them: each line here is felt."""
    if len(value) > MAX_ENTRY_BYTES:
        raise UnsupportedError(f"has {len(value)} bytes, expected at most {MAX_ENTRY_BYTES}")
    message = protos.load().BundleEntryProto
    if len(value) > PART_BYTES * MAX_PARTS:
        expect_few(message, value, MAX_PARTS, "its value")
    proto = protos.parse(message, value, "its value")
    shape = parse_shape(proto.shape)
    dtype, shard_id, offset, size = proto.dtype, proto.shard_id, proto.offset, proto.size
    if not dtype:
        raise BundleError("has no dtype")
    if not 0 <= shard_id < (header.num_shards or 1):
        raise BundleError(f"is in shard {shard_id}, there are {header.num_shards}")
    if offset < 0 or size < 0:
        raise BundleError(f"has {size} bytes from byte {offset}")
    slices = parse_slices(proto.slices, len(shape)) if proto.slices else ()
    slice_of, part = parse_slice_key(key) or (None, None)
    return TensorEntry(
        key, dtype, shape, shard_id, offset, size, unmask(proto.crc32c), slices, slice_of, part
    )


def parse_shape(proto: Any) -> tuple[int, ...]:
    """Takes over a TensorShapeProto.

    Args:
        proto: It.

    Raises:
        BundleError: No tensor can have that shape.
    """
    dimensions = proto.dim
    if len(dimensions) > MAX_RANK:
        raise BundleError(f"has {len(dimensions)} dimensions, a tensor has at most {MAX_RANK}")
    sizes = tuple([dimension.size for dimension in dimensions])
    if proto.unknown_rank or (sizes and (min(sizes) < 0 or not _countable(sizes))):
        raise BundleError(f"shape {list(sizes[:8])} is not one that a tensor can have")
    return sizes


def _countable(sizes: tuple[int, ...]) -> bool:
    """Whether the number of elements fits into 63 bits; TensorFlow demands it even beside a 0."""
    product = 1
    for size in sizes:
        product *= size or 1
        if product > _MAX_ELEMENTS:
            return False
    return True
