"""The bytes of string and variant tensors, whose elements have lengths of their own.

    DT_STRING    lengths    a varint for each element
                 checksum   uint32, masked, over the lengths, each as a fixed uint32,
                            or as a fixed uint64 where it does not fit
                 strings    the bytes, one string behind the other

    The entry's crc32c runs over the fixed lengths, the 4 bytes of the checksum, and the strings. A tensor
    whose size is 0 has none of this, and no element either.

    DT_VARIANT   for each element:
                   length     varint
                   bytes      a serialized VariantTensorDataProto
                   checksum   uint32, masked, over everything so far, with each length as a fixed uint64

    The entry's crc32c runs over the same, and over the last checksum too.

Fixed numbers are in the byte order of the machine that wrote the bundle. Writers of 2018 and before wrote
lengths as varint32 and took their CRC over fixed uint32: for every length that those could hold, the bytes
are the same. The checksum of the lengths has been there since the format's first release.

Answers to `ReadStringTensor` and `ReadVariantTensor` in
`tensorflow/core/util/tensor_bundle/tensor_bundle.cc`.
"""

from __future__ import annotations

import struct
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from ckptctl.bundle.checksum import crc32c, unmask
from ckptctl.bundle.coding import CodingError, read_varint
from ckptctl.bundle.source import new_buffer, read_exactly, stream
from ckptctl.errors import BundleError, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ckptctl.bundle.entries import TensorEntry
    from ckptctl.bundle.source import Source

MAX_STRINGS = 1 << 26
"""A tensor of more strings, or variants, is verified and not read: decoding it would take minutes."""

_CHECKSUM_BYTES = 4
_MAX_UINT32 = (1 << 32) - 1
_MAX_VARINT_BYTES = 10
_LENGTHS_BYTES = 1 << 16  # of varints decoded at a time: a list of numbers takes much more than its bytes


class Excerpt(NamedTuple):
    """The beginning of a string, or of a serialized variant.

    Attributes:
        head: Its first bytes.
        length: How many it has in all.
    """

    head: bytes
    length: int


def crc_of_strings(source: Source, entry: TensorEntry, buffer: memoryview, *, big_endian: bool) -> int:
    """The CRC32C of a string tensor as its entry has it; the one over the lengths is checked on the way.

    Args:
        source: The shard.
        entry: The tensor's.
        buffer: For streaming.
        big_endian: Of the machine that wrote the bundle.

    Raises:
        BundleError: The lengths do not fit the tensor, or fail their checksum.
    """
    return _crc_and_begin(source, entry, buffer, big_endian=big_endian)[0]


def read_strings(source: Source, entry: TensorEntry, *, big_endian: bool) -> list[bytes]:
    """The elements of a string tensor, in row-major order. Nothing is kept before its lengths are checked.

    Raises:
        BundleError: The lengths do not fit the tensor, or a checksum does not match.
        UnsupportedError: There are more than `MAX_STRINGS`.
    """
    _expect_few(source, entry)
    crc, begin = _check_lengths(source, entry, big_endian=big_endian)
    data = read_exactly(source, entry.end - begin, begin, f"tensor {entry.label!r}")
    _expect_crc(source, entry, crc32c(data, crc))
    spans = _strings(source, entry, _CHECKSUM_BYTES)
    return [data[at : at + length] for at, length in spans]


def excerpts_of_strings(
    source: Source, entry: TensorEntry, chosen: Iterable[int], most: int, *, big_endian: bool
) -> list[Excerpt]:
    """The beginnings of some elements of a string tensor. All its bytes are checked, in bounded memory.

    Args:
        source: The shard.
        entry: The tensor's.
        chosen: Which elements, counted in row-major order; ascending.
        most: How many bytes of each.
        big_endian: Of the machine that wrote the bundle.

    Raises:
        BundleError: The lengths do not fit the tensor, or a checksum does not match.
        UnsupportedError: There are more than `MAX_STRINGS`.
    """
    _expect_few(source, entry)
    crc, begin = _crc_and_begin(source, entry, new_buffer(), big_endian=big_endian)
    _expect_crc(source, entry, crc)
    return _excerpts(source, _strings(source, entry, begin + _CHECKSUM_BYTES), chosen, most)


def crc_of_variants(source: Source, entry: TensorEntry, buffer: memoryview, *, big_endian: bool) -> int:
    """The CRC32C of a variant tensor as its entry has it; the one behind each element is checked on the way.

    Args:
        source: The shard.
        entry: The tensor's.
        buffer: For streaming.
        big_endian: Of the machine that wrote the bundle.

    Raises:
        BundleError: An element does not fit the tensor, or fails its checksum.
    """
    crc = 0
    order = ">" if big_endian else "<"
    position = entry.offset
    for element, (begin, length) in enumerate(_variants(source, entry)):
        crc = crc32c(struct.pack(f"{order}Q", length), crc)
        for piece in stream(source, length, begin, buffer, f"tensor {entry.label!r}"):
            crc = crc32c(piece, crc)
        position = begin + length
        stored = read_exactly(source, _CHECKSUM_BYTES, position, f"the checksum of element {element}")
        _compare(
            crc, stored, order, f"{_where(source, entry)}: element {element}, checksum at byte {position}"
        )
        crc = crc32c(stored, crc)
        position += _CHECKSUM_BYTES
    if position != entry.end and entry.size:
        raise BundleError(
            f"{_where(source, entry)}: its elements end at byte {position}, expected {entry.end}"
        )
    return crc


def read_variants(source: Source, entry: TensorEntry, *, big_endian: bool) -> list[bytes]:
    """The elements of a variant tensor in row-major order, each a serialized VariantTensorDataProto.

    Raises:
        BundleError: An element does not fit the tensor, or a checksum does not match.
        UnsupportedError: There are more than `MAX_STRINGS`.
    """
    _expect_few(source, entry)
    _expect_crc(source, entry, crc_of_variants(source, entry, new_buffer(), big_endian=big_endian))
    return [
        read_exactly(source, length, begin, f"tensor {entry.label!r}")
        for begin, length in _variants(source, entry)
    ]


def excerpts_of_variants(
    source: Source, entry: TensorEntry, chosen: Iterable[int], most: int, *, big_endian: bool
) -> list[Excerpt]:
    """The beginnings of some elements of a variant tensor; see `excerpts_of_strings`."""
    _expect_few(source, entry)
    _expect_crc(source, entry, crc_of_variants(source, entry, new_buffer(), big_endian=big_endian))
    return _excerpts(source, _variants(source, entry), chosen, most)


def _excerpts(
    source: Source, spans: Iterator[tuple[int, int]], chosen: Iterable[int], most: int
) -> list[Excerpt]:
    """Reads the beginnings of elements, given where each of all begins and how many bytes it has."""
    found = []
    passed = 0
    for element in chosen:
        span = next(islice(spans, element - passed, None), None)
        if span is None:
            break  # a tensor that has no bytes has no elements, whatever its shape says
        begin, length = span
        passed = element + 1
        found.append(Excerpt(source.pread(min(length, most), begin), length))
    return found


def _variants(source: Source, entry: TensorEntry) -> Iterator[tuple[int, int]]:
    """Yields where each element's bytes begin, and how many they are."""
    if not entry.size:
        return
    position = entry.offset
    for element in range(entry.elements):
        head = source.pread(max(0, min(_MAX_VARINT_BYTES, entry.end - position)), position)
        try:
            length, used = read_varint(head, 0, len(head))
        except CodingError as error:
            raise BundleError(
                f"{_where(source, entry)}: element {element} at byte {position}: {error}"
            ) from error
        position += used
        if position + length + _CHECKSUM_BYTES > entry.end:
            raise BundleError(
                f"{_where(source, entry)}: element {element} at byte {position} claims {length} bytes, "
                f"the tensor ends at byte {entry.end}"
            )
        yield position, length
        position += length + _CHECKSUM_BYTES


def _crc_and_begin(
    source: Source, entry: TensorEntry, buffer: memoryview, *, big_endian: bool
) -> tuple[int, int]:
    """The CRC of a string tensor, and where the checksum of its lengths begins."""
    crc, begin = _check_lengths(source, entry, big_endian=big_endian)
    for piece in stream(source, entry.end - begin, begin, buffer, f"tensor {entry.label!r}"):
        crc = crc32c(piece, crc)
    return crc, begin


def _check_lengths(source: Source, entry: TensorEntry, *, big_endian: bool) -> tuple[int, int]:
    """Checks the lengths of a string tensor, and keeps none.

    Returns:
        Their CRC, and where their checksum begins, with which the entry's CRC goes on.
    """
    if not entry.size:
        return 0, entry.offset
    if entry.elements > entry.size - _CHECKSUM_BYTES:
        raise BundleError(f"{_where(source, entry)}: {entry.elements} strings do not fit")
    order = ">" if big_endian else "<"
    crc = total = 0
    position = entry.offset
    for lengths, end in _lengths(source, entry):
        crc = crc32c(_fixed(lengths, order), crc)
        total += sum(lengths)
        position = end
    if position + _CHECKSUM_BYTES + total != entry.end:
        raise BundleError(
            f"{_where(source, entry)}: its lengths end at byte {position} and add up to {total} bytes, "
            f"the tensor ends at byte {entry.end}"
        )
    stored = read_exactly(source, _CHECKSUM_BYTES, position, "the checksum of the lengths")
    _compare(crc, stored, order, f"{_where(source, entry)}: the lengths, checksum at byte {position}")
    return crc, position


def _strings(source: Source, entry: TensorEntry, begin: int) -> Iterator[tuple[int, int]]:
    """Yields where each string begins, if the first one does at `begin`, and how many bytes it has."""
    if not entry.size:
        return
    for lengths, _ in _lengths(source, entry):
        for length in lengths:
            yield begin, length
            begin += length


def _lengths(source: Source, entry: TensorEntry) -> Iterator[tuple[list[int], int]]:
    """Yields the lengths of a string tensor, some at a time, and where the rest begins."""
    position = entry.offset
    remaining = entry.elements
    while remaining:
        data = source.pread(min(_LENGTHS_BYTES, entry.end - position), position)
        lengths, used = _decode_lengths(data, remaining)
        if not lengths:
            raise BundleError(f"{_where(source, entry)}: expected the length of a string at byte {position}")
        position += used
        remaining -= len(lengths)
        yield lengths, position


def _decode_lengths(data: bytes, count: int) -> tuple[list[int], int]:
    """Decodes up to `count` varints, as far as the data go; also returns how many bytes they took."""
    short = data[:count]
    if short.isascii():  # one byte each, as most often
        return list(short), len(short)
    lengths: list[int] = []
    position = 0
    try:
        while len(lengths) < count and position < len(data):
            length, position = read_varint(data, position, len(data))
            lengths.append(length)
    except CodingError:
        pass  # it is cut off by the end of the piece, or is none: then the next piece begins with it
    return lengths, position


def _fixed(lengths: list[int], order: str) -> bytes:
    try:
        return struct.pack(f"{order}{len(lengths)}I", *lengths)
    except struct.error:
        return b"".join(
            struct.pack(f"{order}{'I' if length <= _MAX_UINT32 else 'Q'}", length) for length in lengths
        )


def _expect_few(source: Source, entry: TensorEntry) -> None:
    if entry.elements > MAX_STRINGS:
        raise UnsupportedError(
            f"{_where(source, entry)}: has {entry.elements:,} elements, expected at most {MAX_STRINGS:,}"
        )


def _expect_crc(source: Source, entry: TensorEntry, crc: int) -> None:
    if crc != entry.crc32c:
        raise BundleError(f"{_where(source, entry)}: its bytes fail their checksum")


def _compare(crc: int, stored: bytes, order: str, where: str) -> None:
    expected = unmask(struct.unpack(f"{order}I", stored)[0])
    if crc != expected:
        raise BundleError(f"{where}: {crc:#010x}, expected {expected:#010x}")


def _where(source: Source, entry: TensorEntry) -> str:
    return f"{source.name}: tensor {entry.label!r} in bytes {entry.offset} to {entry.end}"
