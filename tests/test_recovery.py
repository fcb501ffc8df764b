"""Tests of ckptctl.recovery: what a killed run left is put right, and no signal breaks that off."""

from __future__ import annotations

import errno
import os
import shutil
import signal
from typing import TYPE_CHECKING

import fabricate
import pytest
import steps

from ckptctl import exchange, posix, recovery
from ckptctl.errors import RefusedError
from ckptctl.policy import Newest, Policy
from ckptctl.prune import prune
from ckptctl.scan import scan
from ckptctl.snapshot import Snapshot

if TYPE_CHECKING:
    from pathlib import Path

LISTED = [f"ckpt-{step}" for step in (2, 3, 4, 5, 6)]


def killed(run: Path) -> None:
    """A run in which two prunes were killed, with a word of the trainer in hand and with an index."""
    fabricate.run(run, 6)
    swap = posix.exchange

    def speak_and_be_killed(directory: int, one: str, other: str) -> None:
        (run / "trainer").write_text(fabricate.state_text(LISTED, latest="ckpt-5", timestamps=False))
        (run / "trainer").rename(run / "checkpoint")
        swap(directory, one, other)
        steps.kill()

    def work() -> None:
        posix.exchange = speak_and_be_killed
        prune(run, Policy((Newest(3),)))

    assert steps.in_child(work, lambda _: None) == -signal.SIGKILL
    (run / "ckpt-1.index").rename(run / ".ckptctl-taken-ckpt-1.index")
    assert len(private(run)) == 2


def private(run: Path) -> list[str]:
    """The names of ours that are there."""
    return [name for name in os.listdir(run) if name.startswith(".ckptctl-")]


def put_right(run: Path) -> None:
    """What every command begins with."""
    with posix.open_directory(str(run)) as directory, recovery.locked(directory, "checkpoint"):
        assert not private(run)


def assert_right(run: Path) -> None:
    """The trainer's word stands, the index has its name, and nothing of ours is left."""
    state = scan(run).state
    assert state.latest is not None
    assert state.latest.path == "ckpt-5"
    assert [entry.path for entry in state.entries] == LISTED
    assert fabricate.names(run) == {f"ckpt-{step}" for step in range(1, 7)}
    assert not private(run)


def test_what_a_killed_run_left(in_memory: Path) -> None:
    """Whoever locks a directory finds in it what the trainer left there, and no name of ours."""
    run = in_memory / "run"
    killed(run)
    put_right(run)
    assert_right(run)


def test_what_is_nobodys_may_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What another user's run left in a sticky directory refuses no command, as far as it is no word."""
    run = fabricate.run(tmp_path / "run", 6)
    (run / ".ckptctl-new-0123456789abcdef").write_bytes(b"half")
    (run / ".ckptctl-taken-ckpt-1.index").write_bytes(b"an older one")
    with posix.open_directory(str(run)) as directory:
        steps.in_child(lambda: killed_before_exchange(directory.fd), lambda _: None)
    left = private(run)
    assert len(left) == 3

    def denied(*_: object, **__: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", denied)
        with posix.open_directory(str(run)) as directory, recovery.locked(directory, "checkpoint"):
            assert sorted(private(run)) == sorted(left)
    put_right(run)


def killed_before_exchange(directory: int) -> None:
    """Leaves a text of ours that has not taken its place."""
    posix.exchange = lambda *_: steps.kill()
    base = Snapshot.take(directory, "checkpoint")
    exchange.replace(directory, "checkpoint", base, lambda words: words.text[:-1])


def test_word_that_cannot_be_put_back_refuses(in_memory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of the trainer that may not be renamed keeps every command off, which says who can go on."""
    run = in_memory / "run"
    killed(run)

    def denied(*_: object, **__: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(posix, "rename_new", denied)
    with pytest.raises(RefusedError, match=r"cannot be put right: .* as root, or as the user"):
        put_right(run)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_signal_at_any_moment_of_a_recovery(in_memory: Path, number: signal.Signals) -> None:
    """Wherever it comes, the process ends when all is put right."""
    run = in_memory / "run"
    killed(in_memory / "killed")

    def begin() -> None:
        shutil.rmtree(run, ignore_errors=True)
        shutil.copytree(in_memory / "killed", run, copy_function=os.link)  # with the inodes, which tell much

    begin()
    count = steps.in_child(lambda: put_right(run), lambda _: None)
    assert count > 10
    for moment in range(1, count):  # before the first call nothing is locked
        begin()
        ended = steps.signalled(lambda: put_right(run), number, moment)
        assert ended >= 0 if number == signal.SIGINT else ended == -number
        assert_right(run)
