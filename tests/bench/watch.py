"""Measures `ckptctl watch` beside saves that are made without TensorFlow: what it costs while it runs.

    python tests/bench/watch.py [--directory DIR] [--reader tensorflow|protobuf] [NAME]...

Each line is one measurement:

- idle: how often its threads woke up in so many seconds without a save, and in so many rescans.
- deletion: from the last write of a save until the victim's index is gone, less the settle time, in ms.
- memory: its resident memory in MiB, a figure after each thousandth save.
- many: so many directories below one, or each named, in one process: seconds until all were pruned at its
  start and after a save in each, threads, MiB, and how often it woke up afterwards.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parent.parent))

import fabricate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_KEEP = 3
_DEADLINE = 120.0
_POLL = 0.001
"""Seconds between looks at whether something has happened."""


class Trainer:
    """Saves `ckpt-1`, `ckpt-2` ... as a CheckpointManager does: data, index, and the state in one rename."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.saves = 0
        directory.mkdir(parents=True, exist_ok=True)

    def save(self) -> None:
        """Saves once."""
        self.saves += 1
        name = f"ckpt-{self.saves}"
        (self.directory / f"{name}.data-00000-of-00001").write_bytes(bytes(100))
        (self.directory / f"{name}.index").write_bytes(fabricate.index())
        unfinished = self.directory / "checkpoint.tmp0123456789abcdef0123456789abcdef"
        unfinished.write_text(fabricate.state_text([name], timestamps=False))
        unfinished.rename(self.directory / "checkpoint")

    @property
    def pruned(self) -> bool:
        """Whether what the policy does not keep is gone."""
        return not self.path(self.saves - _KEEP).exists()

    def path(self, number: int) -> Path:
        """The index of a save."""
        return self.directory / f"ckpt-{number}.index"


@contextlib.contextmanager
def watching(reader: str, *arguments: str) -> Iterator[int]:
    """A watch; yields its process once it has said that it watches."""
    command = [sys.executable, "-m", "ckptctl", f"--state-reader={reader}", "watch", f"--keep={_KEEP}"]
    with tempfile.TemporaryFile() as said, subprocess.Popen([*command, *arguments], stdout=said) as process:
        wait_for(lambda: b"watching" in os.pread(said.fileno(), 1 << 16, 0))
        try:
            yield process.pid
        finally:
            process.terminate()


def wait_for(condition: Callable[[], bool]) -> float:
    """Waits; gives the time at which it was so."""
    deadline = time.monotonic() + _DEADLINE
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit("it did not happen")
        time.sleep(_POLL)
    return time.monotonic()


def wakeups(pid: int) -> int:
    """How often the threads of a process went to sleep so far."""
    count = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        text = (task / "status").read_text()
        count += int(text.partition("\nvoluntary_ctxt_switches:")[2].split()[0])
    return count


def mib(pid: int) -> float:
    """Resident memory."""
    text = Path(f"/proc/{pid}/status").read_text()
    return round(int(text.partition("VmRSS:")[2].split()[0]) / 1024, 1)


def idle(directory: Path, reader: str) -> dict[str, Any]:
    """A minute between two rescans in which nothing happens; and then six rescans, one a second."""
    trainer = Trainer(directory)
    for _ in range(_KEEP + 1):
        trainer.save()
    seconds = 60
    with watching(reader, "--rescan=10m", str(directory)) as pid:
        wait_for(lambda: trainer.pruned)
        time.sleep(2)  # the events of that
        before = wakeups(pid)
        time.sleep(seconds)
        quiet = wakeups(pid) - before
    rescans = 6
    with watching(reader, "--rescan=1s", str(directory)) as pid:
        time.sleep(3)
        before = wakeups(pid)
        time.sleep(rescans)
        busy = wakeups(pid) - before
    return {"seconds": seconds, "wakeups": quiet, "rescans": rescans, "wakeups_of_rescans": busy}


def deletion(directory: Path, reader: str) -> dict[str, Any]:
    """How long after a save its victim is gone."""
    settle, saves, taken = 0.2, 100, []
    trainer = Trainer(directory)
    for _ in range(_KEEP):
        trainer.save()
    with watching(reader, f"--settle={settle}", str(directory)):
        time.sleep(1)
        for _ in range(saves):
            trainer.save()
            began = time.monotonic()
            taken.append(1000 * (wait_for(lambda: trainer.pruned) - began - settle))
    ordered = sorted(taken)
    return {
        "settle": settle,
        "saves": saves,
        "median_ms": round(statistics.median(ordered), 1),
        "p95_ms": round(ordered[int(0.95 * saves)], 1),
        "max_ms": round(ordered[-1], 1),
    }


def memory(directory: Path, reader: str) -> dict[str, Any]:
    """What becomes of its memory; a save is made as soon as the one before was pruned."""
    trainer, found = Trainer(directory), []
    for _ in range(_KEEP):
        trainer.save()
    with watching(reader, "--settle=1ms", str(directory)) as pid:
        for count in range(1, 10_001):
            trainer.save()
            wait_for(lambda: trainer.pruned)
            if count % 1000 == 0:
                found.append(mib(pid))
    return {"saves": 10_000, "mib": found}


def many(directory: Path, reader: str, *, recursive: bool) -> dict[str, Any]:
    """Very many directories in one process."""
    trainers = [Trainer(directory / f"run-{number}") for number in range(500)]
    for trainer in trainers:
        for _ in range(_KEEP + 1):
            trainer.save()
    places = ("-r", str(directory)) if recursive else tuple(str(one.directory) for one in trainers)
    settle = 0.2
    began = time.monotonic()
    with watching(reader, f"--settle={settle}", "--rescan=10m", *places) as pid:
        first = wait_for(lambda: all(one.pruned for one in trainers)) - began
        time.sleep(3)
        for trainer in trainers:
            trainer.save()
        began = time.monotonic()
        again = wait_for(lambda: all(one.pruned for one in trainers)) - began
        time.sleep(3)
        before = wakeups(pid)
        time.sleep(10)
        return {
            "directories": len(trainers),
            "named": "the one above" if recursive else "each",
            "seconds_to_begin": round(first, 2),
            "seconds_to_prune_all": round(again, 2),
            "settle": settle,
            "threads": len(os.listdir(f"/proc/{pid}/task")),
            "mib": mib(pid),
            "wakeups_in_10_s": wakeups(pid) - before,
        }


MEASUREMENTS: dict[str, Callable[[Path, str], dict[str, Any]]] = {
    "idle": idle,
    "deletion": deletion,
    "memory": memory,
    "many": lambda directory, reader: many(directory, reader, recursive=True),
    "many-named": lambda directory, reader: many(directory, reader, recursive=False),
}


def main() -> None:
    """Prints a line a measurement."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", metavar="NAME", nargs="*", help=f"of {', '.join(MEASUREMENTS)}; all")
    parser.add_argument("--directory", metavar="DIR", help="where the checkpoints are made")
    parser.add_argument("--reader", choices=["tensorflow", "protobuf"], default="tensorflow")
    arguments = parser.parse_args()
    for name in arguments.names or MEASUREMENTS:
        with tempfile.TemporaryDirectory(dir=arguments.directory) as directory:
            found = MEASUREMENTS[name](Path(directory) / "runs", arguments.reader)
        sys.stdout.write(json.dumps({"what": name, "reader": arguments.reader, **found}) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
