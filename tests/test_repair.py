"""Tests of ckptctl.mending and ckptctl.repair: TensorFlow goes on from what is whole, and no word is lost."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import shutil
import signal
import time
from typing import TYPE_CHECKING

import bundle_writer
import fabricate
import pytest
import steps
from fabricate import EPOCH
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trainers import restore_and_train, run_trainer

from ckptctl import locks, posix, tensorflow
from ckptctl.bundle.findings import Finding, FindingKind
from ckptctl.chronology import Order
from ckptctl.errors import CkptctlError, LockedError, RefusedError, SavedModelError, UnreadableError
from ckptctl.model import StateEntry, StateStatus
from ckptctl.pins import pin
from ckptctl.proof import Proofs
from ckptctl.repair import repair
from ckptctl.scan import scan
from ckptctl.verify import Level, Verdict, VerdictStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from ckptctl.opened import OpenCheckpoint

DATA = Proofs(Level.DATA)

USELESS = [
    b"",
    b"# nothing but a comment\n",
    b"garbled {",
    b'model_checkpoint_path: "ckpt-\n',
    b'all_model_checkpoint_paths: "ckpt-1"\n',
    b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 100\n",
    b"\x82\xa5epoch\x01\xa4step\xcd\x03\xe8\xff\xfe",
    bytes(4096),
]
USELESS_NAMES = ["empty", "comment", "garbled", "cut", "no latest", "git-lfs", "msgpack", "zeros"]


def listed(path: Path) -> list[str]:
    """The paths that the state lists, as they are written there."""
    return [entry.path for entry in scan(path).state.entries]


def latest(path: Path) -> str:
    """The path of the latest, as it is written there."""
    found = scan(path).state.latest
    assert found is not None
    return found.path


def backups(path: Path) -> list[Path]:
    """The state files that were put aside."""
    return sorted(path.glob("checkpoint.bak-*"))


def private(path: Path) -> list[str]:
    """The names of ours that are there."""
    return [name for name in os.listdir(path) if name.startswith(".ckptctl-")]


@pytest.mark.parametrize("content", USELESS, ids=USELESS_NAMES)
def test_useless_state_is_rebuilt(tmp_path: Path, content: bytes) -> None:
    """Whatever is no state is put aside as it is, and all that is complete is listed, oldest first."""
    fabricate.run(tmp_path, 11)
    (tmp_path / "checkpoint").write_bytes(content)
    (tmp_path / "checkpoint").chmod(0o640)
    report = repair(tmp_path)
    assert latest(tmp_path) == "ckpt-11"
    assert listed(tmp_path) == [f"ckpt-{step}" for step in range(1, 12)]
    (backup,) = backups(tmp_path)
    assert (backup.name, backup.read_bytes()) == (report.backup, content)
    assert [path.stat().st_mode & 0o777 for path in (backup, tmp_path / "checkpoint")] == [0o640, 0o640]
    assert not private(tmp_path)
    assert not repair(tmp_path).mended.reasons


def test_absent_state_is_made(tmp_path: Path) -> None:
    """Without a state file there is nothing to put aside; times are those of the indexes."""
    fabricate.run(tmp_path, 3, listed=0)
    report = repair(tmp_path)
    state = scan(tmp_path).state
    assert report.backup is None
    assert [entry.timestamp for entry in state.entries] == [EPOCH, EPOCH + 60.5, EPOCH + 121]
    assert state.last_preserved == EPOCH - 1
    assert sorted(os.listdir(tmp_path)) == sorted(
        ["checkpoint", *(f"ckpt-{n}{end}" for n in (1, 2, 3) for end in (".index", ".data-00000-of-00001"))]
    )


def test_times_to_come_are_adopted_too(tmp_path: Path) -> None:
    """A clock that was ahead does not keep a CheckpointManager from adopting what it wrote."""
    ahead = time.time() + 9999
    for step in (1, 2):
        fabricate.checkpoint(tmp_path, f"ckpt-{step}", at=ahead + step)
    repair(tmp_path)
    preserved = scan(tmp_path).state.last_preserved
    assert preserved is not None
    assert preserved < time.time()


@pytest.mark.parametrize(
    "prefix", ["{here}/", "/gone/elsewhere/", "C:\\\\runs\\\\a\\\\"], ids=["absolute", "foreign", "windows"]
)
@pytest.mark.parametrize("timestamps", [True, False], ids=["timestamps", "none"])
def test_paths_become_relative(tmp_path: Path, prefix: str, timestamps: bool) -> None:  # noqa: FBT001 - a parameter
    """What lies here under its base name is listed so; all else stays as the trainer wrote it."""
    fabricate.run(tmp_path, 4, listed=0)
    there = prefix.format(here=tmp_path)
    names = [f"ckpt-{step}" for step in (2, 3, 4)]
    preserved = EPOCH - 1.25 if timestamps else None
    text = fabricate.state_text(
        [there + name for name in names], timestamps=timestamps, last_preserved=preserved
    )
    (tmp_path / "checkpoint").write_text(text)
    repair(tmp_path)
    lines = [line for line in (tmp_path / "checkpoint").read_text().splitlines() if not line.startswith("#")]
    assert lines == fabricate.state_text(names, timestamps=timestamps, last_preserved=preserved).splitlines()
    assert backups(tmp_path)[0].read_text() == text


def test_what_is_not_there_is_dropped(tmp_path: Path) -> None:
    """Entries without files go, with their timestamps; what is unlisted is not added."""
    fabricate.run(tmp_path, 6, listed=5)
    for name in ("ckpt-2", "ckpt-4"):
        for file in tmp_path.glob(f"{name}.*"):
            file.unlink()
    repair(tmp_path)
    state = scan(tmp_path).state
    assert [entry.name for entry in state.entries] == ["ckpt-3", "ckpt-5", "ckpt-6"]
    assert [entry.timestamp for entry in state.entries] == [EPOCH + 60.5 * (n - 1) for n in (3, 5, 6)]


def test_state_of_sound_mind_is_left_alone(tmp_path: Path) -> None:
    """Where nothing is to be mended nothing is written, nor put aside."""
    fabricate.run(tmp_path, 6, listed=3, last_preserved=EPOCH + 70)
    before = fabricate.contents(tmp_path), tmp_path.stat().st_mtime_ns
    assert not repair(tmp_path).mended.reasons
    assert (fabricate.contents(tmp_path), tmp_path.stat().st_mtime_ns) == before


def test_dry_run_touches_nothing(tmp_path: Path) -> None:
    """A dry run finds the same and leaves every byte and time as it was."""
    fabricate.run(tmp_path, 6)
    (tmp_path / "checkpoint").write_bytes(b"")
    before = fabricate.contents(tmp_path), tmp_path.stat().st_mtime_ns
    assert repair(tmp_path, dry_run=True).mended == repair(tmp_path, dry_run=True).mended
    assert (fabricate.contents(tmp_path), tmp_path.stat().st_mtime_ns) == before


def damage(path: Path, name: str, how: str) -> None:
    """Makes a checkpoint one that does not restore."""
    index, data = path / f"{name}.index", path / f"{name}.data-00000-of-00001"
    if how == "missing":
        index.unlink()
        data.unlink()
    elif how == "no shard":
        data.unlink()
    elif how == "cut":
        data.write_bytes(data.read_bytes()[:-1])
    else:
        data.write_bytes(b"\xff" + data.read_bytes()[1:])
    for file in (index, data):
        if file.exists():
            os.utime(file, (EPOCH, EPOCH))


@pytest.mark.parametrize("how", ["missing", "no shard", "cut"])
def test_latest_that_is_not_whole_gives_way(tmp_path: Path, how: str) -> None:
    """The newest that is whole becomes the latest and the last of the list; later ones go."""
    fabricate.run(tmp_path, 6)
    for name in ("ckpt-5", "ckpt-6"):
        damage(tmp_path, name, how)
    repair(tmp_path)
    assert latest(tmp_path) == "ckpt-4"
    assert listed(tmp_path) == ["ckpt-1", "ckpt-2", "ckpt-3", "ckpt-4"]


def test_latest_that_does_not_pass_gives_way(tmp_path: Path) -> None:
    """With a level, data are read: those that fail are passed over, each with its reason."""
    fabricate.run(tmp_path, 6, last_preserved=EPOCH - 5)
    for name in ("ckpt-5", "ckpt-6"):
        damage(tmp_path, name, "flipped")
    assert not repair(tmp_path).mended.reasons
    reasons = repair(tmp_path, proofs=DATA).mended.reasons
    assert latest(tmp_path) == "ckpt-4"
    assert reasons[0].startswith("the latest, ckpt-6, does not pass (")
    assert reasons[1].startswith("passed over ckpt-5: ")
    assert listed(tmp_path) == ["ckpt-1", "ckpt-2", "ckpt-3", "ckpt-4"]
    assert scan(tmp_path).state.last_preserved == EPOCH - 5


def test_latest_that_cannot_be_read_is_no_bad_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An index that the disk does not give just now proves nothing, and the state stays as it is."""
    fabricate.run(tmp_path, 3)
    before = fabricate.contents(tmp_path)
    fabricate.deny_reading(monkeypatch, tmp_path / "ckpt-3.index")
    with pytest.raises(UnreadableError, match="ckpt-3, the latest in the state file: it cannot be told"):
        repair(tmp_path)
    monkeypatch.undo()
    assert fabricate.contents(tmp_path) == before


@pytest.mark.parametrize("state", ["its latest is gone", "garbled", "absent"])
@pytest.mark.parametrize(("number", "known"), [(3, False), (2, True)])
def test_newer_one_that_cannot_be_read_is_not_passed_over(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    known: bool,  # noqa: FBT001 - a parameter
    state: str,
) -> None:
    """An index that the disk does not give just now would have training go on from an older checkpoint."""
    fabricate.run(tmp_path, 3)
    if state == "absent":
        (tmp_path / "checkpoint").unlink()
    else:
        lines = fabricate.state_text(["ckpt-1", "ckpt-2", "ckpt-3", "ckpt-9"])
        (tmp_path / "checkpoint").write_text(lines if state != "garbled" else "}{")
    before = fabricate.contents(tmp_path)
    fabricate.deny_reading(monkeypatch, tmp_path / f"ckpt-{number}.index")
    if known:
        repair(tmp_path)
        assert latest(tmp_path) == "ckpt-3"
        return
    with pytest.raises(UnreadableError, match="ckpt-3 is newer than ckpt-2: it cannot be told"):
        repair(tmp_path)
    assert fabricate.contents(tmp_path) == before


@pytest.mark.parametrize("state", ["its latest is gone", "absent"])
def test_table_of_another_program_is_nothing_newer(tmp_path: Path, state: str) -> None:
    """What no list names and only looks like a damaged V1 checkpoint keeps no state file from its mending."""
    fabricate.run(tmp_path, 3, listed=0)
    if state != "absent":
        (tmp_path / "checkpoint").write_text(fabricate.state_text(["ckpt-1", "ckpt-9"]))
    (tmp_path / "words-7").write_bytes(bundle_writer.table([(b"key", b"value")]))
    (tmp_path / "words-7.meta").write_text('{"my": "sidecar"}')
    (newest,) = [one for one in scan(tmp_path).checkpoints if one.name == "words-7"]
    assert newest.doubt is not None
    repair(tmp_path)
    assert latest(tmp_path) == "ckpt-3"


def test_listed_v1_that_cannot_be_read_is_not_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the state lists is a checkpoint, of whatever format: nobody goes on from an older one unasked."""
    fabricate.run(tmp_path, 2, listed=0)
    (tmp_path / "model.ckpt-3").write_bytes(fabricate.v1())
    (tmp_path / "checkpoint").write_text(fabricate.state_text(["ckpt-1", "ckpt-2", "model.ckpt-3", "ckpt-9"]))
    before = fabricate.contents(tmp_path)
    opened = os.open

    def failing(path: str, *arguments: int, **options: int) -> int:
        if path == "model.ckpt-3":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return opened(path, *arguments, **options)

    monkeypatch.setattr(os, "open", failing)
    with pytest.raises(UnreadableError, match=r"model.ckpt-3 is newer than ckpt-2: it cannot be told"):
        repair(tmp_path)
    monkeypatch.undo()
    assert fabricate.contents(tmp_path) == before
    repair(tmp_path)
    assert latest(tmp_path) == "model.ckpt-3"


def test_unlisted_newest_takes_the_place_of_the_latest(tmp_path: Path) -> None:
    """A save that ended before the state was written is listed when it becomes the latest, with its time."""
    fabricate.run(tmp_path, 5)
    text = fabricate.state_text(["ckpt-1", "ckpt-2", "ckpt-9"])
    (tmp_path / "checkpoint").write_text(text)
    repair(tmp_path)
    entries = scan(tmp_path).state.entries
    assert [entry.name for entry in entries] == ["ckpt-1", "ckpt-2", "ckpt-5"]
    assert entries[-1].timestamp == EPOCH + 60.5 * 4


def test_order_of_the_state_stays(tmp_path: Path) -> None:
    """After a rollback the trainer's own order counts, and the newest is the last that it saved."""
    fabricate.run(tmp_path, 5, listed=0)
    fabricate.checkpoint(tmp_path, "ckpt-3", at=EPOCH + 500)
    order = ["ckpt-1", "ckpt-2", "ckpt-4", "ckpt-5", "ckpt-3", "ckpt-6"]
    (tmp_path / "checkpoint").write_text(fabricate.state_text(order))
    with pytest.raises(RefusedError, match=r"ckpt-3 or ckpt-5.*--order time or --order step decides"):
        repair(tmp_path)
    repair(tmp_path, order=Order.TIME)
    assert latest(tmp_path) == "ckpt-3"
    assert listed(tmp_path) == order[:-1]


def test_copy_without_times_is_rebuilt_by_step_alone(tmp_path: Path) -> None:
    """Times that contradict the steps decide nothing by themselves; --order does."""
    for step, at in ((1, 5), (2, 3), (3, 1)):
        fabricate.checkpoint(tmp_path, f"ckpt-{step}", at=EPOCH + at)
    before = fabricate.contents(tmp_path)
    with pytest.raises(RefusedError, match=r"disagree about what is newer \(ckpt-1 or ckpt-3\)"):
        repair(tmp_path)
    assert fabricate.contents(tmp_path) == before
    repair(tmp_path, order=Order.STEP)
    assert (latest(tmp_path), listed(tmp_path)) == ("ckpt-3", ["ckpt-1", "ckpt-2", "ckpt-3"])


def test_copy_without_times_is_rebuilt_by_name_alone(tmp_path: Path) -> None:
    """Nor do they where no step is known and the names have numbers."""
    names = ["model_9", "model_10", "model_8"]
    for at, name in enumerate(names):
        fabricate.checkpoint(tmp_path, name, at=EPOCH + at)
    before = fabricate.contents(tmp_path)
    with pytest.raises(RefusedError, match=r"\(model_8 or model_10\); --order time or --order name decides"):
        repair(tmp_path)
    assert fabricate.contents(tmp_path) == before
    repair(tmp_path, order=Order.NAME)
    assert (latest(tmp_path), listed(tmp_path)) == ("model_10", ["model_8", "model_9", "model_10"])


def test_name_of_another_place_for_the_latest_is_asked_for(tmp_path: Path) -> None:
    """A latest that is gone is not replaced by one that the numbers in the names deny to be the newest."""
    for at, name in enumerate(["model_10", "model_9"]):
        fabricate.checkpoint(tmp_path, name, at=EPOCH + at)
    (tmp_path / "checkpoint").write_text(fabricate.state_text(["model_11"]))
    with pytest.raises(RefusedError, match=r"model_9 or model_10.*--order time or --order name decides"):
        repair(tmp_path)
    repair(tmp_path, order=Order.NAME)
    assert latest(tmp_path) == "model_10"


def test_pinned_ones_are_not_listed(tmp_path: Path) -> None:
    """What no list names no manager deletes: what is pinned is not added to one, though it be the latest."""
    fabricate.run(tmp_path, 4, listed=0)
    pin(str(tmp_path), ["ckpt-1", "ckpt-4"])
    repair(tmp_path)
    assert (latest(tmp_path), listed(tmp_path)) == ("ckpt-4", ["ckpt-2", "ckpt-3"])
    (tmp_path / "checkpoint").write_text(fabricate.state_text(["ckpt-3", "ckpt-9"]))
    repair(tmp_path)
    assert (latest(tmp_path), listed(tmp_path)) == ("ckpt-4", ["ckpt-3"])
    (tmp_path / "checkpoint").write_text(fabricate.state_text(["ckpt-4", "ckpt-3", "ckpt-9"]))
    repair(tmp_path, order=Order.STEP)
    assert (latest(tmp_path), listed(tmp_path)) == ("ckpt-4", ["ckpt-3", "ckpt-4"])
    pin(str(tmp_path), ["ckpt-2", "ckpt-3"])
    (tmp_path / "checkpoint").unlink()
    repair(tmp_path)
    assert (latest(tmp_path), listed(tmp_path)) == ("ckpt-4", [])
    assert not repair(tmp_path).mended.reasons


def test_what_lies_elsewhere_and_is_there_stays(tmp_path: Path) -> None:
    """A path that leads out of the directory to a checkpoint is one that TensorFlow can use."""
    run = fabricate.run(tmp_path / "run", 3, listed=0)
    (run / "best").mkdir()
    fabricate.checkpoint(run / "best", "ckpt-30")
    fabricate.checkpoint(tmp_path, "far-1")
    text = fabricate.state_text([f"{tmp_path}/far-1", "ckpt-2", "best/ckpt-30"])
    (run / "checkpoint").write_text(text)
    report = repair(run)
    assert not report.mended.reasons
    assert report.notes == ("the latest, best/ckpt-30, is there and not in this directory: it is left alone",)
    for file in (run / "best").iterdir():
        file.unlink()
    repair(run)
    assert (latest(run), listed(run)) == ("ckpt-3", [f"{tmp_path}/far-1", "ckpt-2", "ckpt-3"])


def test_copy_beside_its_original_is_its_own(tmp_path: Path) -> None:
    """What lies here under its base name is meant, though the path in the state still leads somewhere."""
    original = fabricate.run(tmp_path / "original", 3, listed=0)
    text = fabricate.state_text([f"{original}/ckpt-{step}" for step in (1, 2, 3)])
    (original / "checkpoint").write_text(text)
    shutil.copytree(original, tmp_path / "copy")
    before = fabricate.contents(original)
    repair(tmp_path / "copy")
    assert listed(tmp_path / "copy") == ["ckpt-1", "ckpt-2", "ckpt-3"]
    assert latest(tmp_path / "copy") == "ckpt-3"
    assert fabricate.contents(original) == before


def test_what_lies_elsewhere_is_not_the_missing_latest_of_its_name(tmp_path: Path) -> None:
    """A path that leads out of the directory stays listed where the latest of the same name here is gone."""
    run = fabricate.run(tmp_path / "run", 3, listed=0)
    fabricate.checkpoint(tmp_path, "ckpt-9")
    (run / "checkpoint").write_text(fabricate.state_text([f"{tmp_path}/ckpt-9", "ckpt-2", "ckpt-9"]))
    repair(run)
    assert (latest(run), listed(run)) == ("ckpt-3", [f"{tmp_path}/ckpt-9", "ckpt-2", "ckpt-3"])


def test_timestamps_without_their_paths_are_made_anew(tmp_path: Path) -> None:
    """Where it is not known which timestamp belongs to which path, the files' times count."""
    fabricate.run(tmp_path, 3)
    with (tmp_path / "checkpoint").open("a") as file:
        file.write("all_model_checkpoint_timestamps: 7\n")
    repair(tmp_path)
    assert [entry.timestamp for entry in scan(tmp_path).state.entries] == [EPOCH, EPOCH + 60.5, EPOCH + 121]


def test_v1_is_listed_as_tensorflow_lists_it(tmp_path: Path) -> None:
    """A sharded V1 checkpoint is named with question marks, by the number of its shards."""
    for shard in range(2):
        (tmp_path / f"model.ckpt-20-{shard:05d}-of-00002").write_bytes(fabricate.v1())
        os.utime(tmp_path / f"model.ckpt-20-{shard:05d}-of-00002", (EPOCH, EPOCH))
    repair(tmp_path)
    assert latest(tmp_path) == "model.ckpt-20-?????-of-00002"
    assert not repair(tmp_path).mended.reasons
    copied = fabricate.state_text(["/gone/model.ckpt-20-?????-of-00002"], timestamps=False)
    (tmp_path / "checkpoint").write_text(copied)
    repair(tmp_path)
    assert latest(tmp_path) == "model.ckpt-20-?????-of-00002"


def test_name_that_no_state_can_hold_is_passed_over(tmp_path: Path) -> None:
    """A state file is UTF-8: a name that is not can be restored by hand, and not be listed."""
    fabricate.checkpoint(tmp_path, "ckpt-1", at=EPOCH)
    fabricate.checkpoint(tmp_path, os.fsdecode(b"\xff-2"), at=EPOCH + 9)
    repair(tmp_path)
    assert listed(tmp_path) == ["ckpt-1"]


@pytest.mark.parametrize("content", [None, *USELESS], ids=["absent", *USELESS_NAMES])
def test_without_a_checkpoint_nothing_is_written(tmp_path: Path, content: bytes | None) -> None:
    """An empty directory, and one of orbax, has no state file to mend."""
    (tmp_path / "array_metadatas").mkdir()
    (tmp_path / "_METADATA").write_text("{}")
    if content is not None:
        (tmp_path / "checkpoint").write_bytes(content)
    before = fabricate.contents(tmp_path)
    with pytest.raises(UnreadableError, match="there are no checkpoints here"):
        repair(tmp_path)
    assert fabricate.contents(tmp_path) == before


def test_where_none_passes_nothing_is_written(tmp_path: Path) -> None:
    """A state that would name what does not restore is no better than the old one."""
    fabricate.run(tmp_path, 2)
    for name in ("ckpt-1", "ckpt-2"):
        damage(tmp_path, name, "flipped")
    before = fabricate.contents(tmp_path)
    with pytest.raises(UnreadableError, match=r"no checkpoint passes \(ckpt-1: "):
        repair(tmp_path, proofs=DATA)
    assert fabricate.contents(tmp_path) == before


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("link", "is a link to .*/elsewhere"),
        ("fifo", "not a regular file"),
        ("directory", "not a regular file"),
    ],
)
def test_other_kinds_of_files_are_refused(tmp_path: Path, kind: str, message: str) -> None:
    """A link is told with what it leads to, a FIFO is not waited for, and both stay."""
    run = fabricate.run(tmp_path / "run", 2, listed=0)
    state = run / "checkpoint"
    if kind == "link":
        (tmp_path / "elsewhere").write_bytes(b"")
        state.symlink_to(tmp_path / "elsewhere")
    elif kind == "fifo":
        os.mkfifo(state)
    else:
        state.mkdir()
    before = os.lstat(state)
    with pytest.raises(RefusedError, match=message):
        repair(run)
    after = os.lstat(state)
    assert (after.st_ino, after.st_mode) == (before.st_ino, before.st_mode)
    assert not backups(run)


def test_saved_model_is_refused(tmp_path: Path) -> None:
    """`variables/` of an export has no state file and gets none."""
    variables = tmp_path / "variables"
    variables.mkdir()
    fabricate.checkpoint(variables, "variables")
    with pytest.raises(SavedModelError):
        repair(variables)
    assert not (variables / "checkpoint").exists()


def test_latest_that_may_be_under_way_is_waited_for(tmp_path: Path) -> None:
    """A trainer that saves the latest under its name again has an incomplete one for a moment."""
    fabricate.run(tmp_path, 3)
    (tmp_path / "ckpt-3.index").write_bytes(b"")
    before = fabricate.contents(tmp_path)
    with pytest.raises(RefusedError, match="Try again in a minute"):
        repair(tmp_path)
    assert fabricate.contents(tmp_path) == before


@pytest.mark.parametrize(("ahead", "waits"), [(30, True), (1e6, False)], ids=["a little", "far"])
def test_latest_from_the_future(tmp_path: Path, ahead: float, waits: bool) -> None:  # noqa: FBT001 - a parameter
    """A clock a little ahead may be that of a trainer at work; for what a wrong one wrote nobody waits."""
    fabricate.run(tmp_path, 3)
    (tmp_path / "ckpt-3.index").write_bytes(b"cut")
    written = time.time() + ahead
    os.utime(tmp_path / "ckpt-3.index", (written, written))
    with pytest.raises(RefusedError, match="Try again") if waits else contextlib.nullcontext():
        repair(tmp_path)
    assert latest(tmp_path) == ("ckpt-3" if waits else "ckpt-2")


def test_misspelt_state_file_is_refused(tmp_path: Path) -> None:
    """No second state file is made beside the trainer's for a slip of the pen."""
    fabricate.run(tmp_path, 3)
    with pytest.raises(RefusedError, match="no state file chekpoint, but one called checkpoint"):
        repair(tmp_path, latest_filename="chekpoint")
    assert not (tmp_path / "chekpoint").exists()


def test_state_file_of_another_name(tmp_path: Path) -> None:
    """Of two state files the one that was asked for is mended, and put aside under its own name."""
    fabricate.run(tmp_path, 3)
    text = (tmp_path / "checkpoint").read_text()
    (tmp_path / "my_state").write_text(fabricate.state_text(["/gone/ckpt-2"], timestamps=False))
    report = repair(tmp_path, latest_filename="my_state")
    assert report.backup is not None
    assert report.backup.startswith("my_state.bak-")
    assert scan(tmp_path, latest_filename="my_state").state.entries[0].path == "ckpt-2"
    assert (tmp_path / "checkpoint").read_text() == text


def test_locked_directory_is_left_alone(tmp_path: Path) -> None:
    """While another ckptctl is at work nothing is done."""
    fabricate.run(tmp_path, 3, listed=0)
    with posix.open_directory(str(tmp_path)) as other, locks.lock(other), pytest.raises(LockedError):
        repair(tmp_path)
    assert not (tmp_path / "checkpoint").exists()


def test_backups_are_never_written_over(tmp_path: Path) -> None:
    """Two repairs in one second keep both old files, and neither looks like a checkpoint."""
    fabricate.run(tmp_path, 2)
    texts = {b"one {", b"two {", b"three {"}
    for text in texts:
        (tmp_path / "checkpoint").write_bytes(text)
        repair(tmp_path)
    assert {backup.read_bytes() for backup in backups(tmp_path)} == texts
    found = scan(tmp_path)
    assert {one.name for one in found.checkpoints} == {"ckpt-1", "ckpt-2"}
    assert not found.leftovers


def test_without_exchange_the_way_out_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a file system that cannot exchange names the state stays, and no copy of it is left behind."""
    fabricate.run(tmp_path, 2)
    (tmp_path / "checkpoint").write_bytes(b"garbled {")

    def unsupported(*_: object) -> None:
        raise NotImplementedError

    monkeypatch.setattr(posix, "exchange", unsupported)
    before = fabricate.contents(tmp_path)
    with pytest.raises(RefusedError, match="--offline repairs it"):
        repair(tmp_path)
    assert fabricate.contents(tmp_path) == before
    backup = repair(tmp_path, offline=True).backup
    assert backup is not None
    assert (tmp_path / backup).read_bytes() == b"garbled {"
    assert latest(tmp_path) == "ckpt-2"
    assert not [name for name in os.listdir(tmp_path) if name.startswith(".ckptctl-")]


def test_disk_that_is_full_changes_nothing(tmp_path: Path) -> None:
    """Where no file can be written the state stays, no part of one is left, and the error names it."""
    fabricate.run(tmp_path, 3)
    (tmp_path / "checkpoint").write_bytes(b"garbled {")
    before = fabricate.contents(tmp_path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4, limits[1]))
    try:
        with pytest.raises(OSError, match=r"checkpoint\.bak-") as failed:
            repair(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert failed.value.errno == errno.EFBIG
    assert fabricate.contents(tmp_path) == before
    assert sorted(os.listdir(tmp_path)) == sorted(before)


_PATHS = st.one_of(
    st.sampled_from(
        ["ckpt-1", "ckpt-2", "/gone/ckpt-1", "a/../ckpt-2", "../ckpt-1", "", ".", "..", "/", "C:\\ckpt-2"]
    ),
    st.text(max_size=12),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    latest=_PATHS,
    paths=st.lists(_PATHS, max_size=6),
    times=st.lists(st.floats(), max_size=6),
    last=st.none() | st.floats(),
)
def test_any_state_is_mended_once(
    tmp_path: Path, latest: str, paths: list[str], times: list[float], last: float | None
) -> None:
    """Whatever a state lists, afterwards its latest is complete and all it lists is there; then it rests."""
    fields: dict[str, object] = {
        "model_checkpoint_path": latest,
        "all_model_checkpoint_paths": paths,
        "all_model_checkpoint_timestamps": times,
    }
    if last is not None:
        fields["last_preserved_timestamp"] = last
    shutil.rmtree(tmp_path / "run", ignore_errors=True)
    run = fabricate.run(tmp_path / "run", 2, listed=0)
    (run / "checkpoint").write_text(tensorflow.checkpoint_state(**fields))
    repair(run, order=Order.TIME)
    found = scan(run)
    assert found.state.status is StateStatus.OK
    assert [one.complete for one in found.checkpoints if one.latest] == [True]
    assert all(one.on_disk for one in found.checkpoints)
    assert not [entry for entry in found.state.entries if entry.path != entry.name]
    assert not repair(run, order=Order.TIME).mended.reasons


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_are_mended_or_refused(tmp_path: Path, content: bytes) -> None:
    """Whatever bytes the state file holds, it can be read afterwards, or there is an error of ours."""
    shutil.rmtree(tmp_path / "run", ignore_errors=True)
    run = fabricate.run(tmp_path / "run", 2, listed=0)
    (run / "checkpoint").write_bytes(content)
    try:
        repair(run)
    except CkptctlError:
        return
    assert scan(run).state.status is StateStatus.OK


# Beside TensorFlow


@pytest.mark.parametrize("name", ["own-names", "write", "preserved", "saver", "saver-v1-sharded"])
def test_tensorflow_goes_on_from_a_rebuilt_state(tmp_path: Path, name: str) -> None:
    """`tf.train.latest_checkpoint` is the newest of a real trainer's, all are listed, and it restores."""
    run = tmp_path / "run"
    run_trainer(name, run, saves=4, max_to_keep=0 if name != "preserved" else None)
    here = {one.name for one in scan(run).checkpoints}
    (run / "checkpoint").unlink(missing_ok=True)
    repair(run)
    found = restore_and_train(name, run, saves=0)
    assert found.latest is not None
    assert len(found.listed) == len(here) >= 4
    assert found.missing == ()
    if name != "write":  # which goes by names of its own
        assert found.restored == found.latest


def test_checkpoint_manager_adopts_a_rebuilt_list(tmp_path: Path) -> None:
    """A real CheckpointManager restores the latest, counts on from it, and sweeps all but its three."""
    run = tmp_path / "run"
    run_trainer("manager", run, saves=6, max_to_keep=0)
    (run / "checkpoint").write_bytes(b"")
    repair(run)
    assert restore_and_train("manager", run, saves=1, max_to_keep=3).step == 6
    assert fabricate.names(run) == {"ckpt-5", "ckpt-6", "ckpt-7"}


def test_checkpoint_manager_leaves_what_was_pinned(tmp_path: Path) -> None:
    """Of a rebuilt list a manager restores the pinned latest, and never deletes it nor another pinned one."""
    run = tmp_path / "run"
    run_trainer("manager", run, saves=4, max_to_keep=0)
    (run / "checkpoint").unlink()
    pin(str(run), ["ckpt-1", "ckpt-4"])
    repair(run)
    assert restore_and_train("manager", run, saves=4, max_to_keep=2).step == 4
    assert fabricate.names(run) == {"ckpt-1", "ckpt-4", "ckpt-7", "ckpt-8"}


def test_checkpoint_manager_goes_on_from_a_repointed_list(tmp_path: Path) -> None:
    """A manager restores the one before the damaged latest, writes over that, and sweeps on."""
    run = tmp_path / "run"
    run_trainer("manager", run, saves=5, max_to_keep=0)
    data = run / "ckpt-5.data-00000-of-00001"
    data.write_bytes(b"\xff" * 8 + data.read_bytes()[8:])
    with pytest.raises(RefusedError, match="Try again in a minute"):  # it might be being saved again
        repair(run, proofs=DATA, order=Order.STEP)
    for file in run.glob("ckpt-5.*"):
        os.utime(file, (time.time() - 99, time.time() - 99))
    repair(run, proofs=DATA, order=Order.STEP)
    found = restore_and_train("manager", run, saves=1, max_to_keep=3)
    assert (found.latest, found.step) == (str(run / "ckpt-4"), 4)
    assert fabricate.names(run) == {"ckpt-3", "ckpt-4", "ckpt-5"}
    assert restore_and_train("manager", run, max_to_keep=3).step == 5


def test_moved_saver_directory_is_its_own_again(tmp_path: Path) -> None:
    """TF1's absolute paths lead to where the directory was; mended, TensorFlow finds what lies here."""
    run, moved = tmp_path / "run", tmp_path / "moved"
    run_trainer("saver", run, saves=3)
    run.rename(moved)
    repair(moved)
    found = restore_and_train("saver", moved)
    assert found.latest is not None
    assert found.latest.startswith(str(moved))
    assert found.missing == ()


# At any moment

STATES = ["absent", "useless", "missing latest"]


def fresh(run: Path, state: str) -> None:
    """A run of three with nothing to say about itself."""
    shutil.rmtree(run, ignore_errors=True)
    fabricate.run(run, 3, listed=0)
    if state == "useless":
        (run / "checkpoint").write_bytes(b"garbled {")
    elif state == "missing latest":
        (run / "checkpoint").write_text(fabricate.state_text(["ckpt-1", "ckpt-2", "ckpt-9"]))


def calls_of_one_repair(run: Path, state: str) -> int:
    """How many system calls an undisturbed repair makes."""
    fresh(run, state)
    count = steps.in_child(lambda: repair(run), lambda _: None)
    assert count > 8
    return count


@pytest.mark.parametrize("state", STATES)
def test_kill_at_any_moment(tmp_path: Path, state: str) -> None:
    """After a kill before any call the state is the old or the new one, and the old one is not lost."""
    run = tmp_path / "run"

    def kill_at(moment: int) -> int:
        return steps.in_child(lambda: repair(run), lambda call: steps.kill() if call == moment else None)

    for moment in range(calls_of_one_repair(run, state)):
        fresh(run, state)
        path = run / "checkpoint"
        old = path.read_bytes() if path.exists() else None
        assert kill_at(moment) == -signal.SIGKILL
        now = path.read_bytes() if path.exists() else None
        if now != old:
            assert latest(run) == "ckpt-3"
            assert old is None or old in [backup.read_bytes() for backup in backups(run)]
        repair(run)
        assert latest(run) == "ckpt-3", moment
        assert not private(run), moment
        assert {backup.read_bytes() for backup in backups(run)} == ({old} if old is not None else set())


def put_state(run: Path, text: str) -> None:
    """What a trainer says, by a rename over its state file."""
    temporary = run / ("checkpoint.tmp" + "0" * 32)
    temporary.write_text(text)
    temporary.rename(run / "checkpoint")


def trainer_saves(run: Path) -> None:
    """A save of a CheckpointManager: the data, the index, and the state renamed into its place."""
    fabricate.checkpoint(run, "ckpt-4", at=time.time())
    put_state(run, fabricate.state_text(["ckpt-2", "ckpt-3", "ckpt-4"]))


@pytest.mark.parametrize("state", STATES)
def test_trainer_may_save_at_any_moment(tmp_path: Path, state: str) -> None:
    """A save before any of our calls: what it says stands, whatever we were about to say."""
    run = tmp_path / "run"

    def save_at(moment: int) -> None:
        steps.in_child(lambda: repair(run), lambda call: trainer_saves(run) if call == moment else None)

    for moment in range(calls_of_one_repair(run, state)):
        fresh(run, state)
        save_at(moment)
        assert (latest(run), listed(run)) == ("ckpt-4", ["ckpt-2", "ckpt-3", "ckpt-4"]), moment
        assert not private(run), moment
        assert len(backups(run)) <= 1


@contextlib.contextmanager
def before_the_first_exchange(act: Callable[[], object]) -> Iterator[None]:
    """Has something happen just before the mended text takes its place, once."""
    swap, done = posix.exchange, iter([act])

    def acted(directory: int, one: str, other: str) -> None:
        for first in done:
            first()
            break
        swap(directory, one, other)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(posix, "exchange", acted)
        yield


def test_word_that_has_to_be_mended_itself(tmp_path: Path) -> None:
    """What the trainer says just then is mended in its turn, and put aside in place of what it replaced."""
    fabricate.run(tmp_path, 3, listed=0)
    state = tmp_path / "checkpoint"
    texts = [fabricate.state_text([*names, "ckpt-9"]) for names in (["ckpt-1"], ["ckpt-2"])]
    state.write_text(texts[0])
    with before_the_first_exchange(lambda: put_state(tmp_path, texts[1])):
        report = repair(tmp_path)
    assert (latest(tmp_path), listed(tmp_path)) == ("ckpt-3", ["ckpt-2", "ckpt-3"])
    (backup,) = backups(tmp_path)
    assert backup.name == report.backup
    assert backup.read_text().startswith(texts[1])
    assert not private(tmp_path)


def test_state_that_goes_meanwhile_is_made_anew(tmp_path: Path) -> None:
    """A state file that somebody deletes just then is one that is absent, and nothing of it is put aside."""
    fresh(tmp_path, "useless")
    with before_the_first_exchange((tmp_path / "checkpoint").unlink):
        report = repair(tmp_path)
    assert (latest(tmp_path), report.backup, backups(tmp_path)) == ("ckpt-3", None, [])
    assert not private(tmp_path)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_signal_at_any_moment_leaves_nothing_in_hand(tmp_path: Path, number: signal.Signals) -> None:
    """Wherever it comes, the state is the old or the new one, and nothing of ours is left over."""
    run = tmp_path / "run"

    for moment in range(calls_of_one_repair(run, "useless")):
        fresh(run, "useless")
        ended = steps.signalled(lambda: repair(run), number, moment)
        assert ended >= 0 if number == signal.SIGINT else ended == -number
        assert not private(run), moment
        mended = scan(run).state.status is StateStatus.OK
        assert len(backups(run)) == mended, moment


def test_links_do_not_become_the_latest(tmp_path: Path) -> None:
    """A link is as old as itself, whatever it leads to: what is really there comes before it."""
    fabricate.run(tmp_path, 4, listed=0)
    for end in ("index", "data-00000-of-00001"):
        (tmp_path / f"best.{end}").symlink_to(f"ckpt-2.{end}")
    assert repair(tmp_path).mended.state.latest == StateEntry("ckpt-4", "ckpt-4")
    assert "best" not in (tmp_path / "checkpoint").read_text()


def test_links_alone_are_looked_behind(tmp_path: Path) -> None:
    """Where all are links, as in a store of files, what they lead to has to be whole."""
    store = fabricate.run(tmp_path / "store", 2, listed=0)
    run = tmp_path / "run"
    run.mkdir()
    for file in sorted(store.iterdir()):
        (run / file.name).symlink_to(file)
    (store / "ckpt-2.index").write_bytes(b"garbage")
    assert repair(run, order=Order.STEP).mended.state.latest == StateEntry("ckpt-1", "ckpt-1")


def test_latest_whose_data_cannot_be_read_is_no_bad_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the system refuses to read of the latest is no reason to go back to an older one."""
    fabricate.run(tmp_path, 3)
    before = fabricate.contents(tmp_path)
    fabricate.deny_reading(monkeypatch, tmp_path / "ckpt-3.data-00000-of-00001")
    with pytest.raises(UnreadableError, match="cannot be told whether ckpt-3"):
        repair(tmp_path, proofs=Proofs(Level.DATA))
    assert fabricate.contents(tmp_path) == before


@pytest.mark.parametrize("lost", [True, False])
def test_latest_over_which_tensorflow_was_lost_is_no_bad_one(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    lost: bool,  # noqa: FBT001
) -> None:
    """Memory or time that lacks is no reason to go back to an older one: the trainer would save over this."""
    fabricate.run(tmp_path, 3)
    before = fabricate.contents(tmp_path)
    finding = Finding(FindingKind.LOST if lost else FindingKind.RESTORE, "TensorFlow died of SIGKILL")

    def verdict(_: Proofs, checkpoint: OpenCheckpoint) -> Verdict:
        bad = checkpoint.name == "ckpt-3"
        status = VerdictStatus.UNRESTORABLE if bad else VerdictStatus.OK
        return Verdict(checkpoint.path, status, Level.RESTORE, findings=(finding,) if bad else ())

    monkeypatch.setattr(Proofs, "prove", verdict)
    if not lost:
        repair(tmp_path, proofs=Proofs(Level.RESTORE))
        assert latest(tmp_path) == "ckpt-2"
        return
    told = (
        "cannot be told whether ckpt-3, the latest in the state file, restores: .*SIGKILL; .* --verify=data"
    )
    with pytest.raises(UnreadableError, match=told):
        repair(tmp_path, proofs=Proofs(Level.RESTORE))
    assert fabricate.contents(tmp_path) == before


def test_times_that_are_none_are_replaced(tmp_path: Path) -> None:
    """A manager cannot work with a time that is not a number."""
    fabricate.run(tmp_path, 2)
    state = tmp_path / "checkpoint"
    text = state.read_text()
    state.write_text(text.replace("timestamps: 1700000000", "timestamps: nan  # "))
    repair(tmp_path)
    assert "nan" not in state.read_text()
