"""Verification: every damage is found and named, and all of it, however the work is divided."""

from __future__ import annotations

import contextlib
import struct
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

import bundle_writer as writer
import numpy as np
import pytest
from crc32c import crc32c

from ckptctl.bundle import data as bundle_data
from ckptctl.bundle.findings import FindingKind, Report
from ckptctl.bundle.index import read_index
from ckptctl.bundle.source import CHUNK_BYTES, BytesSource
from ckptctl.bundle.structure import check_structure
from ckptctl.bundle.verification import Verification, verify_bundle
from ckptctl.errors import UnreadableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ckptctl.bundle.source import Source

FLOAT, STRING, INT64, BFLOAT16 = 1, 7, 9, 14


@dataclass
class Bundle:
    """The files of a bundle in memory; a shard that is None is not there."""

    index: bytes
    shards: list[bytes | None]

    @classmethod
    def of(cls, bundle: writer.BundleWriter) -> Bundle:
        """What the writer has made."""
        return cls(bundle.index(), [bytes(shard) for shard in bundle.shards])

    @contextlib.contextmanager
    def open_shard(self, shard: int, _: int) -> Iterator[Source]:
        """Opens a shard as the callers of the library do."""
        data = self.shards[shard]
        if data is None:
            raise FileNotFoundError(2, "No such file or directory", f"shard {shard}")
        yield BytesSource(data, f"shard {shard}")

    def verify(
        self,
        *,
        data: bool = True,
        finite: bool = False,
        workers: int = 1,
        progress: Callable[[int, int], None] | None = None,
    ) -> Verification:
        """Verifies it."""
        return verify_bundle(
            BytesSource(self.index, "P.index"),
            self.open_shard,
            data=data,
            finite=finite,
            workers=workers,
            progress=progress,
        )


def kinds(verification: Verification) -> list[tuple[str, str | None]]:
    """Kind and tensor of each finding."""
    return [(finding.kind.value, finding.tensor) for finding in verification.findings]


def of_everything(
    *, big_endian: bool = False, alignment: int = 1, compress: bool = False
) -> writer.BundleWriter:
    """A small bundle with one of each kind of tensor in two shards."""
    order = ">" if big_endian else "<"
    bundle = writer.BundleWriter(
        2, big_endian=big_endian, alignment=alignment, block_bytes=64, compress=compress
    )
    bundle.add(b"weights", FLOAT, [2, 3], struct.pack(f"{order}6f", *range(6)))
    bundle.add(b"step", INT64, [], struct.pack(f"{order}q", 1234), shard=1)
    bundle.add(b"empty", FLOAT, [0, 3], b"")
    bundle.add_strings(b"words", [3], [b"a", b"", b"word" * 40], shard=1)
    bundle.add_strings(b"no words", [0], [])
    bundle.add_variants(b"variants", [2], [b"one", b"another"], shard=1)
    bundle.add_partitioned(
        b"table",
        FLOAT,
        [4, 2],
        [
            (((0, 1), None), struct.pack(f"{order}2f", 1, 2), 0),
            (((1, 3), None), struct.pack(f"{order}6f", *range(6)), 1),
        ],
    )
    return bundle


@pytest.mark.parametrize("alignment", [1, 64], ids=["packed", "aligned"])
@pytest.mark.parametrize("big_endian", [False, True], ids=["little", "big"])
@pytest.mark.parametrize("workers", [1, 2])
def test_whole_bundle_passes(workers: int, big_endian: bool, alignment: int) -> None:  # noqa: FBT001
    """A bundle as it was written has no finding, at every level and in either byte order."""
    bundle = Bundle.of(of_everything(big_endian=big_endian, alignment=alignment))
    for data in (False, True):
        assert bundle.verify(data=data, finite=data, workers=workers).findings == ()


@pytest.mark.parametrize("bit", [0, 7])
@pytest.mark.parametrize("compress", [False, True], ids=["plain", "snappy"])
def test_every_flipped_byte_is_found(compress: bool, bit: int) -> None:  # noqa: FBT001
    """No byte can be damaged unnoticed: not in the index, not in a shard, not in the padding of either."""
    bundle = Bundle.of(of_everything(alignment=32, compress=compress))
    files = [bundle.index, *(shard for shard in bundle.shards if shard is not None)]
    for number, file in enumerate(files):
        for position in range(len(file)):
            damaged = bytearray(file)
            damaged[position] ^= 1 << bit
            changed = [bytes(damaged) if other == number else content for other, content in enumerate(files)]
            verification = Bundle(changed[0], list(changed[1:])).verify()
            assert verification.findings, f"file {number}, byte {position}"


def test_cut_at_every_length() -> None:
    """An index or a shard that is cut anywhere is found without reading data, as is one that has grown."""
    bundle = Bundle.of(of_everything())
    for length in range(len(bundle.index)):
        assert not Bundle(bundle.index[:length], bundle.shards).verify().ok
    for number, shard in enumerate(bundle.shards):
        assert shard is not None
        for changed in (*(shard[:length] for length in range(len(shard))), shard + b"\x00"):
            shards = list(bundle.shards)
            shards[number] = changed
            found = Bundle(bundle.index, shards).verify(data=False).findings
            assert FindingKind.SHARD_LENGTH in {finding.kind for finding in found}


def test_missing_shard_costs_its_tensors_only() -> None:
    """With a shard gone that is said, and the damage in the other shard is found all the same."""
    bundle = Bundle.of(of_everything())
    assert bundle.shards[0] is not None
    damaged = bytearray(bundle.shards[0])
    damaged[0] ^= 1
    verification = Bundle(bundle.index, [bytes(damaged), None]).verify()
    assert kinds(verification) == [("missing shard", None), ("checksum", "weights")]
    assert verification.findings[0].shard == 1


def test_all_damage_is_reported() -> None:
    """Verification goes on behind the first finding, and names tensor, shard and offset of each."""
    bundle = writer.BundleWriter()
    for number in range(50):
        bundle.add(b"t%02d" % number, FLOAT, [4], bytes([number] * 16))
    shard = bytearray(bundle.shards[0])
    for number in (3, 17, 42):
        shard[16 * number + 5] ^= 0x10
    found = Bundle(bundle.index(), [bytes(shard)]).verify(workers=2).findings
    assert [(finding.tensor, finding.shard, finding.offset) for finding in found] == [
        ("t03", 0, 48),
        ("t17", 0, 272),
        ("t42", 0, 672),
    ]


def test_bad_block_costs_its_entries_only() -> None:
    """With one block of the index damaged, the tensors in the others are still checked."""
    bundle = writer.BundleWriter(block_bytes=64)
    for number in range(20):
        bundle.add(b"t%02d" % number, FLOAT, [4], bytes([number] * 16))
    index = bytearray(bundle.index())
    index[len(index) // 2 - 100] ^= 1
    shard = bytearray(bundle.shards[0])
    shard[-1] ^= 1
    found = Bundle(bytes(index), [bytes(shard)]).verify()
    assert kinds(found) == [("block", None), ("checksum", "t19")]


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_giant_tensor_is_split(workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A large tensor is read in parts by all workers; together they find what one alone would."""
    monkeypatch.setattr(bundle_data, "PART_BYTES", CHUNK_BYTES)
    content = np.arange(5 * CHUNK_BYTES // 4 + 3, dtype="<u4").tobytes()
    bundle = writer.BundleWriter()
    bundle.add(b"a", FLOAT, [1], b"1234")
    bundle.add(b"giant", FLOAT, [len(content) // 4], content)
    bundle.add(b"z", FLOAT, [1], b"1234")
    assert len(list(bundle_data.jobs(read_index(BytesSource(bundle.index(), "P")).stored()))) == 8
    whole = Bundle.of(bundle)
    assert whole.verify(workers=workers).ok
    for position in (4, len(content) // 2, len(content) + 3):
        damaged = bytearray(bundle.shards[0])
        damaged[position] ^= 4
        assert kinds(Bundle(whole.index, [bytes(damaged)]).verify(workers=workers)) == [("checksum", "giant")]
    swapped = bytearray(bundle.shards[0])
    first, second = slice(4, 4 + CHUNK_BYTES), slice(4 + CHUNK_BYTES, 4 + 2 * CHUNK_BYTES)
    swapped[first], swapped[second] = swapped[second], swapped[first]
    assert kinds(Bundle(whole.index, [bytes(swapped)]).verify(workers=workers)) == [("checksum", "giant")]


def test_progress_ends_with_all_bytes() -> None:
    """Progress grows from call to call, in the caller's thread, up to the bytes of all tensors."""
    calls: list[tuple[int, int]] = []

    def progress(done: int, total: int) -> None:
        assert threading.current_thread() is threading.main_thread()
        calls.append((done, total))

    verification = Bundle.of(of_everything()).verify(workers=2, progress=progress)
    assert calls == sorted(calls)
    assert calls[-1] == (verification.checked_bytes,) * 2


def test_string_beyond_4_gib() -> None:
    """The length of a string that does not fit into 32 bits is checked as 64 bits; the string is not held."""
    length = (1 << 32) + 5
    checksum = struct.pack("<I", writer.masked(struct.pack("<Q", length)))
    head = writer.varint(length) + checksum
    crc = crc32c(checksum, crc32c(struct.pack("<Q", length)))
    zeros = bytes(CHUNK_BYTES)
    for _ in range(length // CHUNK_BYTES):
        crc = crc32c(zeros, crc)
    crc = crc32c(bytes(length % CHUNK_BYTES), crc)
    bundle = writer.BundleWriter()
    bundle.entries[b"huge"] = writer.entry_proto(STRING, [], size=len(head) + length, crc=writer.rotated(crc))

    class MostlyZeros(BytesSource):
        @property
        def size(self) -> int:
            return len(head) + length

        def preadinto(self, buffer: memoryview, offset: int) -> int:
            begin = self.data[offset:][: len(buffer)]
            buffer[:] = begin + zeros[: len(buffer) - len(begin)]
            return len(buffer)

    @contextlib.contextmanager
    def open_shard(_: int, __: int) -> Iterator[Source]:
        yield MostlyZeros(head, "shard")

    assert verify_bundle(BytesSource(bundle.index(), "P.index"), open_shard).findings == ()


@pytest.mark.parametrize("big_endian", [False, True], ids=["little", "big"])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "complex64", "bfloat16", "float8_e5m2"])
def test_not_finite(dtype: str, big_endian: bool) -> None:  # noqa: FBT001
    """NaN and Inf are counted in every floating type and byte order, though the checksums are right."""
    import ml_dtypes  # noqa: PLC0415, F401 - it makes its types known to numpy

    numbers = {"float16": 19, "float32": 1, "float64": 2, "complex64": 8, "bfloat16": 14, "float8_e5m2": 24}
    values = np.array([1, np.nan, np.inf, -np.inf, 0, 2], dtype=np.float64).astype(np.dtype(dtype))
    raw = values.tobytes()
    if big_endian:
        width = {"complex64": 4}.get(dtype, values.itemsize)
        raw = b"".join(raw[at : at + width][::-1] for at in range(0, len(raw), width))
    bundle = writer.BundleWriter(big_endian=big_endian)
    bundle.add(b"loss", numbers[dtype], [6], raw)
    bundle.add(b"fine", numbers[dtype], [1], bytes(values.itemsize))
    content = Bundle.of(bundle)
    assert content.verify().ok
    found = content.verify(finite=True, workers=2).findings
    assert [(finding.kind, finding.tensor) for finding in found] == [(FindingKind.NOT_FINITE, "loss")]
    assert "1 NaN and 2 Inf among 6 elements" in found[0].message


def lying(**fields: int) -> writer.BundleWriter:
    """A bundle of two tensors, the second of which says what is not so."""
    bundle = writer.BundleWriter()
    bundle.add(b"a", FLOAT, [4], bytes(16))
    bundle.add(b"b", FLOAT, [4], bytes(16))
    entry = {"shard": 0, "offset": 16, "size": 16, "crc": writer.masked(bytes(16))} | fields
    bundle.entries[b"b"] = writer.entry_proto(
        FLOAT, [4], shard=entry["shard"], offset=entry["offset"], size=entry["size"], crc=entry["crc"]
    )
    return bundle


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"offset": 8}, "overlap"),
        ({"offset": 0}, "overlap"),
        ({"offset": 17}, "range"),
        ({"offset": 2**63 - 1}, "range"),
        ({"offset": 2**63 - 16}, "range"),
        ({"offset": -1}, "entry"),
        ({"offset": -(2**63)}, "entry"),
        ({"size": 2**63 - 1}, "size"),
        ({"size": -1}, "entry"),
        ({"size": 12}, "size"),
        ({"size": 0}, "size"),
        ({"shard": 1}, "entry"),
        ({"shard": -1}, "entry"),
        ({"shard": 2**31 - 1}, "entry"),
        ({"crc": 0}, "checksum"),
    ],
    ids=str,
)
def test_entries_that_lie(fields: dict[str, int], expected: str) -> None:
    """A number in an entry that cannot be is found, and the other tensor is checked all the same."""
    bundle = Bundle.of(lying(**fields))
    found = kinds(bundle.verify())
    assert (expected, "b") in found
    assert all(tensor in {"b", None} for _, tensor in found)


@pytest.mark.parametrize(
    "shape",
    [[2**62, 4], [2**32, 2**32], [0, 2**62, 4], [-1], [-(2**63)], [1] * 255],
    ids=lambda shape: str(shape[:3]),
)
def test_shapes_that_lie(shape: list[int]) -> None:
    """A shape that no tensor can have, by a dimension, by the product or by the rank, is a finding."""
    bundle = writer.BundleWriter()
    bundle.entries[b"a"] = writer.entry_proto(FLOAT, shape)
    assert kinds(Bundle.of(bundle).verify()) == [("entry", "a")]


@pytest.mark.parametrize(
    ("data", "elements"),
    [
        (b"", 1),
        (b"\x00", 1),
        (b"\x05" + bytes(4), 1),
        (writer.varint(2**63) + bytes(9), 1),
        (writer.varint(2**64 - 1) * 3 + bytes(9), 3),
        (b"\xff" * 30, 3),
        (b"\x01\x01" + bytes(4) + b"ab", 2**40),
        (b"\x01\x01" + bytes(4) + b"a", 2),
        (b"\x01\x01" + bytes(4) + b"abc", 2),
    ],
    ids=["none", "no-checksum", "beyond", "2**63", "2**64", "no-varint", "count", "short", "long"],
)
@pytest.mark.parametrize("dtype", [7, 21], ids=["string", "variant"])
def test_strings_that_lie(dtype: int, data: bytes, elements: int) -> None:
    """Lengths inside a string or variant tensor that cannot be are findings, and allocate nothing."""
    bundle = writer.BundleWriter()
    bundle.add(b"a", dtype, [elements], data)
    found = kinds(Bundle.of(bundle).verify())
    assert found
    assert {kind for kind, _ in found} <= {"layout", "size", "checksum"}


def test_slices_have_their_own_elements() -> None:
    """Slices that overlap, reach beyond, or are not stored, are found; a part not saved is no fault."""
    whole = [(((0, 2), None), bytes(16), 0), (((2, 2), None), bytes(16), 0)]
    bundle = writer.BundleWriter()
    bundle.add_partitioned(b"table", FLOAT, [4, 2], whole[:1])
    assert Bundle.of(bundle).verify().ok
    for parts, word in (
        ([whole[0], (((1, 2), None), bytes(16), 0)], "overlap"),
        ([whole[0], (((3, 2), None), bytes(16), 0)], "beyond"),
    ):
        bundle = writer.BundleWriter()
        bundle.add_partitioned(b"table", FLOAT, [4, 2], parts)
        messages = [finding.message for finding in Bundle.of(bundle).verify().findings]
        assert any(word in message for message in messages), (word, messages)
    bundle = writer.BundleWriter()
    bundle.add_partitioned(b"table", FLOAT, [4, 2], whole)
    del bundle.entries[writer.slice_key(b"table", ((2, 2), None))]
    bundle.shards[0] = bundle.shards[0][:16]
    assert kinds(Bundle.of(bundle).verify()) == [("slices", "table")]
    bundle = writer.BundleWriter()
    bundle.entries[b"table"] = writer.entry_proto(FLOAT, [4, 2], slices=[((0, 4),)])
    assert "dimensions" in Bundle.of(bundle).verify().findings[0].message
    bundle = writer.BundleWriter()
    bundle.add(writer.slice_key(b"table", ((2, 2), None)), FLOAT, [2, 2], bytes(16))
    assert kinds(Bundle.of(bundle).verify()) == [("slices", "table")]


def test_grid_of_slices() -> None:
    """Slices along two dimensions are understood, as a mesh of devices writes them."""
    parts = [(((4 * row, 4), (2 * column, 2)), bytes(32), 0) for row in range(16) for column in range(16)]
    bundle = writer.BundleWriter()
    bundle.add_partitioned(b"table", FLOAT, [64, 32], parts)
    assert Bundle.of(bundle).verify().ok


def test_many_slices_are_bounded() -> None:
    """Slices that all overlap do not keep the check busy for long."""
    extents = [((0, 1), (number % 3, 1)) for number in range(20_000)]
    bundle = writer.BundleWriter()
    bundle.entries[b"table"] = writer.entry_proto(FLOAT, [2, 10_000], slices=extents)
    assert {kind for kind, _ in kinds(Bundle.of(bundle).verify())} == {"slices"}


def test_trailing_bytes_are_found() -> None:
    """A shard that is longer than the index says is found, and so are zeros of no alignment."""
    bundle = Bundle.of(lying())
    assert bundle.shards[0] is not None
    longer = Bundle(bundle.index, [bundle.shards[0] + bytes(16)])
    assert kinds(longer.verify(data=False)) == [("shard length", None)]


def test_unknown_dtype_is_checked_as_it_is() -> None:
    """A tensor of a type that is not known here passes on its checksum."""
    bundle = writer.BundleWriter()
    for dtype in (20, 99):
        bundle.add(b"t%d" % dtype, dtype, [3], b"something")
    content = Bundle.of(bundle)
    assert content.verify(finite=True).ok
    assert content.shards[0] is not None
    damaged = Bundle(content.index, [b"x" + content.shards[0][1:]])
    assert kinds(damaged.verify()) == [("checksum", "t20")]


def test_unreadable_shard_is_a_finding() -> None:
    """A shard that the system refuses to open or to read is a finding, and the others are checked."""

    class Broken(BytesSource):
        def preadinto(self, buffer: memoryview, offset: int) -> int:
            raise UnreadableError(f"{self.name}: cannot be read: I/O error at {offset} of {len(buffer)}")

    bundle = Bundle.of(of_everything())

    @contextlib.contextmanager
    def broken(shard: int, num_shards: int) -> Iterator[Source]:
        with bundle.open_shard(shard, num_shards) as source:
            yield Broken(source.pread(source.size, 0), source.name) if shard else source

    @contextlib.contextmanager
    def refused(shard: int, num_shards: int) -> Iterator[Source]:
        if shard:
            raise PermissionError(13, "Permission denied")
        with bundle.open_shard(shard, num_shards) as source:
            yield source

    index = BytesSource(bundle.index, "P.index")
    found = verify_bundle(index, broken, workers=2)
    assert {kind for kind, _ in kinds(found)} == {"unreadable"}
    found = verify_bundle(index, refused)
    assert kinds(found) == [("unreadable", None)]


def test_shard_that_shrinks_while_it_is_read() -> None:
    """A shard that is cut between its opening and its reading costs findings, never a crash."""

    class Shrinking(BytesSource):
        @property
        def size(self) -> int:
            return len(self.data) + 1006

    bundle = writer.BundleWriter()
    bundle.add(b"a", FLOAT, [4], bytes(16))
    bundle.add(b"b", FLOAT, [250], bytes(1000))
    bundle.add_strings(b"c", [1], [b"x"])

    @contextlib.contextmanager
    def open_shard(_: int, __: int) -> Iterator[Source]:
        yield Shrinking(bytes(bundle.shards[0][:16]), "shard")

    found = verify_bundle(BytesSource(bundle.index(), "P.index"), open_shard, workers=2)
    assert {("layout", "b"), ("layout", "c")} <= set(kinds(found))


def test_findings_are_bounded() -> None:
    """A file of nothing but errors keeps a bounded number of findings, and counts the rest."""
    bundle = writer.BundleWriter()
    for number in range(100):
        bundle.add(b"t%d" % number, FLOAT, [5], bytes(16))
    report = Report(limit=10)
    check_structure(read_index(BytesSource(bundle.index(), "P.index")), {0: 1600}, report)
    found = report.all()
    assert len(found) == 11
    assert found[-1].kind is FindingKind.OMITTED
    assert "90 more" in found[-1].message


def test_shards_that_no_tensor_needs() -> None:
    """A shard without a tensor may be missing or empty, however many the header claims."""
    bundle = writer.BundleWriter(2)
    bundle.add(b"a", FLOAT, [4], bytes(16))
    content = Bundle.of(bundle)
    assert content.verify().ok
    assert Bundle(content.index, [content.shards[0], None]).verify().ok
    bundle.entries[b""] = writer.header_proto(99_999)
    many = Bundle(bundle.index(), [bytes(16)] + [None] * 99_998)
    assert many.verify().ok
