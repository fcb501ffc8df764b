"""V1 checkpoints of an independent writer: whole, damaged, sharded, with blocks too large for memory."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import bundle_writer as writer
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ckptctl.bundle import v1
from ckptctl.bundle.findings import Report
from ckptctl.bundle.slices import MAX_SLICES
from ckptctl.bundle.source import BytesSource
from ckptctl.bundle.table import MAX_BLOCK_BYTES
from ckptctl.bundle.v1 import MAX_META_BYTES, check_v1, is_v1, read_v1, read_v1_step
from ckptctl.errors import BundleError, UnsupportedError

FLOAT, INT64 = 1, 9

STEP = writer.bytes_field(10, writer.varint(42))
"""A TensorProto with one int64_val."""

TENSORS: list[tuple[bytes, int, list[int], list[tuple[writer.Extents, bytes]]]] = [
    (b"global_step", INT64, [], [((), STEP)]),
    (b"table", FLOAT, [4, 2], [(((0, 1), None), b""), (((1, 3), None), b"")]),
    (b"weights", FLOAT, [2, 2], [((None, None), writer.bytes_field(5, bytes(16)))]),
]


def findings(data: bytes) -> list[str]:
    """The kinds of what is found."""
    report = Report()
    check_v1(BytesSource(data, "model.ckpt"), report)
    return [finding.kind.value for finding in report.findings]


@pytest.mark.parametrize("compress", [False, True], ids=["plain", "snappy"])
@pytest.mark.parametrize("block_bytes", [1, 1 << 18])
def test_whole(block_bytes: int, compress: bool) -> None:  # noqa: FBT001
    """Tensors are listed with dtype, shape and slices; nothing is found; the step is `global_step`."""
    data = writer.v1_table(TENSORS, block_bytes=block_bytes, compress=compress)
    source = BytesSource(data, "model.ckpt")
    assert is_v1(source)
    tensors = read_v1([source])
    assert [(tensor.name, tensor.dtype, tensor.shape) for tensor in tensors.values()] == [
        ("global_step", INT64, ()),
        ("table", FLOAT, (4, 2)),
        ("weights", FLOAT, (2, 2)),
    ]
    assert [str(part) for part in tensors["table"].slices] == ["0,1:-", "1,3:-"]
    assert findings(data) == []
    step = read_v1_step([source])
    assert step is not None
    assert (step.value, step.key) == (42, "global_step")


@pytest.mark.parametrize("bit", [0, 7])
def test_every_flipped_byte_is_found(bit: int) -> None:
    """No byte of the file can be damaged unnoticed."""
    data = writer.v1_table(TENSORS, block_bytes=1)
    for position in range(len(data)):
        damaged = bytearray(data)
        damaged[position] ^= 1 << bit
        assert findings(bytes(damaged)), position


def test_cut_at_every_length() -> None:
    """A file that is cut anywhere is found, and is no V1 checkpoint to anyone who asks."""
    data = writer.v1_table(TENSORS)
    for length in range(len(data)):
        cut = data[:length]
        assert findings(cut)
        assert not is_v1(BytesSource(cut, "cut"))
        with pytest.raises(BundleError):
            read_v1([BytesSource(cut, "cut")])


def test_shards() -> None:
    """The slices that several files have of one tensor are put together; files that disagree are an error."""
    first = writer.v1_table([(b"table", FLOAT, [4, 2], [(((0, 1), None), b"")])])
    second = writer.v1_table([(b"table", FLOAT, [4, 2], [(((1, 3), None), b"")]), TENSORS[0]])
    sources = [BytesSource(first, "P-00000-of-00002"), BytesSource(second, "P-00001-of-00002")]
    assert [str(part) for part in read_v1(sources)["table"].slices] == ["0,1:-", "1,3:-"]
    step = read_v1_step(sources)
    assert step is not None
    assert step.value == 42
    other = writer.v1_table([(b"table", FLOAT, [4, 3], [(((1, 3), None), b"")])])
    with pytest.raises(BundleError, match="than in another shard"):
        read_v1([sources[0], BytesSource(other, "P-00001-of-00002")])


@pytest.mark.parametrize("first", [False, True], ids=["behind", "with-meta"])
def test_block_too_large_for_memory(first: bool) -> None:  # noqa: FBT001
    """A block with a large tensor is checked and searched without being held."""
    large = (b"a" if first else b"z", FLOAT, [4, 1 << 20], [((None, None), bytes(MAX_BLOCK_BYTES))])
    data = writer.v1_table(sorted([*TENSORS, large]), block_bytes=1 << 18 if first else 1)
    source = BytesSource(data, "model.ckpt")
    assert is_v1(source)
    assert len(read_v1([source])) == 4
    assert findings(data) == []
    step = read_v1_step([source])
    assert step is not None
    assert step.value == 42
    damaged = bytearray(data)
    damaged[len(data) // 2] ^= 1
    assert "block" in findings(bytes(damaged))


@dataclass
class Sparse:
    """A source with a hole in it, which counts what is read.

    Attributes:
        head: What it begins with.
        size: Its length.
        tail: What it ends with.
        read: How many bytes have been read.
    """

    head: bytes
    size: int
    tail: bytes
    name: str = "model-1"
    read: int = field(default=0)

    def pread(self, length: int, offset: int) -> bytes:
        """See `Source.pread`."""
        length = max(0, min(length, self.size - offset))
        self.read += length
        assert self.read < 1 << 25, "all of it is being read"
        out = bytearray(length)
        for data, at in ((self.head, 0), (self.tail, self.size - len(self.tail))):
            first, last = max(at, offset), min(at + len(data), offset + length)
            if first < last:
                out[first - offset : last - offset] = data[first - at : last - at]
        return bytes(out)

    def preadinto(self, buffer: memoryview, offset: int) -> int:
        """See `Source.preadinto`."""
        data = self.pread(len(buffer), offset)
        buffer[: len(data)] = data
        return len(data)


def sparse(head: bytes) -> Sparse:
    """A table of a TiB whose one block begins with `head`, and goes on with nothing."""
    size = 1 << 40
    index = writer.block([(b"\xff", writer.varint_pair((0, size)))], 1)
    behind = writer.with_trailer(writer.block([])), writer.with_trailer(index)
    handles = (size + 5, len(behind[0]) - 5), (size + 5 + len(behind[0]), len(behind[1]) - 5)
    tail = bytes(5) + b"".join(behind) + writer.footer(*handles)
    return Sparse(head, size + len(tail), tail)


def record(key: bytes, length: int) -> bytes:
    """What stands in a block before the value of an entry that shares nothing."""
    return writer.varint(0) + writer.varint(len(key)) + writer.varint(length) + key


def meta() -> bytes:
    """A list of tensors, as a file of `TENSORS` has it."""
    listed = (
        writer.bytes_field(1, b"global_step") + writer.number_field(3, INT64) + writer.bytes_field(4, b"")
    )
    return writer.bytes_field(1, writer.bytes_field(1, listed))


@pytest.mark.parametrize("head", [b"", record(b"", 3) + b"abc" * 3], ids=["hole", "garbage"])
def test_hole_is_not_read(head: bytes) -> None:
    """A file of nothing whose footer calls it one block is known to be no V1 checkpoint by a few bytes."""
    source = sparse(head)
    assert not is_v1(source)
    for read in (read_v1, read_v1_step):
        with pytest.raises(BundleError):
            read([source])
    assert source.read < 1 << 20


def test_large_block_is_not_read_for_what_it_begins_with() -> None:
    """Kind, tensors and step of a checkpoint are read from the beginning of a block of a TiB."""
    saved = writer.bytes_field(2, writer.bytes_field(3, STEP))
    step_key, last_key = writer.slice_key(b"global_step", ()), writer.slice_key(b"x", (None,))
    first = record(b"", len(meta())) + meta() + record(step_key, len(saved)) + saved
    source = sparse(first + record(last_key, (1 << 40) - 500))
    assert is_v1(source)
    assert list(read_v1([source])) == ["global_step"]
    step = read_v1_step([source])
    assert step is not None
    assert step.value == 42
    assert source.read < 1 << 20


def test_list_that_is_too_large_is_not_read() -> None:
    """A list of tensors larger than what is read says nothing against a file, and costs nothing."""
    source = sparse(record(b"", MAX_META_BYTES + 1))
    with pytest.raises(UnsupportedError, match="expected at most"):
        is_v1(source)
    assert source.read < 1 << 20


def test_list_that_is_too_large_is_not_damage(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where only the list of tensors is larger than what is read, a file is not found to be damaged."""
    monkeypatch.setattr(v1, "WHOLE_BYTES", 16)
    monkeypatch.setattr(v1, "MAX_META_BYTES", 8)
    assert findings(writer.v1_table(TENSORS)) == ["unreadable"]


def test_far_entries_of_a_large_block_are_not_looked_for() -> None:
    """Behind a MiB of a large block no step is looked for."""
    first = record(b"", len(meta())) + meta()
    far = record(writer.slice_key(b"a", (None,)), 2 << 20) + bytes(2 << 20)
    source = sparse(first + far + record(writer.slice_key(b"b", (None,)), 1))
    assert is_v1(source)
    with pytest.raises(UnsupportedError, match="expected it within"):
        read_v1_step([source])
    assert source.read < 1 << 20


def test_large_block_is_checked_where_that_is_asked_for() -> None:
    """Damage in the block that has the list is noticed by who asks for it, and waited for by no other."""
    large = (b"a", FLOAT, [4, 1 << 20], [((None, None), bytes(1 << 23))])
    damaged = bytearray(writer.v1_table([large, *TENSORS]))
    damaged[1 << 22] ^= 1
    source = BytesSource(bytes(damaged), "model.ckpt")
    assert len(read_v1([source])) == 4
    with pytest.raises(BundleError, match="checksum"):
        read_v1([source], checked=True)
    assert findings(bytes(damaged)) == ["block"]


def test_slice_that_is_not_there() -> None:
    """A slice that is listed and has no record is found."""
    meta = writer.bytes_field(1, b"gone") + writer.number_field(3, FLOAT) + writer.bytes_field(4, b"")
    listed = writer.bytes_field(1, writer.bytes_field(1, meta))
    assert findings(writer.table([(b"", listed)])) == ["slices"]


@pytest.mark.parametrize(
    "record",
    [
        b"",
        b"\xff",
        writer.bytes_field(2, b""),
        writer.bytes_field(1, writer.bytes_field(2, writer.number_field(2, 9))),
        writer.bytes_field(1, writer.bytes_field(1, writer.bytes_field(2, writer.shape_proto([2**62, 9])))),
        writer.bytes_field(
            1,
            writer.bytes_field(
                1, writer.bytes_field(2, writer.shape_proto([4])) + writer.bytes_field(4, b"")
            ),
        ),
    ],
    ids=["empty", "garbage", "no-meta", "newer-version", "shape", "rank-of-slice"],
)
def test_meta_that_lies(record: bytes) -> None:
    """A list of tensors that cannot be is found, and an error where it is asked for."""
    data = writer.table([(b"", record)])
    assert findings(data) == ["index"]
    with pytest.raises(BundleError):
        read_v1([BytesSource(data, "model.ckpt")])


def test_list_of_nothing_but_slices_is_cheap() -> None:
    """A list of more tensors and slices than any checkpoint has is given up before it is parsed."""
    tensor = (
        writer.bytes_field(1, b"w") + writer.number_field(3, FLOAT) + writer.bytes_field(4, b"") * 1_100_000
    )
    source = BytesSource(
        writer.table([(b"", writer.bytes_field(1, writer.bytes_field(1, tensor)))]), "model-1"
    )
    with pytest.raises(UnsupportedError, match="has more than 1,000,000 parts"):
        is_v1(source)
    report = Report()
    check_v1(source, report)
    assert [finding.kind.value for finding in report.findings] == ["unreadable"]
    tensor = writer.bytes_field(1, b"w") + writer.bytes_field(4, b"") * (MAX_SLICES + 1)
    source = BytesSource(
        writer.table([(b"", writer.bytes_field(1, writer.bytes_field(1, tensor)))]), "model-1"
    )
    with pytest.raises(UnsupportedError, match="slices, expected at most"):
        read_v1([source])


def test_slices_of_one_name_are_put_together_at_once() -> None:
    """A list that has one tensor a hundred thousand times takes no longer than another."""
    tensor = writer.bytes_field(1, writer.bytes_field(4, b""))
    data = writer.table([(b"", writer.bytes_field(1, tensor * 100_000))])
    begin = time.monotonic()
    assert [len(one.slices) for one in read_v1([BytesSource(data, "model-1")]).values()] == [100_000]
    assert time.monotonic() - begin < 10
    assert findings(data) == ["slices"]


def test_tables_of_others() -> None:
    """A table without the empty key, or another file, is no V1 checkpoint."""
    assert not is_v1(BytesSource(writer.table([(b"a", b"b")]), "other"))
    assert not is_v1(BytesSource(writer.table([]), "other"))
    assert not is_v1(BytesSource(b"text" * 50, "other"))
    assert not is_v1(BytesSource(b"", "other"))


@given(st.data())
def test_mutations(data: st.DataObject) -> None:
    """Whatever is changed in a V1 checkpoint, each question gets an answer or a BundleError."""
    content = bytearray(writer.v1_table(TENSORS, block_bytes=data.draw(st.sampled_from([1, 1 << 18]))))
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    source = BytesSource(bytes(content), "model.ckpt")
    is_v1(source)
    check_v1(source, Report())
    for read in (read_v1, read_v1_step):
        try:
            read([source])
        except BundleError:
            continue
