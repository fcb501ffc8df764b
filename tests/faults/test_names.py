"""Every name and every kind of file that another user may put into a directory that we work in as root.

strace writes down each call that opens, deletes, renames or changes a file. Each path has to lie in the
directory itself, reached through its own descriptor, and no link may be followed to outside. Beside the
command a second process swaps links in: once, and 100 times with
`pytest --long --timeout 0 tests/faults/test_names.py`.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import stat
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import fabricate
import lives
import pytest

from ckptctl.scan import scan

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

needs_strace = pytest.mark.skipif(shutil.which("strace") is None, reason="strace sees what is opened")

CHANGING = (
    "unlink,unlinkat,rename,renameat,renameat2,rmdir,link,linkat,symlink,symlinkat,mkdir,mkdirat,mknodat"
)
CHANGING_MODES = "chmod,fchmod,fchmodat,chown,lchown,fchown,fchownat,truncate,ftruncate,utimensat"
LONG_NAME = "n" * 248 + "-1"
ODD = [
    "new\nline-1",
    "escape\x1b[31m-1",
    "run[1]-1",
    "star*-1",
    os.fsdecode(b"\xff\xfe-1"),
    " -1",
    "-rf-1",
    LONG_NAME,
]
"""Prefixes that are names like any other; the last is as long as an index's name may be."""


def populate(run: Path, outside: Path) -> None:
    """A run of six with everything in it that may bear a name."""
    fabricate.run(run, 6)
    outside.mkdir()
    fabricate.run(outside, 3)
    for at, name in enumerate(ODD):
        short = name if name != LONG_NAME else "n" * 227 + "-1"
        fabricate.checkpoint(run, short, at=fabricate.EPOCH - 1000 + at)
    (run / f"{LONG_NAME[-249:]}.index").write_bytes(fabricate.index())
    (run / "ckpt-21.index").symlink_to(outside / "ckpt-1.index")
    (run / f"ckpt-21.{lives.DATA}").symlink_to(outside / f"ckpt-1.{lives.DATA}")
    (run / "ckpt-22.index").symlink_to(outside)
    (run / "ckpt-23.index").symlink_to("nowhere")
    (run / "ckpt-24.index").symlink_to("ckpt-24.index")
    (run / "ckpt-25.index").mkdir()
    os.mkfifo(run / "ckpt-26.index")
    os.mkfifo(run / f"ckpt-26.{lives.DATA}")
    with socket.socket(socket.AF_UNIX) as bound:
        here = os.open(run, os.O_RDONLY)
        bound.bind(f"/proc/self/fd/{here}/ckpt-27.index")
        os.close(here)
    if os.getuid() == 0:
        os.mknod(run / "ckpt-28.index", 0o600 | stat.S_IFCHR, os.makedev(1, 3))
    (run / "ckpt-29_temp").symlink_to(outside)
    (run / f"checkpoint.tmp{lives.HEX}").symlink_to(outside / "checkpoint")
    (run / ".ckptctl-taken-ckpt-31.index").symlink_to(outside / "ckpt-1.index")


def traced(run: Path, log: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Runs a command under strace; descriptors are written with their paths."""
    calls = f"trace=open,openat,openat2,{CHANGING},{CHANGING_MODES}"
    return subprocess.run(
        [
            "strace",
            "-f",
            "-y",
            "-s",
            "600",
            "-o",
            str(log),
            "-e",
            calls,
            sys.executable,
            "-m",
            "ckptctl",
            *words,
            str(run),
        ],
        capture_output=True,
        text=True,
        errors="surrogateescape",
        timeout=120,
        check=False,
    )


_CALL = re.compile(r"\d+\s+(?P<name>\w+)\((?P<arguments>.*)\)\s+= (?P<result>.*)")
_AT = re.compile(r'(?P<directory>AT_FDCWD(?:<[^>]*>)?|\d+<[^>]*>), "(?P<path>(?:[^"\\]|\\.)*)"')
_RESULT = re.compile(r"\d+<(?P<path>[^>]*)>")


def operations(log: Path) -> Iterator[tuple[str, str, str]]:
    """Each call that was made: its name, its arguments and its result."""
    for line in log.read_text(errors="surrogateescape").splitlines():
        if (call := _CALL.match(line)) is not None:
            yield call["name"], call["arguments"], call["result"]


def outside_operations(run: Path, outside: Path, log: Path, *, looks: bool = False) -> list[str]:
    """What was done to anything but files of the directory itself; `looks` are allowed for `verify`."""
    found = []
    for name, arguments, result in operations(log):
        opened = _RESULT.match(result)
        if name.startswith("open"):
            wrong = not looks and opened is not None and opened["path"].startswith(str(outside))
            writes = re.search(r"O_WRONLY|O_RDWR|O_CREAT|O_TRUNC", arguments) is not None
            if writes and opened is not None and "/dev/null" not in opened["path"]:
                wrong = wrong or not opened["path"].startswith(f"{run}/")
        elif name in {"fchmod", "fchown", "ftruncate"}:
            wrong = re.match(rf"\d+<{re.escape(str(run))}/", arguments) is None
        else:
            places = list(_AT.finditer(arguments))
            wrong = not places
            for place in places:
                inside = place["directory"].partition("<")[2].rstrip(">")
                below = inside == str(run) or inside.startswith(f"{run}/")
                wrong = wrong or not below or "/" in place["path"]
        if wrong:
            found.append(f"{name}({arguments}) = {result}")
    return found


def what_is_there(path: Path) -> dict[str, tuple[int, int, int, int]]:
    """Every file below a directory, with what a change would change."""
    return {
        str(one): (found.st_ino, found.st_mode, found.st_size, found.st_mtime_ns)
        for one in sorted(path.rglob("*"))
        for found in [one.lstat()]
    }


COMMANDS = [
    ("prune", "--keep=2"),
    ("clean", "--older-than=1m", "--offline"),
    ("repair", "--order=step"),
    ("ls", "-l"),
    ("verify",),
]


@needs_strace
@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: words[0])
def test_every_kind_of_file(tmp_path: Path, words: tuple[str, ...]) -> None:
    """No call reaches anything outside, what is no regular file stays, and names are printed escaped."""
    run, outside = tmp_path / "run", tmp_path / "outside"
    populate(run, outside)
    if words[0] == "repair":
        (run / "checkpoint").write_bytes(b"garbled {")
    before, kinds = what_is_there(outside), {one: one.lstat().st_mode for one in run.iterdir()}
    done = traced(run, tmp_path / "log", *words)
    assert done.returncode in {0, 1, 3, 4}, done
    assert "Traceback" not in done.stderr
    assert "\x1b[31m" not in done.stdout + done.stderr
    made = len(list(operations(tmp_path / "log")))
    assert made > 50
    print(f"{words[0]}: {made} calls")  # noqa: T201 - for -rP
    assert outside_operations(run, outside, tmp_path / "log", looks=words[0] == "verify") == []
    assert what_is_there(outside) == before
    for path, mode in kinds.items():
        if not stat.S_ISREG(mode) and not path.name.startswith(".ckptctl-"):
            assert path.lstat().st_mode == mode, path
    lives.assert_whole(run, {"ckpt-5", "ckpt-6"})
    if words[0] == "prune":
        assert {"ckpt-1", "ckpt-2", "ckpt-3", *ODD[:7]} & lives.names(run) == set()
    assert scan(run).state.latest is not None


SWAPPER = """
import os, sys
run, outside = sys.argv[1:]
data = "data-00000-of-00001"
victims = ["ckpt-1.index", "ckpt-2.index", f"ckpt-1.{data}", f"ckpt-2.{data}", "checkpoint"]
os.chdir(run)
print("ready", flush=True)
turn = 0
while True:
    turn += 1
    for name in victims:
        link, kept = f"../swap-{name}", f"../kept-{name}"
        target = os.path.join(outside, name)
        try:
            os.symlink(target if turn % 3 else outside, link)
            os.rename(name, kept)
            os.rename(link, name)
            os.rename(kept, name)
        except OSError:
            pass
        for left in (link, kept):
            try:
                os.rename(left, name) if left == kept else os.unlink(left)
            except OSError:
                pass
"""


@needs_strace
@pytest.mark.parametrize("words", [("prune", "--keep=2"), ("repair",)], ids=lambda w: w[0])
def test_links_swapped_in_at_full_speed(tmp_path: Path, words: tuple[str, ...], long: bool) -> None:  # noqa: FBT001 - a fixture
    """While another process puts links to outside in the place of victims, nothing outside is touched."""
    made = 0
    for turn in range(100 if long else 1):
        here = tmp_path / str(turn)
        run, outside = here / "run", here / "outside"
        here.mkdir()
        fabricate.run(run, 8)
        fabricate.run(outside, 8)
        before = what_is_there(outside)
        swapper = subprocess.Popen(
            [sys.executable, "-c", SWAPPER, str(run), str(outside)], stdout=subprocess.PIPE, text=True
        )
        with swapper:
            try:
                assert swapper.stdout is not None
                assert swapper.stdout.readline() == "ready\n"
                time.sleep(0.01)
                done = traced(run, here / "log", *words)
                assert swapper.poll() is None
            finally:
                swapper.kill()
        assert done.returncode in {0, 1, 3, 4}, done
        assert "Traceback" not in done.stderr, done.stderr
        assert outside_operations(run, outside, here / "log") == []
        assert what_is_there(outside) == before
        lives.assert_whole(run, {"ckpt-7", "ckpt-8"})
        made += len(list(operations(here / "log")))
        shutil.rmtree(here)
    print(f"{words[0]}: {turn + 1} races, {made:,} calls")  # noqa: T201 - for -rP
