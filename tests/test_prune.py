"""Tests of ckptctl.prune and ckptctl.removal: what goes, what stays, whatever happens in between."""

from __future__ import annotations

import concurrent.futures
import contextlib
import errno
import hashlib
import json
import os
import shutil
import signal
from typing import TYPE_CHECKING, Any

import fabricate
import pytest
import steps
from bundle_writer import BundleWriter
from conftest import unprivileged
from fabricate import EPOCH

import ckptctl
from ckptctl import locks, posix, removal
from ckptctl.errors import LockedError, RefusedError, UnreadableError
from ckptctl.model import StateStatus
from ckptctl.plan import Protections
from ckptctl.policy import AtStep, Newest, Policy
from ckptctl.prune import prune
from ckptctl.scan import scan

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from conftest import Invoke

    from ckptctl.model import File, Plan

THREE = Policy((Newest(3),))
NEWEST = {"ckpt-4", "ckpt-5", "ckpt-6"}


def private(path: Path) -> list[str]:
    """The names of ours that are there."""
    return [name for name in os.listdir(path) if name.startswith(".ckptctl-")]


def test_newest_stay_and_the_state_says_so(tmp_path: Path) -> None:
    """The three newest stay with their files; the state lists them alone, timestamps and all verbatim."""
    fabricate.run(tmp_path, 6, last_preserved=EPOCH - 1.25)
    report = prune(tmp_path, THREE)
    assert report.deleted == ("ckpt-1", "ckpt-2", "ckpt-3")
    assert fabricate.names(tmp_path) == NEWEST
    lines = (tmp_path / "checkpoint").read_text().splitlines()
    expected = fabricate.state_text(sorted(NEWEST), first=4, last_preserved=EPOCH - 1.25).splitlines()
    assert [line for line in lines if not line.startswith("#")] == expected
    assert not private(tmp_path)
    assert report.freed_bytes == 3 * (100 + len(fabricate.index()))


def test_dry_run_after_a_kill_says_that_it_may_be_otherwise(tmp_path: Path) -> None:
    """What lies under a private name is no checkpoint for the plan, and one again for the prune."""
    fabricate.run(tmp_path, 6)
    (tmp_path / "ckpt-1.index").rename(tmp_path / ".ckptctl-taken-ckpt-1.index")
    (note,) = prune(tmp_path, THREE, dry_run=True).notes
    assert note.startswith("an interrupted run has left something")


def test_what_is_left_of_another_state_file_is_not_told(tmp_path: Path) -> None:
    """No prune with this state file's name puts that right, and none plans otherwise for it."""
    fabricate.run(tmp_path, 6)
    for name, told in (("checkpoint", 1), ("another", 0)):
        key = hashlib.sha256(name.encode()).hexdigest()[:8]
        left = tmp_path / f".ckptctl-state-{key}-1f-{'0' * 16}-{'1' * 16}"
        left.write_bytes(b"")
        assert len(prune(tmp_path, THREE, dry_run=True).notes) == told
        left.unlink()
    assert prune(tmp_path, THREE).deleted == ("ckpt-1", "ckpt-2", "ckpt-3")
    assert prune(tmp_path, THREE, dry_run=True).notes == ()


def test_dry_run_touches_nothing(tmp_path: Path) -> None:
    """A dry run plans the same and leaves every byte and time as it was."""
    fabricate.run(tmp_path, 6)
    before = fabricate.contents(tmp_path), tmp_path.stat().st_mtime_ns
    report = prune(tmp_path, THREE, dry_run=True)
    assert [decision.checkpoint.name for decision in report.plan.delete] == ["ckpt-1", "ckpt-2", "ckpt-3"]
    assert (fabricate.contents(tmp_path), tmp_path.stat().st_mtime_ns) == before


def test_missing_entries_go_with_the_victims(tmp_path: Path) -> None:
    """What the state lists and the disk does not have is dropped when the state is written anyway."""
    fabricate.run(tmp_path, 6)
    for file in tmp_path.glob("ckpt-5.*"):
        file.unlink()
    prune(tmp_path, THREE)
    assert [entry.name for entry in scan(tmp_path).state.entries] == ["ckpt-3", "ckpt-4", "ckpt-6"]


def test_meta_goes_last_and_with_the_rest(tmp_path: Path) -> None:
    """A .meta, which CheckpointManager forgets, goes too; other files stay."""
    for step in range(1, 6):
        fabricate.checkpoint(tmp_path, f"model.ckpt-{step}", at=EPOCH + step, meta=True, shards=2)
    for name in ("graph.pbtxt", "events.out.tfevents.1", "model.ckpt-1.notes"):
        (tmp_path / name).write_text("not ours")
    prune(tmp_path, THREE)
    assert len(list(tmp_path.glob("model.ckpt-*.meta"))) == 3
    assert {"graph.pbtxt", "events.out.tfevents.1", "model.ckpt-1.notes"} <= set(os.listdir(tmp_path))
    assert not list(tmp_path.glob("model.ckpt-[12].[dim]*"))


def test_state_of_a_copy_stays_and_the_original_is_untouched(tmp_path: Path) -> None:
    """A state that leads elsewhere is left as it is, and nothing there is touched."""
    original = fabricate.run(tmp_path / "original", 6, listed=0)
    text = fabricate.state_text([f"{original}/ckpt-{step}" for step in range(1, 7)])
    (original / "checkpoint").write_text(text)
    copy = tmp_path / "copy"
    shutil.copytree(original, copy)
    before = fabricate.contents(original)
    prune(copy, THREE)
    assert fabricate.names(copy) >= NEWEST
    assert (copy / "checkpoint").read_text() == text
    assert fabricate.contents(original) == before


@pytest.mark.parametrize("path", ["../outside", "/etc/hostname", "deeper/ckpt-1"])
def test_state_that_points_outside_deletes_nothing_there(tmp_path: Path, path: str) -> None:
    """Whatever paths a state lists, only files of the directory itself are deleted."""
    run = fabricate.run(tmp_path / "run", 6)
    (run / "deeper").mkdir()
    fabricate.checkpoint(run / "deeper", "ckpt-1")
    fabricate.checkpoint(tmp_path, "outside")
    (run / "checkpoint").write_text(fabricate.state_text([path, "ckpt-5", "ckpt-6"], timestamps=False))
    prune(run, THREE)
    assert fabricate.names(run) == NEWEST
    assert fabricate.names(run / "deeper") == {"ckpt-1"}
    assert fabricate.names(tmp_path) == {"outside"}


def test_links_are_not_deleted(tmp_path: Path) -> None:
    """A checkpoint of links stays, and so does what links of the directory lead to."""
    run = fabricate.run(tmp_path / "run", 6, listed=0)
    for file in fabricate.checkpoint(tmp_path, "far", at=EPOCH):
        (run / file.name).symlink_to(file)
    (run / "best.index").symlink_to("ckpt-1.index")
    prune(run, THREE)
    assert fabricate.names(run) == {"far", "best", "ckpt-1", *NEWEST}
    assert fabricate.names(tmp_path) == {"far"}


def test_link_by_another_path_protects_its_target(tmp_path: Path) -> None:
    """Whatever path a link takes, the checkpoint that it leads to stays."""
    run = fabricate.run(tmp_path / "run", 6, listed=0)
    (run / "best.index").symlink_to("../run/ckpt-1.index")
    prune(run, THREE)
    assert fabricate.names(run) == {"best", "ckpt-1", *NEWEST}


def test_index_that_cannot_be_read_proves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint whose index cannot be read just now stays, and does not count as complete."""
    fabricate.run(tmp_path, 6, listed=0)
    fabricate.deny_reading(monkeypatch, tmp_path / "ckpt-2.index")
    report = prune(tmp_path, THREE)
    assert fabricate.names(tmp_path) == {"ckpt-2", *NEWEST}
    told = "it cannot be told whether it restores: its index cannot be read: Input/output error"
    assert [one.reasons for one in report.plan.keep if one.checkpoint.name == "ckpt-2"] == [(told,)]


def test_state_that_is_written_in_place_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody copies a state over the one that is there: it is theirs, and nothing is deleted meanwhile."""
    fabricate.run(tmp_path, 6)
    state = tmp_path / "checkpoint"
    text = state.read_bytes()
    swap = posix.exchange

    def cut(directory: int, one: str, other: str) -> None:
        monkeypatch.setattr(posix, "exchange", swap)
        os.truncate(copied.fileno(), 0)
        swap(directory, one, other)

    monkeypatch.setattr(posix, "exchange", cut)
    with state.open("r+b") as copied:
        with pytest.raises(RefusedError, match=f"^{tmp_path}: checkpoint is being written in place"):
            prune(tmp_path, THREE)
        copied.write(text)
    assert state.read_bytes() == text
    assert len(fabricate.names(tmp_path)) == 6
    assert not private(tmp_path)


def test_state_whose_mode_cannot_be_given_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file system that sets no modes costs the state's entries, not the prune."""
    fabricate.run(tmp_path, 6)
    before = (tmp_path / "checkpoint").read_bytes()

    def failing(*_: object) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(os, "fchmod", failing)
    report = prune(tmp_path, THREE)
    assert report.notes == (
        "the state file was left alone: a new file cannot be given its mode (Function not implemented)",
    )
    assert fabricate.names(tmp_path) == NEWEST
    assert (tmp_path / "checkpoint").read_bytes() == before


def counted_run(directory: Path, count: int) -> None:
    """A run whose checkpoints say what their steps are, ten times the number in the name."""
    for number in range(1, count + 1):
        writer = BundleWriter()
        writer.add(b"global_step", 9, (), (10 * number).to_bytes(8, "little"), 0)
        writer.write(directory, f"ckpt-{number}")
        for file in directory.glob(f"ckpt-{number}.*"):
            os.utime(file, (EPOCH + number, EPOCH + number))


@pytest.mark.parametrize("policy", [THREE, Policy((AtStep(60),))], ids=["newest", "step"])
def test_data_that_cannot_be_read_prove_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, policy: Policy
) -> None:
    """A checkpoint whose step cannot be read stays, says why, and stands for none that can be."""
    counted_run(tmp_path, 7)
    fabricate.deny_reading(monkeypatch, tmp_path / "ckpt-7.data-00000-of-00001")
    report = prune(tmp_path, policy)
    kept = {"ckpt-6"} if policy is not THREE else NEWEST
    assert fabricate.names(tmp_path) == {*kept, "ckpt-7"}
    (reasons,) = [one.reasons for one in report.plan.keep if one.checkpoint.name == "ckpt-7"]
    assert any("its data cannot be read: Input/output error" in reason for reason in reasons)


def test_data_of_another_user_stand_for_none(tmp_path: Path) -> None:
    """What we may not read is not the newest good one, as long as there is one that we may."""
    as_nobody = unprivileged(tmp_path)
    run = tmp_path / "run"
    run.mkdir()
    counted_run(run, 4)
    run.chmod(0o777)
    (run / "ckpt-4.data-00000-of-00001").chmod(0)
    done = as_nobody("prune", "run", "--keep=1")
    assert done.returncode == 0, done
    assert fabricate.names(run) == {"ckpt-3", "ckpt-4"}
    assert "its data cannot be read: Permission denied" in done.stdout


def test_name_too_long_for_a_safe_deletion_stays(tmp_path: Path) -> None:
    """A checkpoint that cannot be deleted as a whole is no victim: the plan says so, the state lists it."""
    name = "m" * 228 + "-0"
    fabricate.checkpoint(tmp_path, name, at=EPOCH - 100)
    fabricate.run(tmp_path, 5)
    names = [name, *(f"ckpt-{step}" for step in range(1, 6))]
    (tmp_path / "checkpoint").write_text(fabricate.state_text(names, timestamps=False))
    planned = prune(tmp_path, THREE, dry_run=True).plan
    report = prune(tmp_path, THREE)
    (reasons,) = [decision.reasons for decision in planned.keep if decision.checkpoint.name == name]
    assert reasons == ("its name is too long to be deleted safely",)
    assert [decision.checkpoint.name for decision in planned.delete] == ["ckpt-1", "ckpt-2"]
    assert (report.deleted, report.failed) == (("ckpt-1", "ckpt-2"), ())
    assert [entry.name for entry in scan(tmp_path).state.entries] == [name, "ckpt-3", "ckpt-4", "ckpt-5"]
    assert name in fabricate.names(tmp_path)


@pytest.mark.parametrize("content", [b"", b"garbled {", b"\xff\xfe\x00"])
def test_unreadable_state_refuses(tmp_path: Path, content: bytes) -> None:
    """Nothing is deleted while the trainer's last word cannot be read."""
    fabricate.run(tmp_path, 6)
    (tmp_path / "checkpoint").write_bytes(content)
    before = fabricate.contents(tmp_path)
    with pytest.raises(RefusedError):
        prune(tmp_path, THREE)
    assert fabricate.contents(tmp_path) == before


def test_misspelt_state_file_refuses(tmp_path: Path) -> None:
    """Where the state file that was asked for is absent and the usual one is not, nothing is deleted."""
    fabricate.run(tmp_path, 6)
    before = fabricate.contents(tmp_path)
    for dry_run in (True, False):
        with pytest.raises(RefusedError, match="no state file chekpoint, but one called checkpoint"):
            prune(tmp_path, THREE, latest_filename="chekpoint", dry_run=dry_run)
    assert fabricate.contents(tmp_path) == before


def test_state_file_of_a_second_saver_is_heard(tmp_path: Path) -> None:
    """Of two state files the one that was asked for counts, and the other is left as it is."""
    fabricate.run(tmp_path, 6)
    text = (tmp_path / "checkpoint").read_text()
    (tmp_path / "second").write_text(fabricate.state_text(["ckpt-1"], timestamps=False))
    prune(tmp_path, THREE, latest_filename="second")
    assert fabricate.names(tmp_path) == {"ckpt-1", *NEWEST}
    assert (tmp_path / "checkpoint").read_text() == text


def test_locked_directory_is_left_alone(tmp_path: Path) -> None:
    """While another ckptctl is at work nothing is done."""
    fabricate.run(tmp_path, 6)
    with (
        posix.open_directory(str(tmp_path)) as other,
        locks.lock(other),
        pytest.raises(LockedError, match="another ckptctl"),
    ):
        prune(tmp_path, THREE)
    assert len(fabricate.names(tmp_path)) == 6


def test_stop_ends_after_the_deletion_in_hand(tmp_path: Path) -> None:
    """Asked to stop, it leaves the rest, and the report says what was done."""
    fabricate.run(tmp_path, 6, listed=0)
    report = prune(tmp_path, THREE, stop=lambda: "ckpt-1" not in fabricate.names(tmp_path))
    assert report.deleted == ("ckpt-1",)
    assert report.notes == ("stopped before everything was deleted",)
    assert fabricate.names(tmp_path) == {"ckpt-2", "ckpt-3", *NEWEST}


def test_stopped_at_once_it_changes_nothing(tmp_path: Path) -> None:
    """Asked to stop before it has begun, it leaves the state file as it is too."""
    fabricate.run(tmp_path, 6)
    before = fabricate.contents(tmp_path)
    assert prune(tmp_path, THREE, stop=lambda: True).deleted == ()
    assert fabricate.contents(tmp_path) == before


@pytest.mark.skipif(os.getuid() != 0, reason="only root may set the immutable flag, or the lack of it")
def test_what_cannot_be_deleted_is_reported(tmp_path: Path) -> None:
    """A file that cannot be removed is reported with its checkpoint, and the rest goes on."""
    fabricate.run(tmp_path, 6, listed=0)
    stuck = tmp_path / "ckpt-2.index"
    if os.system(f"chattr +i '{stuck}' 2>/dev/null") != 0:  # noqa: S605 - our own path
        pytest.skip("this file system has no immutable flag")
    try:
        report = prune(tmp_path, THREE)
    finally:
        os.system(f"chattr -i '{stuck}'")  # noqa: S605 - the same
    assert report.deleted == ("ckpt-1", "ckpt-3")
    assert [(failure.name, failure.error.partition(":")[0]) for failure in report.failed] == [
        ("ckpt-2", "ckpt-2.index")
    ]
    assert fabricate.names(tmp_path) == {"ckpt-2", *NEWEST}


def test_file_with_another_name_frees_nothing(tmp_path: Path) -> None:
    """A hard link keeps the bytes on the disk, and they are not counted as freed."""
    fabricate.run(tmp_path, 4, listed=0)
    os.link(tmp_path / "ckpt-1.data-00000-of-00001", tmp_path / "kept")
    assert prune(tmp_path, THREE).freed_bytes == len(fabricate.index())


def put_state(path: Path, text: str) -> None:
    """What a trainer says, by a rename over its state file."""
    temporary = path / ("checkpoint.tmp" + "0" * 32)
    temporary.write_text(text)
    temporary.rename(path / "checkpoint")


def trainer_saves(path: Path, step: int) -> None:
    """A save of a CheckpointManager that keeps all: data renamed, index written in place, state renamed."""
    data = path / f"ckpt-{step}.data-00000-of-00001"
    part = path / "part"
    part.write_bytes(b"new" * 40)
    part.rename(data)
    (path / f"ckpt-{step}.index").write_bytes(fabricate.index(size=120))
    listed = [f"ckpt-{n}" for n in (*range(1, 7), step)]
    put_state(path, fabricate.state_text(listed, timestamps=False))


def test_first_state_file_is_heard(tmp_path: Path) -> None:
    """A trainer that has not saved before and names a victim between plan and deletion keeps it."""
    fabricate.run(tmp_path, 6, listed=0)
    said = fabricate.state_text(["ckpt-2"], timestamps=False)
    report = prune(tmp_path, THREE, announce=lambda _: put_state(tmp_path, said))
    assert (report.deleted, report.spared) == (("ckpt-1", "ckpt-3"), ("ckpt-2",))
    assert fabricate.names(tmp_path) == {"ckpt-2", *NEWEST}
    assert (tmp_path / "checkpoint").read_text() == said


def test_victim_whose_data_are_new_keeps_its_index(tmp_path: Path) -> None:
    """Where the trainer spoke, a victim by its new words too stays if not all its files are as they were."""
    fabricate.run(tmp_path, 6)
    data = tmp_path / "ckpt-2.data-00000-of-00001"

    def save_half(_: Plan) -> None:
        (tmp_path / "part").write_bytes(b"n" * 100)
        os.utime(tmp_path / "part", (EPOCH, EPOCH))  # by a clock that was wrong: not young
        (tmp_path / "part").rename(data)
        put_state(tmp_path, (tmp_path / "checkpoint").read_text())

    report = prune(tmp_path, THREE, announce=save_half)
    assert (report.deleted, report.spared) == (("ckpt-1", "ckpt-3"), ("ckpt-2",))
    assert fabricate.names(tmp_path) == {"ckpt-2", *NEWEST}
    assert data.read_bytes() == b"n" * 100


@pytest.mark.parametrize("state", ["3 paths and 2 timestamps", "a latest that is not there"])
def test_what_the_state_lists_is_dropped_only_where_it_can_be(tmp_path: Path, state: str) -> None:
    """Nobody knows which of two times is whose of three; and the latest is the trainer's last word."""
    if state.startswith("3"):
        fabricate.run(tmp_path, 6, listed=3)
        lines = (tmp_path / "checkpoint").read_text().splitlines(keepends=True)
        text = "".join(line for line in lines if str(EPOCH + 60.5 * 4) not in line)
    else:
        fabricate.run(tmp_path, 6, listed=0)
        text = fabricate.state_text(["ckpt-4", "ckpt-5", "ckpt-9"], timestamps=False)
    (tmp_path / "checkpoint").write_text(text)
    assert len(prune(tmp_path, Policy((Newest(1),))).deleted) == 5
    after = (tmp_path / "checkpoint").read_text()
    if state.startswith("3"):
        assert after == text
    else:
        lines = [line for line in after.splitlines() if not line.startswith("#")]
        assert lines == fabricate.state_text(["ckpt-9"], timestamps=False).splitlines()


def test_name_that_is_being_saved_again_is_no_victim(in_memory: Path) -> None:
    """A scan may fall between the data and the index of a save under a victim's name: its new data stay."""
    run = in_memory / "run"

    def trainer_goes_on() -> None:
        (run / "ckpt-2.index").write_bytes(fabricate.index())

    def finish_save_at(moment: int) -> None:
        steps.in_child(lambda: prune(run, THREE), lambda call: trainer_goes_on() if call == moment else None)

    for moment in range(calls_of_one_prune(run)):
        fresh(run)
        (run / "part").write_bytes(b"new" * 33 + b"!")
        (run / "part").rename(run / "ckpt-2.data-00000-of-00001")
        finish_save_at(moment)
        assert (run / "ckpt-2.index").exists(), moment
        assert (run / "ckpt-2.data-00000-of-00001").read_bytes() == b"new" * 33 + b"!", moment


def fresh(path: Path) -> Path:
    """An empty directory made a run of six again."""
    shutil.rmtree(path, ignore_errors=True)
    return fabricate.run(path, 6, timestamps=False)


def calls_of_one_prune(run: Path) -> int:
    """How many system calls an undisturbed run makes."""
    fresh(run)
    count = steps.in_child(lambda: prune(run, THREE), lambda _: None)
    assert count > 20
    return count


@pytest.mark.parametrize("step", [7, 2], ids=["a new name", "a victim's name"])
def test_trainer_may_save_at_any_moment(in_memory: Path, step: int) -> None:
    """A save before any of our calls, under a new name or a victim's, is whole afterwards, and the latest."""
    run = in_memory / "run"

    def save_at(moment: int) -> None:
        steps.in_child(
            lambda: prune(run, THREE), lambda call: trainer_saves(run, step) if call == moment else None
        )

    for moment in range(calls_of_one_prune(run)):
        fresh(run)
        save_at(moment)
        found = scan(run)
        latest = [one for one in found.checkpoints if one.latest]
        assert [one.name for one in latest] == [f"ckpt-{step}"], moment
        assert latest[0].complete, (moment, latest)
        assert (run / f"ckpt-{step}.data-00000-of-00001").read_bytes() == b"new" * 40
        assert fabricate.names(run) >= {"ckpt-5", "ckpt-6"}
        assert not private(run)


def test_kill_at_any_moment_leaves_leftovers_at_worst(in_memory: Path) -> None:
    """After a kill before any call the newest three and the latest are whole, and the next run finishes."""
    run = in_memory / "run"

    def kill_at(moment: int) -> int:
        return steps.in_child(
            lambda: prune(run, THREE), lambda call: steps.kill() if call == moment else None
        )

    for moment in range(calls_of_one_prune(run)):
        fresh(run)
        assert kill_at(moment) == -signal.SIGKILL
        found = scan(run)
        assert found.state.status is StateStatus.OK
        assert {one.name for one in found.checkpoints if one.complete} >= NEWEST
        assert not [one for one in found.checkpoints if one.on_disk and not one.complete]
        assert [one.name for one in found.checkpoints if one.latest] == ["ckpt-6"]
        prune(run, THREE)
        assert fabricate.names(run) == NEWEST
        assert not private(run)


@pytest.mark.parametrize("number", posix.ENDING, ids=lambda number: number.name)
@pytest.mark.parametrize("save", [None, 7, 2], ids=["alone", "a new save", "a victim saved again"])
def test_signal_at_any_moment_leaves_nothing_in_hand(
    in_memory: Path, number: signal.Signals, save: int | None
) -> None:
    """Wherever it comes, the trainer's last words stand in their place, and nothing of ours is left over."""
    run = in_memory / "run"

    def save_too() -> None:
        if save is not None:
            trainer_saves(run, save)

    for moment in range(calls_of_one_prune(run)):
        fresh(run)
        ended = steps.signalled(lambda: prune(run, THREE), number, moment, save_too)
        assert ended >= 0 if number == signal.SIGINT else ended == -number
        assert not private(run), moment
        found = scan(run)
        assert [one.name for one in found.checkpoints if one.latest] == [f"ckpt-{save or 6}"], moment
        assert not [one for one in found.checkpoints if one.on_disk and not one.complete], moment
        assert fabricate.names(run) >= {"ckpt-5", "ckpt-6", f"ckpt-{save or 4}"}, moment


def test_signal_handlers_are_as_before(tmp_path: Path) -> None:
    """A prune gives a program its own handlers back, and works in a thread, where none can be set."""
    number = signal.SIGTERM
    arrived: list[int] = []
    before = signal.signal(number, lambda number, _: arrived.append(number))
    try:
        own = [signal.getsignal(one) for one in posix.ENDING]
        prune(fabricate.run(tmp_path / "one", 6), THREE)
        assert [signal.getsignal(one) for one in posix.ENDING] == own
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            run = fabricate.run(tmp_path / "two", 6)
            assert len(pool.submit(prune, run, THREE).result().deleted) == 3
        with posix.signals_held() as signals:
            signal.raise_signal(number)
            assert (signals, arrived) == ([number], [])
        assert arrived == [number]
    finally:
        signal.signal(number, before)


def test_signal_that_is_ignored_stops_nothing(tmp_path: Path) -> None:
    """Under nohup a terminal may be closed, and in a script's background Ctrl-C is meant for others."""
    run = fabricate.run(tmp_path / "run", 6)
    before = [signal.signal(number, signal.SIG_IGN) for number in posix.ENDING]
    try:
        with posix.signals_held() as signals:
            for number in posix.ENDING:
                signal.raise_signal(number)
            assert signals == []
            assert len(prune(run, THREE).deleted) == 3
    finally:
        for number, handler in zip(posix.ENDING, before, strict=True):
            signal.signal(number, handler)


def test_python_api(tmp_path: Path) -> None:
    """The package's own functions do what the commands do."""
    fabricate.run(tmp_path, 6)
    directory = ckptctl.scan(tmp_path)
    policy = ckptctl.Policy((ckptctl.Newest(3),))
    planned = ckptctl.plan(directory, policy, Protections(protect=("ckpt-1",)))
    assert [decision.checkpoint.name for decision in planned.delete] == ["ckpt-2", "ckpt-3"]
    assert ckptctl.prune(tmp_path, policy).deleted == ("ckpt-1", "ckpt-2", "ckpt-3")


class ShortListing:
    """A listing that leaves out some names, as a file system in trouble may, or breaks off with an error."""

    def __init__(
        self, entries: Iterator[os.DirEntry[str]], without: set[str], broken_after: int | None
    ) -> None:
        self._entries = entries
        self._without = without
        self._left = broken_after

    def __enter__(self) -> ShortListing:  # noqa: PYI034 - typing.Self needs 3.11
        return self

    def __exit__(self, *_: object) -> None:
        self._entries.close()  # type: ignore[attr-defined]

    def __iter__(self) -> ShortListing:
        return self

    def __next__(self) -> os.DirEntry[str]:
        if self._left == 0:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        if self._left is not None:
            self._left -= 1
        entry = next(self._entries)
        return next(self) if entry.name in self._without else entry


@contextlib.contextmanager
def shortened(*without: str, broken_after: int | None = None) -> Iterator[None]:
    """Has every listing leave out these names, or break off after so many entries."""
    scandir = os.scandir
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "scandir", lambda fd: ShortListing(scandir(fd), set(without), broken_after))
        yield


@pytest.mark.parametrize("entries", range(13))
def test_listing_that_breaks_off_deletes_nothing(tmp_path: Path, entries: int) -> None:
    """Wherever a listing ends with an error, it is none to plan on."""
    fabricate.run(tmp_path, 6)
    before = fabricate.contents(tmp_path)
    broken = pytest.raises(UnreadableError, match="cannot be listed: Input/output error")
    with broken, shortened(broken_after=entries):
        prune(tmp_path, THREE)
    assert fabricate.contents(tmp_path) == before


@pytest.mark.parametrize("lacking", ["ckpt-6.index", "ckpt-2.index"])
def test_listing_that_lacks_what_the_state_lists_deletes_nothing(tmp_path: Path, lacking: str) -> None:
    """A listed checkpoint that is there by name and not in the listing shows that the listing is short."""
    fabricate.run(tmp_path, 6)
    before = fabricate.contents(tmp_path)
    short = pytest.raises(UnreadableError, match=f"{lacking} is there, and the listing lacks it")
    with short, shortened(lacking):
        prune(tmp_path, THREE)
    assert fabricate.contents(tmp_path) == before


def test_listing_that_lacks_a_shard_breaks_no_checkpoint(tmp_path: Path) -> None:
    """A whole checkpoint is not deleted as a broken one because its shard was left out of a listing."""
    fabricate.run(tmp_path, 6)
    with shortened("ckpt-5.data-00000-of-00001"):
        report = prune(tmp_path, THREE)
    assert fabricate.names(tmp_path) == {"ckpt-3", *NEWEST}
    (why,) = [one.reasons for one in report.plan.keep if one.checkpoint.name == "ckpt-5"]
    assert any("is there, and the listing of the directory lacks it" in reason for reason in why)


KEPT_FILES = 2 * len(NEWEST)
"""An index and a shard of each."""


@pytest.mark.parametrize(
    ("call", "listed", "calls"),
    [
        ("write", 6, 1),
        ("fsync", 6, 3 + KEPT_FILES + 2),  # the new state twice and the directory, what stays, both again
        ("fsync", 1, KEPT_FILES + 2),  # what stays, the state as it is, the directory
    ],
    ids=["write", "fsync", "fsync beside a state that lists the latest alone"],
)
@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE])
def test_disk_that_fails_deletes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, listed: int, calls: int, number: int
) -> None:
    """Whichever write or fsync fails, the state stays as it is and nothing is deleted."""
    real = getattr(os, call)
    done: list[int] = []

    def failing(*arguments: Any) -> Any:
        if len(done) == moment:
            raise OSError(number, os.strerror(number))
        done.append(0)
        return real(*arguments)

    monkeypatch.setattr(os, call, failing)
    for moment in range(20):  # noqa: B007 - read in `failing`
        shutil.rmtree(tmp_path / "run", ignore_errors=True)
        run = fabricate.run(tmp_path / "run", 6, listed=listed, timestamps=False)
        before = fabricate.contents(run)
        done.clear()
        try:
            prune(run, THREE)
        except RefusedError as error:
            assert os.strerror(number) in str(error)  # noqa: PT017 - one of the moments has no call
            after = fabricate.contents(run)
            if after["checkpoint"] == before["checkpoint"]:
                assert after == before
            assert after.keys() == before.keys()
            continue
        assert fabricate.names(run) == NEWEST
        break
    assert moment == calls


def test_what_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the state lists the latest alone, so that it is left as it is, it has to be on the disk too."""
    fabricate.run(tmp_path, 6, listed=1)
    stays = [tmp_path, *tmp_path.glob("ckpt-[456].*"), tmp_path / "checkpoint"]
    fsync = os.fsync
    synced: set[int] = set()

    def noted(fd: int) -> None:
        assert len(fabricate.names(tmp_path)) == 6, "nothing is deleted before"
        synced.add(os.fstat(fd).st_ino)
        fsync(fd)

    monkeypatch.setattr(os, "fsync", noted)
    assert len(prune(tmp_path, THREE).deleted) == 3
    assert synced == {path.stat().st_ino for path in stays}


@pytest.mark.parametrize("place", [None, "another", "link"])
def test_directory_that_is_moved_away_keeps_what_is_left(tmp_path: Path, place: str | None) -> None:
    """A directory that is no longer at its path, as after a mount went away, loses nothing more."""
    run, moved = tmp_path / "run", tmp_path / "moved"
    fabricate.run(run, 6, listed=0)

    def move_after_one() -> bool:
        if not moved.exists() and "ckpt-1" not in fabricate.names(run):
            run.rename(moved)
            if place == "another":
                fabricate.run(run, 6)
            elif place == "link":
                run.symlink_to(fabricate.run(tmp_path / "other", 6))
        return False

    report = prune(run, THREE, stop=move_after_one)
    assert report.deleted == ("ckpt-1",)
    assert report.refused is not None
    assert "no longer is where it was" in report.refused
    assert fabricate.names(moved) == {"ckpt-2", "ckpt-3", *NEWEST}
    assert place is None or len(fabricate.names(run)) == 6


def no_exchange(*_: object) -> None:
    """What a file system says that cannot exchange names."""
    raise NotImplementedError("renameat2")


@pytest.fixture
def _no_exchange(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has every file system be one that cannot exchange names, as NFS and FUSE are."""
    monkeypatch.setattr(posix, "_renameat2", no_exchange)


@pytest.mark.usefixtures("_no_exchange")
@pytest.mark.parametrize("offline", [False, True])
def test_without_exchange_the_state_is_written_offline_alone(tmp_path: Path, offline: bool) -> None:  # noqa: FBT001 - a parameter
    """Where names cannot be exchanged the state stays, unless the user says that no trainer is at work."""
    fabricate.run(tmp_path, 6)
    (tmp_path / "checkpoint").chmod(0o640)
    before = (tmp_path / "checkpoint").read_bytes()
    report = prune(tmp_path, THREE, offline=offline)
    assert fabricate.names(tmp_path) == NEWEST
    assert not private(tmp_path)
    after = (tmp_path / "checkpoint").read_bytes()
    if offline:
        assert [entry.name for entry in scan(tmp_path).state.entries] == sorted(NEWEST)
        assert len(after) >= len(before)
        assert (tmp_path / "checkpoint").stat().st_mode & 0o777 == 0o640
        assert not report.notes
    else:
        assert after == before
        assert any("--offline" in note for note in report.notes)


def test_offline_survives_a_kill(in_memory: Path) -> None:
    """A kill at any moment leaves a state with the right latest, and the next run finishes."""
    run = in_memory / "run"

    def offline() -> None:
        posix._renameat2 = no_exchange  # type: ignore[assignment]
        prune(run, THREE, offline=True)

    fresh(run)
    count = steps.in_child(offline, lambda _: None)
    assert count > 20
    for moment in range(count):
        fresh(run)
        assert steps.in_child(offline, lambda call, at=moment: steps.kill() if call == at else None) < 0  # type: ignore[misc]
        found = scan(run)
        assert {one.name for one in found.checkpoints if one.complete} >= NEWEST
        assert [one.name for one in found.checkpoints if one.latest] == ["ckpt-6"]
        steps.in_child(offline, lambda _: None)
        assert fabricate.names(run) == NEWEST
        assert not private(run)


@pytest.mark.usefixtures("_no_exchange")
def test_offline_refuses_where_a_trainer_is_at_work(tmp_path: Path) -> None:
    """A state file that was written since it was read shows that a trainer is at work."""
    fabricate.run(tmp_path, 6)
    with pytest.raises(RefusedError, match="a trainer is at work"):
        prune(tmp_path, THREE, offline=True, announce=lambda _: trainer_saves(tmp_path, 7))
    assert fabricate.names(tmp_path) == {f"ckpt-{step}" for step in range(1, 8)}
    assert [one.name for one in scan(tmp_path).checkpoints if one.latest] == ["ckpt-7"]
    assert not private(tmp_path)


@pytest.mark.parametrize("number", [errno.ENOENT, errno.EIO])
def test_error_at_any_call_costs_nothing(in_memory: Path, number: int) -> None:
    """Whichever call fails once: no half of a checkpoint is left, nothing pinned goes."""
    run = in_memory / "run"

    def begin() -> None:
        fresh(run)
        (run / "ckptctl.pins").write_text("ckpt-1\n")

    def fail_at(moment: int | None) -> int:
        def before(call: int) -> None:
            if call == moment:
                raise OSError(number, os.strerror(number))

        def work() -> None:
            with contextlib.suppress(ckptctl.CkptctlError):
                prune(run, THREE)

        return steps.in_child(work, before)

    begin()
    count = fail_at(None)
    assert fabricate.names(run) == {"ckpt-1", *NEWEST}
    for moment in range(count):
        begin()
        fail_at(moment)
        found = scan(run)
        assert {one.name for one in found.checkpoints if one.complete} >= {"ckpt-1", *NEWEST}, moment
        assert not [one.name for one in found.checkpoints if one.on_disk and not one.complete], moment
        prune(run, THREE)
        assert fabricate.names(run) == {"ckpt-1", *NEWEST}
        assert not private(run)


@pytest.mark.parametrize("form", ["table", "json"])
def test_command_that_is_refused_half_way_says_what_it_did(
    tmp_path: Path, invoke: Invoke, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    """Refused after the first deletion, the command reports it, says why it ended, and exits with 4."""
    fabricate.run(tmp_path, 6)
    expect, looks = posix.expect_at_path, iter(range(9))

    def moved(directory: posix.OpenDirectory) -> None:
        if next(looks) == 1:
            raise RefusedError("the directory no longer is where it was: it went")
        expect(directory)

    monkeypatch.setattr(posix, "expect_at_path", moved)
    done = invoke("prune", str(tmp_path), "--keep=3", *(["--json"] if form == "json" else []))
    assert done.exit_code == 4
    assert fabricate.names(tmp_path) == {"ckpt-2", "ckpt-3", *NEWEST}
    if form == "json":
        (told,) = json.loads(done.stdout)["directories"]
        assert (told["deleted"], told["refused"]) == (
            ["ckpt-1"],
            "the directory no longer is where it was: it went",
        )
    else:
        assert "deleted 1 checkpoint" in done.stdout
        assert "stopped before everything was deleted: the directory no longer is where it was" in done.stderr


def test_files_that_may_not_be_opened_can_be_deleted(tmp_path: Path) -> None:
    """In a directory that is ours to write, what another user saved is pruned, readable to us or not."""
    as_nobody = unprivileged(tmp_path)
    run = fabricate.run(tmp_path / "run", 6)
    run.chmod(0o777)
    for file in run.glob("*.data-*"):
        file.chmod(0o600)
    before = (run / "checkpoint").read_bytes()
    done = as_nobody("prune", "run", "--keep=3")
    assert done.returncode == 0, done
    assert fabricate.names(run) == NEWEST
    assert (run / "checkpoint").read_bytes() == before
    assert "run: the state file was left alone: Operation not permitted" in done.stderr
    assert not private(run)


@pytest.mark.parametrize("speaks", [False, True], ids=["from the start", "meanwhile"])
def test_latest_of_the_usual_state_file_stays(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    speaks: bool,  # noqa: FBT001
) -> None:
    """Where another state file is asked for, what `checkpoint` names as the latest stays too."""
    fabricate.run(tmp_path, 8, listed=0)
    (tmp_path / "best").write_text(fabricate.state_text(["ckpt-7"], timestamps=False))

    def goes_back() -> None:
        (tmp_path / "own").write_text(fabricate.state_text(["ckpt-5"], timestamps=False))
        (tmp_path / "own").rename(tmp_path / "checkpoint")

    if speaks:
        remove = removal.remove

        def removing(directory: int, file: File) -> int:
            goes_back()
            return remove(directory, file)

        monkeypatch.setattr(removal, "remove", removing)
    else:
        goes_back()
    report = prune(tmp_path, Policy((Newest(1),)), latest_filename="best")
    assert fabricate.names(tmp_path) == {"ckpt-5", "ckpt-7", "ckpt-8"}
    if speaks:
        assert report.spared == ("ckpt-5",)
    else:
        kept = {one.checkpoint.name: one.reasons for one in report.plan.keep}
        assert kept["ckpt-5"] == ("the latest in checkpoint, the usual state file",)


def test_usual_state_file_that_cannot_be_read(tmp_path: Path) -> None:
    """Its last word is unknown, and nothing is deleted."""
    fabricate.run(tmp_path, 6)
    (tmp_path / "checkpoint").rename(tmp_path / "best")
    (tmp_path / "checkpoint").write_bytes(b"\x82\xa5epoch")
    with pytest.raises(RefusedError, match="checkpoint, the usual state file, cannot be read"):
        prune(tmp_path, THREE, latest_filename="best")
    assert len(fabricate.names(tmp_path)) == 6
