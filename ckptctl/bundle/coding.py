r"""How numbers and strings are written: LevelDB's varints, and TensorFlow's ordered code.

A varint holds seven bits a byte, the lowest first; the top bit of each byte says that another follows:

    300 = 0b10_0101100   ->   1010_1100  0000_0010

The ordered code writes values such that the order of the bytes is the order of the values:

    unsigned   [n] [n bytes, the highest first, no leading zero]
    string     each \x00 as \x00\xff, each \xff as \xff\x00, then \x00\x01
    signed     one sign bit (1: not negative), a further bit like it for each byte that follows the first,
               one bit unlike it, then the value in two's complement, the highest bit first:

               1 0vvvvvv                      0 <= value < 2**6    (one byte)
               1 10vvvvv vvvvvvvv             value < 2**13        (two bytes)
               1 1111111 110vvvvv ...         value < 2**63        (ten bytes)

Answers to LevelDB's `util/coding.cc` and to `tensorflow/core/lib/strings/ordered_code.cc`.
"""

from __future__ import annotations

import re

_VARINT_BYTES = 10
_MAX_UINT64 = (1 << 64) - 1
_NUMBER_BYTES = 8
_SIGNED_BYTES = 10
_SIGNED_LIMIT = 1 << 63
_TERMINATOR = b"\x00\x01"
_SPECIAL = re.compile(rb"[\x00\xff].", re.DOTALL)
_ESCAPED = {b"\x00": b"\x00\xff", b"\xff": b"\xff\x00"}
_UNESCAPED = {pair: byte for byte, pair in _ESCAPED.items()}
_ENDED = "the bytes end in the middle of a number"


class CodingError(ValueError):
    """The bytes are not an encoding of what was asked for."""


def read_varint(data: bytes | memoryview, position: int, limit: int) -> tuple[int, int]:
    """Decodes an unsigned varint of up to 64 bits.

    Args:
        data: The bytes.
        position: Where it begins.
        limit: Where the bytes end that may be looked at; at most `len(data)`.

    Returns:
        The value, and the position behind it.

    Raises:
        CodingError: It does not end before `limit`, or does not fit into 64 bits.
    """
    value = shift = 0
    for at in range(position, min(limit, position + _VARINT_BYTES)):
        byte = data[at]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:  # noqa: PLR2004 - the top bit is clear
            if value > _MAX_UINT64:
                break
            return value, at + 1
        shift += 7
    if limit - position < _VARINT_BYTES:
        raise CodingError(_ENDED)
    raise CodingError("a varint of more than 64 bits")


def read_number(data: bytes, position: int) -> tuple[int, int]:
    """Decodes an unsigned number of the ordered code; returns it and the position behind it.

    Raises:
        CodingError: The bytes are no such number.
    """
    if position >= len(data):
        raise CodingError(_ENDED)
    end = position + 1 + data[position]
    if data[position] > _NUMBER_BYTES:
        raise CodingError(f"a number of {data[position]} bytes, of at most {_NUMBER_BYTES}")
    if end > len(data):
        raise CodingError(_ENDED)
    return int.from_bytes(data[position + 1 : end], "big"), end


def write_number(value: int) -> bytes:
    """Encodes an unsigned number of up to 64 bits; the inverse of `read_number`."""
    length = (value.bit_length() + 7) // 8
    return bytes([length]) + value.to_bytes(length, "big")


def read_string(data: bytes, position: int) -> tuple[bytes, int]:
    r"""Decodes a string of the ordered code; returns it and the position behind it.

    Raises:
        CodingError: It does not end, or a \x00 or \xff stands in it without its escape.
    """
    parts = []
    for pair in _SPECIAL.finditer(data, position):
        parts.append(data[position : pair.start()])
        position = pair.end()
        if pair[0] == _TERMINATOR:
            return b"".join(parts), position
        if pair[0] not in _UNESCAPED:
            raise CodingError(f"an escape {pair[0]!r} in a string, which means nothing")
        parts.append(_UNESCAPED[pair[0]])
    raise CodingError("a string without an end")


def write_string(value: bytes) -> bytes:
    """Encodes a string; the inverse of `read_string`."""
    return re.sub(rb"[\x00\xff]", lambda match: _ESCAPED[match[0]], value) + _TERMINATOR


def read_signed(data: bytes, position: int) -> tuple[int, int]:
    """Decodes a signed number of the ordered code; returns it and the position behind it.

    Raises:
        CodingError: The bytes are no such number, or it does not fit into 64 bits.
    """
    head = int.from_bytes(data[position : position + 2].ljust(2, b"\x00"), "big")
    if position >= len(data):
        raise CodingError(_ENDED)
    negative = not head >> 15
    # Ones count the bytes, for a negative number zeros do: turned round, both are counted alike.
    ones = head ^ 0xFFFF if negative else head
    length = 16 - (ones ^ 0xFFFF).bit_length()
    if length > _SIGNED_BYTES:
        raise CodingError(f"a signed number of more than {_SIGNED_BYTES} bytes")
    end = position + length
    if end > len(data):
        raise CodingError(_ENDED)
    bits = 7 * length
    value = int.from_bytes(data[position:end], "big") & ((1 << bits) - 1)
    if negative:
        value -= 1 << bits
    if not -_SIGNED_LIMIT <= value < _SIGNED_LIMIT:
        raise CodingError("a signed number of more than 64 bits")
    return value, end


def write_signed(value: int) -> bytes:
    """Encodes a signed number of up to 64 bits; the inverse of `read_signed`."""
    magnitude = ~value if value < 0 else value
    length = magnitude.bit_length() // 7 + 1
    bits = 8 * length
    ones = ((1 << length) - 1) << (bits - length)
    return ((value & ((1 << bits) - 1)) ^ ones).to_bytes(length, "big")
