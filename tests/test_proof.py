"""Tests of ckptctl.proof: what does not pass does not count."""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING, Any

import fabricate
import pytest
from bundle_writer import BundleWriter
from conftest import ckptctl
from trainers import run_trainer

from ckptctl import posix
from ckptctl.bundle.findings import Finding, FindingKind
from ckptctl.errors import StoppedError
from ckptctl.model import Status
from ckptctl.plan import Protections, plan
from ckptctl.policy import Newest, Policy
from ckptctl.proof import Proofs
from ckptctl.prune import prune
from ckptctl.repair import repair
from ckptctl.scan import scan
from ckptctl.verify import Level, Verdict, VerdictStatus, verify

if TYPE_CHECKING:
    from pathlib import Path

    from ckptctl.model import Directory, Plan
    from ckptctl.opened import OpenCheckpoint

THREE = Policy((Newest(3),))
FLOAT = 1


def run(directory: Path, count: int = 6, *, listed: int | None = None) -> Path:
    """A run that was saved long enough ago."""
    return fabricate.run(directory, count, listed=listed)


def flip(directory: Path, name: str) -> None:
    """Damages one byte of a checkpoint's data, which no look at its index and lengths tells."""
    data = directory / f"{name}.data-00000-of-00001"
    before = data.stat()
    data.write_bytes(data.read_bytes()[:-1] + b"\x01")
    os.utime(data, ns=(before.st_atime_ns, before.st_mtime_ns))


def names(directory: Path, proofs: Proofs | None) -> list[str]:
    """What stays under keep-three."""
    report = prune(directory, THREE, proofs=proofs, dry_run=True)
    return [decision.checkpoint.name for decision in report.plan.keep]


@pytest.mark.parametrize("latest", [True, False], ids=["the latest", "an unlisted one"])
def test_older_good_one_stays_for_a_newer_bad_one(tmp_path: Path, latest: bool) -> None:  # noqa: FBT001
    """A checkpoint whose data are damaged does not count, and as the latest it stays all the same."""
    run(tmp_path, listed=None if latest else 0)
    flip(tmp_path, "ckpt-6")
    assert names(tmp_path, None) == ["ckpt-4", "ckpt-5", "ckpt-6"]
    assert names(tmp_path, Proofs(Level.DATA)) == ["ckpt-3", "ckpt-4", "ckpt-5", "ckpt-6"]
    report = prune(tmp_path, THREE, proofs=Proofs(Level.DATA))
    assert report.deleted == ("ckpt-1", "ckpt-2")
    assert (
        any(
            "ckpt-6, the latest in the state file, stays, though broken" in note for note in report.plan.notes
        )
        == latest
    )
    assert "of those that pass verify (data)" in report.plan.policy


def test_what_passes_needs_no_other_plan(tmp_path: Path) -> None:
    """One plan names what is to be read, and another is made only where something does not pass."""
    run(tmp_path)
    made: list[Directory] = []

    def decide(found: Directory) -> Plan:
        made.append(found)
        return plan(found, THREE, Protections())

    with posix.open_directory(str(tmp_path)) as directory:
        Proofs(Level.DATA).plan(directory, scan(tmp_path), decide)
        assert len(made) == 2
        flip(tmp_path, "ckpt-5")
        Proofs(Level.DATA).plan(directory, scan(tmp_path), decide)
    assert len(made) == 2 + 3


def test_what_could_not_be_told_is_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine short of memory for an hour leaves no checkpoint behind that a watch keeps for ever."""
    run(tmp_path)
    proofs, asked, clock = Proofs(Level.RESTORE), [], [1000.0]

    def prove(_: Proofs, checkpoint: OpenCheckpoint, *_more: object) -> Verdict:
        asked.append(checkpoint.name)
        lost = len(asked) == 1
        finding = Finding(FindingKind.LOST, "TensorFlow died of SIGKILL")
        status = VerdictStatus.UNRESTORABLE if lost else VerdictStatus.OK
        return Verdict(checkpoint.path, status, Level.RESTORE, findings=(finding,) if lost else ())

    monkeypatch.setattr(Proofs, "prove", prove)
    monkeypatch.setattr("ckptctl.proof.time.monotonic", lambda: clock[0])
    assert names(tmp_path, proofs) == ["ckpt-3", "ckpt-4", "ckpt-5", "ckpt-6"]
    clock[0] += 3000
    assert names(tmp_path, proofs) == ["ckpt-3", "ckpt-4", "ckpt-5", "ckpt-6"]
    assert asked == ["ckpt-6", "ckpt-5", "ckpt-4", "ckpt-3"]
    clock[0] += 1000
    assert names(tmp_path, proofs) == ["ckpt-4", "ckpt-5", "ckpt-6"]
    assert asked[4:] == ["ckpt-6"]


def test_bad_one_between_good_ones_goes(tmp_path: Path) -> None:
    """A damaged checkpoint goes as soon as a good one is newer, and says why."""
    run(tmp_path)
    flip(tmp_path, "ckpt-5")
    report = prune(tmp_path, THREE, proofs=Proofs(Level.DATA))
    assert report.deleted == ("ckpt-1", "ckpt-2", "ckpt-5")
    (reason,) = next(d.reasons for d in report.plan.delete if d.checkpoint.name == "ckpt-5")
    assert "checksum" in reason
    assert fabricate.names(tmp_path) == {"ckpt-3", "ckpt-4", "ckpt-6"}


def test_none_passes_and_all_stay(tmp_path: Path) -> None:
    """Where nothing restores there is nothing for whose sake anything could go."""
    run(tmp_path, 5)
    for step in range(1, 6):
        flip(tmp_path, f"ckpt-{step}")
    assert names(tmp_path, Proofs(Level.DATA)) == [f"ckpt-{step}" for step in range(1, 6)]


def test_not_finite(tmp_path: Path) -> None:
    """With `finite`, weights that have become NaN are passed over."""
    for step in range(1, 7):
        writer = BundleWriter()
        value = b"\x00\x00\xc0\x7f" if step > 4 else b"\x00\x00\x80\x3f"
        writer.add(b"weights", FLOAT, (1,), value)
        writer.write(tmp_path, f"ckpt-{step}")
        for file in tmp_path.glob(f"ckpt-{step}.*"):
            os.utime(file, (fabricate.EPOCH + step, fabricate.EPOCH + step))
    assert names(tmp_path, Proofs(Level.DATA)) == ["ckpt-4", "ckpt-5", "ckpt-6"]
    assert names(tmp_path, Proofs(Level.FINITE)) == ["ckpt-2", "ckpt-3", "ckpt-4", "ckpt-5", "ckpt-6"]
    (tmp_path / "checkpoint").write_text(fabricate.state_text(["ckpt-4", "ckpt-5", "ckpt-6"], first=4))
    report = prune(tmp_path, THREE, proofs=Proofs(Level.FINITE), dry_run=True)
    assert any(f"`ckptctl repair --verify=finite {tmp_path}`" in note for note in report.plan.notes)
    assert repair(tmp_path, proofs=Proofs(Level.FINITE), dry_run=True).mended.reasons


def test_only_what_counts_is_read_and_only_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three are read of a hundred; none again, until one of them is written again."""
    read: list[str] = []

    def watched(checkpoint: OpenCheckpoint, *arguments: Any, **options: Any) -> Verdict:
        read.append(checkpoint.name)
        return verify(checkpoint, *arguments, **options)

    monkeypatch.setattr("ckptctl.proof.verify", watched)
    run(tmp_path, 100)
    proofs = Proofs(Level.DATA)
    for _ in range(3):
        prune(tmp_path, THREE, proofs=proofs)
    assert read == ["ckpt-100", "ckpt-99", "ckpt-98"]
    fabricate.checkpoint(tmp_path, "ckpt-99", at=fabricate.EPOCH + 60.5 * 98 + 1)
    prune(tmp_path, THREE, proofs=proofs)
    assert read[3:] == ["ckpt-99"]


def test_what_cannot_be_read_neither_counts_nor_goes(tmp_path: Path) -> None:
    """No permission to read the data proves nothing: the checkpoint stays, and three others besides."""
    run(tmp_path)
    with posix.open_directory(str(tmp_path)) as directory:
        scanned = scan(tmp_path)
        data = tmp_path / "ckpt-5.data-00000-of-00001"
        data.rename(tmp_path / "elsewhere")
        os.mkfifo(data)

        def decide(found: Directory) -> Plan:
            return plan(found, THREE, Protections())

        made = Proofs(Level.DATA).plan(directory, scanned, decide)
    assert [d.checkpoint.name for d in made.keep] == ["ckpt-3", "ckpt-4", "ckpt-5", "ckpt-6"]
    unknown = next(d.checkpoint for d in made.keep if d.checkpoint.name == "ckpt-5")
    assert unknown.status is Status.COMPLETE
    assert unknown.doubt is not None
    assert "ckpt-5.data-00000-of-00001" in unknown.doubt


@pytest.mark.parametrize(
    ("kind", "repairs"), [(FindingKind.RESTORE, True), (FindingKind.LOST, False)], ids=["fails", "lost"]
)
def test_repair_is_named_for_what_is_known_to_fail(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: FindingKind,
    repairs: bool,  # noqa: FBT001
) -> None:
    """Where TensorFlow's process was lost over the latest, `repair` would refuse."""
    verdict = Verdict("", VerdictStatus.UNRESTORABLE, Level.RESTORE, findings=(Finding(kind, "it fails"),))
    monkeypatch.setattr("ckptctl.proof.verify", lambda *_, **__: verdict)
    run(tmp_path, 2)
    report = prune(tmp_path, THREE, proofs=Proofs(Level.RESTORE), dry_run=True)
    (note,) = [note for note in report.plan.notes if note.startswith("ckpt-2, the latest")]
    assert ("`ckptctl repair --verify=restore" in note) is repairs
    assert ("Try again, with more memory or time" in note) is not repairs


def test_restores_are_proven(tmp_path: Path) -> None:
    """With `restore`, what TensorFlow restores counts; what it can but read neither counts nor goes."""
    run_trainer("own-names", tmp_path, saves=4)
    fabricate.checkpoint(tmp_path, "foreign-9", at=time.time() + 1)
    done = ckptctl("prune", "--keep=2", "--verify=restore", "--json", str(tmp_path))
    assert done.returncode == 0, done.stderr
    (report,) = json.loads(done.stdout)["directories"]
    assert report["deleted"] == ["checkpoint_step_10-1", "checkpoint_step_20-2"]
    reasons = {one["name"]: one["reasons"] for one in report["keep"]}
    assert sorted(reasons) == ["checkpoint_step_30-3", "checkpoint_step_40-4", "foreign-9"]
    assert any("cannot be told" in reason for reason in reasons["foreign-9"])


def test_what_goes_meanwhile_is_missing(tmp_path: Path) -> None:
    """A checkpoint that somebody deletes before it is read is not there."""
    run(tmp_path)
    with posix.open_directory(str(tmp_path)) as directory:
        scanned = scan(tmp_path)
        (tmp_path / "ckpt-6.index").unlink()
        made = Proofs(Level.DATA).plan(directory, scanned, lambda found: plan(found, THREE, Protections()))
    assert [d.checkpoint.name for d in made.keep] == ["ckpt-3", "ckpt-4", "ckpt-5"]


@pytest.mark.parametrize("damaged", [True, False])
def test_save_cut_off_between_data_and_index(tmp_path: Path, damaged: bool) -> None:  # noqa: FBT001
    """Data that are younger than their index are read without being asked: they may be another save's."""
    run(tmp_path, listed=0)
    data = tmp_path / "ckpt-6.data-00000-of-00001"
    if damaged:
        data.write_bytes(b"x" * data.stat().st_size)
    os.utime(data, (fabricate.EPOCH + 1e6, fabricate.EPOCH + 1e6))
    kept = ["ckpt-3", "ckpt-4", "ckpt-5", "ckpt-6"] if damaged else ["ckpt-4", "ckpt-5", "ckpt-6"]
    assert names(tmp_path, None) == kept


def test_directories_are_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs come and go for ever: of the directories that were looked at last alone the verdicts are known."""
    monkeypatch.setattr("ckptctl.proof._REMEMBERED", 2)
    proofs = Proofs(Level.DATA)
    for name in ("one", "two", "one", "three"):
        names(run(tmp_path / name, 3), proofs)
    inodes = [(tmp_path / name).stat().st_ino for name in ("one", "three")]
    assert [inode for _, inode in proofs._verdicts] == inodes


def test_stop_is_heard_while_data_are_read(tmp_path: Path) -> None:
    """Told to stop, a prune leaves off in the middle of its reading, and deletes nothing."""
    run(tmp_path)
    before = fabricate.contents(tmp_path)
    with pytest.raises(StoppedError):
        prune(tmp_path, THREE, proofs=Proofs(Level.DATA), stop=lambda: True)
    assert fabricate.contents(tmp_path) == before


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        (FindingKind.RESTORE, "TensorFlow does not restore it"),
        (FindingKind.LOST, "it cannot be told whether it restores"),
    ],
)
def test_what_tensorflow_does_not_restore_stays(tmp_path: Path, kind: FindingKind, told: str) -> None:
    """Bytes that are all right are not deleted because TensorFlow fails, and the plan says so."""
    run(tmp_path, 3)
    finding = Finding(kind, "out of memory")
    verdict = Verdict("x", VerdictStatus.UNRESTORABLE, Level.RESTORE, findings=(finding,))
    proofs = Proofs(Level.RESTORE)
    with posix.open_directory(str(tmp_path)) as directory:
        scanned = scan(tmp_path)
        found = os.fstat(directory.fd)
        known = {one.files: verdict for one in scanned.checkpoints}
        proofs._verdicts[found.st_dev, found.st_ino] = known
        made = proofs.plan(directory, scanned, lambda found: plan(found, Policy((Newest(1),)), Protections()))
    assert not made.delete
    assert f"{told}: out of memory" in made.keep[0].reasons
    assert any("no checkpoint counts" in note for note in made.notes)
    assert any(f"ckpt-3, the latest in the state file, stays, though {told}" in note for note in made.notes)
