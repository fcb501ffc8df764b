"""`ckptctl watch` is never deaf for longer than one rescan, whatever the system does to it."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fabricate
import pytest
from watching import DEADLINE, PAUSE, Watching, ckpts, keep, save

from ckptctl.roots import MAX_DEPTH, run_directories
from ckptctl.watch import Watcher

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ckptctl.voice import Event

RESCAN = "--rescan=0.5s"


def until(condition: Callable[[], bool]) -> None:
    """Waits for a condition."""
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end, "too late"
        time.sleep(PAUSE)


def test_queue_that_overflows(tmp_path: Path, watch: Callable[..., Watching]) -> None:
    """Events that were lost while it was stopped and its queue was full cost one rescan."""
    busy, quiet = fabricate.run(tmp_path / "busy", 6), fabricate.run(tmp_path / "quiet", 6)
    watching = watch("-r", tmp_path, RESCAN)
    watching.until(lambda: fabricate.names(busy) == fabricate.names(quiet) == ckpts(4, 5, 6))
    longest = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    watching.process.send_signal(signal.SIGSTOP)
    for _ in range(longest // 2 + 100):
        (busy / "notes").touch()
        (busy / "notes").unlink()
    save(quiet, 7)
    shutil.rmtree(busy)
    fabricate.run(busy, 8)
    watching.process.send_signal(signal.SIGCONT)
    watching.until(lambda: fabricate.names(quiet) == ckpts(5, 6, 7))
    watching.until(lambda: fabricate.names(busy) == ckpts(6, 7, 8))
    save(busy, 9)
    watching.until(lambda: fabricate.names(busy) == ckpts(7, 8, 9))
    watching.stop()


@pytest.fixture
def here(tmp_path: Path) -> Iterator[tuple[Path, Watcher, list[Event]]]:
    """A run with a watcher in this process."""
    run = fabricate.run(tmp_path / "run", 6)
    said: list[Event] = []
    watcher = Watcher([str(run)], keep(3), settle=0.05, rescan=0.5, report=said.append)
    thread = threading.Thread(target=watcher.run)
    thread.start()
    try:
        until(lambda: fabricate.names(run) == ckpts(4, 5, 6))
        yield run, watcher, said
    finally:
        watcher.stop()
        thread.join()


def test_emitter_that_dies(here: tuple[Path, Watcher, list[Event]]) -> None:
    """What listens for events and ends is replaced, and what came in between is seen."""
    run, watcher, said = here
    for step in range(7, 10):
        (emitter,) = watcher._lookout._observer.emitters
        emitter.stop()
        emitter.join()
        save(run, step)
        until(lambda step=step: fabricate.names(run) == ckpts(step - 2, step - 1, step))  # type: ignore[misc]
        until(lambda: any(one.is_alive() for one in watcher._lookout._observer.emitters))
    assert {event.event for event in said} == {"watching", "pruned"}


@pytest.mark.parametrize(
    ("limit", "number"),
    [("max_inotify_instances", 0), ("max_inotify_watches", 0), ("max_inotify_watches", 3)],
    ids=["no instance", "no watch", "too few for the runs to come"],
)
def test_limit_of_inotify(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    watch: Callable[..., Watching],
    limit: str,
    number: int,
) -> None:
    """Where inotify's limits are reached it polls, says so once, and goes on."""
    limited = f'echo {number} > /proc/sys/user/{limit} && exec {sys.executable} "$@"'
    (tmp_path / "python").write_text(f"#!/bin/sh\nexec unshare -Ur sh -c '{limited}' python \"$@\"\n")
    (tmp_path / "python").chmod(0o755)
    if subprocess.run([tmp_path / "python", "-c", ""], check=False).returncode != 0:
        pytest.skip("a user namespace with limits of its own cannot be had here")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    root = tmp_path / "root"
    first = fabricate.run(root / "first", 6)
    watching = watch("-r", root, RESCAN)
    watching.event("pruned", first)
    runs = [fabricate.run(root / f"later{number}", 6) for number in range(4)]
    for run in runs:
        watching.until(lambda run=run: fabricate.names(run) == ckpts(4, 5, 6))  # type: ignore[misc]
    for run in (first, *runs):
        save(run, 7)
    for run in (first, *runs):
        watching.until(lambda run=run: fabricate.names(run) == ckpts(5, 6, 7))  # type: ignore[misc]
    watching.stop()
    polling = [event["reason"] for event in watching.events if event["event"] == "polling"]
    assert len(polling) == (0 if number else 1), watching.story()
    assert {event["event"] for event in watching.events} <= {"watching", "pruned", "polling", "stopped"}


def deepen(directory: Path, name: str, levels: int) -> None:
    """Makes directories one in the other, however long the path gets."""
    directory.mkdir()
    inner = os.open(directory, os.O_RDONLY)
    for _ in range(levels):
        os.mkdir(name, dir_fd=inner)
        outer, inner = inner, os.open(name, os.O_RDONLY, dir_fd=inner)
        os.close(outer)
    os.close(inner)


@pytest.fixture
def deep(tmp_path: Path) -> Iterator[Path]:
    """A directory for trees that are too deep for Python to remove them."""
    (tmp_path / "deep").mkdir()
    yield tmp_path / "deep"
    subprocess.run(["rm", "-rf", tmp_path / "deep"], check=True)


@pytest.mark.parametrize("options", [(), ("--poll",)], ids=["events", "polling"])
def test_tree_too_deep_for_recursion(
    deep: Path, watch: Callable[..., Watching], options: tuple[str, ...]
) -> None:
    """Whoever makes a tree of 1,200 levels below a root ends no watch and starts none in vain: it is told."""
    run = fabricate.run(deep / "root" / "run", 6)
    deepen(deep / "other", "a", 1_200)
    watching = watch("-r", deep / "root", RESCAN, *options)
    watching.event("pruned", run)
    (deep / "other").rename(deep / "root" / "other")
    assert f"{MAX_DEPTH} directories below" in watching.event("failed", deep / "root")["error"]
    for step in (7, 8):
        save(run, step)
        watching.until(lambda step=step: fabricate.names(run) == ckpts(step - 2, step - 1, step))  # type: ignore[misc]
    watching.stop()
    assert watching.count("failed", deep / "root") == 1
    again = watch("-r", deep / "root", RESCAN, *options)
    again.event("failed", deep / "root")
    save(run, 9)
    again.until(lambda: fabricate.names(run) == ckpts(7, 8, 9))
    again.stop()


def test_links_to_themselves_are_not_polled(tmp_path: Path, watch: Callable[..., Watching]) -> None:
    """Polling follows no link: two to their own directory would make as many paths as there can be."""
    run = fabricate.run(tmp_path / "run", 6)
    (run / "one").symlink_to(run)
    (run / "other").symlink_to(run)
    watching = watch("-r", tmp_path, "--poll")
    watching.event("pruned", run)
    save(run, 7)
    watching.until(lambda: fabricate.names(run) == ckpts(5, 6, 7))
    watching.stop()


def test_directories_of_runs(tmp_path: Path) -> None:
    """A directory's own come before those in them, by name; links, parts of saves and copies are left out."""
    for name in ("b/d", "a/c/e", "a/ckpt-1_temp/x", "a/.~tmp~", "b/.rsync-partial/x"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "a" / "file").touch()
    (tmp_path / "link").symlink_to("b")
    found = [os.path.relpath(place.path, tmp_path) for place in run_directories(str(tmp_path))]
    assert found == [".", "a", "b", "a/c", "a/c/e", "b/d"]


@pytest.mark.parametrize("name", ["a", "a" * 250], ids=["too many", "too long"])
def test_directories_that_lie_too_deep(deep: Path, name: str) -> None:
    """What lies too deep, or has too long a path, is left out and told once; what lies beside it is not."""
    deepen(deep / "tree", name, 100)
    (deep / "zebra").mkdir()
    told: list[str] = []
    found = [place.path for place in run_directories(str(deep), told.append)]
    assert found[:3] == [str(deep), str(deep / "tree"), str(deep / "zebra")]
    assert told == [found[-1]]
    assert len(found) == MAX_DEPTH + 2 if name == "a" else len(found[-1]) > 4095


def test_no_descriptor_left(tmp_path: Path, watch: Callable[..., Watching]) -> None:
    """While it may open nothing it says so and keeps all; given descriptors again it goes on."""
    run = fabricate.run(tmp_path / "run", 6)
    watching = watch(run, RESCAN)
    watching.event("pruned", run)
    pid = watching.process.pid
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    save(run, 7)
    watching.event("failed", run)
    assert fabricate.names(run) == ckpts(4, 5, 6, 7)
    shutil.rmtree(run)
    fabricate.run(run, 8)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
    watching.until(lambda: fabricate.names(run) == ckpts(6, 7, 8))
    save(run, 9)
    watching.until(lambda: fabricate.names(run) == ckpts(7, 8, 9))
    watching.stop()


def test_output_that_cannot_be_written(tmp_path: Path) -> None:
    """A log on a full disk costs its words and nothing else."""
    run = fabricate.run(tmp_path / "run", 6)
    command = [sys.executable, "-m", "ckptctl", "watch", str(run), "--keep=3", "--settle=0.05s"]
    with (
        Path("/dev/full").open("wb") as full,
        (tmp_path / "errors").open("wb") as errors,
        subprocess.Popen(command, stdout=full, stderr=errors) as process,
        contextlib.ExitStack() as held,
    ):
        held.callback(process.kill)
        until(lambda: fabricate.names(run) == ckpts(4, 5, 6))
        for step in (7, 8):
            save(run, step)
            until(lambda step=step: fabricate.names(run) == ckpts(step - 2, step - 1, step))  # type: ignore[misc]
        process.terminate()
        assert process.wait(DEADLINE) == 0
    assert "Traceback" not in (tmp_path / "errors").read_text()


def test_run_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a run below DIR that cannot be read it is told once, the others are pruned; and it too, later."""
    good, bad = fabricate.run(tmp_path / "good", 6), fabricate.run(tmp_path / "bad", 6)
    inode = bad.stat().st_ino
    scandir = os.scandir

    def failing(path: Any) -> Any:
        if isinstance(path, int) and os.fstat(path).st_ino == inode:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return scandir(path)

    said: list[Event] = []
    options = {"recursive": True, "settle": 0.05, "rescan": 0.2, "poll": True}
    watcher = Watcher([str(tmp_path)], keep(3), report=said.append, **options)  # type: ignore[arg-type]
    thread = threading.Thread(target=watcher.run)
    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", failing)
        thread.start()
        try:
            for step in range(7, 10):
                until(lambda: len(list(good.glob("*.index"))) == 3)
                save(good, step)
            until(lambda: any(event.event == "failed" for event in said))
            assert len(fabricate.names(bad)) == 6
            patch.undo()
            until(lambda: fabricate.names(bad) == ckpts(4, 5, 6))
        finally:
            watcher.stop()
            thread.join()
    (failed,) = [event for event in said if event.event == "failed"]
    assert failed.directory == str(bad)
    assert "Input/output error" in failed.details["error"]


CLOCK = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

/* Years by which the clock is off: what the file of that name says at the moment. */
static time_t off(void) {
  char text[16] = {0};
  int fd = open(getenv("CLOCK_OFF"), O_RDONLY);
  if (fd < 0) return 0;
  if (read(fd, text, sizeof text - 1) < 0) text[0] = 0;
  close(fd);
  return atol(text) * 31557600L;
}
int clock_gettime(clockid_t clock, struct timespec *now) {
  int (*real)(clockid_t, struct timespec *) = dlsym(RTLD_NEXT, "clock_gettime");
  int failed = real(clock, now);
  if (!failed && clock == CLOCK_REALTIME) now->tv_sec += off();
  return failed;
}
int gettimeofday(struct timeval *now, void *zone) {
  struct timespec found;
  if (clock_gettime(CLOCK_REALTIME, &found)) return -1;
  now->tv_sec = found.tv_sec;
  now->tv_usec = found.tv_nsec / 1000;
  return 0;
}
time_t time(time_t *now) {
  struct timespec found;
  clock_gettime(CLOCK_REALTIME, &found);
  if (now) *now = found.tv_sec;
  return found.tv_sec;
}
"""


@pytest.fixture
def set_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Sets the clock of the processes that are started from now on, by so many years, while they run too."""
    source, library, off = tmp_path / "clock.c", tmp_path / "clock.so", tmp_path / "off"
    source.write_text(CLOCK)
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler to build a clock with")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    monkeypatch.setenv("LD_PRELOAD", str(library))
    monkeypatch.setenv("CLOCK_OFF", str(off))

    def move(years: int) -> None:
        (tmp_path / "off.new").write_text(str(years))
        (tmp_path / "off.new").rename(off)

    move(10)
    asked = [sys.executable, "-c", "import time; print(time.time())"]
    told = float(subprocess.run(asked, capture_output=True, check=True).stdout)
    assert told - time.time() > 9 * 365 * 86400, "the clock does not move"
    move(0)
    return move


def save_now(directory: Path, step: int) -> None:
    """Saves one checkpoint more, with the times of this moment."""
    fabricate.checkpoint(directory, f"ckpt-{step}", at=time.time())
    steps = sorted(int(name.removeprefix("ckpt-")) for name in fabricate.names(directory))
    temporary = directory / "checkpoint.tmp"
    temporary.write_text(fabricate.state_text((f"ckpt-{one}" for one in steps), timestamps=False))
    temporary.rename(directory / "checkpoint")


@pytest.mark.parametrize("jumps", [(10, 0), (-10, 0), (10, -10, 0)], ids=str)
@pytest.mark.parametrize("min_age", ["0s", "1m"])
def test_clock_that_jumps(
    tmp_path: Path,
    watch: Callable[..., Watching],
    set_clock: Callable[[int], None],
    jumps: tuple[int, ...],
    min_age: str,
) -> None:
    """A clock that jumps ten years keeps nothing for ten years, and makes nothing old that is being saved."""
    run = fabricate.run(tmp_path / "run", 6)
    watching = watch(run, RESCAN, f"--min-age={min_age}")
    watching.event("pruned", run)
    step = 6
    for years in jumps:
        under_way = fabricate.checkpoint(run, f"ckpt-{step + 4}", at=time.time())
        under_way[-1].write_bytes(b"")  # its index is being written
        set_clock(years)
        for _ in range(3):
            step += 1
            save_now(run, step)
        if years or min_age == "0s":
            staying = ckpts(step - 2, step - 1, step, step + 1)
            watching.until(lambda staying=staying: fabricate.names(run) == staying)  # type: ignore[misc]
        assert all(path.exists() for path in under_way)
    if min_age != "0s":
        assert fabricate.names(run) >= ckpts(step - 2, step - 1, step)
    watching.stop()
    assert {event["event"] for event in watching.events} == {"watching", "pruned", "stopped"}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own of 256 KiB."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "none", str(place)]
    if os.getuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("mount is not permitted here")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def test_disk_that_is_full(small_disk: Path, watch: Callable[..., Watching]) -> None:
    """On a full disk the oldest go before the state is written, and the trainer has room again."""
    run = fabricate.run(small_disk / "run", 3)
    watching = watch(run, RESCAN)
    watching.event("watching", run)
    for step in range(4, 8):
        watching.process.send_signal(signal.SIGSTOP)
        save(run, step)
        with contextlib.suppress(OSError), (small_disk / "filler").open("wb") as filler:
            while filler.write(bytes(4096)):
                filler.flush()
        watching.process.send_signal(signal.SIGCONT)
        watching.until(lambda step=step: fabricate.names(run) == ckpts(step - 2, step - 1, step))  # type: ignore[misc]
        (small_disk / "filler").unlink()
    watching.until(lambda: "ckpt-4" not in (run / "checkpoint").read_text())
    watching.stop()


def test_disk_that_turns_read_only(small_disk: Path, watch: Callable[..., Watching]) -> None:
    """While it may not be written to that is said once; written to again it is pruned within a rescan."""
    run = fabricate.run(small_disk / "run", 3)
    watching = watch(run, RESCAN)
    watching.event("watching", run)
    watching.process.send_signal(signal.SIGSTOP)
    for step in range(4, 7):
        save(run, step)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    watching.process.send_signal(signal.SIGCONT)
    failed = watching.event("failed", run)
    assert [one["name"] for one in failed["failed"]] == ["ckpt-1", "ckpt-2", "ckpt-3"]
    assert fabricate.names(run) == ckpts(1, 2, 3, 4, 5, 6)
    subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
    watching.until(lambda: fabricate.names(run) == ckpts(4, 5, 6))
    save(run, 7)
    watching.until(lambda: fabricate.names(run) == ckpts(5, 6, 7))
    watching.stop()
    assert watching.count("failed", run) == 1
