"""Tests of ckptctl.posix where the system lacks what it is built on."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
from typing import TYPE_CHECKING, Any

import pytest

from ckptctl import posix

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Library:
    """A C library with no more than what is put into it."""

    def __init__(self, **functions: Any) -> None:
        self.__dict__.update(functions)


class MacCall:
    """A function as ctypes has it, which notes what it is called with and succeeds."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def __call__(self, *arguments: Any) -> int:
        """Notes them."""
        self.calls.append(arguments)
        return 0


@contextlib.contextmanager
def c_library(library: Library) -> Iterator[None]:
    """Has another C library be found."""
    posix._libc_renameat2.cache_clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ctypes, "CDLL", lambda *_, **__: library)
        yield
    posix._libc_renameat2.cache_clear()


def test_c_library_without_a_call_cannot_exchange(tmp_path: Path) -> None:
    """Without Linux's call and macOS's there is no exchange; a rename to a free name there is."""
    (tmp_path / "old").write_text("old")
    (tmp_path / "other").write_text("other")
    with c_library(Library()), posix.open_directory(str(tmp_path)) as directory:
        with pytest.raises(NotImplementedError):
            posix.exchange(directory.fd, "old", "other")
        with pytest.raises(FileExistsError):
            posix.rename_new(directory.fd, "old", "other")
        posix.rename_new(directory.fd, "old", "new")
    assert sorted((path.name, path.read_text()) for path in tmp_path.iterdir()) == [
        ("new", "old"),
        ("other", "other"),
    ]


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOSYS, errno.ENOTSUP], ids=errno.errorcode.get)
@pytest.mark.parametrize("kind", ["file", "directory"])
def test_rename_without_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, kind: str
) -> None:
    """A file system that knows neither links nor conditions still renames to a free name, and to no other."""

    def no_link(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", no_link)
    (tmp_path / "old").write_text("old") if kind == "file" else (tmp_path / "old").mkdir()
    (tmp_path / "dangling").symlink_to("nowhere")
    before = (tmp_path / "old").stat().st_ino
    with c_library(Library()), posix.open_directory(str(tmp_path)) as directory:
        if kind == "file":
            with pytest.raises(FileExistsError):
                posix.rename_new(directory.fd, "old", "dangling")
        posix.rename_new(directory.fd, "old", "new")
    assert sorted(os.listdir(tmp_path)) == ["dangling", "new"]
    assert (tmp_path / "new").stat().st_ino == before


def test_link_that_fails_otherwise_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What says nothing about links leads to no rename."""

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "link", full)
    (tmp_path / "old").write_text("old")
    with (
        c_library(Library()),
        posix.open_directory(str(tmp_path)) as directory,
        pytest.raises(OSError, match="No space left"),
    ):
        posix.rename_new(directory.fd, "old", "new")
    assert os.listdir(tmp_path) == ["old"]


def test_macos_call_is_given_its_own_flags() -> None:
    """The renameatx_np of macOS takes renameat2's arguments; RENAME_SWAP is 2, RENAME_EXCL 4."""
    call = MacCall()
    with c_library(Library(renameatx_np=call)):
        posix.exchange(7, "one", "other")
        posix.rename_new(7, "old", "new")
    assert call.calls == [(7, b"one", 7, b"other", 2), (7, b"old", 7, b"new", 4)]
