"""Tests of ckptctl.bundle.parts: what is counted in a message, and how it is cut into pieces."""

from __future__ import annotations

import bundle_writer as writer
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ckptctl import protos
from ckptctl.bundle.parts import expect_few, split
from ckptctl.errors import UnsupportedError

EMPTY = writer.bytes_field(1, b"")
GROUP = b"\xfb\x01" + b"\xfc\x01"
"""A field that no message here knows, and which is a group."""

NODE = writer.bytes_field(1, writer.number_field(1, 300) + writer.bytes_field(2, b"name"))
"""A node's child, with its name: two parts."""

NUMBERS = writer.bytes_field(2, writer.bytes_field(3, writer.bytes_field(10, bytes([1]) * 100)))
"""A hundred packed numbers, in two messages."""


@pytest.mark.parametrize(
    ("kind", "data", "parts"),
    [
        ("TrackableObjectGraph", EMPTY * 100, 100),
        ("TrackableObjectGraph", writer.bytes_field(1, EMPTY * 99), 100),
        ("TrackableObjectGraph", writer.bytes_field(1, NODE * 50), 101),
        ("TrackableObjectGraph", GROUP + EMPTY * 100, 100),
        ("BundleEntryProto", writer.bytes_field(7, EMPTY * 99), 100),
        ("BundleEntryProto", writer.bytes_field(2, writer.shape_proto([1] * 99)), 100),
        ("SavedTensorSlices", NUMBERS, 102),
        ("SavedTensorSlices", b"\xff" + EMPTY * 100, 0),
        ("SavedTensorSlices", EMPTY * 100 + b"\x0a\x7f", 100),
    ],
    ids=["flat", "nested", "strings", "group", "extents", "dimensions", "packed", "garbage", "cut"],
)
def test_parts_are_counted(monkeypatch: pytest.MonkeyPatch, kind: str, data: bytes, parts: int) -> None:
    """Messages, strings and packed numbers count, wherever they are, up to where the message is none."""
    monkeypatch.setattr("ckptctl.bundle.parts.PART_BYTES", 0)
    message = getattr(protos.load(), kind)
    expect_few(message, data, parts, "P")
    if parts:
        with pytest.raises(UnsupportedError, match=f"P: has more than {parts - 1} parts"):
            expect_few(message, data, parts - 1, "P")


@given(st.lists(st.binary(max_size=40), max_size=30), st.binary(max_size=5), st.integers(1, 100))
def test_pieces_make_up_the_whole(nodes: list[bytes], rest: bytes, size: int) -> None:
    """A message is cut between its fields, and nothing gets lost, whatever comes behind them."""
    fields = [writer.bytes_field(1, node) for node in nodes]
    pieces = list(split(b"".join(fields) + rest, size))
    assert b"".join(pieces) == b"".join(fields) + rest
    ends = {sum(map(len, fields[:count])) for count in range(len(fields) + 1)}
    at = 0
    for piece in pieces[:-1]:
        at += len(piece)
        assert at in ends or at > sum(map(len, fields))
        assert len(piece) <= max(size, *map(len, [*fields, rest]))
