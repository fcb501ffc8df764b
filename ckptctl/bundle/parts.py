"""How many parts a serialized message has, and how to take it apart: told before it is parsed.

A message of no content takes two bytes in the file and fifty or more in memory. Nested ones are counted one
by one, as are strings; packed numbers by their bytes. Plain fields are not: one that stands there twice takes
no more memory than one.

Answers to https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from ckptctl.bundle.coding import CodingError, read_varint
from ckptctl.errors import UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

PART_BYTES = 2
"""The fewest bytes of a part: what is shorter than so many parts need not be counted."""

_VARINT, _BYTES = 0, 2  # wire types
_FIXED = {1: 8, 5: 4, 3: 0, 4: 0}  # bytes of others; what lies in a group is taken as if it lay around it
_MAX_DEPTH = 100
"""Where protobuf gives a message up."""

_PACKED, _STRING = "packed", "string"
_PLAIN = (_PACKED, _STRING)


def expect_few(message: Any, data: bytes, most: int, where: str) -> None:
    """Makes sure that a message is not made of more parts than a real one.

    Args:
        message: Its class, one of `Protos`.
        data: It, serialized. What is no such message is left to the parser, and counted up to there.
        most: How many parts it may have.
        where: What the error calls the place that it is from.

    Raises:
        UnsupportedError: It has more.
    """
    if len(data) <= PART_BYTES * most:
        return
    count = 0
    end, fields = len(data), _fields(message.DESCRIPTOR)
    position = 0
    above: list[tuple[int, Mapping[int, Any]]] = []
    while position < end or above:
        if position >= end:
            end, fields = above.pop()
            continue
        try:
            tag, begin, length = _field(data, position, end)
        except CodingError:
            position = end
            continue
        position = begin + length
        if tag & 7 != _BYTES:
            continue
        nested = fields.get(tag >> 3, _STRING)
        count += length if nested is _PACKED else 1
        if count > most:
            raise UnsupportedError(f"{where}: has more than {most:,} parts")
        if length and nested not in _PLAIN and len(above) < _MAX_DEPTH:
            above.append((end, fields))
            position, end, fields = begin, position, _fields(nested)


def split(data: bytes, size: int) -> Iterator[bytes]:
    """Cuts a message into several that hold its fields one behind the other, to be parsed one by one.

    Args:
        data: It, serialized. From where it is no message, the rest comes as one piece.
        size: How many bytes a piece has at most, unless a single field has more.
    """
    begin = position = 0
    end = len(data)
    while position < end and end - begin > size:
        start = position
        try:
            _, at, length = _field(data, position, end)
        except CodingError:
            break
        position = at + length
        if position - begin > size and start > begin:
            yield data[begin:start]
            begin = start
    if begin < end:
        yield data[begin:]


def _field(data: bytes, position: int, end: int) -> tuple[int, int, int]:
    """A field's tag, and where its content begins and how many bytes that has.

    Raises:
        CodingError: There is no field that ends before `end`.
    """
    tag, position = _varint(data, position, end)
    wire = tag & 7
    if wire == _BYTES:
        length, position = _varint(data, position, end)
    elif wire == _VARINT:
        length = _varint(data, position, end)[1] - position
    else:
        length = _FIXED.get(wire, end)
    if length > end - position:
        raise CodingError("the bytes end in the middle of a field")
    return tag, position, length


def _varint(data: bytes, position: int, end: int) -> tuple[int, int]:
    if position < end and data[position] < 0x80:  # noqa: PLR2004 - one byte, as nearly always
        return data[position], position + 1
    return read_varint(data, position, end)


@functools.cache
def _fields(descriptor: Any) -> Mapping[int, Any]:
    """What the fields of a message hold, by their numbers: other messages, or numbers that may be packed."""
    return {
        field.number: field.message_type or _PACKED
        for field in descriptor.fields
        if field.type not in {field.TYPE_STRING, field.TYPE_BYTES}
    }
