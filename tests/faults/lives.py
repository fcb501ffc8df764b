"""A directory of a run, the trainer that goes on saving there, and what must hold whatever happens to it.

The trainer here does what TensorFlow's CheckpointManager does on the disk, one operation at a time, so that
each can be put before any system call of ours. It outlives us: how far it is stands in a file.
"""

from __future__ import annotations

import os
import shutil
import time
from typing import TYPE_CHECKING

import fabricate
from bundle_writer import BundleWriter

from ckptctl import naming, posix, removal, statefile
from ckptctl.opened import OpenCheckpoint
from ckptctl.scan import scan
from ckptctl.verify import Level, verify

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    import pytest

UINT8 = 4
DATA = "data-00000-of-00001"
SIZE = 120
"""Bytes of data in each checkpoint that the trainer saves; those that were there before have fewer."""
HEX = "0123456789abcdef" * 2
KEPT = 3


class Trainer:
    """Saves checkpoints, in three operations each: the data renamed, the index written, the state renamed.

    Args:
        run: Where it saves.
        progress: Where it notes how far it is; it lies outside the run.
        names: What it saves, one after the other; each may be one that is there.
        ahead: How many seconds its clock is ahead of the system's.
    """

    def __init__(self, run: Path, progress: Path, names: Iterable[str], ahead: float = 0.0) -> None:
        self._run = run
        self._progress = progress
        self._ahead = ahead
        self._before = [f"ckpt-{step}" for step in range(1, 7)]
        self.names = list(names)
        progress.write_bytes(b"")

    @property
    def done(self) -> int:
        """How many operations it has done."""
        return self._progress.stat().st_size

    @property
    def said(self) -> list[str]:
        """What its last state file lists, oldest first; empty if it has said nothing."""
        return self._listed(self.done // 3)

    @property
    def saved(self) -> list[str]:
        """The checkpoints of which it has written the state file."""
        return self.names[: self.done // 3]

    def _listed(self, saves: int) -> list[str]:
        said = self.names[:saves]
        return [name for name in self._before if name not in said] + said if said else []

    def work(self, operations: int) -> None:
        """Does its next operations, as many as there are left at most."""
        for at in range(self.done, min(self.done + operations, 3 * len(self.names))):
            self._one(*divmod(at, 3))
            with self._progress.open("ab") as file:
                file.write(b".")

    def _one(self, save: int, stage: int) -> None:
        name = self.names[save]
        if stage == 0:
            self._put(f"{name}.{DATA}", content(save))
        elif stage == 1:
            (self._run / f"{name}.index").write_bytes(index(save))
            self._touch(f"{name}.index")
        else:
            text = fabricate.state_text(self._listed(save + 1), last_preserved=1.0 + save)
            self._put("checkpoint", text.encode())

    def _put(self, name: str, text: bytes) -> None:
        temporary = self._run / f"checkpoint.tmp{HEX}"
        temporary.write_bytes(text)
        temporary.rename(self._run / name)
        self._touch(name)

    def _touch(self, name: str) -> None:
        now = time.time() + self._ahead
        os.utime(self._run / name, (now, now))

    def assert_heard(self) -> None:
        """Nothing it said is lost: the state has its latest, its own number, and what stays of its list."""
        if not self.said:
            return
        with posix.open_directory(str(self._run)) as directory:
            state, snapshot = statefile.read(directory, "checkpoint")
        assert snapshot is not None
        snapshot.close()
        assert state.latest is not None
        assert state.latest.path == self.said[-1]
        assert state.last_preserved == float(len(self.saved))
        listed = [entry.path for entry in state.entries]
        assert listed == [name for name in self.said if name in listed]
        assert set(listed) >= set(self.said[-KEPT:])

    def assert_kept(self) -> None:
        """The data of each checkpoint that it saved last are those that it wrote."""
        for name in set(self.saved):
            last = max(at for at, one in enumerate(self.saved) if one == name)
            assert (self._run / f"{name}.{DATA}").read_bytes() == content(last)
            assert (self._run / f"{name}.index").read_bytes() == index(last)


def content(save: int) -> bytes:
    """The data of one save, unlike those of any other."""
    return bytes([save + 1]) * SIZE


def index(save: int) -> bytes:
    """The index of such data."""
    writer = BundleWriter()
    writer.add(b"weights", UINT8, (SIZE,), content(save))
    return writer.index()


def set_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two hours from now, for `clean`: change times cannot be set back."""
    fabricate.set_clock(monkeypatch, "ckptctl.clean")


def begin(run: Path, *, mend: bool = False) -> None:
    """Makes a directory anew: six checkpoints, what killed saves left, and a pin.

    Args:
        run: The directory.
        mend: Whether its state names a latest that is not there.
    """
    shutil.rmtree(run, ignore_errors=True)
    fabricate.run(run, 6)
    if mend:
        names = [f"ckpt-{step}" for step in (1, 2, 3, 4, 5, 6, 9)]
        (run / "checkpoint").write_text(fabricate.state_text(names))
    (run / "ckptctl.pins").write_text("ckpt-1\n")
    (run / f"ckpt-11.{DATA}").write_bytes(b"left")
    parts = run / "ckpt-12_temp"
    parts.mkdir()
    (parts / f"part-00000-of-00001.{DATA}").write_bytes(b"left")


def names(run: Path) -> set[str]:
    """The checkpoints that have an index there."""
    return {name for name in fabricate.names(run) if not name.startswith(".ckptctl-")}


def private(run: Path) -> list[str]:
    """The names of ours that are there."""
    return [str(path) for path in run.rglob(".ckptctl-*")]


def taken(run: Path) -> set[str]:
    """The checkpoints of which a killed run of ours has left a part under a name of ours."""
    parsed = [naming.parse(removal.given_name(path.name)) for path in run.glob(".ckptctl-taken-*")]
    return {found.prefix for found in parsed if found is not None}


def assert_whole(run: Path, wanted: Iterable[str]) -> None:
    """Each of these is there and passes with every checksum."""
    with posix.open_directory(str(run)) as directory:
        for name in wanted:
            verdict = verify(OpenCheckpoint(directory, name), Level.DATA)
            assert verdict.ok, (name, verdict)


def assert_restorable(run: Path) -> None:
    """The state can be read, what it names as the latest passes, and so does all else that has an index."""
    found = scan(run)
    assert found.state.latest is not None
    latest = [one.name for one in found.checkpoints if one.latest]
    assert_whole(run, {*latest, *names(run)})
