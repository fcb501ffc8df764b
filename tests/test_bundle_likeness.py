"""Tests of ckptctl.bundle.likeness: what is recognised is the same as if it had been parsed."""

from __future__ import annotations

import pytest
from bundle_writer import BundleWriter
from hypothesis import given
from hypothesis import strategies as st

from ckptctl.bundle.index import Index, read_index
from ckptctl.bundle.likeness import Kinds, Likeness
from ckptctl.bundle.source import BytesSource
from ckptctl.errors import BundleError

STEP, OTHER = b"step", b"weights/1"


def bundle(values: bytes, *, step: int = 0, compress: bool = False, block_bytes: int = 60) -> bytes:
    """The index of a few tensors of one byte each, in several blocks."""
    writer = BundleWriter(compress=compress, block_bytes=block_bytes)
    writer.add(STEP, 9, (), step.to_bytes(8, "little"))
    for number, value in enumerate(values):
        writer.add(b"weights/%d" % number, 4, (1,), bytes([value]))
    return writer.index()


def read(kinds: Kinds, data: bytes) -> Index | Likeness:
    """Reads an index."""
    return kinds.read(BytesSource(data, "P.index"))


@given(first=st.binary(min_size=2, max_size=30), data=st.data())
def test_an_index_with_other_values_is_recognised(first: bytes, data: st.DataObject) -> None:
    """The checkpoints of a run differ in checksums; each has its own."""
    kinds = Kinds((STEP, OTHER, b"not there"))
    assert isinstance(read(kinds, bundle(first)), Index)
    for _ in range(2):
        values = data.draw(st.binary(min_size=len(first), max_size=len(first)))
        step = data.draw(st.integers(0, 2**63 - 1))
        index = bundle(values, step=step)
        found, parsed = read(kinds, index), read_index(BytesSource(index, "P.index"))
        assert isinstance(found, Likeness)
        assert found.header == parsed.header
        for key in (STEP, OTHER, b"not there"):
            assert found.get(key) == parsed.get(key)


@pytest.mark.parametrize("change", [{"name": b"weightz"}, {"shape": (1, 1)}, {"dtype": 6}])
def test_another_structure_is_not_taken_for_it(change: dict[str, object]) -> None:
    """Another name, shape or dtype makes another kind, also where the file is as long."""

    def index(name: bytes = b"weights", shape: tuple[int, ...] = (1,), dtype: int = 4) -> bytes:
        writer = BundleWriter()
        writer.add(name, dtype, shape, b"a")
        return writer.index()

    kinds = Kinds((STEP,))
    read(kinds, index())
    found = read(kinds, index(**change))  # type: ignore[arg-type]
    assert isinstance(found, Index)
    assert found == read_index(BytesSource(index(**change), "P.index"))  # type: ignore[arg-type]


def test_each_byte_counts() -> None:
    """A damaged index is never recognised as a whole one, wherever the damage is but in what nobody reads."""
    kinds = Kinds((STEP,))
    whole = bundle(b"abcdef")
    read(kinds, whole)
    for at in range(len(whole)):
        damaged = whole[:at] + bytes([whole[at] ^ 0x04]) + whole[at + 1 :]
        try:
            found = read(kinds, damaged)
        except BundleError:
            continue
        # Metaindex and padding: parsed anew, since they are like in no two kinds.
        assert isinstance(found, Index), at
        read(kinds, whole)


def test_compressed_blocks_are_parsed_each_time() -> None:
    """Where the checksums do not lie open, every index is taken apart."""
    kinds = Kinds((STEP,))
    for values in (b"ab", b"cd"):
        assert isinstance(read(kinds, bundle(values, compress=True)), Index)


def test_few_kinds_are_remembered() -> None:
    """A directory of indexes that are all different costs no more memory than a few of them."""
    kinds = Kinds((STEP,))
    indexes = [bundle(bytes(count)) for count in range(1, 40)]
    for index in indexes:
        assert isinstance(read(kinds, index), Index)
    assert isinstance(read(kinds, indexes[-1]), Likeness)
    assert isinstance(read(kinds, indexes[0]), Index)
