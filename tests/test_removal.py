"""Tests of ckptctl.removal: only what was scanned goes, and what a killed run took has its name again."""

from __future__ import annotations

import os
import zlib
from typing import TYPE_CHECKING, Any

import fabricate
import pytest

from ckptctl import posix, removal
from ckptctl.policy import Newest, Policy
from ckptctl.prune import prune
from ckptctl.scan import scan

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ckptctl.model import Plan

THREE = Policy((Newest(3),))
NEWEST = {"ckpt-4", "ckpt-5", "ckpt-6"}


def replaced(path: Path) -> None:
    """Another file of that name, as long as before."""
    new = path.with_name("new")
    new.write_bytes(path.read_bytes())
    new.rename(path)


def longer(path: Path) -> None:
    """The file written on, in place."""
    with path.open("ab") as file:
        file.write(b"more")


def keeping_times(change: Callable[[Path], None]) -> Callable[[Path], None]:
    """A change that leaves the time of the last writing as it was, as a copy that keeps times does."""

    def changed(path: Path) -> None:
        before = path.stat()
        change(path)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    return changed


def later(path: Path) -> None:
    """The same bytes in the same file, at another time."""
    before = path.stat()
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))


CHANGES = {
    "another inode": keeping_times(replaced),
    "another size": keeping_times(longer),
    "another time": later,
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_what_was_written_again_is_spared(tmp_path: Path, change: Callable[[Path], None]) -> None:
    """An index that differs from the one that was scanned in a single respect stays, with its data."""
    fabricate.run(tmp_path, 6)

    def write_again(_: Plan) -> None:
        change(tmp_path / "ckpt-2.index")

    report = prune(tmp_path, THREE, announce=write_again)
    assert (report.deleted, report.spared) == (("ckpt-1", "ckpt-3"), ("ckpt-2",))
    assert fabricate.names(tmp_path) == {"ckpt-2", *NEWEST}
    assert (tmp_path / "ckpt-2.data-00000-of-00001").exists()


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_what_was_written_again_after_the_look_has_its_name_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], None]
) -> None:
    """Between the look at a file and its renaming to a private name a trainer may write it."""
    index = fabricate.checkpoint(tmp_path, "ckpt-1")[-1]
    (found,) = scan(tmp_path).checkpoints
    assert found.index is not None
    take = removal.take

    def taken(directory: int, name: str) -> str:
        change(index)
        return take(directory, name)

    monkeypatch.setattr(removal, "take", taken)
    before = fabricate.contents(tmp_path).keys()
    with posix.open_directory(str(tmp_path)) as directory, pytest.raises(removal.WrittenAgainError):
        removal.remove(directory.fd, found.index)
    assert fabricate.contents(tmp_path).keys() == before


def test_file_that_is_as_it_was_goes(tmp_path: Path) -> None:
    """What was scanned and not touched since is removed, and the bytes that this frees are told."""
    fabricate.checkpoint(tmp_path, "ckpt-1")
    (found,) = scan(tmp_path).checkpoints
    with posix.open_directory(str(tmp_path)) as directory:
        assert sum(removal.remove(directory.fd, file) for file in found.files) == found.bytes
    assert os.listdir(tmp_path) == []


def number_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has each name have an inode number of its own, as on a file system that renames by copying."""
    real = os.stat

    def named(path: str, **options: Any) -> os.stat_result:
        found = real(path, **options)
        if "dir_fd" not in options:
            return found
        return os.stat_result((found.st_mode, zlib.crc32(path.encode()), *found[2:]), _times(found))

    monkeypatch.setattr(os, "stat", named)


def _times(found: os.stat_result) -> dict[str, int]:
    return {name: getattr(found, name) for name in ("st_atime_ns", "st_mtime_ns", "st_ctime_ns")}


@pytest.mark.parametrize("change", [None, longer, later], ids=["as it was", "another size", "another time"])
def test_number_that_changes_with_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], None] | None
) -> None:
    """Where a rename changes the inode number, what is as long and as old as what was scanned goes."""
    index = fabricate.checkpoint(tmp_path, "ckpt-1")[-1]
    (found,) = scan(tmp_path).checkpoints
    assert found.index is not None
    number_by_name(monkeypatch)
    file = found.index._replace(inode=zlib.crc32(index.name.encode()))
    take = removal.take

    def taken(directory: int, name: str) -> str:
        if change is not None:
            change(index)
        return take(directory, name)

    monkeypatch.setattr(removal, "take", taken)
    before = fabricate.contents(tmp_path).keys()
    with posix.open_directory(str(tmp_path)) as directory:
        if change is None:
            assert removal.remove(directory.fd, file) == file.size
        else:
            with pytest.raises(removal.WrittenAgainError):
                removal.remove(directory.fd, file)
    gone = set() if change is not None else {index.name}
    assert fabricate.contents(tmp_path).keys() == before - gone


def no_rename(*_: object) -> None:
    """What a system says that cannot rename to a free name alone."""
    raise NotImplementedError("renameat2")


@pytest.mark.parametrize("system", ["Linux", "another"])
def test_name_that_is_in_use_again_is_not_given_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, system: str
) -> None:
    """What a killed run had taken goes where the name was saved again, and the newer file is whole."""
    if system == "another":
        monkeypatch.setattr(posix, "_renameat2", no_rename)
    fabricate.run(tmp_path, 3)
    before = fabricate.contents(tmp_path)
    for name in ("ckpt-1.index", "ckpt-1.data-00000-of-00001"):
        (tmp_path / f".ckptctl-taken-{name}").write_bytes(b"old")
    (tmp_path / "ckpt-2.index").rename(tmp_path / ".ckptctl-taken-ckpt-2.index")
    prune(tmp_path, THREE)
    assert fabricate.contents(tmp_path) == before
