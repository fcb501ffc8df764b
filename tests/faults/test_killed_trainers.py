"""Real TensorFlow trainers, each killed by SIGKILL before every file operation of a save, and started again.

strace attaches to a trainer that is about to save, and kills it in its so-manieth call of a kind. Then we
prune and clean what it left, and a new one has to restore the newest and go on, until it is killed in turn.
The short form is a few kills of one trainer; `pytest --long --timeout 0 tests/faults/test_killed_trainers.py`
goes through all.
"""

from __future__ import annotations

import itertools
import os
import re
import shutil
import signal
import subprocess
from typing import TYPE_CHECKING

import lives
import pytest
from trainers import Found, found_in, start_trainer

from ckptctl import posix
from ckptctl.clean import clean
from ckptctl.policy import Newest, Policy
from ckptctl.prune import prune
from ckptctl.scan import scan
from ckptctl.verify import Level, open_scanned, verify

if TYPE_CHECKING:
    from pathlib import Path

KEEP = 3
THREE = Policy((Newest(KEEP),))

CALLS = [
    "?open,openat",
    "write",
    "?rename,?renameat,renameat2",
    "?mkdir,mkdirat",
    "?unlink,unlinkat",
    "?rmdir,unlinkat",
]
"""What changes a directory, one kind after the other; the first names are those of older machines."""

OWN: tuple[str, ...] = ()
POOL = ("-f",)
"""Whose calls strace counts: the main thread's, or those of whichever thread comes first to so many."""

THREADS: dict[str, list[tuple[str, ...]]] = {
    "manager": [OWN],
    "own-names": [OWN],
    "preserved": [OWN],
    "sharded": [OWN],
    "keras2-model-checkpoint": [OWN],
    "async": [POOL],
    "saver": [POOL, OWN],
    "saver-sharded": [POOL, OWN],
    "saver-v1": [POOL, OWN],
    "saver-v1-sharded": [POOL, OWN],
}
"""In which threads each trainer saves: TF1's operations write the tensors, its Saver the rest.

All have a state file. What `Checkpoint.write` leaves is for the trainer to choose from, which may take an
index that is half written.
"""

MAX_TO_KEEP = 2
"""So few that a trainer deletes at each save, if it deletes at all; what it knows nothing of is ours."""

KEEPS_ITS_OWN = {"own-names", "preserved", "keras2-model-checkpoint"}
"""What cannot be told how many to keep, or keeps them in a way of its own."""

SHORT = [(CALLS[2], at) for at in (3, 4)]
"""Before the data get their name, and before the state file is replaced."""

needs_strace = pytest.mark.skipif(shutil.which("strace") is None, reason="strace kills before a call")


class Victim:
    """A trainer that waits before each of its saves.

    Args:
        name: Which.
        run: Where it saves.
        report: Whether there is something to restore.

    Attributes:
        found: What it restored.
    """

    def __init__(self, name: str, run: Path, *, report: bool) -> None:
        kept = None if name in KEEPS_ITS_OWN else MAX_TO_KEEP
        self._process = start_trainer(name, run, saves=1_000_000, max_to_keep=kept, report=report, gate=True)
        try:
            self.found: Found | None = found_in(self._line()) if report else None
            assert self._line() == "\n"
        except BaseException:
            self.close()
            raise

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    def _go(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def save(self) -> None:
        """Lets it save once."""
        self._go()
        assert self._line() == "\n"

    def killed_before(self, calls: str, at: int, threads: tuple[str, ...], log: Path) -> str | None:
        """Lets it save once, and kills it before a call.

        Args:
            calls: The kind of call, as strace has it.
            at: The how-manieth of them, from 1.
            threads: Whose.
            log: Where strace writes the calls to.

        Returns:
            The call, as strace has it; None if there were fewer, and it has saved.
        """
        command = ["strace", *threads, "-s", "0", "-o", str(log), "-e", f"trace={calls}"]
        command += ["-e", f"inject={calls}:signal=KILL:when={at}", "-p", str(self._process.pid)]
        with subprocess.Popen(command, stderr=subprocess.PIPE) as strace:
            assert strace.stderr is not None
            assert b"attached" in strace.stderr.readline()
            self._go()
            if self._line():
                strace.terminate()  # it detaches
                return None
            code = self._process.wait(60)
            strace.kill()  # some wait for ever for a thread of what is dead
        assert code == -signal.SIGKILL
        self.close()
        found: list[str] = re.findall(r"^(?:\d+ +)?(\w+\(.*)", log.read_text(), re.MULTILINE)
        return found[-1]

    def close(self) -> None:
        """Kills it, if it is alive."""
        with self._process:
            self._process.kill()


def sound(run: Path) -> list[str]:
    """The checkpoints whose every checksum is right, oldest first."""
    found = scan(run)
    with posix.open_directory(str(run)) as directory:
        return [
            one.name
            for one in found.checkpoints
            if one.on_disk and verify(open_scanned(directory, one, follow=False), Level.DATA).ok
        ]


def latest_of(run: Path) -> str:
    """What the state names as the latest."""
    latest = scan(run).state.latest
    assert latest is not None
    return latest.name


def assert_goes_on(name: str, run: Path) -> Victim:
    """The latest and the newest stay through a prune and a clean; a new trainer restores what it should.

    What is left of a save is gone then, unless it bears the name of the latest.
    """
    last, before = latest_of(run), sound(run)
    assert last in before
    prune(run, THREE)
    clean(run, offline=True)
    assert not lives.private(run)
    assert latest_of(run) == last
    assert sound(run)[-KEEP:] == before[-KEEP:]
    assert all(file.name.startswith((f"{last}.", f"{last}_")) for file in scan(run).leftovers)
    victim = Victim(name, run, report=True)
    assert victim.found is not None
    assert os.path.basename(victim.found.restored).startswith(last)
    return victim


@needs_strace
@pytest.mark.parametrize("name", THREADS)
def test_killed_before_every_operation(
    tmp_path: Path,
    name: str,
    long: bool,  # noqa: FBT001 - a fixture
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After each, a prune and a clean, training goes on from the newest that there was."""
    if not long and name != "manager":
        pytest.skip("only with --long")
    lives.set_clock(monkeypatch)
    monkeypatch.setenv("TF_NUM_INTEROP_THREADS", "1")
    run, log, killed = tmp_path / "run", tmp_path / "log", []
    victim = Victim(name, run, report=False)
    try:
        victim.save()
        for threads, calls in itertools.product(THREADS[name], CALLS):
            for at in itertools.count(1) if long else [at for kind, at in SHORT if kind == calls]:
                victim.save()
                before = victim.killed_before(calls, at, threads, log)
                if before is None:
                    break
                killed.append(
                    re.sub(r"[0-9a-f]{32}|[0-9]{5,}|(?<=-)[0-9]+", "#", before.replace(str(run), ""))
                )
                victim = assert_goes_on(name, run)
    finally:
        victim.close()
    assert len(killed) >= len(SHORT)
    assert any("checkpoint.tmp" in before for before in killed)
    kinds = sorted(set(killed))
    print(f"{name}: killed {len(killed)} times, before {len(kinds)} kinds of calls", *kinds, sep="\n  ")  # noqa: T201
