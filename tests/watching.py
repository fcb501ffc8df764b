"""A `ckptctl watch` in a process of its own, listened to."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import fabricate
import pytest

from ckptctl.plan import DEFAULT_PROTECTIONS, Protections
from ckptctl.policy import Newest, Policy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from ckptctl.posix import OpenDirectory

DEADLINE = 30.0
"""Seconds after which something that a test waits for will not happen any more; less than `--rescan`."""

PAUSE = 0.02
"""Seconds between two looks at a condition."""

Event = dict[str, Any]


class Keep(NamedTuple):
    """What holds in each directory."""

    policy: Policy
    protections: Protections = DEFAULT_PROTECTIONS
    notes: tuple[str, ...] = ()


def keep(count: int) -> Callable[[OpenDirectory], Keep]:
    """The newest so many, whichever directory it is."""
    return lambda _: Keep(Policy((Newest(count),)))


class Watching:
    """A `watch --json` under way.

    Args:
        process: It, with stdout as a pipe.
        log: The file that its stderr goes to.

    Attributes:
        events: What it has said so far.
    """

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        assert process.stdout is not None
        self.process = process
        self.log = log
        self.events: list[Event] = []
        self._fd = process.stdout.fileno()
        self._rest = b""
        self._next = 0

    def _listen(self, seconds: float) -> bool:
        """Takes what it says within this time; whether it may say more."""
        if not select.select([self._fd], [], [], seconds)[0]:
            return True
        said = os.read(self._fd, 1 << 16)
        *lines, self._rest = (self._rest + said).split(b"\n")
        self.events += map(json.loads, lines)
        return bool(said)

    def story(self) -> str:
        """What has happened, for messages."""
        return f"{self.events}\n{self._rest!r}\n{self.log.read_text()}"

    def until(self, condition: Callable[[], bool]) -> None:
        """Listens until a condition holds."""
        end = time.monotonic() + DEADLINE
        while not condition():
            assert time.monotonic() < end, f"too late: {self.story()}"
            assert self._listen(PAUSE), f"it has ended: {self.story()}"

    def event(self, name: str, directory: Path) -> Event:
        """Waits for the next event of a name about a directory, after the one that was waited for last."""
        found: list[Event] = []

        def said() -> bool:
            for at in range(self._next, len(self.events)):
                if (self.events[at]["event"], self.events[at]["directory"]) == (name, str(directory)):
                    self._next = at + 1
                    found.append(self.events[at])
                    return True
            return False

        self.until(said)
        return found[0]

    def count(self, name: str, directory: Path) -> int:
        """How many events of a name there were about a directory."""
        return sum((e["event"], e["directory"]) == (name, str(directory)) for e in self.events)

    def end(self) -> int:
        """Takes all that it has to say until it exits; returns the exit code."""
        end = time.monotonic() + DEADLINE
        while self._listen(PAUSE):
            assert time.monotonic() < end, f"it does not end: {self.story()}"
        assert self._rest == b"", self.story()
        return self.process.wait(DEADLINE)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Stops it with a signal; it has to say so as its last word, exit with 0 and complain of nothing."""
        self.process.send_signal(number)
        assert self.end() == 0, self.story()
        assert self.events[-1]["event"] == "stopped"
        assert self.log.read_text() == ""


@pytest.fixture
def watch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Watching]]:
    """Starts `watch --keep 3 --json` with further arguments; whatever is still there at the end is killed."""
    logs = tmp_path_factory.mktemp("logs")
    with contextlib.ExitStack() as stack:

        def start(*arguments: str | Path, settle: float = 0.05) -> Watching:
            options = ["--keep=3", "--json", f"--settle={settle}s"]
            log = logs / f"{len(list(logs.iterdir()))}"
            with log.open("wb") as errors:
                process = subprocess.Popen(
                    [sys.executable, "-m", "ckptctl", "watch", *options, *map(str, arguments)],
                    stdout=subprocess.PIPE,
                    stderr=errors,
                )
            stack.enter_context(process)
            stack.callback(process.kill)
            return Watching(process, log)

        yield start


def ckpts(*steps: int) -> set[str]:
    """The names of checkpoints."""
    return {f"ckpt-{step}" for step in steps}


def write_state(directory: Path, text: str) -> None:
    """Replaces the state file at one stroke, as TensorFlow does."""
    (directory / "checkpoint.tmp").write_text(text)
    (directory / "checkpoint.tmp").rename(directory / "checkpoint")


def save(directory: Path, step: int) -> None:
    """Saves one checkpoint more, as a trainer does that keeps them all."""
    fabricate.checkpoint(directory, f"ckpt-{step}", at=fabricate.EPOCH + 60.5 * (step - 1))
    steps = sorted(int(name.removeprefix("ckpt-")) for name in fabricate.names(directory))
    write_state(directory, fabricate.state_text((f"ckpt-{one}" for one in steps), first=steps[0]))


def has_inotify(process: subprocess.Popen[bytes]) -> bool:
    """Whether a process holds a descriptor for the file system's events."""
    descriptors = f"/proc/{process.pid}/fd"
    kinds = []
    for number in os.listdir(descriptors):
        with contextlib.suppress(FileNotFoundError):
            kinds.append(os.readlink(f"{descriptors}/{number}"))
    return "anon_inode:inotify" in kinds
