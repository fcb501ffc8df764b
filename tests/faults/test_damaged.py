"""Damaged checkpoints through the commands that read them: no traceback, no death, nothing bad called good.

Half of the mutations are random, and what still passes has to hold the very tensors that were saved. The
others are such as an enemy would make: lengths, offsets, shapes and handles that lie, with every checksum
made right again, so that what lies behind the checksums is reached. Of those, what passes has to be readable.

The short form tries 300, `pytest --long --timeout 0 tests/faults/test_damaged.py` 100,000, in ten parts.
"""

from __future__ import annotations

import random
import resource
import struct
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from bundle_writer import (
    BundleWriter,
    block,
    bytes_field,
    entry_proto,
    fixed32_field,
    footer,
    header_proto,
    masked,
    number_field,
    slice_proto,
    table,
    varint,
    varint_pair,
    with_trailer,
)

from ckptctl.bundle.dtypes import DTYPES
from ckptctl.bundle.index import read_index
from ckptctl.bundle.values import read_tensor
from ckptctl.opened import open_checkpoint

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Invoke

PARTS = 10
SHORT, LONG = 30, 10_000
"""How many mutations each part tries."""

SECONDS = 1.0
"""Of the processor: what else the machine does is nothing that a mutation causes."""
MEBIBYTES = 200
VALUE = b"/.ATTRIBUTES/VARIABLE_VALUE"
SHARDS = 2

Tensors = dict[str, tuple[str, tuple[int, ...], bytes]]
"""Name, dtype, shape and elements."""

HUGE = [
    0,
    1,
    2,
    7,
    47,
    48,
    127,
    255,
    1 << 16,
    (1 << 31) - 1,
    1 << 31,
    1 << 32,
    (1 << 62) - 1,
    (1 << 63) - 1,
    -1,
    -8,
]
"""Numbers that have been somebody's undoing."""


def bundle() -> BundleWriter:
    """A bundle with one of each kind of tensor."""
    made = BundleWriter(SHARDS, block_bytes=200)
    made.add(b"weights", 1, [16, 8], struct.pack("<128f", *range(128)))
    made.add(b"wide", 9, [40], struct.pack("<40q", *range(40)), shard=1)
    made.add(b"step" + VALUE, 9, [], struct.pack("<q", 7), shard=1)
    made.add_object_graph(b"step" + VALUE)
    made.add_strings(b"names", [3], [b"one", b"", b"three" * 9])
    made.add_variants(b"variants", [2], [b"one", b"two"])
    halves = [(((0, 1),), struct.pack("<f", 1), 0), (((1, 3),), struct.pack("<3f", 2, 3, 4), 1)]
    made.add_partitioned(b"table", 1, [4], halves)
    return made


def tensors_of(prefix: Path) -> Tensors:
    """Every tensor of a checkpoint; raises what our reader raises."""
    found: Tensors = {}
    with open_checkpoint(str(prefix)) as opened, opened.index() as source:
        index = read_index(source)
        for entry in index.tensors():
            if entry.dtype not in DTYPES:  # of a type that is to come only the checksum can be told
                found[str(entry.name)] = (entry.dtype_name, tuple(entry.shape), b"")
                continue
            array: Any = read_tensor(index, entry, opened.shard)
            elements = repr(array.tolist()).encode() if array.dtype == object else array.tobytes()
            found[str(entry.name)] = (str(array.dtype), tuple(array.shape), elements)
    return found


# --- at random


def mangle(data: bytes, chance: random.Random) -> bytes:
    """Some bytes, not as they were."""
    out = bytearray(data)
    at = chance.randrange(len(out) + 1)
    length = chance.choice([1, 1, 2, 4, 8, 48, 200])
    how = chance.randrange(8)
    if how == 0 and out:
        out[at % len(out)] ^= 1 << chance.randrange(8)
    elif how == 1:
        out[at : at + length] = chance.randbytes(min(length, len(out) - at))
    elif how == 2:
        del out[at:]
    elif how == 3:
        del out[at : at + length]
    elif how == 4:
        out[at:at] = chance.randbytes(length)
    elif how == 5:
        out[at : at + length] = bytes(min(length, len(out) - at))
    elif how == 6:
        start = chance.randrange(len(out) + 1)
        out[at : at + length] = out[start : start + length]
    else:
        out += bytes(length) if chance.randrange(2) else chance.randbytes(length)
    return bytes(out)


def at_random(made: BundleWriter, chance: random.Random) -> bytes:
    """The index of a bundle of which the index, a shard, or both are mangled, up to three times."""
    index = made.index()
    for _ in range(chance.randrange(1, 4)):
        if chance.randrange(2):
            index = mangle(index, chance)
        else:
            shard = chance.randrange(SHARDS)
            made.shards[shard] = bytearray(mangle(bytes(made.shards[shard]), chance))
    return index


# --- with a purpose: every checksum is right


def number(chance: random.Random) -> int:
    """A number that may be a trap."""
    return chance.choice(HUGE) if chance.randrange(4) else chance.randrange(1 << chance.randrange(1, 64))


def lying_entry(made: BundleWriter, chance: random.Random) -> bytes:
    """An entry that says what is not so, or a second one that lies over the first."""
    name = chance.choice(list(made.entries))
    at, shape = made.entries[name], [chance.choice([4, number(chance)]) for _ in range(chance.randrange(5))]
    shard, offset, size = chance.choice([0, 1, number(chance)]), number(chance), number(chance)
    slices = [
        ((chance.choice([0, number(chance)]), number(chance)),) * max(1, len(shape))
    ] * chance.randrange(3)
    lies = [
        entry_proto(chance.randrange(40), [16, 8], size=512, crc=masked(bytes(made.shards[0][:512]))),
        entry_proto(chance.randrange(140), shape, shard=shard, offset=offset, size=size, crc=1),
        at + number_field(4, offset),
        at + number_field(5, size),
        at + number_field(3, shard),
        at + number_field(1, number(chance)),
        at + fixed32_field(6, chance.randrange(1, 1 << 32)),
        at + bytes_field(2, b"".join(bytes_field(2, number_field(1, one)) for one in shape)),
        at + b"".join(bytes_field(7, slice_proto(one)) for one in slices),
        at + bytes_field(chance.randrange(1, 20), chance.randbytes(chance.randrange(20))),
        mangle(at, chance),
    ]
    key = chance.choice([name, name, mangle(name, chance), name + b"x"])
    made.entries[key] = chance.choice(lies)
    return made.index()


def lying_data(made: BundleWriter, chance: random.Random) -> bytes:
    """Data of strings or variants that are mangled, under a checksum of them as they are now."""
    name = chance.choice([b"names", b"variants", b"_CHECKPOINTABLE_OBJECT_GRAPH"])
    data = b"".join(varint(number(chance)) for _ in range(chance.randrange(1, 5))) + chance.randbytes(9)
    offset = len(made.shards[0])
    made.shards[0] += data
    dtype = 21 if name == b"variants" else 7
    shape = [] if name.startswith(b"_") else [chance.choice([2, 3, number(chance)])]
    made.entries[name] = entry_proto(dtype, shape, offset=offset, size=len(data), crc=masked(data))
    return made.index()


def lying_graph(made: BundleWriter, chance: random.Random) -> bytes:
    """A graph of objects that is mangled, in a tensor that is right."""
    kept = made.entries.pop(b"_CHECKPOINTABLE_OBJECT_GRAPH")
    assert kept
    node = bytes_field(1, number_field(1, number(chance)) + bytes_field(2, b"v"))
    graph = bytes_field(1, node * chance.randrange(4)) * chance.randrange(1, 9)
    made.add_strings(
        b"_CHECKPOINTABLE_OBJECT_GRAPH", [], [mangle(graph, chance) if chance.randrange(2) else graph]
    )
    return made.index()


def lying_header(made: BundleWriter, chance: random.Random) -> bytes:
    """A header that says what is not so, or none, or two."""
    headers = [
        header_proto(number(chance)),
        header_proto(SHARDS, big_endian=True),
        header_proto(SHARDS, producer=number(chance), min_consumer=number(chance)),
        mangle(header_proto(SHARDS), chance),
        b"",
    ]
    entries = sorted({b"": chance.choice(headers), **made.entries}.items())
    if not chance.randrange(5):
        del entries[0]
    return table(entries, block_bytes=200, compress=bool(chance.randrange(2)))


def lying_table(made: BundleWriter, chance: random.Random) -> bytes:
    """A table of which a block, a handle or the footer is mangled under its own right checksum."""
    entries = sorted({b"": header_proto(SHARDS), **made.entries}.items())
    if not chance.randrange(3):
        chance.shuffle(entries)
    contents = block(entries)
    if chance.randrange(2):
        contents = mangle(contents, chance)
    if not chance.randrange(3):
        contents = contents[:-4] + struct.pack("<I", number(chance) % (1 << 32))
    data = with_trailer(contents, chance.choice([0, 0, 0, 1]))
    if not chance.randrange(5):  # raw snappy that says how long it will be
        body = varint(number(chance)) + chance.randbytes(30) + b"\x01"
        data = body + struct.pack("<I", masked(body))
    handle = (
        chance.choice([0, 0, number(chance)]),
        chance.choice([len(data) - 5, len(data) - 5, number(chance)]),
    )
    index = with_trailer(
        block([(entries[-1][0] + b"\x01", varint_pair(handle))] * chance.choice([1, 1, 2, 50]), 1)
    )
    meta = with_trailer(block([]))
    places = [(len(data), len(meta) - 5), (len(data) + len(meta), len(index) - 5)]
    if not chance.randrange(4):
        places[chance.randrange(2)] = (number(chance), number(chance))
    return data + meta + index + footer(*places)


LIES = [lying_entry, lying_entry, lying_data, lying_graph, lying_header, lying_table]


@pytest.fixture
def where(tmp_path: Path) -> Path:
    """A directory with a checkpoint that stays good."""
    run = tmp_path / "run"
    run.mkdir()
    bundle().write(run, "good-1")
    return run


def timed(invoke: Invoke, slowest: dict[str, float], codes: Counter[str], *words: str) -> int:
    """Runs a command; its exit code."""
    started = time.process_time()
    result = invoke(*words)
    slowest[words[0]] = max(slowest.get(words[0], 0.0), time.process_time() - started)
    codes[f"{words[0]} {result.exit_code}"] += 1
    assert 0 <= result.exit_code <= 4, result.output
    assert "Traceback" not in result.output, result.output
    return result.exit_code


@pytest.mark.parametrize("part", range(PARTS))
def test_mutations(where: Path, part: int, invoke: Invoke, long: bool) -> None:  # noqa: FBT001 - a fixture
    """Every command ends with an exit code of its own, in time, and verify calls nothing good that is not."""
    chance = random.Random(part)  # noqa: S311 - it chooses mutations
    original = tensors_of(where / "good-1")
    bad, good = where / "ckpt-2", where / "good-1"
    slowest: dict[str, float] = {}
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    codes: Counter[str] = Counter()
    for turn in range(LONG if long else SHORT):
        made = bundle()
        mutate: Callable[[BundleWriter, random.Random], bytes] = (
            at_random if turn % 2 else chance.choice(LIES)
        )
        (where / "ckpt-2.index").write_bytes(mutate(made, chance))
        for shard, data in enumerate(made.shards):
            (where / f"ckpt-2.data-{shard:05d}-of-{SHARDS:05d}").write_bytes(data)
        for words in (
            ("ls", "-l", where),
            ("show", bad),
            ("diff", good, bad),
            ("prune", "-n", "--keep=1", where),
        ):
            timed(invoke, slowest, codes, *map(str, words))
        if timed(invoke, slowest, codes, "verify", str(bad)) == 0:
            found = tensors_of(bad)  # whatever passes can be read
            assert mutate is not at_random or found == original, (part, turn)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(f"{turn + 1:,} mutations, {grown:.0f} MiB more; {dict(codes)}; slowest: {slowest}")  # noqa: T201 - for -rP
    assert grown < MEBIBYTES
    if long:
        assert max(slowest.values()) < SECONDS
