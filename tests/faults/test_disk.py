"""Full and read-only disks, files that nobody may change, users without rights, few descriptors.

Space is freed where it can be; where it cannot, the exit code and a message say so, nothing is lost, and the
next run, once the fault is gone, finishes. There is no longer form: each case is its own.
"""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import lives
import pytest
from commands import KINDS, Said, assert_nothing_lost, begin, is_done, tell

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

root = pytest.mark.skipif(os.getuid() != 0, reason="only root may mount, set flags, or become another user")
CHANGING = ("prune", "repair", "pin", "unpin")
"""`clean` waits for an hour of quiet, and what it deletes goes the way of what `prune` does."""


def run_ok(*words: str) -> bool:
    """Whether a program of the system did what it was asked."""
    return subprocess.run(words, capture_output=True, check=False).returncode == 0


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Callable[[str], None]]:
    """Puts a tmpfs of 256 KiB in the place of the directory; skips the test where that is not allowed."""
    run = tmp_path / "run"
    run.mkdir()
    mounted = False

    def mount(options: str) -> None:
        nonlocal mounted
        mounted = run_ok("mount", "-t", "tmpfs", "-o", f"size=256k{options}", "tmpfs", str(run))
        if not mounted:
            pytest.skip("mount is not permitted here")

    yield mount
    if mounted:
        assert run_ok("umount", str(run))


def assert_said(path: Path, kind: str, said: Said, *, done: bool | None = None) -> None:
    """What a command said is so, and what must stay is there."""
    run = path / "run"
    assert_nothing_lost(run)
    said.assert_true(run)
    assert "Traceback" not in said.errors
    assert (said.code == 0) == is_done(run, kind), said
    assert said.code == 0 or said.complaints
    if done is not None:
        assert is_done(run, kind) is done, said


def assert_finishes(path: Path, kind: str) -> None:
    """Once the fault is gone, a run does what is to be done and tidies up."""
    _, said = tell(path, kind)
    assert (said.code, is_done(path / "run", kind, orphans=True)) == (0, True), said
    assert not lives.private(path / "run")
    assert_nothing_lost(path / "run")


@root
@pytest.mark.parametrize("kind", CHANGING)
@pytest.mark.parametrize("full", ["bytes", "inodes"])
def test_full(tmp_path: Path, kind: str, full: str, small: Callable[[str], None]) -> None:
    """A prune frees space where there is none, of bytes or of inodes; what needs some loses nothing."""
    small("" if full == "bytes" else ",nr_inodes=28")
    begin(tmp_path, kind)
    run = tmp_path / "run"
    fill = []
    with contextlib.suppress(OSError):
        for number in range(1000):
            fill.append(run / f"fill{number}")
            fill[-1].write_bytes(bytes(4096) if full == "bytes" else b"")
    assert len(fill) < 1000
    _, said = tell(tmp_path, kind)
    assert_said(tmp_path, kind, said, done=True if kind == "prune" else None)
    for file in fill:
        file.unlink(missing_ok=True)
    assert_finishes(tmp_path, kind)


def prune_logged(run: Path, output: Path, errors: Path | None) -> subprocess.CompletedProcess[str]:
    """A prune in a process of its own, whose words go to files; those to stderr to a pipe if it has none."""
    with contextlib.ExitStack() as held:
        log = held.enter_context(output.open("ab"))
        return subprocess.run(
            [sys.executable, "-m", "ckptctl", "prune", "--keep=3", str(run)],
            stdout=log,
            stderr=subprocess.PIPE if errors is None else held.enter_context(errors.open("ab")),
            text=True,
            check=False,
        )


@root
@pytest.mark.parametrize("whole", [False, True], ids=["stdout", "stdout and stderr"])
def test_log_on_the_full_disk(tmp_path: Path, small: Callable[[str], None], *, whole: bool) -> None:
    """What a prune cannot write to its log does not keep it from freeing the disk that the log is on."""
    small("")
    begin(tmp_path, "prune")
    run, log = tmp_path / "run", tmp_path / "run" / "log"
    log.write_bytes(b"")
    with contextlib.suppress(OSError), (run / "fill").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    done = prune_logged(run, log, log if whole else None)
    assert (done.returncode, is_done(run, "prune")) == (1, True), log.read_text()
    told = log.read_text() if whole else done.stderr
    assert "ckptctl: not all that was to be said could be written: No space left on device\n" in told
    assert "deleted 2 checkpoints, freed " in log.read_text()
    assert_nothing_lost(run)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full here")
@pytest.mark.parametrize("errors", [None, "/dev/full"], ids=["stdout", "stdout and stderr"])
def test_nowhere_to_write(tmp_path: Path, errors: str | None) -> None:
    """The exit code tells that the report is not whole, even where nothing can be told on stderr."""
    begin(tmp_path, "prune")
    done = prune_logged(tmp_path / "run", Path("/dev/full"), None if errors is None else Path(errors))
    assert (done.returncode, is_done(tmp_path / "run", "prune")) == (1, True)
    if errors is None:
        assert done.stderr.splitlines() == [
            "ckptctl: not all that was to be said could be written: No space left on device"
        ]


@pytest.mark.parametrize("kind", CHANGING)
@pytest.mark.parametrize("limit", [0, 10, 4096])
def test_file_size_limit(tmp_path: Path, kind: str, limit: int) -> None:
    """Under a limit of a file's size, which no deletion cures, nothing is done by halves."""
    begin(tmp_path, kind)
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    _, said = tell(tmp_path, kind, prepare=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard)))
    assert_said(tmp_path, kind, said)
    assert_finishes(tmp_path, kind)


@root
@pytest.mark.parametrize("kind", CHANGING)
def test_read_only(tmp_path: Path, kind: str, small: Callable[[str], None]) -> None:
    """On a file system that has turned read-only nothing is done, and it says why."""
    small("")
    begin(tmp_path, kind)
    assert run_ok("mount", "-o", "remount,ro", str(tmp_path / "run"))
    _, said = tell(tmp_path, kind)
    assert_said(tmp_path, kind, said, done=False)
    assert "Read-only file system" in " ".join(said.complaints)
    assert run_ok("mount", "-o", "remount,rw", str(tmp_path / "run"))
    assert_finishes(tmp_path, kind)


@root
@pytest.mark.parametrize("kind", CHANGING)
@pytest.mark.parametrize("flag", ["i", "a"])
@pytest.mark.parametrize("name", [".", "checkpoint", "ckptctl.pins", "ckpt-2.index", f"ckpt-2.{lives.DATA}"])
def test_flags(tmp_path: Path, kind: str, flag: str, name: str) -> None:
    """What is immutable, or may only be appended to, is left as it is, and the rest goes on."""
    begin(tmp_path, kind)
    path = str(tmp_path / "run" / name)
    if not run_ok("chattr", f"+{flag}", path):
        pytest.skip("this file system has no such flags")
    try:
        _, said = tell(tmp_path, kind)
        assert_said(tmp_path, kind, said)
    finally:
        assert run_ok("chattr", f"-{flag}", path)
    assert_finishes(tmp_path, kind)


def become_nobody() -> None:
    """Gives up root's rights."""
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)


@root
@pytest.mark.parametrize("kind", CHANGING)
@pytest.mark.parametrize("mode", [0o1777, 0o755, 0o555, 0o777])
def test_user_without_rights(tmp_path: Path, kind: str, mode: int) -> None:
    """In a directory of root's, sticky or closed, a user can do nothing and is told so."""
    for parent in (tmp_path, *tmp_path.parents[:3]):
        parent.chmod(0o755)
    begin(tmp_path, kind)
    (tmp_path / "run").chmod(mode)
    _, said = tell(tmp_path, kind, prepare=become_nobody)
    assert_said(tmp_path, kind, said, done=None if mode & 0o1002 == 0o2 else False)
    if kind == "prune" and mode != 0o777:
        sticky = "only a file's owner deletes it, or the directory's"
        takes = sticky if mode == 0o1777 else "deleting takes the right to write in the directory"
        remedy = f"{takes}, which belongs to root, mode {mode:04o}"
        assert any(remedy in complaint for complaint in said.complaints), said
    (tmp_path / "run").chmod(0o755)
    assert_finishes(tmp_path, kind)


@pytest.mark.parametrize("kind", ["prune", "repair"])
@pytest.mark.parametrize("descriptors", [5, 6, 8])
def test_few_descriptors(tmp_path: Path, kind: str, descriptors: int) -> None:
    """With hardly a descriptor to spare the deed is done, or refused with a message; eight are enough."""
    begin(tmp_path, kind)
    limited = (
        f"ulimit -n {descriptors}; exec {sys.executable} -m ckptctl {' '.join(KINDS[kind])} {tmp_path}/run"
    )
    done = subprocess.run(["sh", "-c", limited], capture_output=True, text=True, check=False)
    assert_said(
        tmp_path, kind, Said(done.returncode, done.stdout, done.stderr), done=descriptors >= 8 or None
    )
    assert_finishes(tmp_path, kind)
