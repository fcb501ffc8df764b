"""`ckptctl watch` in a process of its own: what it prints, notices and leaves alone, and how it ends."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fabricate
import pytest
import steps
from conftest import ckptctl
from watching import DEADLINE, Watching, ckpts, has_inotify, keep, save, write_state

from ckptctl.watch import Watcher

if TYPE_CHECKING:
    from collections.abc import Callable

TRAINER = """
import glob, sys, time
import tensorflow as tf

directory, saves = sys.argv[1], int(sys.argv[2])
checkpoint = tf.train.Checkpoint(step=tf.Variable(0, dtype=tf.int64))
manager = tf.train.CheckpointManager(checkpoint, directory, max_to_keep=10 * saves)
for step in range(1, saves + 1):
    checkpoint.step.assign(step)
    saved = manager.save()
    deadline = time.monotonic() + 1
    while True:
        # The state from just before this save may stand for a moment; its latest has to be readable as well.
        latest = tf.train.latest_checkpoint(directory)
        value = tf.train.load_checkpoint(latest).get_tensor("step/.ATTRIBUTES/VARIABLE_VALUE")
        assert latest == f"{directory}/ckpt-{value}", (latest, value)
        if latest == saved:
            break
        assert time.monotonic() < deadline, (latest, saved)
print(len(glob.glob(directory + "/*.index")))
"""

MANAGING_TRAINER = """
import os, sys
import tensorflow as tf

directory, saves, max_to_keep, hours = sys.argv[1], int(sys.argv[2]), eval(sys.argv[3]), eval(sys.argv[4])
checkpoint = tf.train.Checkpoint(step=tf.Variable(0, dtype=tf.int64))
manager = tf.train.CheckpointManager(checkpoint, directory, max_to_keep, keep_checkpoint_every_n_hours=hours)
for step in range(1, saves + 1):
    checkpoint.step.assign(step)
    print(os.path.basename(manager.save()), flush=True)
    sys.stdin.readline()
"""
"""Saves, and waits for a word before it saves again."""

BREAKING_TRAINER = """
import os, sys, time
import tensorflow as tf

directory, saves = sys.argv[1], int(sys.argv[2])
checkpoint = tf.train.Checkpoint(weights=tf.Variable(tf.zeros([1000])), step=tf.Variable(0, dtype=tf.int64))
for step in range(1, saves + 1):
    checkpoint.step.assign(step)
    saved = checkpoint.save(f"{directory}/model")
    data = f"{saved}.data-00000-of-00001"
    if step % 6 == 0:
        os.truncate(data, os.path.getsize(data) // 2)
    elif step % 3 == 0:
        with open(data, "r+b") as file:
            file.write(b"x")
    time.sleep(0.15)
"""
"""Breaks every third checkpoint behind its own back: now by a byte, now by half of its data."""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_json_lines(tmp_path: Path, watch: Callable[..., Watching], number: signal.Signals) -> None:
    """`--json` prints an object a line, from watching over pruned to stopped, and either signal exits 0."""
    run = fabricate.run(tmp_path / "run", 6)
    watching = watch(run)
    watching.event("pruned", run)
    assert fabricate.names(run) == ckpts(4, 5, 6)
    save(run, 7)
    watching.event("pruned", run)
    watching.stop(number)
    events = watching.events
    assert [event["event"] for event in events] == ["watching", "pruned", "pruned", "stopped"]
    assert [event["directory"] for event in events] == [str(run), str(run), str(run), ""]
    assert [list(event)[:3] for event in events] == [["time", "event", "directory"]] * 4
    assert [event["deleted"] for event in events[1:3]] == [["ckpt-1", "ckpt-2", "ckpt-3"], ["ckpt-4"]]
    assert [(event["kept"], event["notes"]) for event in events[1:3]] == [(3, []), (3, [])]
    size = 100 + len(fabricate.index())
    assert [event["freed_bytes"] for event in events[1:3]] == [3 * size, size]
    times = [datetime.fromisoformat(event["time"]) for event in events]
    assert times == sorted(times)
    assert {moment.utcoffset() for moment in times} == {timedelta(0)}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stopped_while_it_waits(
    tmp_path: Path, watch: Callable[..., Watching], number: signal.Signals
) -> None:
    """A watch that has never seen its directory is stopped by either signal like any other."""
    watching = watch(tmp_path / "run")
    watching.event("waiting", tmp_path / "run")
    watching.stop(number)
    assert [event["event"] for event in watching.events] == ["waiting", "stopped"]


def test_directory_that_is_not_there_yet(tmp_path: Path, watch: Callable[..., Watching]) -> None:
    """A directory is waited for, even where its parents are missing too, and pruned once it is there."""
    run = tmp_path / "project" / "runs" / "one"
    watching = watch(run)
    watching.event("waiting", run)
    assert not has_made_anything(tmp_path)
    fabricate.run(run, 6)
    watching.event("watching", run)
    watching.until(lambda: fabricate.names(run) == ckpts(4, 5, 6))
    save(run, 7)
    watching.until(lambda: fabricate.names(run) == ckpts(5, 6, 7))
    watching.stop()
    assert watching.count("waiting", run) == watching.count("watching", run) == 1


def test_directory_that_comes_between_a_look_and_a_watch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is made below a new parent before that is watched makes no event, and is seen all the same."""
    run = tmp_path / "project" / "runs" / "one"
    watcher = Watcher([str(run)], keep(3), settle=0.05)
    watch = watcher._lookout._watch
    watched = queue.SimpleQueue[str]()

    def late(root: Any, seen: tuple[str, int, int], *, recursive: bool) -> None:
        if seen[0] == str(tmp_path / "project"):
            fabricate.run(run, 6)
        watch(root, seen, recursive=recursive)
        watched.put(seen[0])

    monkeypatch.setattr(watcher._lookout, "_watch", late)
    thread = threading.Thread(target=watcher.run)
    thread.start()
    try:
        assert watched.get(timeout=DEADLINE) == str(tmp_path)
        (tmp_path / "project").mkdir()
        assert watched.get(timeout=DEADLINE) == str(tmp_path / "project")
        assert watched.get(timeout=DEADLINE) == str(run)
    finally:
        watcher.stop()
        thread.join()


def has_made_anything(directory: Path) -> bool:
    """Whether anything lies in a directory."""
    return any(directory.iterdir())


@pytest.mark.parametrize("path", ["file", "file/run", "link", ""])
def test_what_is_no_directory_is_not_waited_for(
    tmp_path: Path, watch: Callable[..., Watching], monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    """A path that leads to something else is refused at once, and so nothing is done beside it either."""
    run = fabricate.run(tmp_path / "run", 6)
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("file")
    monkeypatch.chdir(tmp_path)
    watching = watch(run, path)
    assert watching.end() == 3, watching.story()
    assert watching.events == []
    (line,) = watching.log.read_text().splitlines()
    assert line.startswith(f"ckptctl: {path or 'an empty path'} is not a directory: ")
    assert len(fabricate.names(run)) == 6


def test_checkpoint_is_not_waited_for(tmp_path: Path, watch: Callable[..., Watching]) -> None:
    """A checkpoint's prefix leads to no directory, now or ever; the one that is meant is named."""
    run = fabricate.run(tmp_path / "run", 6)
    watching = watch(run / "ckpt-5")
    assert watching.end() == 3, watching.story()
    told = f"ckptctl: {run}/ckpt-5 belongs to a checkpoint: name its directory, {run}\n"
    assert watching.log.read_text() == told
    assert watching.events == []


@pytest.mark.parametrize("below", [False, True], ids=["the run", "its parent"])
def test_protected_and_not_there(tmp_path: Path, watch: Callable[..., Watching], *, below: bool) -> None:
    """What is to stay and is not there is said once: it may be misspelt, or a trainer may yet save it."""
    run = fabricate.run(tmp_path / "runs" / "run", 6)
    protected = ("--protect=ckpt-2", "--protect=best-*", "--keep-step=1", "--keep-step=9")
    watching = watch(*(("-r", run.parent) if below else (run,)), *protected, "--rescan=0.1s")
    assert watching.event("pruned", run)["deleted"] == ["ckpt-3"]
    save(run, 7)
    watching.event("pruned", run)
    watching.stop()
    assert [event["warning"] for event in watching.events if event["event"] == "warning"] == [
        "--protect best-* names no checkpoint so far",
        "--keep-step 9 is the step of no checkpoint so far",
    ]


def test_directory_that_comes_back(tmp_path: Path, watch: Callable[..., Watching]) -> None:
    """A directory that is removed is said to be gone, and watched and pruned again when it is made again."""
    run = fabricate.run(tmp_path / "run", 6)
    watching = watch(run)
    watching.event("pruned", run)
    for _ in range(2):
        shutil.rmtree(run)
        watching.event("gone", run)
        fabricate.run(run, 6)
        watching.event("watching", run)
        watching.until(lambda: fabricate.names(run) == ckpts(4, 5, 6))
        save(run, 7)
        watching.until(lambda: not [*run.glob("*ckpt-4*")])  # its data go after its index
    watching.stop()
    assert watching.count("refused", run) == watching.count("failed", run) == 0


def test_directory_that_is_exchanged(tmp_path: Path, watch: Callable[..., Watching]) -> None:
    """A directory in whose place another is put at once is left alone, and the other one is pruned."""
    run = fabricate.run(tmp_path / "run", 6)
    other = fabricate.run(tmp_path / "other", 8)
    watching = watch(run, "--rescan=0.5s")
    watching.event("pruned", run)
    old = run.rename(tmp_path / "old")
    other.rename(run)
    watching.until(lambda: fabricate.names(run) == ckpts(6, 7, 8))
    save(old, 7)
    save(run, 9)
    watching.until(lambda: fabricate.names(run) == ckpts(7, 8, 9))
    assert fabricate.names(old) == ckpts(4, 5, 6, 7)
    watching.stop()


def test_recursive_finds_new_runs(tmp_path: Path, watch: Callable[..., Watching]) -> None:
    """`-r` prunes runs that are there and runs that are made later, at any depth, and goes on doing so."""
    first = fabricate.run(tmp_path / "first", 6)
    watching = watch("-r", tmp_path)
    watching.event("watching", tmp_path)
    watching.event("pruned", first)
    later = [tmp_path / "second", tmp_path / "group" / "deep" / "third"]
    for run in later:
        fabricate.run(run, 6)
    for run in later:
        watching.until(lambda run=run: fabricate.names(run) == ckpts(4, 5, 6))  # type: ignore[misc]
    for run in (first, *later):
        save(run, 7)
    for run in (first, *later):
        watching.until(lambda run=run: fabricate.names(run) == ckpts(5, 6, 7))  # type: ignore[misc]
    watching.stop()
    said = {event["directory"] for event in watching.events if event["event"] == "pruned"}
    assert said == {str(run) for run in (first, *later)}
    assert {event["event"] for event in watching.events} == {"watching", "pruned", "stopped"}


@pytest.mark.parametrize("name", [".~tmp~", ".rsync-partial", ".rsync-partial/below"])
def test_recursive_leaves_what_is_being_copied(
    tmp_path: Path, watch: Callable[..., Watching], name: str
) -> None:
    """Where rsync has files that it will move nothing goes, whether they were there or come meanwhile."""
    run = fabricate.run(tmp_path / "run", 6)
    fabricate.run(run / name, 6)
    watching = watch("-r", tmp_path)
    watching.event("pruned", run)
    save(run / name, 7)
    other = fabricate.run(tmp_path / "other", 6)
    watching.event("pruned", other)  # what was marked before is looked at before
    watching.stop()
    assert fabricate.names(run / name) == ckpts(1, 2, 3, 4, 5, 6, 7)


def test_recursive_finds_moved_runs(tmp_path: Path, watch: Callable[..., Watching]) -> None:
    """`-r` finds a run in a directory that is moved below the root, after one rescan at the latest."""
    root = tmp_path / "root"
    root.mkdir()
    fabricate.run(tmp_path / "group" / "run", 6)
    watching = watch("-r", root, "--rescan=0.5s")
    watching.event("watching", root)
    (tmp_path / "group").rename(root / "group")
    run = root / "group" / "run"
    watching.event("pruned", run)
    assert fabricate.names(run) == ckpts(4, 5, 6)
    watching.stop()


@pytest.mark.parametrize("poll", [(), ("--poll",)], ids=["events", "poll"])
def test_recursive_follows_no_link_that_took_a_run_s_place(
    tmp_path: Path, watch: Callable[..., Watching], poll: tuple[str, ...]
) -> None:
    """A run that is moved away, with a link to another directory in its place: that one loses nothing."""
    root, outside = tmp_path / "root", fabricate.run(tmp_path / "outside", 6)
    swapped, other = fabricate.run(root / "swapped", 6), fabricate.run(root / "other", 6)
    before = fabricate.contents(outside)
    watching = watch("-r", root, "--rescan=0.1s", *poll)
    watching.until(lambda: fabricate.names(swapped) == fabricate.names(other) == ckpts(4, 5, 6))
    swapped.rename(tmp_path / "away")
    swapped.symlink_to(outside)
    for step in range(7, 12):  # each of them is noticed at a look at both
        save(other, step)
        watching.until(lambda step=step: fabricate.names(other) == ckpts(step - 2, step - 1, step))  # type: ignore[misc]
    watching.stop()
    assert fabricate.contents(outside) == before


@pytest.mark.parametrize("swapped", ["group", "group/run"])
def test_link_in_a_run_s_place_at_any_moment(tmp_path: Path, swapped: str) -> None:
    """Wherever between our calls a link takes the place of the run or of its parent, it is not followed."""

    def prune_while_it_is_swapped(here: Path, moment: int | None) -> int:
        run = fabricate.run(here / "root" / "group" / "run", 6)
        outside = fabricate.run(here / "outside" / "group" / "run", 6)
        before = fabricate.contents(outside)

        def swap(call: int) -> None:
            if call == moment:
                (here / "root" / swapped).rename(here / "away")
                (here / "root" / swapped).symlink_to(here / "outside" / swapped)

        watcher = Watcher([str(here / "root")], keep(3), recursive=True)
        count = steps.in_child(lambda: watcher._prune(str(run)), swap)
        assert fabricate.contents(outside) == before, moment
        return count

    count = prune_while_it_is_swapped(tmp_path / "undisturbed", None)
    assert count > 20
    assert fabricate.names(tmp_path / "undisturbed" / "root" / "group" / "run") == ckpts(4, 5, 6)
    for moment in range(count):
        prune_while_it_is_swapped(tmp_path / str(moment), moment)


SWAPPER = """
import sys
from ckptctl import posix

with posix.open_directory(sys.argv[1]) as directory:
    print("swapping", flush=True)
    while True:
        posix.exchange(directory.fd, "root/run", "aside")
"""


def test_link_in_a_run_s_place_at_full_speed(tmp_path: Path, watch: Callable[..., Watching]) -> None:
    """Beside a process that swaps a run and a link as fast as it can, what is outside loses nothing."""
    run = fabricate.run(tmp_path / "root" / "run", 6)
    outside = fabricate.run(tmp_path / "outside", 6)
    (tmp_path / "aside").symlink_to(outside)
    before = fabricate.contents(outside)
    with contextlib.ExitStack() as held:
        directory = os.open(run, os.O_RDONLY)
        held.callback(os.close, directory)
        there = tmp_path / "there"  # wherever the run is at the moment
        there.symlink_to(f"/proc/{os.getpid()}/fd/{directory}")
        watching = watch("-r", tmp_path / "root", "--rescan=0.1s", settle=0.001)
        swapper = held.enter_context(
            subprocess.Popen([sys.executable, "-c", SWAPPER, str(tmp_path)], stdout=subprocess.PIPE)
        )
        held.callback(swapper.kill)
        assert swapper.stdout is not None
        swapper.stdout.readline()
        for step in range(7, 27):
            save(there, step)
            watching.until(lambda step=step: fabricate.names(there) == ckpts(step - 2, step - 1, step))  # type: ignore[misc]
    watching.stop()
    assert fabricate.contents(outside) == before


def test_without_recursive_runs_below_stay(tmp_path: Path, watch: Callable[..., Watching]) -> None:
    """Without `-r` the directory itself is pruned, and a run below it is not touched."""
    run = fabricate.run(tmp_path / "run", 6)
    below = fabricate.run(run / "below", 6)
    before = fabricate.contents(below)
    watching = watch(run, "--rescan=0.1s")
    watching.event("pruned", run)
    save(below, 7)
    save(run, 7)
    watching.event("pruned", run)
    watching.stop()
    assert fabricate.names(run) == ckpts(5, 6, 7)
    assert fabricate.names(below) == ckpts(1, 2, 3, 4, 5, 6, 7)
    assert before.keys() <= fabricate.contents(below).keys()


def test_dry_run_deletes_nothing(tmp_path: Path, watch: Callable[..., Watching]) -> None:
    """`-n` says what would be deleted, anew when that changes, and leaves every byte as it is."""
    run = fabricate.run(tmp_path / "run", 6)
    (tmp_path / "run" / "logs").mkdir()
    before = fabricate.contents(run)
    watching = watch("-n", "-r", tmp_path, settle=0.2)
    event = watching.event("pruned", run)
    assert (event["dry_run"], event["kept"]) == (True, 3)
    assert event["deleted"] == ["ckpt-1", "ckpt-2", "ckpt-3"]
    assert event["freed_bytes"] == 0
    assert fabricate.contents(run) == before
    save(run, 7)
    before = fabricate.contents(run)

    def has_seen_it() -> bool:
        deleted: list[str] = watching.event("pruned", run)["deleted"]
        return deleted == ["ckpt-1", "ckpt-2", "ckpt-3", "ckpt-4"]

    watching.until(has_seen_it)
    watching.stop()
    assert fabricate.contents(run) == before
    assert all(event.get("dry_run", True) for event in watching.events)
    # Directories without checkpoints, such as the parent and what lies in the run, are not told of.
    assert {event["directory"] for event in watching.events if "dry_run" in event} == {str(run)}


@pytest.mark.parametrize("name", ["run", "link"])
def test_second_watch_is_refused(tmp_path: Path, watch: Callable[..., Watching], name: str) -> None:
    """A second watch on the same directory, by whatever name, exits 4 and leaves the first at its work."""
    run = fabricate.run(tmp_path / "run", 6)
    (tmp_path / "link").symlink_to(run)
    first = watch(run)
    first.event("pruned", run)
    second = watch(tmp_path / name)
    assert second.end() == 4, second.story()
    assert second.events == []
    (line,) = second.log.read_text().splitlines()
    assert line.startswith(f"ckptctl: {tmp_path / name}: ")
    assert str(first.process.pid) in line
    save(run, 7)
    first.event("pruned", run)
    first.stop()
    third = watch(tmp_path / name)
    third.event("watching", tmp_path / name)
    third.stop()


def test_second_watch_is_refused_after_an_exchange(tmp_path: Path, watch: Callable[..., Watching]) -> None:
    """A directory that was put in the place of the watched one belongs to the watch that prunes it."""
    run = fabricate.run(tmp_path / "run", 6)
    other = fabricate.run(tmp_path / "other", 8)
    first = watch(run, "--rescan=0.5s")
    first.event("pruned", run)
    run.rename(tmp_path / "old")
    other.rename(run)
    first.until(lambda: fabricate.names(run) == ckpts(6, 7, 8))
    second = watch(run)
    assert second.events == []
    assert second.end() == 4, second.story()
    first.stop()


def test_poll(tmp_path: Path, watch: Callable[..., Watching]) -> None:
    """`--poll` notices each save without the file system's events."""
    run = fabricate.run(tmp_path / "run", 6)
    by_events, by_polling = watch(tmp_path / "elsewhere"), watch("--poll", run)
    by_events.event("waiting", tmp_path / "elsewhere")
    by_polling.event("pruned", run)
    assert has_inotify(by_events.process)
    assert not has_inotify(by_polling.process)
    for step in (7, 8):
        save(run, step)
        by_polling.until(lambda step=step: fabricate.names(run) == ckpts(step - 2, step - 1, step))  # type: ignore[misc]
    by_polling.stop()
    by_events.stop()


def test_files_of_keras_3(tmp_path: Path, watch: Callable[..., Watching]) -> None:
    """Where there are such in the place of checkpoints it is said once, and not again at every look."""
    run, other = tmp_path / "run", fabricate.run(tmp_path / "other", 2)
    run.mkdir()
    (run / "epoch-1.weights.h5").write_bytes(b"HDF")
    watching = watch(run, other, "--rescan=0.1s")
    told = "no TensorFlow checkpoints here; 1 .weights.h5 file is in Keras 3's own format"
    assert watching.event("warning", run)["warning"].startswith(told)
    for step in range(3, 8):  # each of them is noticed at a look at both directories
        save(other, step)
        watching.until(lambda step=step: step < 4 or ckpts(step - 3).isdisjoint(fabricate.names(other)))  # type: ignore[misc]
    watching.stop()
    assert watching.count("warning", run) == 1
    assert watching.count("warning", other) == 0


@pytest.mark.parametrize(
    "text", ["\0\1\2 not a state", 'model_checkpoint_path: "ckpt-6'], ids=["noise", "torn"]
)
def test_unreadable_state(tmp_path: Path, watch: Callable[..., Watching], text: str) -> None:
    """While the state is unreadable all is kept and one event says so; repaired, the directory is pruned."""
    bad, good = fabricate.run(tmp_path / "bad", 6), fabricate.run(tmp_path / "good", 6)
    repaired = (bad / "checkpoint").read_text()
    write_state(bad, text)
    before = fabricate.contents(bad)
    watching = watch(bad, good, "--rescan=0.1s")
    event = watching.event("refused", bad)
    assert str(bad) in event["error"] or "checkpoint" in event["error"]
    watching.until(lambda: fabricate.names(good) == ckpts(4, 5, 6))
    for step in range(7, 12):  # each of them is noticed at a look at both directories
        save(good, step)
        watching.until(lambda step=step: fabricate.names(good) == ckpts(step - 2, step - 1, step))  # type: ignore[misc]
    assert fabricate.contents(bad) == before
    assert watching.count("refused", bad) == 1
    assert watching.count("pruned", bad) == 0
    write_state(bad, repaired)
    assert watching.event("pruned", bad)["deleted"] == ["ckpt-1", "ckpt-2", "ckpt-3"]
    assert fabricate.names(bad) == ckpts(4, 5, 6)
    save(bad, 7)
    watching.event("pruned", bad)
    write_state(bad, text)
    watching.event("refused", bad)
    watching.stop()
    assert watching.count("refused", bad) == 2
    assert fabricate.names(bad) == ckpts(5, 6, 7)


def test_beside_a_trainer_in_a_hurry(tmp_path: Path, watch: Callable[..., Watching]) -> None:
    """Beside a watch a manager that saves without a pause finds its newest checkpoint readable each time."""
    saves = 200
    run = tmp_path / "run"
    run.mkdir()
    watching = watch(run)
    watching.event("watching", run)
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "2", "CUDA_VISIBLE_DEVICES": "-1"}
    trained = subprocess.run(
        [sys.executable, "-c", TRAINER, str(run), str(saves)],
        env={**os.environ, **quiet},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert trained.returncode == 0, f"{trained.stderr}\n{watching.story()}"
    assert int(trained.stdout) < saves, "nothing was deleted meanwhile"
    watching.until(lambda: fabricate.names(run) == ckpts(saves - 2, saves - 1, saves))
    watching.stop()
    assert {event["event"] for event in watching.events} == {"watching", "pruned", "warning", "stopped"}
    assert watching.count("warning", run) == 1, "what it deletes is listed again, which is said once"
    deleted = [name for event in watching.events for name in event.get("deleted", ())]
    assert sorted(deleted) == sorted(ckpts(*range(1, saves - 2)))
    left = {path.name for path in run.iterdir()}
    names = ckpts(saves - 2, saves - 1, saves)
    expected = {f"{name}.{end}" for name in names for end in ("index", "data-00000-of-00001")}
    assert left == {"checkpoint", *expected}


def test_watch_that_verifies_keeps_three_that_restore(tmp_path: Path, watch: Callable[..., Watching]) -> None:
    """Where every third save comes out broken, the three newest good ones are there in the end."""
    run = tmp_path / "run"
    run.mkdir()
    watching = watch(run, "--verify=data")
    watching.event("watching", run)
    done = subprocess.run(
        [sys.executable, "-c", BREAKING_TRAINER, str(run), "18"],
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2", "CUDA_VISIBLE_DEVICES": "-1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr

    def good() -> set[str]:
        verified = ckptctl("verify", "--json", str(run))
        found = json.loads(verified.stdout)["checkpoints"]
        return {os.path.basename(one["checkpoint"]) for one in found if one["status"] == "ok"}

    watching.until(lambda: good() == {"model-14", "model-16", "model-17"})
    watching.until(lambda: not {"model-3", "model-9", "model-15"} & fabricate.names(run))
    watching.stop()
    assert "model-18" in fabricate.names(run), "the latest stays, broken as it is"


def test_current_directory_that_is_deleted(tmp_path: Path) -> None:
    """A watch that begins nowhere says which path it cannot follow, and what to do."""
    program = (
        "import os, sys; os.rmdir(os.getcwd()); os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
    )
    for argument, shown in (((), "."), (("run",), "run")):
        (tmp_path / "gone").mkdir()
        done = subprocess.run(
            [sys.executable, "-c", program, "-m", "ckptctl", "watch", "--keep=3", *argument],
            cwd=tmp_path / "gone",
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stdout) == (3, "")
        assert done.stderr == (
            f"ckptctl: {shown}: begins in the current directory, which has been deleted; go to one that is "
            "there, or name DIR by a path from the root\n"
        )


def test_current_directory_is_watched_by_its_path(tmp_path: Path) -> None:
    """A trainer that removes the directory and makes it again is watched on."""
    run = tmp_path / "run"
    fabricate.run(run, 2)
    command = [sys.executable, "-m", "ckptctl", "watch", "--keep=1", "--json", "--rescan=0.5", "--settle=0.1"]
    with subprocess.Popen(command, cwd=run, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        deleted: list[str] = []
        for line in process.stdout:
            event = json.loads(line)
            assert event["directory"] in {str(run), ""}
            if event["event"] == "pruned" and not deleted:
                deleted = event["deleted"]
                shutil.rmtree(run)
            elif event["event"] == "gone":
                fabricate.run(run, 3)
            elif event["event"] == "pruned":
                process.terminate()
                break
        assert process.wait(30) == 0
    assert set(deleted) == ckpts(1)
    assert fabricate.names(run) == ckpts(3)


def test_directory_stands_in_a_line_once(tmp_path: Path) -> None:
    """What is wrong with a directory is told with its path, and not with its path twice."""
    fabricate.run(tmp_path / "run", 3)
    (tmp_path / "run" / "checkpoint").write_text("garbled {")
    with subprocess.Popen(
        [sys.executable, "-m", "ckptctl", "watch", "--keep=3", str(tmp_path / "run")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        process.terminate()
    assert line.count(f"{tmp_path}/run: ") == 1
    assert f" {tmp_path}/run: the state file" in line


def test_no_time_between_rescans(tmp_path: Path) -> None:
    """A rescan and a settle time of 0 are no busy loop: in a second there are ten looks at most, about."""
    (tmp_path / "run").mkdir()
    with subprocess.Popen(
        [sys.executable, "-m", "ckptctl", "watch", "--keep=3", "--rescan=0", "--settle=0s", tmp_path / "run"],
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert b": watching" in process.stdout.readline()

        def seconds() -> float:
            numbers = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
            return (int(numbers[11]) + int(numbers[12])) / os.sysconf("SC_CLK_TCK")

        before = seconds()
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(2)
        busy = seconds() - before
        process.terminate()
    assert busy < 1


@pytest.mark.parametrize(
    ("max_to_keep", "hours", "said"),
    [
        pytest.param("None", "None", ["again, deleted here"], id="all is kept"),
        pytest.param("6", "None", ["again, deleted here"], id="more is kept"),
        pytest.param("6", "1e-9", ["again, deleted here", "has preserved ckpt-"], id="and preserved"),
        pytest.param("3", "1e-9", [], id="as much is kept, and preserved"),
        pytest.param("3", "None", [], id="as much is kept"),
    ],
)
def test_trainer_that_deletes_by_rules_of_its_own(
    tmp_path: Path, watch: Callable[..., Watching], max_to_keep: str, hours: str, said: list[str]
) -> None:
    """A manager whose own retention works against ours is told of, once each, and of what to do."""
    run = tmp_path / "run"
    run.mkdir()
    watching = watch(run)
    watching.event("watching", run)
    with subprocess.Popen(
        [sys.executable, "-c", MANAGING_TRAINER, str(run), "10", max_to_keep, hours],
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2", "CUDA_VISIBLE_DEVICES": "-1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as trainer:
        assert trainer.stdin is not None
        assert trainer.stdout is not None
        for step in range(1, 11):
            assert trainer.stdout.readline() == f"ckpt-{step}\n"
            newest = ckpts(*range(max(1, step - 2), step + 1))
            preserved = set() if max_to_keep != "3" or hours == "None" else ckpts(*range(1, step - 2))
            watching.until(lambda: fabricate.names(run) == newest | preserved)  # noqa: B023 - at once
            trainer.stdin.write("go on\n")
            trainer.stdin.flush()
    assert trainer.returncode == 0
    watching.stop()
    warnings = [event["warning"] for event in watching.events if event["event"] == "warning"]
    assert len(warnings) == len(said), warnings
    for warning, part in zip(warnings, said, strict=True):
        assert part in warning
        assert "max_to_keep" in warning
