"""Hostile files: any bytes give a result or a BundleError, and findings where findings are asked for."""

from __future__ import annotations

import contextlib
import struct
import time
import tracemalloc
from typing import TYPE_CHECKING

import bundle_writer as writer
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ckptctl.bundle import entries as bundle_entries
from ckptctl.bundle import graph as bundle_graph
from ckptctl.bundle import index as bundle_index
from ckptctl.bundle.dtypes import DTYPES
from ckptctl.bundle.findings import Report
from ckptctl.bundle.graph import parse_object_graph, read_object_graph
from ckptctl.bundle.index import IndexReader, check_index, read_index
from ckptctl.bundle.slices import MAX_SLICES, TensorSlice
from ckptctl.bundle.source import BytesSource
from ckptctl.bundle.step import read_step
from ckptctl.bundle.values import iter_values, read_tensor
from ckptctl.bundle.verification import verify_bundle
from ckptctl.errors import BundleError, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ckptctl.bundle.source import Source

VALUE = b"/.ATTRIBUTES/VARIABLE_VALUE"


def small() -> writer.BundleWriter:
    """A bundle with one of each kind of tensor."""
    bundle = writer.BundleWriter(2, block_bytes=200)
    bundle.add(b"weights", 1, [2, 3], bytes(24))
    bundle.add(b"step" + VALUE, 9, [], struct.pack("<q", 7), shard=1)
    bundle.add_strings(b"_CHECKPOINTABLE_OBJECT_GRAPH", [], [writer.bytes_field(1, b"")])
    bundle.add_variants(b"variants", [2], [b"one", b"two"])
    bundle.add_partitioned(b"table", 1, [4], [(((0, 1),), bytes(4), 0), (((1, 3),), bytes(12), 1)])
    return bundle


def ask_everything(index: bytes, shards: list[bytes]) -> None:
    """Asks everything that can be asked of a bundle; anything but an answer or a BundleError comes out."""
    source = BytesSource(index, "P.index")

    @contextlib.contextmanager
    def open_shard(shard: int, _: int) -> Iterator[Source]:
        if shard >= len(shards):
            raise FileNotFoundError(2, "No such file or directory")
        yield BytesSource(shards[shard], f"shard {shard}")

    verification = verify_bundle(source, open_shard, finite=True)
    refused = False
    try:
        whole = read_index(source)
        for entry in whole.tensors():
            try:
                read_tensor(whole, entry, open_shard)
            except (BundleError, FileNotFoundError):
                refused |= entry.dtype in DTYPES  # of others there are no values, and nothing wrong with that
            with contextlib.suppress(BundleError, FileNotFoundError):
                for _ in iter_values(whole, entry, open_shard):
                    pass
    except BundleError:
        refused = True
    assert not (refused and verification.ok), "what cannot be read has to be found"
    with contextlib.suppress(BundleError, FileNotFoundError):
        reader = IndexReader(source)
        for key in (b"", b"weights", b"table", b"\xff"):
            reader.get(key)
        read_step(reader, open_shard)
        read_object_graph(reader, open_shard)


SHARDS = [bytes(shard) for shard in small().shards]


@given(st.binary(max_size=300))
@example(b"")
def test_any_bytes_as_an_index(data: bytes) -> None:
    """Any bytes as an index are answered."""
    ask_everything(data, SHARDS)
    ask_everything(data + struct.pack("<Q", writer.MAGIC), SHARDS)


@settings(max_examples=300)
@given(st.data())
def test_mutations_of_an_index(data: st.DataObject) -> None:
    """Whatever bytes of an index are changed, cut or doubled, every question is answered."""
    content = bytearray(small().index())
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(st.integers(0, len(content) - 1))
        change = data.draw(st.sampled_from(["set", "cut", "double"]))
        if change == "set":
            content[at] = data.draw(st.integers(0, 255))
        elif change == "cut":
            del content[at : at + data.draw(st.integers(1, 9))]
        else:
            content[at:at] = content[at : at + 9]
        if not content:
            break
    ask_everything(bytes(content), SHARDS)


@settings(max_examples=300)
@given(
    st.dictionaries(
        st.sampled_from(
            [b"weights", b"table", b"step" + VALUE, b"variants", writer.slice_key(b"table", ((0, 1),))]
        ),
        st.one_of(
            st.binary(max_size=40),
            st.builds(
                writer.entry_proto,
                st.one_of(st.integers(0, 35), st.integers(-(2**31), 2**31 - 1)),
                st.lists(st.one_of(st.integers(-1, 5), st.integers(-(2**63), 2**63 - 1)), max_size=4),
                shard=st.one_of(st.integers(0, 1), st.integers(-(2**31), 2**31 - 1)),
                offset=st.one_of(st.integers(0, 50), st.integers(-(2**63), 2**63 - 1)),
                size=st.one_of(st.integers(0, 50), st.integers(-(2**63), 2**63 - 1)),
                crc=st.integers(0, 2**32 - 1),
                slices=st.lists(
                    st.lists(
                        st.one_of(st.none(), st.tuples(st.integers(-2, 5), st.integers(-2, 5))), max_size=3
                    ).map(tuple),
                    max_size=3,
                ),
            ),
        ),
    ),
    st.one_of(
        st.none(),
        st.binary(max_size=10),
        st.builds(
            writer.header_proto,
            st.integers(-(2**31), 2**31 - 1),
            big_endian=st.booleans(),
            min_consumer=st.integers(-3, 3),
        ),
        st.builds(writer.header_proto, st.just(2), big_endian=st.booleans()),
    ),
)
def test_entries_that_lie(entries: dict[bytes, bytes], header: bytes | None) -> None:
    """Whatever header and entries say under right checksums, every question is answered."""
    bundle = small()
    bundle.entries |= entries
    if header is not None:
        bundle.entries[b""] = header
    ask_everything(bundle.index(), SHARDS)


@given(st.data())
def test_mutations_of_shards(data: st.DataObject) -> None:
    """Whatever bytes of a shard are changed or cut, every question is answered."""
    shards = [bytearray(shard) for shard in SHARDS]
    for _ in range(data.draw(st.integers(1, 5))):
        shard = shards[data.draw(st.integers(0, 1))]
        if shard:
            at = data.draw(st.integers(0, len(shard) - 1))
            if data.draw(st.booleans()):
                shard[at] = data.draw(st.integers(0, 255))
            else:
                del shard[at:]
    ask_everything(small().index(), [bytes(shard) for shard in shards])


def test_index_of_claims_is_cheap() -> None:
    """An index that claims huge things costs neither time nor memory in proportion to the claims."""
    bundle = writer.BundleWriter()
    for number in range(200):
        bundle.entries[b"t%03d" % number] = writer.entry_proto(
            [1, 7, 21][number % 3], [2**20, 2**40], offset=number, size=2**62, crc=1
        )
    begin = time.monotonic()
    tracemalloc.start()
    try:
        ask_everything(bundle.index(), [bytes(100)])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 20_000_000
    assert time.monotonic() - begin < 10


@pytest.mark.parametrize(
    ("slices", "match"),
    [
        (writer.bytes_field(7, b"") * (MAX_SLICES + 1), f"has {MAX_SLICES + 1} slices, expected at most"),
        (writer.bytes_field(7, b"") * 300_000, "has more than 200,000 parts"),
        (writer.bytes_field(7, writer.bytes_field(1, b"") * 300_000), "has more than 200,000 parts"),
    ],
    ids=["slices", "many-slices", "extents"],
)
def test_entry_of_nothing_but_slices_is_cheap(
    monkeypatch: pytest.MonkeyPatch, slices: bytes, match: str
) -> None:
    """An entry of more slices than any tensor has is given up before anything is made of them."""
    monkeypatch.setattr(bundle_entries, "MAX_PARTS", 200_000)
    monkeypatch.setattr(TensorSlice, "__init__", None)
    bundle = writer.BundleWriter()
    bundle.entries[b"table"] = writer.number_field(1, 1) + writer.bytes_field(2, b"") + slices
    source = BytesSource(bundle.index(), "P.index")
    with pytest.raises(UnsupportedError, match=match):
        read_index(source)
    report = Report()
    check_index(source, report)
    assert [finding.kind.value for finding in report.findings] == ["entry"]


def test_slices_have_the_rank_of_their_tensor() -> None:
    """A slice of more or fewer dimensions than its tensor has is none of it."""
    for extents in ((), ((0, 1), (0, 1))):
        bundle = writer.BundleWriter()
        bundle.entries[b"table"] = writer.entry_proto(1, [4], slices=[extents])
        with pytest.raises(BundleError, match=f"a slice has {len(extents)} dimensions, the tensor has 1"):
            read_index(BytesSource(bundle.index(), "P.index"))


def test_slices_that_nothing_stores_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Entries may list as many slices as are stored, and not many more."""
    monkeypatch.setattr(bundle_index, "_SLICES_ALLOWANCE", 10)
    bundle = writer.BundleWriter()
    stored = [(((at, 1),), bytes(4), 0) for at in range(50)]
    bundle.add_partitioned(b"table", 1, [50], stored)
    assert len(read_index(BytesSource(bundle.index(), "P.index")).entries) == 51
    bundle.entries[b"zoo"] = writer.entry_proto(1, [50], slices=[extents for extents, _, _ in stored[:6]])
    source = BytesSource(bundle.index(), "P.index")
    with pytest.raises(UnsupportedError, match="slices out of all proportion"):
        read_index(source)
    report = Report()
    assert check_index(source, report) is not None
    assert [finding.kind.value for finding in report.findings] == ["index"]


def test_compressed_contents_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """An index whose blocks hold many times what the file has is given up."""
    bundle = writer.BundleWriter(compress=True, block_bytes=1)
    for number in range(20):
        bundle.entries[b"t%02d" % number] = writer.entry_proto(1, []) + writer.bytes_field(15, bytes(4000))
    source = BytesSource(bundle.index(), "P.index")
    assert len(read_index(source).entries) == 20
    monkeypatch.setattr(bundle_index, "_CONTENTS_ALLOWANCE", 1 << 14)
    with pytest.raises(UnsupportedError, match="contents out of all proportion"):
        read_index(source)
    report = Report()
    assert check_index(source, report) is not None
    assert [finding.kind.value for finding in report.findings] == ["index"]


@pytest.mark.parametrize(
    "graph",
    [
        writer.bytes_field(1, b"") * 30_000,
        writer.bytes_field(1, writer.bytes_field(1, b"") * 30_000),
        writer.bytes_field(1, writer.bytes_field(1, b"") * 1000) * 30,
        writer.bytes_field(1, writer.bytes_field(2, b"")) * 15_000,
    ],
    ids=["nodes", "children", "children-of-nodes", "attributes"],
)
def test_graph_of_nothing_is_cheap(monkeypatch: pytest.MonkeyPatch, graph: bytes) -> None:
    """A graph of more nodes, children and attributes than any model has is given up."""
    assert parse_object_graph(graph, "P").nodes
    monkeypatch.setattr(bundle_graph, "MAX_PARTS", 29_000)
    with pytest.raises(UnsupportedError, match="has more than 29,000"):
        parse_object_graph(graph, "P")


def test_long_slice_is_shown_cut() -> None:
    """What messages show of a slice ends after some dimensions."""
    assert str(TensorSlice(((0, 1),) * 16)) == ":".join(["0,1"] * 16)
    assert str(TensorSlice(((0, 1),) * 254)) == ":".join(["0,1"] * 16) + ":…"


def test_number_of_entries_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """An index with more entries than any checkpoint has is given up, and so is one that is too large."""
    bundle = writer.BundleWriter()
    for number in range(50):
        bundle.add(b"t%02d" % number, 1, [], bytes(4))
    source = BytesSource(bundle.index(), "P.index")
    with monkeypatch.context() as patch:
        patch.setattr(bundle_index, "MAX_ENTRIES", 49)
        with pytest.raises(BundleError, match="more than 49 entries"):
            read_index(source)
        report = Report()
        check_index(source, report)
        assert [finding.kind.value for finding in report.findings] == ["index"]
    monkeypatch.setattr(bundle_index, "MAX_INDEX_BYTES", source.size - 1)
    with pytest.raises(BundleError, match="expected at most"):
        read_index(source)
    assert IndexReader(source).get(b"t00") is not None
