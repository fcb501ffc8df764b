"""The verdict on a checkpoint: each status and level, beside a trainer that writes again or deletes."""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING

import bundle_writer as writer
import pytest

from ckptctl import posix
from ckptctl.bundle.findings import FindingKind
from ckptctl.model import Format
from ckptctl.opened import OpenCheckpoint, open_checkpoint
from ckptctl.restore import Restorer
from ckptctl.verify import Level, Verdict, VerdictStatus, verify

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ckptctl.restore import RestoreProof

FLOAT, STRING, INT64, BFLOAT16, FLOAT8_E5M2, COMPLEX64 = 1, 7, 9, 14, 24, 8
OK, CORRUPT, INCOMPLETE, READABLE, UNRESTORABLE, MISSING, UNREADABLE = VerdictStatus


def bundle(directory: Path, name: str = "ckpt-1", *, shards: int = 2, value: float = 1.0) -> None:
    """A checkpoint of two tensors of 64 bytes, in as many shards."""
    made = writer.BundleWriter(shards)
    made.add(b"a", FLOAT, [16], struct.pack("<16f", *[value] * 16))
    made.add(b"b", FLOAT, [16], struct.pack("<16f", *range(16)), shard=shards - 1)
    made.write(directory, name)


def v1(directory: Path, name: str = "model.ckpt-1", *, shards: int = 1) -> list[Path]:
    """A V1 checkpoint of a partitioned tensor, each slice in a shard of its own."""
    files = []
    for shard in range(shards):
        part: writer.Extents = ((shard, 1), None)
        data = writer.v1_table([(b"table", FLOAT, [shards, 2], [(part, writer.bytes_field(5, bytes(8)))])])
        suffix = f"-{shard:05d}-of-{shards:05d}" if shards > 1 else ""
        files.append(directory / f"{name}{suffix}")
        files[-1].write_bytes(data)
    return files


def flip(path: Path, position: int) -> None:
    """Damages a byte; the times stay."""
    before = path.stat()
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def cut(path: Path, length: int) -> None:
    """Leaves the beginning of a file."""
    path.write_bytes(path.read_bytes()[:length])


def judge(path: Path, level: Level = Level.DATA, workers: int = 1) -> Verdict:
    """Verifies a checkpoint by its path."""
    with open_checkpoint(str(path)) as checkpoint:
        return verify(checkpoint, level, workers=workers)


INDEX, SHARD_0, SHARD_1 = "ckpt-1.index", "ckpt-1.data-00000-of-00002", "ckpt-1.data-00001-of-00002"


def _unlink(name: str) -> Callable[[Path], None]:
    return lambda directory: (directory / name).unlink()


def _cut(name: str, length: int) -> Callable[[Path], None]:
    return lambda directory: cut(directory / name, length)


def _flip(name: str, position: int) -> Callable[[Path], None]:
    return lambda directory: flip(directory / name, position)


def _grow(directory: Path) -> None:
    with (directory / SHARD_0).open("ab") as shard:
        shard.write(b"x")


def _cut_and_damage(directory: Path) -> None:
    cut(directory / SHARD_0, 10)
    flip(directory / SHARD_1, 0)


def _fifo(name: str) -> Callable[[Path], None]:
    def replace(directory: Path) -> None:
        (directory / name).unlink()
        os.mkfifo(directory / name)

    return replace


@pytest.mark.parametrize(
    ("damage", "quick", "full"),
    [
        (lambda _: None, OK, OK),
        (_unlink(SHARD_1), INCOMPLETE, INCOMPLETE),
        (_cut(SHARD_0, 0), INCOMPLETE, INCOMPLETE),
        (_cut(SHARD_0, 63), INCOMPLETE, INCOMPLETE),
        (_cut(INDEX, 0), INCOMPLETE, INCOMPLETE),
        (_cut(INDEX, 60), INCOMPLETE, INCOMPLETE),
        (_flip(SHARD_1, 63), OK, CORRUPT),
        (_flip(INDEX, 3), CORRUPT, CORRUPT),
        (_flip(INDEX, -12), CORRUPT, CORRUPT),
        (_grow, CORRUPT, CORRUPT),
        (_cut_and_damage, INCOMPLETE, CORRUPT),
        (_fifo(INDEX), UNREADABLE, UNREADABLE),
        (_fifo(SHARD_0), UNREADABLE, UNREADABLE),
    ],
    ids=[
        "whole", "shard-gone", "shard-empty", "shard-cut", "index-empty", "index-cut", "shard-flipped",
        "index-flipped", "footer-flipped", "shard-grown", "cut-and-flipped", "index-fifo", "shard-fifo",
    ],
)  # fmt: skip
def test_status(
    tmp_path: Path, damage: Callable[[Path], None], quick: VerdictStatus, full: VerdictStatus
) -> None:
    """What lacks is incomplete, what is wrong is corrupt, what cannot be read is unreadable."""
    bundle(tmp_path)
    damage(tmp_path)
    for level, status in ((Level.INDEX, quick), (Level.DATA, full)):
        verdict = judge(tmp_path / "ckpt-1", level)
        assert (verdict.status, verdict.level) == (status, level)
        assert bool(verdict.findings) == (status is not OK)


@pytest.mark.parametrize("workers", [1, 3])
def test_all_findings(tmp_path: Path, workers: int) -> None:
    """Each damaged tensor is found with its name, its shard and its place, whichever thread came by."""
    bundle(tmp_path)
    flip(tmp_path / SHARD_0, 0)
    flip(tmp_path / SHARD_1, 63)
    verdict = judge(tmp_path / "ckpt-1", workers=workers)
    assert [(one.kind, one.tensor, one.shard, one.offset) for one in verdict.findings] == [
        (FindingKind.CHECKSUM, "a", 0, 0),
        (FindingKind.CHECKSUM, "b", 1, 0),
    ]
    assert (verdict.checkpoint, verdict.tensors, verdict.bytes) == (str(tmp_path / "ckpt-1"), 2, 128)


@pytest.mark.parametrize(
    ("dtype", "nan"),
    [
        (FLOAT, struct.pack("<f", float("nan"))),
        (FLOAT, struct.pack("<f", float("-inf"))),
        (BFLOAT16, b"\xc0\x7f"),
        (FLOAT8_E5M2, b"\x7c"),
        (COMPLEX64, struct.pack("<2f", 0.0, float("inf"))),
    ],
    ids=["nan", "inf", "bfloat16", "float8", "complex"],
)
def test_finite(tmp_path: Path, dtype: int, nan: bytes) -> None:
    """NaN and Inf are found at the level that looks for them, and are sound bytes to the one below."""
    made = writer.BundleWriter()
    made.add(b"lost", dtype, [3], bytes(len(nan)) + nan + bytes(len(nan)))
    made.add(b"whole", INT64, [1], b"\xff" * 8)
    made.write(tmp_path, "ckpt-1")
    assert judge(tmp_path / "ckpt-1").ok
    verdict = judge(tmp_path / "ckpt-1", Level.FINITE)
    assert verdict.status is CORRUPT
    assert [(one.kind, one.tensor) for one in verdict.findings] == [(FindingKind.NOT_FINITE, "lost")]


def test_more_findings_than_are_kept(tmp_path: Path) -> None:
    """A cut shard with very many tensors is incomplete still, and says how many findings it left out."""
    made = writer.BundleWriter()
    for number in range(10_100):
        made.add(b"%05d" % number, FLOAT, [1], bytes(4))
    made.write(tmp_path, "ckpt-1")
    cut(tmp_path / "ckpt-1.data-00000-of-00001", 0)
    verdict = judge(tmp_path / "ckpt-1")
    assert verdict.status is INCOMPLETE
    assert verdict.findings[-1].kind is FindingKind.OMITTED
    assert len(verdict.findings) == 10_001


def test_newer_version(tmp_path: Path) -> None:
    """A bundle of a version that is not known here cannot be read, which says nothing against it."""
    made = writer.BundleWriter()
    made.entries[b""] = writer.header_proto(1, min_consumer=9)
    made.write(tmp_path, "ckpt-1")
    verdict = judge(tmp_path / "ckpt-1")
    assert verdict.status is UNREADABLE
    assert "version" in verdict.findings[0].message


def test_v1(tmp_path: Path) -> None:
    """A V1 checkpoint passes with one file or several; its numbers are not looked at: the level says so."""
    v1(tmp_path)
    v1(tmp_path, "sharded", shards=3)
    for name in ("model.ckpt-1", "sharded"):
        for level, said in ((Level.INDEX, Level.INDEX), (Level.DATA, Level.DATA), (Level.FINITE, Level.DATA)):
            verdict = judge(tmp_path / name, level)
            assert (verdict.status, verdict.level, verdict.tensors) == (OK, said, 1)
            assert verdict.bytes == sum(path.stat().st_size for path in tmp_path.glob(f"{name}*"))


def test_v1_damaged(tmp_path: Path) -> None:
    """Every flipped byte of a V1 checkpoint is found."""
    (path,) = v1(tmp_path)
    data = path.read_bytes()
    with posix.open_directory(str(tmp_path)) as directory:
        checkpoint = OpenCheckpoint(directory, path.name, Format.V1, (path.name,))
        assert verify(checkpoint).ok
        for position in range(len(data)):
            path.write_bytes(data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :])
            verdict = verify(checkpoint)
            # A byte of the magic, which a table ends with, cannot be told from an end that is not there.
            ending = position >= len(data) - 8
            assert verdict.status is (INCOMPLETE if ending else CORRUPT), position


def test_v1_shard_missing(tmp_path: Path) -> None:
    """A shard of a V1 checkpoint that is not there is found at every level."""
    files = v1(tmp_path, shards=3)
    files[1].unlink()
    for level in Level:
        verdict = judge(tmp_path / "model.ckpt-1", level)
        assert verdict.status is INCOMPLETE
        assert [(one.kind, one.shard) for one in verdict.findings] == [(FindingKind.MISSING_SHARD, 1)]


def test_v1_name_that_lies(tmp_path: Path) -> None:
    """A name that claims a billion shards costs neither time nor memory."""
    (path,) = v1(tmp_path)
    path.rename(tmp_path / "model.ckpt-1-00000-of-999999999")
    assert judge(tmp_path / "model.ckpt-1").status is INCOMPLETE


class _During:
    """Does something when the data of a checkpoint are first read, as a trainer might at that moment."""

    def __init__(self, deed: Callable[[], None], times: int = 1) -> None:
        self._deed = deed
        self._times = times
        self.calls = 0

    def __call__(self, done: int, total: int) -> None:
        assert 0 <= done <= total
        self.calls += 1
        if self.calls <= self._times:
            self._deed()


def test_deleted_meanwhile(tmp_path: Path) -> None:
    """A checkpoint that another program deletes while it is read is missing, not broken."""
    bundle(tmp_path)

    def delete() -> None:
        for path in tmp_path.iterdir():
            path.unlink()

    with open_checkpoint(str(tmp_path / "ckpt-1")) as checkpoint:
        verdict = verify(checkpoint, progress=_During(delete))
    assert verdict.status is MISSING
    assert verdict.findings[0].message == "ckpt-1.index is not there"


def test_written_again_meanwhile(tmp_path: Path) -> None:
    """A save under the same name while it is read is no damage: it is read again."""
    bundle(tmp_path, value=1.0)

    def save() -> None:
        for path in tmp_path.iterdir():
            path.unlink()
        bundle(tmp_path, value=2.0, shards=1)

    during = _During(save)
    with open_checkpoint(str(tmp_path / "ckpt-1")) as checkpoint:
        verdict = verify(checkpoint, progress=during)
    assert verdict.ok
    assert during.calls > 1


def test_shrinks_meanwhile(tmp_path: Path) -> None:
    """A shard that is cut while it is read is a finding."""
    made = writer.BundleWriter()
    large = bytes(3 << 20)
    for name in (b"a", b"b"):
        made.add(name, FLOAT, [len(large) // 4], large)
    made.write(tmp_path, "ckpt-1")
    shard = tmp_path / "ckpt-1.data-00000-of-00001"
    with open_checkpoint(str(tmp_path / "ckpt-1")) as checkpoint:
        verdict = verify(checkpoint, progress=_During(lambda: os.truncate(shard, 4 << 20)))
    assert verdict.status is CORRUPT
    assert [(one.kind, one.tensor) for one in verdict.findings] == [(FindingKind.LAYOUT, "b")]


def test_links(tmp_path: Path) -> None:
    """Links are followed where that is asked for, and are unreadable where it is not."""
    store, run = tmp_path / "store", tmp_path / "run"
    store.mkdir()
    run.mkdir()
    bundle(store)
    for path in store.iterdir():
        (run / path.name).symlink_to(path)
    for follow, status in ((True, OK), (False, UNREADABLE)):
        with open_checkpoint(str(run / "ckpt-1"), follow=follow) as checkpoint:
            assert verify(checkpoint).status is status
    (store / INDEX).unlink()
    assert judge(run / "ckpt-1").status is MISSING


class _RestorerThatWaits(Restorer):
    """Does something before each restore, as another program might at that moment."""

    def __init__(self) -> None:
        super().__init__()
        self.deeds: list[Callable[[], None]] = []
        self.calls = 0

    def prove(
        self,
        checkpoint: OpenCheckpoint,
        size: int = 0,
        tensors: int = 0,
        waiting: Callable[[], None] = lambda: None,
    ) -> RestoreProof:
        self.calls += 1
        for deed in self.deeds:
            deed()
        self.deeds.clear()
        return super().prove(checkpoint, size, tensors, waiting)


def test_restore(tmp_path: Path) -> None:
    """What passes is restored, and the verdict is what came of that; what does not pass is not tried."""

    def restore() -> Verdict:
        with open_checkpoint(str(tmp_path / "ckpt-1")) as checkpoint:
            return verify(checkpoint, restorer=restorer)

    def save() -> None:
        for path in tmp_path.iterdir():
            path.unlink()
        made = writer.BundleWriter()
        made.add(b"v/.ATTRIBUTES/VARIABLE_VALUE", FLOAT, [2], bytes(8))
        made.add_object_graph(b"v/.ATTRIBUTES/VARIABLE_VALUE")
        made.write(tmp_path, "ckpt-1")

    restorer = _RestorerThatWaits()
    with restorer:
        bundle(tmp_path)
        verdict = restore()
        assert (verdict.status, verdict.level, verdict.tensors, verdict.bytes) == (
            READABLE,
            Level.RESTORE,
            2,
            128,
        )
        assert [finding.kind for finding in verdict.findings] == [FindingKind.NOT_REBUILT]

        restorer.deeds.append(save)  # a save under the same name meanwhile: it is verified again
        assert (restore().status, restorer.calls) == (OK, 2)

        restorer.deeds.append(lambda: cut(tmp_path / "ckpt-1.data-00000-of-00001", 5))
        verdict = restore()
        assert (verdict.status, verdict.level, restorer.calls) == (UNRESTORABLE, Level.RESTORE, 3)
        assert FindingKind.RESTORE in {finding.kind for finding in verdict.findings}

        verdict = restore()
        assert (verdict.status, verdict.level, restorer.calls) == (INCOMPLETE, Level.DATA, 3)
