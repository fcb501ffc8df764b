"""Tests of ckptctl.pins and ckptctl.pinfile: what is pinned stays, and the file says so whatever happens."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import signal
from typing import TYPE_CHECKING

import fabricate
import pytest
import steps
from hypothesis import given
from hypothesis import strategies as st

from ckptctl import locks, pinfile, posix
from ckptctl.errors import LockedError, RefusedError, UnreadableError
from ckptctl.naming import PINS_FILE
from ckptctl.pins import pin, unpin
from ckptctl.plan import plan
from ckptctl.policy import Newest, Policy
from ckptctl.prune import prune
from ckptctl.scan import scan

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ckptctl.pins import PinReport

ONE = Policy((Newest(1),))


def test_pinned_stays_until_it_is_unpinned(tmp_path: Path) -> None:
    """No policy deletes what is pinned, the plan says why, and unpinned it goes as any other."""
    fabricate.run(tmp_path, 5)
    assert pin(str(tmp_path), ["ckpt-2", "ckpt-1"]).pinned == ("ckpt-1", "ckpt-2")
    kept = {one.checkpoint.name: one.reasons for one in plan(scan(tmp_path), ONE).keep}
    assert kept["ckpt-2"] == ("pinned",)
    prune(tmp_path, ONE)
    assert fabricate.names(tmp_path) == {"ckpt-1", "ckpt-2", "ckpt-5"}
    assert unpin(str(tmp_path), ["ckpt-2"]).changed == ("ckpt-2",)
    prune(tmp_path, ONE)
    assert fabricate.names(tmp_path) == {"ckpt-1", "ckpt-5"}


def test_file_is_in_a_copy_and_goes_with_the_last_pin(tmp_path: Path) -> None:
    """`cp DIR/* COPY` takes the pins along; the last one that goes takes the file with it."""
    run = fabricate.run(tmp_path / "run", 3)
    pin(str(run), ["ckpt-1"])
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in run.glob("*"):  # as a shell's star does, it passes over names with a dot in front
        if not file.name.startswith("."):
            shutil.copy(file, copy)
    assert scan(copy).pins.names == {"ckpt-1"}
    assert unpin(str(copy), ["ckpt-1"]).pinned == ()
    assert not (copy / PINS_FILE).exists()
    assert (run / PINS_FILE).read_text().splitlines()[-1] == "ckpt-1"


@pytest.mark.parametrize(
    "name",
    ["a b-1", " lead-1", "100%-1", "#1-1", "x#y-1", "käse-1", "a\nb-1", os.fsdecode(b"\xff-1"), "\u2028-1"],
    ids=ascii,
)
def test_odd_names_are_pinned_too(tmp_path: Path, name: str) -> None:
    """Whatever a name holds, it is one line of text, and reads back as it was."""
    fabricate.run(tmp_path, 2)
    fabricate.checkpoint(tmp_path, name, at=fabricate.EPOCH - 9)
    pin(str(tmp_path), [name])
    text = (tmp_path / PINS_FILE).read_bytes()
    assert len([line for line in text.decode().splitlines() if not line.startswith("#")]) == 1
    prune(tmp_path, ONE)
    assert name in fabricate.names(tmp_path)
    unpin(str(tmp_path), [name])
    assert not (tmp_path / PINS_FILE).exists()


@given(st.sets(st.text(min_size=1, max_size=60).filter(lambda name: name.isprintable() or len(name) < 9)))
def test_names_survive_the_file(names: set[str]) -> None:
    """What is added reads back, in whatever order it was added; what is removed is gone, and nothing else."""
    names = {name for name in names if "/" not in name and "\0" not in name and name not in {".", ".."}}
    text = pinfile.added(b"", names)
    assert set(pinfile.names(text)) == names
    for name in names:
        rest = pinfile.removed(text, {name})
        assert (set() if rest is None else set(pinfile.names(rest))) == names - {name}


@given(st.binary(max_size=200))
def test_any_bytes_are_names_or_refused(text: bytes) -> None:
    """Whatever the file holds, there are names that a file may have, or our own error."""
    found = []
    with contextlib.suppress(RefusedError):
        found = pinfile.names(text)
    assert all(name and "/" not in name and len(os.fsencode(name)) <= 255 for name in found)


def test_what_people_write_beside_the_names_stays(tmp_path: Path) -> None:
    """Comments, empty lines and line ends of Windows are read, and stand after further pins as before."""
    fabricate.run(tmp_path, 4)
    (tmp_path / PINS_FILE).write_bytes(b"\xef\xbb\xbfckpt-1\r\n\r\n  # the best by far\r\nckpt-2")
    assert scan(tmp_path).pins.names == {"ckpt-1", "ckpt-2"}
    pin(str(tmp_path), ["ckpt-3"])
    unpin(str(tmp_path), ["ckpt-1"])
    assert (tmp_path / PINS_FILE).read_bytes() == b"\r\n  # the best by far\r\nckpt-2\nckpt-3\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"ckpt-1\nrun/ckpt-2\n", "line 2 .* without a path"),
        (b"..\n", "line 1 .* without a path"),
        (b"100%\n", "line 1 .* a percent sign"),
        (b"ckpt\x1b[31m-1\n", "line 1 .* a control character"),
        ("ckpt-1\n".encode("utf-16"), "line 1 .* a control character"),
        (b"%00", "without a path"),
        (b"x" * 256, "more than 255 bytes"),
        (b"# " + b"x" * pinfile.MAX_BYTES, "more than 1,048,576 bytes"),
    ],
    ids=["path", "parent", "percent", "control", "utf-16", "nul", "long", "huge"],
)
def test_pins_that_cannot_be_read_refuse(tmp_path: Path, content: bytes, message: str) -> None:
    """While it is not known what was to stay nothing is deleted or pinned; the message says which line."""
    fabricate.run(tmp_path, 4)
    (tmp_path / PINS_FILE).write_bytes(content)
    before = fabricate.contents(tmp_path)
    with pytest.raises(RefusedError, match=message):
        prune(tmp_path, ONE)
    for action in (pin, unpin):
        with pytest.raises(RefusedError, match=message):
            action(str(tmp_path), ["ckpt-1"])
    assert fabricate.contents(tmp_path) == before


@pytest.mark.parametrize("kind", ["link", "fifo", "directory"])
def test_other_kinds_of_files_refuse(tmp_path: Path, kind: str) -> None:
    """A link is not followed and a FIFO not waited for: pins are a regular file."""
    run = fabricate.run(tmp_path / "run", 4)
    pins = run / PINS_FILE
    if kind == "link":
        (tmp_path / "elsewhere").write_text("ckpt-1\n")
        pins.symlink_to(tmp_path / "elsewhere")
    elif kind == "fifo":
        os.mkfifo(pins)
    else:
        pins.mkdir()
    for deed in (lambda: prune(run, ONE), lambda: pin(str(run), ["ckpt-1"])):
        with pytest.raises(RefusedError, match="not a regular file"):
            deed()
    assert len(fabricate.names(run)) == 4


def test_names_that_are_not_there(tmp_path: Path) -> None:
    """A name that is no checkpoint's is refused with the nearest ones, and nothing else is pinned with it."""
    fabricate.run(tmp_path, 2)
    with pytest.raises(UnreadableError, match=r"ckpt-11: no such checkpoint; did you mean ckpt-1"):
        pin(str(tmp_path), ["ckpt-2", "ckpt-11"])
    with pytest.raises(UnreadableError, match="no such directory or checkpoint; `ckptctl ls"):
        unpin(str(tmp_path), ["quite another"])
    assert not (tmp_path / PINS_FILE).exists()


def test_v1_without_a_number_is_pinned_too(tmp_path: Path) -> None:
    """A V1 checkpoint that only the state file tells from another file is known by what is in it."""
    fabricate.run(tmp_path, 2, listed=0)
    (tmp_path / "model").write_bytes(fabricate.v1())
    os.utime(tmp_path / "model", (fabricate.EPOCH - 9, fabricate.EPOCH - 9))
    (tmp_path / "checkpoint").write_text(
        fabricate.state_text(["model", "ckpt-1", "ckpt-2"], timestamps=False)
    )
    pin(str(tmp_path), ["model"])
    prune(tmp_path, ONE)
    assert (tmp_path / "model").exists()
    (tmp_path / "notes").write_text("no checkpoint")
    with pytest.raises(UnreadableError, match="no such checkpoint"):
        pin(str(tmp_path), ["notes"])


def test_unpinning_what_is_gone(tmp_path: Path) -> None:
    """What the trainer itself deleted is named by the plan, and can be unpinned."""
    fabricate.run(tmp_path, 3)
    pin(str(tmp_path), ["ckpt-1"])
    for file in tmp_path.glob("ckpt-1.*"):
        file.unlink()
    assert plan(scan(tmp_path), ONE).notes == (
        "ckpt-1 is pinned and not there; `ckptctl unpin` takes it off the list",
    )
    assert unpin(str(tmp_path), ["ckpt-1"]).changed == ("ckpt-1",)
    assert plan(scan(tmp_path), ONE).notes == ()


def test_pinning_twice_changes_nothing(tmp_path: Path) -> None:
    """What is pinned already is left as it is, and so is the file."""
    fabricate.run(tmp_path, 2)
    pin(str(tmp_path), ["ckpt-1"])
    before = (tmp_path / PINS_FILE).stat()
    assert pin(str(tmp_path), ["ckpt-1", "ckpt-1"]).changed == ()
    assert unpin(str(tmp_path), ["ckpt-2"]).changed == ()
    after = (tmp_path / PINS_FILE).stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


@pytest.mark.skipif(os.getuid() != 0, reason="only root gives a file to another user")
def test_owner_that_has_no_number_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a container whose user is not mapped, the file is the one's who pins, as where that is forbidden."""
    fabricate.run(tmp_path, 3)
    pin(str(tmp_path), ["ckpt-1"])
    os.chown(tmp_path / PINS_FILE, 1234, 1234)

    def unmapped(*_: object) -> None:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr(os, "fchown", unmapped)
    assert pin(str(tmp_path), ["ckpt-2"]).pinned == ("ckpt-1", "ckpt-2")
    assert (tmp_path / PINS_FILE).stat().st_uid == 0


def test_mode_stays(tmp_path: Path) -> None:
    """A file that was opened to a group stays so."""
    fabricate.run(tmp_path, 2)
    pin(str(tmp_path), ["ckpt-1"])
    (tmp_path / PINS_FILE).chmod(0o664)
    pin(str(tmp_path), ["ckpt-2"])
    assert (tmp_path / PINS_FILE).stat().st_mode & 0o777 == 0o664


def test_locked_directory_is_left_alone(tmp_path: Path) -> None:
    """While a prune is at work nothing is pinned that it may be deleting."""
    fabricate.run(tmp_path, 2)
    with posix.open_directory(str(tmp_path)) as other, locks.lock(other), pytest.raises(LockedError):
        pin(str(tmp_path), ["ckpt-1"])


@pytest.mark.parametrize("action", [pin, unpin], ids=["pin", "unpin"])
@pytest.mark.parametrize("last", [False, True], ids=["one of two", "the last"])
def test_kill_at_any_moment(tmp_path: Path, action: Callable[..., PinReport], last: bool) -> None:  # noqa: FBT001 - a parameter
    """A kill before any call leaves the pins of before or of after, and the next run tidies up."""
    run = tmp_path / "run"
    others = set() if last else {"ckpt-1"}

    def fresh() -> None:
        shutil.rmtree(run, ignore_errors=True)
        fabricate.run(run, 3)
        named = [*others, *(["ckpt-2"] if action is unpin else [])]
        if named:
            pin(str(run), named)

    def work() -> None:
        action(str(run), ["ckpt-2"])

    def kill_at(moment: int) -> int:
        return steps.in_child(work, lambda call: steps.kill() if call == moment else None)

    fresh()
    count = steps.in_child(work, lambda _: None)
    assert count > 5
    for moment in range(count):
        fresh()
        assert kill_at(moment) == -signal.SIGKILL
        pins = scan(run).pins
        assert pins.problem is None
        assert pins.names in ({"ckpt-2", *others}, others)
        work()
        assert scan(run).pins.names == ({"ckpt-2", *others} if action is pin else others)
        assert not [name for name in os.listdir(run) if name.startswith(".ckptctl-")]
