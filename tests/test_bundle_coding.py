"""Varints, TensorFlow's ordered code, and CRC32C."""

from __future__ import annotations

import bundle_writer as writer
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ckptctl.bundle import coding
from ckptctl.bundle.checksum import crc32c, crc32c_combine, mask, unmask
from ckptctl.bundle.slices import TensorSlice, parse_slice_key, slice_key

UINT64 = st.integers(0, 2**64 - 1)
INT64 = st.integers(-(2**63), 2**63 - 1)


@given(UINT64, st.binary())
def test_varint_round_trip(value: int, behind: bytes) -> None:
    """A varint is read as it was written, and the position behind it is told."""
    data = writer.varint(value)
    assert coding.read_varint(data + behind, 0, len(data) + len(behind)) == (value, len(data))


@given(UINT64)
def test_varint_is_cut(value: int) -> None:
    """A varint that is cut anywhere is an error."""
    data = writer.varint(value)
    for length in range(len(data)):
        with pytest.raises(coding.CodingError, match="middle"):
            coding.read_varint(data, 0, length)


@pytest.mark.parametrize("data", [b"\xff" * 9 + b"\x02", b"\xff" * 10, b"\x80" * 12 + b"\x00"])
def test_varint_is_too_large(data: bytes) -> None:
    """A varint of more than 64 bits is an error."""
    with pytest.raises(coding.CodingError, match="64 bits"):
        coding.read_varint(data, 0, len(data))


@given(UINT64, st.binary())
def test_ordered_number_round_trip(value: int, behind: bytes) -> None:
    """An unsigned number of the ordered code is read and written as the format says."""
    data = writer.ordered_number(value)
    assert coding.write_number(value) == data
    assert coding.read_number(data + behind, 0) == (value, len(data))


@given(st.binary(), st.binary())
def test_ordered_string_round_trip(value: bytes, behind: bytes) -> None:
    """A string of the ordered code is read and written as the format says, whatever bytes it has."""
    data = writer.ordered_string(value)
    assert coding.write_string(value) == data
    assert coding.read_string(data + behind, 0) == (value, len(data))


@given(INT64, st.binary())
def test_ordered_signed_round_trip(value: int, behind: bytes) -> None:
    """A signed number of the ordered code is read and written as the format says."""
    data = writer.ordered_signed(value)
    assert coding.write_signed(value) == data
    assert coding.read_signed(data + behind, 0) == (value, len(data))


@pytest.mark.parametrize(
    ("value", "data"),
    [(0x424242, "f0424242"), (-0x800, "3800"), (-1, "7f"), (0, "80"), (63, "bf"), (64, "c040")],
)
def test_ordered_signed_examples(value: int, data: str) -> None:
    """Signed numbers are coded as in the examples of TensorFlow's source."""
    assert coding.write_signed(value).hex() == data


@given(st.binary(max_size=24), st.integers(0, 30))
def test_ordered_code_takes_any_bytes(data: bytes, position: int) -> None:
    """Any bytes give a value or a CodingError, and never a position beyond their end."""
    for read in (coding.read_number, coding.read_string, coding.read_signed):
        try:
            _, end = read(data, position)
        except coding.CodingError:
            continue
        assert position < end <= len(data)


@given(
    st.binary(),
    st.lists(
        st.one_of(st.none(), st.tuples(st.integers(0, 2**63 - 1), st.integers(0, 2**63 - 1))), max_size=5
    ),
)
def test_slice_key_round_trip(name: bytes, extents: list[tuple[int, int] | None]) -> None:
    """The key of a slice gives back the tensor's name and the slice."""
    tensor_slice = TensorSlice(tuple(extent or (0, -1) for extent in extents))
    key = writer.slice_key(name, tuple(extents))
    assert slice_key(name, tensor_slice) == key
    assert parse_slice_key(key) == (name, tensor_slice)


@given(st.binary(max_size=32).map(lambda tail: b"\x00" + tail))
def test_slice_key_takes_any_bytes(key: bytes) -> None:
    """Any bytes are a slice's key or a plain name."""
    parsed = parse_slice_key(key)
    assert parsed is None or slice_key(*parsed)[0] == 0


def reference_crc32c(data: bytes) -> int:
    """CRC32C bit by bit."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


@given(st.binary(max_size=200))
def test_crc32c_is_castagnoli(data: bytes) -> None:
    """The checksum is the one that is computed bit by bit with Castagnoli's polynomial."""
    assert crc32c(data) == reference_crc32c(data)


@given(st.binary(), st.binary(), st.binary())
def test_crc32c_combines(a: bytes, b: bytes, c: bytes) -> None:
    """The checksums of parts give that of the whole, whether they are combined or the whole is read."""
    combined = crc32c_combine(crc32c_combine(crc32c(a), crc32c(b), len(b)), crc32c(c), len(c))
    assert combined == crc32c(a + b + c) == crc32c(c, crc32c(b, crc32c(a)))


def test_crc32c_combines_over_great_lengths() -> None:
    """Combining costs nothing in memory: a part may have more bytes than there are anywhere."""
    length = (1 << 40) + 12345
    half = crc32c_combine(1234, 0, length)
    assert crc32c_combine(half, 0, length) == crc32c_combine(1234, 0, 2 * length)


@given(st.binary())
def test_mask_round_trip(data: bytes) -> None:
    """A checksum is masked as the format says, and unmasked again."""
    assert mask(crc32c(data)) == writer.masked(data)
    assert unmask(writer.masked(data)) == crc32c(data)
