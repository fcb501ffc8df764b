"""Tests of ckptctl.openfiles and of `--skip-open`: what a real process has open stays while it has."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import fabricate
import pytest
from conftest import unprivileged

from ckptctl import openfiles, posix
from ckptctl.files import list_files
from ckptctl.plan import Protections
from ckptctl.policy import Newest, Policy
from ckptctl.prune import prune
from ckptctl.scan import scan

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from conftest import Invoke
    from watching import Watching

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="who has a file open is told by Linux's /proc"
)

THREE = Policy((Newest(3),))
SKIP_OPEN = Protections(skip_open=True)

READER = """
import mmap, sys
how, path = sys.argv[1:]
file = open(path, "rb")
if how == "mapped":
    mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    file.close()
print("has it", flush=True)
sys.stdin.readline()
"""


@contextlib.contextmanager
def reader(path: Path, how: str = "open") -> Iterator[int]:
    """A process that has a file open, or mapped and no longer open."""
    command = [sys.executable, "-c", READER, how, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"has it\n"
        yield process.pid
        process.communicate(b"\n")


@pytest.mark.parametrize("how", ["open", "mapped"])
@pytest.mark.parametrize("file", ["ckpt-2.index", "ckpt-2.data-00000-of-00001"])
def test_open_checkpoint_stays_until_it_is_closed(tmp_path: Path, how: str, file: str) -> None:
    """A checkpoint of which any file is open or mapped is kept with that reason, and goes the next time."""
    fabricate.run(tmp_path, 6)
    with reader(tmp_path / file, how) as pid:
        report = prune(tmp_path, THREE, SKIP_OPEN)
        assert report.deleted == ("ckpt-1", "ckpt-3")
        kept = {one.checkpoint.name: one.reasons for one in report.plan.keep}
        assert kept["ckpt-2"] == (f"open in process {pid}",)
        assert [entry.name for entry in scan(tmp_path).state.entries] == [
            "ckpt-2",
            "ckpt-4",
            "ckpt-5",
            "ckpt-6",
        ]
    assert prune(tmp_path, THREE, SKIP_OPEN).deleted == ("ckpt-2",)


def test_without_the_option_it_goes(tmp_path: Path) -> None:
    """Nobody is asked who does not ask for it."""
    fabricate.run(tmp_path, 6)
    with reader(tmp_path / "ckpt-2.index"):
        assert prune(tmp_path, THREE).deleted == ("ckpt-1", "ckpt-2", "ckpt-3")


@pytest.mark.parametrize("way", ["link", "hard link", "another path"])
def test_file_is_known_by_its_inode(tmp_path: Path, way: str) -> None:
    """It does not matter by what path a process has opened it."""
    run = fabricate.run(tmp_path / "run", 6)
    path = tmp_path / "elsewhere"
    if way == "link":
        path.symlink_to(run / "ckpt-2.index")
    elif way == "hard link":
        path.hardlink_to(run / "ckpt-2.index")
    with contextlib.ExitStack() as held:
        if way == "another path":
            fd = os.open(run, os.O_RDONLY)
            held.callback(os.close, fd)
            path = path.parent / "proc"
            path.symlink_to(f"/proc/{os.getpid()}/fd/{fd}")
            path /= "ckpt-2.index"
        held.enter_context(reader(path))
        assert "ckpt-2" not in prune(run, THREE, SKIP_OPEN).deleted


@pytest.mark.parametrize("how", ["open", "mapped"])
def test_every_name_of_a_file_counts(tmp_path: Path, how: str) -> None:
    """A checkpoint with hard links beside it stays under each name: a reader may go on by any."""
    run = fabricate.run(tmp_path, 6, listed=3)
    for file in list(run.glob("ckpt-2.*")):
        file.with_name(file.name.replace("ckpt-2", "keep-2")).hardlink_to(file)
    with reader(run / "ckpt-2.index", how):
        assert prune(run, THREE, SKIP_OPEN).deleted == ("ckpt-1", "ckpt-3")


def test_name_with_a_line_break_that_is_mapped(tmp_path: Path) -> None:
    """The kernel writes a line break in a mapped file's name as its octal number."""
    odd = "odd\n(deleted) -1"
    (data, index) = fabricate.checkpoint(tmp_path, odd, at=1)
    fabricate.run(tmp_path, 3, listed=0)
    with reader(data, "mapped"), posix.open_directory(str(tmp_path)) as directory:
        group = list_files(directory).groups[odd]
        assert group.index is not None
        found = openfiles.users(directory, [group.index, *(file for _, file in group.shards)])
        assert list(found.pids) == [data.name]
    with reader(index, "mapped"):
        assert odd in {one.checkpoint.name for one in prune(tmp_path, THREE, SKIP_OPEN).plan.keep}


def test_processes_are_gone_through_once_and_only_for_victims(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that deletes nothing looks at no process, one that does looks once at each."""
    fabricate.run(tmp_path, 6)
    listed: list[str] = []
    listdir = os.listdir

    def counted(path: str | int = ".") -> list[str]:
        listed.append(str(path))
        return listdir(path)

    monkeypatch.setattr(os, "listdir", counted)
    prune(tmp_path, THREE, SKIP_OPEN)
    assert listed.count("/proc") == 1
    prune(tmp_path, THREE, SKIP_OPEN)
    assert listed.count("/proc") == 1


def test_plan_shows_it_and_who_cannot_be_seen(tmp_path: Path) -> None:
    """Without root the processes of others are counted and said once; one's own are looked into."""
    as_nobody = unprivileged(tmp_path)
    run = fabricate.run(tmp_path / "run", 6)
    with reader(run / "ckpt-2.index"):  # root's, which nobody else may look into
        done = as_nobody("prune", "run", "--keep=3", "--skip-open", "-n")
    assert done.returncode == 0, done
    (note,) = [line for line in done.stderr.splitlines() if "cannot be seen" in line]
    assert note.startswith("ckptctl: run: what other users have open cannot be seen here (processes: ")
    assert done.stdout.count("delete") >= 3


def test_command_keeps_what_is_open(tmp_path: Path, invoke: Invoke) -> None:
    """`prune --skip-open` says which process has it open."""
    fabricate.run(tmp_path, 6)
    with reader(tmp_path / "ckpt-1.data-00000-of-00001") as pid:
        done = invoke("prune", str(tmp_path), "--keep=3", "--skip-open")
    assert done.exit_code == 0
    assert f"open in process {pid}" in done.stdout
    assert fabricate.names(tmp_path) == {"ckpt-1", "ckpt-4", "ckpt-5", "ckpt-6"}


def test_watch_waits_for_a_reader(tmp_path: Path, watch: Callable[..., Watching]) -> None:
    """A watch keeps what is open, and deletes it at a rescan after it was closed, which makes no event."""
    fabricate.run(tmp_path, 6)
    with reader(tmp_path / "ckpt-2.index"):
        watching = watch(tmp_path, "--skip-open", "--rescan=0.3s")
        assert watching.event("pruned", tmp_path)["deleted"] == ["ckpt-1", "ckpt-3"]
    assert watching.event("pruned", tmp_path)["deleted"] == ["ckpt-2"]
    watching.stop()
