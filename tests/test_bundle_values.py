"""Values, steps and object graphs of bundles that TensorFlow would not write today."""

from __future__ import annotations

import contextlib
import struct
from typing import TYPE_CHECKING

import bundle_writer as writer
import ml_dtypes
import numpy as np
import pytest

from ckptctl.bundle.dtypes import DTYPES
from ckptctl.bundle.graph import OBJECT_GRAPH_KEY, parse_object_graph, read_object_graph
from ckptctl.bundle.index import IndexReader, read_index
from ckptctl.bundle.source import CHUNK_BYTES, BytesSource
from ckptctl.bundle.step import STEP_KEYS, read_step
from ckptctl.bundle.values import iter_values, read_tensor
from ckptctl.errors import BundleError, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from ckptctl.bundle.index import Index
    from ckptctl.bundle.source import Source

VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"


def opened(bundle: writer.BundleWriter) -> tuple[Index, Callable[[int, int], AbstractContextManager[Source]]]:
    """The index of a bundle, and what opens its shards."""

    @contextlib.contextmanager
    def open_shard(shard: int, _: int) -> Iterator[Source]:
        yield BytesSource(bytes(bundle.shards[shard]), f"shard {shard}")

    return read_index(BytesSource(bundle.index(), "P.index")), open_shard


@pytest.mark.parametrize("dtype", sorted(DTYPES))
def test_big_endian_numbers(dtype: int) -> None:
    """Numbers of a big-endian machine have the values that they had there, in every dtype."""
    kind = DTYPES[dtype]
    plain = getattr(ml_dtypes, kind.numpy, None) or np.dtype(kind.numpy)
    values = np.array([[0, 1, 1], [1, 0, 1]], dtype=np.int8).astype(plain)
    width = kind.size // 2 if kind.name.startswith("complex") else kind.size
    raw = values.tobytes()
    swapped = b"".join(raw[at : at + width][::-1] for at in range(0, len(raw), width))
    bundle = writer.BundleWriter(big_endian=True)
    bundle.add(b"a", dtype, [2, 3], swapped)
    index, open_shard = opened(bundle)
    read = read_tensor(index, index.entries[b"a"], open_shard)
    assert read.dtype == values.dtype
    assert read.tobytes() == raw
    streamed = [piece.tobytes() for piece in iter_values(index, index.entries[b"a"], open_shard)]
    assert b"".join(streamed) == raw


@pytest.mark.parametrize("big_endian", [False, True], ids=["little", "big"])
def test_strings_and_variants(big_endian: bool) -> None:  # noqa: FBT001
    """Strings and variants come back element by element, in the shape of the tensor."""
    strings = [b"", b"a" * 127, b"b" * 128, b"c" * 20_000, b"\x00", b"\xff"]
    bundle = writer.BundleWriter(big_endian=big_endian)
    bundle.add_strings(b"s", [2, 3], strings)
    bundle.add_variants(b"v", [6], strings)
    index, open_shard = opened(bundle)
    for name, shape in ((b"s", (2, 3)), (b"v", (6,))):
        values = read_tensor(index, index.entries[name], open_shard)
        assert values.shape == shape
        assert list(values.flat) == strings


def test_many_strings() -> None:
    """Lengths that take more than one read are decoded across its borders."""
    strings = [b"x" * (number % 300) for number in range(100_000)]
    bundle = writer.BundleWriter()
    bundle.add_strings(b"s", [len(strings)], strings)
    index, open_shard = opened(bundle)
    assert list(read_tensor(index, index.entries[b"s"], open_shard)) == strings


def test_slices_are_put_together() -> None:
    """A partitioned tensor is put together from slices along any dimensions, out of several shards."""
    whole = np.arange(24, dtype="<f4").reshape(4, 6)
    parts: list[tuple[writer.Extents, bytes, int]] = [
        (((row, 2), (column, 3)), whole[row : row + 2, column : column + 3].tobytes(), number % 2)
        for number, (row, column) in enumerate([(2, 3), (0, 0), (2, 0), (0, 3)])
    ]
    bundle = writer.BundleWriter(2)
    bundle.add_partitioned(b"table", 1, [4, 6], parts)
    bundle.add_partitioned(b"words", 7, [2], [])
    del bundle.entries[b"words"]
    index, open_shard = opened(bundle)
    assert np.array_equal(read_tensor(index, index.entries[b"table"], open_shard), whole)


def test_streams_in_pieces() -> None:
    """A large tensor comes in pieces of whole elements, each in the same memory."""
    whole = np.arange(CHUNK_BYTES // 4, dtype="<c16")
    bundle = writer.BundleWriter()
    bundle.add(b"a", 18, [len(whole)], whole.tobytes())
    index, open_shard = opened(bundle)
    pieces = [piece.copy() for piece in iter_values(index, index.entries[b"a"], open_shard)]
    assert [len(piece) for piece in pieces] == [CHUNK_BYTES // 16] * 4
    assert np.array_equal(np.concatenate(pieces), whole)


def test_damage_is_an_error() -> None:
    """Values whose checksum does not match are not given out, nor those that do not fit their shape."""
    bundle = writer.BundleWriter()
    bundle.add(b"n", 1, [2], bytes(8))
    bundle.add_strings(b"s", [1], [b"word"])
    bundle.add_variants(b"v", [1], [b"word"])
    bundle.entries[b"size"] = writer.entry_proto(1, [3], size=8, crc=writer.masked(bytes(8)))
    bundle.entries[b"beyond"] = writer.entry_proto(1, [2**40], size=2**42)
    bundle.entries[b"strings"] = writer.entry_proto(7, [2**40])
    bundle.entries[b"unknown"] = writer.entry_proto(99, [2], size=8, crc=writer.masked(bytes(8)))
    bundle.entries[b"huge"] = writer.entry_proto(
        1, [2**40, 2**20], slices=[((0, 2**39), None), ((2**39, 2**39), None)]
    )
    bundle.shards[0] = bytearray(byte ^ 1 for byte in bundle.shards[0])
    index, open_shard = opened(bundle)
    for entry in index.tensors():
        if entry.name not in {"size", "unknown"}:
            with pytest.raises(BundleError):
                read_tensor(index, entry, open_shard)
        if entry.name != "unknown":
            with pytest.raises(BundleError):
                list(iter_values(index, entry, open_shard))
    with pytest.raises(BundleError, match="takes 12 bytes, the entry has 8"):
        read_tensor(index, index.entries[b"size"], open_shard)
    with pytest.raises(BundleError, match="dtype 99 cannot be shown"):
        read_tensor(index, index.entries[b"unknown"], open_shard)


@pytest.mark.parametrize("shape", [[0, 1 << 62], [1] * 200], ids=["empty", "dimensions"])
@pytest.mark.parametrize("dtype", [1, 7], ids=["number", "string"])
def test_shapes_that_no_array_has(shape: list[int], dtype: int) -> None:
    """A shape that numpy does not know is an error of ours, which says nothing against the tensor."""
    bundle = writer.BundleWriter()
    elements = int(np.prod(shape, dtype=object))
    if dtype == 1:
        bundle.add(b"a", 1, shape, bytes(4 * elements))
        bundle.add_partitioned(b"b", 1, shape, [((None,) * len(shape), bytes(4 * elements), 0)])
    else:
        bundle.add_strings(b"a", shape, [b"x"] * elements)
    index, open_shard = opened(bundle)
    for entry in index.tensors():
        with pytest.raises(UnsupportedError, match=r"P.index: tensor '[ab].*' of shape \["):
            read_tensor(index, entry, open_shard)


def stepped(big_endian: bool, **steps: tuple[int, bytes]) -> writer.BundleWriter:  # noqa: FBT001
    """A bundle with these steps, each a dtype and bytes."""
    bundle = writer.BundleWriter(big_endian=big_endian)
    for name, (dtype, data) in steps.items():
        bundle.add(name.replace(".", "/").encode() + VALUE.encode(), dtype, [], data)
    return bundle


def test_step_precedence() -> None:
    """Each key gives way to those before it, and the one that was taken is told."""
    bundle = writer.BundleWriter()
    for number, key in reversed(list(enumerate(STEP_KEYS))):
        bundle.add(key, 9, [], struct.pack("<q", 100 + number))
        index, open_shard = opened(bundle)
        step = read_step(index, open_shard)
        assert step is not None
        assert (step.value, step.key) == (100 + number, key.decode())


@pytest.mark.parametrize(
    ("dtype", "data", "big_endian", "expected"),
    [
        (3, struct.pack("<i", -5), False, -5),
        (9, struct.pack(">q", 1 << 40), True, 1 << 40),
        (23, struct.pack("<Q", 2**64 - 1), False, 2**64 - 1),
        (1, struct.pack("<f", 12.0), False, 12),
        (2, struct.pack(">d", 1e6), True, 1_000_000),
    ],
    ids=["int32", "int64-big", "uint64", "float32", "float64-big"],
)
def test_step_dtypes(dtype: int, data: bytes, big_endian: bool, expected: int) -> None:  # noqa: FBT001
    """A step may be of any type of whole numbers, and a floating one that holds one."""
    index, open_shard = opened(stepped(big_endian, step=(dtype, data)))
    step = read_step(index, open_shard)
    assert step is not None
    assert step.value == expected


def test_step_that_is_none() -> None:
    """What is called a step and is no whole number is passed over."""
    bundle = stepped(
        False, step=(1, struct.pack("<f", 1.5)), global_step=(1, struct.pack("<f", float("nan")))
    )
    bundle.add(b"global_step", 9, [2], bytes(16))
    bundle.add(f"optimizer/iter{VALUE}".encode(), 10, [], b"\x01")
    bundle.add_strings(f"model/optimizer/iter{VALUE}".encode(), [], [b"12"])
    index, open_shard = opened(bundle)
    assert read_step(index, open_shard) is None
    bundle.add(f"save_counter{VALUE}".encode(), 9, [], struct.pack("<q", 3))
    index, open_shard = opened(bundle)
    step = read_step(index, open_shard)
    assert step is not None
    assert step.source == "save_counter"


def test_step_that_is_damaged() -> None:
    """A step that fails its checksum is an error, and not passed over for one that counts something else."""
    bundle = stepped(False, step=(9, bytes(8)), save_counter=(9, bytes(8)))
    bundle.shards[0] = bytearray(b"\x01" * 16)
    index, open_shard = opened(bundle)
    with pytest.raises(BundleError, match="fails its checksum"):
        read_step(index, open_shard)


def test_step_reads_few_blocks() -> None:
    """Looking for the step in a large index reads the blocks of its keys alone."""
    bundle = stepped(False, step=(9, struct.pack("<q", 8)))
    bundle.block_bytes = 1000
    for number in range(2000):
        bundle.add(b"layer-%04d/kernel" % number, 1, [1], bytes(4))
    data = bundle.index()
    reads = []

    class Counting(BytesSource):
        def pread(self, length: int, offset: int) -> bytes:
            reads.append(length)
            return super().pread(length, offset)

    _, open_shard = opened(bundle)
    step = read_step(IndexReader(Counting(data, "P.index")), open_shard)
    assert step is not None
    assert step.value == 8
    assert len(reads) == 4, "footer, index block, header, step"
    assert sum(reads) < len(data) / 5


def node(
    children: tuple[tuple[str, int], ...] = (), slots: tuple[tuple[int, str, int], ...] = (), key: str = ""
) -> bytes:
    """A TrackableObject."""
    out = b""
    for name, child in children:
        out += writer.bytes_field(1, writer.number_field(1, child) + writer.bytes_field(2, name.encode()))
    if key:
        fields = (b"VARIABLE_VALUE", b"full", key.encode())
        out += writer.bytes_field(
            2, b"".join(writer.bytes_field(tag, text) for tag, text in enumerate(fields, 1))
        )
    for original, name, slot in slots:
        numbers = writer.number_field(1, original) + writer.bytes_field(2, name.encode())
        out += writer.bytes_field(3, numbers + writer.number_field(3, slot))
    return writer.bytes_field(1, out)


def test_object_graph() -> None:
    """A graph is read with children, attributes and slots, and its paths end though it has a cycle."""
    serialized = (
        node((("model", 1), ("optimizer", 3)))
        + node((("kernel", 2), ("self", 1), ("root", 0)))
        + node(key="model/kernel/.ATTRIBUTES/VARIABLE_VALUE")
        + node(slots=((2, "m", 4),))
        + node(key="slot")
    )
    bundle = writer.BundleWriter()
    bundle.add_strings(OBJECT_GRAPH_KEY, [], [serialized])
    index, open_shard = opened(bundle)
    graph = read_object_graph(index, open_shard)
    assert graph is not None
    assert graph.paths() == {0: "", 1: "model", 2: "model/kernel", 3: "optimizer"}
    (attribute,) = graph.nodes[2].attributes
    assert attribute.checkpoint_key == "model/kernel/.ATTRIBUTES/VARIABLE_VALUE"
    (slot,) = graph.nodes[3].slot_variables
    assert (slot.original_variable, slot.name, slot.slot_variable) == (2, "m", 4)


@pytest.mark.parametrize(
    "serialized",
    [node((("a", 1),)), node((("a", -1),)), node(slots=((0, "m", 9),)), node(slots=((9, "m", 0),)), b"\xff"],
    ids=["child", "negative", "slot", "original", "garbage"],
)
def test_object_graph_that_lies(serialized: bytes) -> None:
    """A node that refers to one that is not there, or bytes that are no graph, are an error."""
    with pytest.raises(BundleError):
        parse_object_graph(serialized, "P")


def test_object_graph_of_another_kind() -> None:
    """A tensor under the graph's name that is no single string is an error."""
    bundle = writer.BundleWriter()
    bundle.add(OBJECT_GRAPH_KEY, 9, [], bytes(8))
    index, open_shard = opened(bundle)
    with pytest.raises(BundleError, match="expected one string"):
        read_object_graph(index, open_shard)
    assert parse_object_graph(b"", "P").paths() == {}
