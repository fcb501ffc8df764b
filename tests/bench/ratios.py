"""Everything that ckptctl promises about its speed, each beside what it is measured against, in one run.

    python tests/bench/ratios.py [--json FILE] [--directory DIR] [--runs N] [--small]

A table of ratios: below 1 is faster than the other program. Times are of whole processes, start-up included,
the best of so many on warm files, where the programs take turns; memory is a process's peak. `--small` makes
the large checkpoints a sixteenth as large, to see that everything runs.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import shlex
import shutil
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tabulate import tabulate
from verify import READ_WITH_TENSORFLOW, apart, best, compile_ours, fill, fill_many
from watch import deletion

sys.path.insert(0, str(Path(__file__).parent.parent))

from bundle_writer import BundleWriter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_CKPTCTL = [sys.executable, "-m", "ckptctl"]
_PROTOBUF = [*_CKPTCTL, "--state-reader=protobuf"]
_READ_STATE = "import sys, tensorflow as tf; tf.train.get_checkpoint_state(sys.argv[1])"
_UNLINK = """
import os, sys
directory = sys.argv[1]
for name in os.listdir(directory):
    number = name.partition("-")[2].partition(".")[0]
    if number and int(number) <= 9997:
        os.unlink(os.path.join(directory, name))
"""
_COMPLETE = "import sys; sys.argv = ['ckptctl']; from ckptctl.cli import main; main()"
_STEP = b"optimizer/_iterations/.ATTRIBUTES/VARIABLE_VALUE"
_INT64 = 9


@dataclass(frozen=True)
class Ratio:
    """One line of the table.

    Attributes:
        what: What of ours.
        against: What it is measured against.
        ours: Seconds, or MiB.
        theirs: The same.
        at_most: The promise.
    """

    what: str
    against: str
    ours: float
    theirs: float
    at_most: float

    @property
    def ratio(self) -> float:
        """Ours to theirs."""
        return self.ours / self.theirs


def run_of(directory: Path, count: int) -> None:
    """Writes a run of small whole checkpoints that say their step; the state lists the last of them."""
    for step in range(1, count + 1):
        bundle = BundleWriter()
        bundle.add(_STEP, _INT64, (), step.to_bytes(8, "little"))
        bundle.write(directory, f"ckpt-{step}")
    (directory / "checkpoint").write_text(
        f'model_checkpoint_path: "ckpt-{count}"\nall_model_checkpoint_paths: "ckpt-{count}"\n'
    )


def start_up(directory: Path, runs: int) -> Iterator[Ratio]:
    """What a command costs that has hardly anything to do."""
    apart(run_of, directory, 3)
    found = best(
        {
            "version": [*_CKPTCTL, "--version"],
            "click": [sys.executable, "-c", "import click"],
            "ls": [*_CKPTCTL, "ls", str(directory)],
            "protobuf": [*_PROTOBUF, "ls", str(directory)],
            "tensorflow": [sys.executable, "-c", _READ_STATE, str(directory)],
        },
        runs,
    )
    reads = "TensorFlow reading the state"
    theirs = found["tensorflow"]
    yield Ratio("--version", "import click", found["version"].seconds, found["click"].seconds, 1.6)
    yield Ratio("ls of 3 checkpoints", reads, found["ls"].seconds, theirs.seconds, 0.42)
    yield Ratio("ls of 3 checkpoints, peak memory", reads, found["ls"].mib, theirs.mib, 0.8)
    yield Ratio("ls with the protobuf reader", reads, found["protobuf"].seconds, theirs.seconds, 0.09)
    words = [f"COMP_WORDS=ckptctl show {directory}/", "COMP_CWORD=2", "_CKPTCTL_COMPLETE=bash_complete"]
    completed = best({"": ["env", *words, sys.executable, "-c", _COMPLETE]}, runs)[""]
    yield Ratio("completion of checkpoints' names", "0.2 s", completed.seconds, 0.2, 1)


def many(directory: Path, runs: int) -> Iterator[Ratio]:
    """What 10,000 checkpoints cost, start-up taken off."""
    few, lots = directory / "few", directory / "lots"
    for place, count in ((few, 10), (lots, 10_000)):
        place.mkdir()
        apart(run_of, place, count)
    found = best(
        {
            "few": [*_PROTOBUF, "ls", "--json", str(few)],
            "lots": [*_PROTOBUF, "ls", "--json", str(lots)],
            "ls": ["ls", "-lU", str(lots)],
        },
        runs,
    )
    listed = found["lots"].seconds - found["few"].seconds
    yield Ratio("ls --json of 10,000, less that of 10", "ls -lU", listed, found["ls"].seconds, 10)
    ours, start, theirs, empty = [], [], [], []
    for _ in range(runs):
        start.append(_once(few, [*_PROTOBUF, "prune", "--keep=10"], directory))
        ours.append(_once(lots, [*_PROTOBUF, "prune", "--keep=3"], directory))
        empty.append(_once(few, [sys.executable, "-c", "import os"], directory))
        theirs.append(_once(lots, [sys.executable, "-c", _UNLINK], directory))
    yield Ratio(
        "prune of 9,997 of 10,000, less start-up",
        "os.unlink in a loop",
        min(ours) - min(start),
        min(theirs) - min(empty),
        4,
    )


def _once(directory: Path, command: list[str], below: Path) -> float:
    """Runs a command once on a copy of a directory, which it may change."""
    copy = below / "copy"
    shutil.copytree(directory, copy)
    try:
        return best({"": [*command, str(copy)]}, 1)[""].seconds
    finally:
        shutil.rmtree(copy)


def large(directory: Path, runs: int, share: float) -> Iterator[Ratio]:
    """What reading gigabytes costs."""
    prefix = str(directory / "ckpt-1")
    verify = [*_CKPTCTL, "verify", prefix]
    for gib, name in ((4, "cat"), (1, "TensorFlow")):
        apart(fill, directory, gib * share)
        other = ["cat", f"{prefix}.data-00000-of-00001"]
        if name == "TensorFlow":
            other = [sys.executable, "-c", READ_WITH_TENSORFLOW, prefix]
        found = best({"ours": verify, "theirs": other}, runs)
        reads = "cat" if name == "cat" else "TensorFlow reading each tensor"
        at_most = 1.4 if name == "cat" else 0.12
        size = f"{gib * share:g} GiB"
        yield Ratio(f"verify of {size}", reads, found["ours"].seconds, found["theirs"].seconds, at_most)
        if name == "TensorFlow":
            yield Ratio(f"verify of {size}, MiB", "100 MiB", found["ours"].mib, 100, 1)


def tensors(directory: Path, runs: int) -> Iterator[Ratio]:
    """What an index of 20,000 tensors costs."""
    for name in ("ckpt-1", "ckpt-20"):
        apart(fill_many, directory, 20_000, name)
    one, other = (str(directory / name) for name in ("ckpt-1", "ckpt-20"))
    found = best(
        {
            "verify --quick": [*_CKPTCTL, "verify", "--quick", one],
            "show": [*_CKPTCTL, "show", one],
            "diff": ["sh", "-c", f"{shlex.join([*_CKPTCTL, 'diff', one, other])}; test $? = 1"],
        },
        runs,
    )
    for name, run in found.items():
        yield Ratio(f"{name} of 20,000 tensors", "0.6 s", run.seconds, 0.6, 1)


def watch(directory: Path, runs: int) -> Iterator[Ratio]:
    """How soon after a save is its victim gone; the one in twenty that takes longest counts."""
    found = min((deletion(directory / str(run), "tensorflow") for run in range(runs)), key=_p95)
    yield Ratio("watch: save to deletion, less settle", "0.1 s", _p95(found), 0.1, 1)


def _p95(found: dict[str, Any]) -> float:
    seconds: float = found["p95_ms"] / 1000
    return seconds


def _machine() -> dict[str, Any]:
    """What the figures were made on."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    return {
        "processor": model,
        "cores": os.cpu_count(),
        "system": platform.release(),
        "python": platform.python_version(),
        "tensorflow": importlib.metadata.version("tensorflow"),
    }


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", metavar="FILE", help="where the figures are written besides")
    parser.add_argument("--directory", metavar="DIR", help="where the checkpoints are made")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--small", action="store_true")
    arguments = parser.parse_args()
    share = 1 / 16 if arguments.small else 1.0
    groups: list[Callable[[Path, int], Iterator[Ratio]]] = [
        start_up,
        many,
        tensors,
        watch,
        lambda directory, runs: large(directory, runs, share),
    ]
    found: list[Ratio] = []
    compile_ours()
    for group in groups:
        with tempfile.TemporaryDirectory(dir=arguments.directory) as directory:
            found += group(Path(directory), arguments.runs)
    rows = [
        (
            one.what,
            one.against,
            f"{one.ours:.3g}",
            f"{one.theirs:.3g}",
            f"{one.ratio:.2f}",
            f"{one.at_most:g}",
        )
        for one in found
    ]
    headers = ("ckptctl", "against", "ours", "theirs", "ratio", "at most")
    machine = ", ".join(f"{name} {value}" for name, value in _machine().items())
    sys.stdout.write(f"{machine}\n\n")
    sys.stdout.write(tabulate(rows, headers=headers, tablefmt="github", disable_numparse=True) + "\n")
    if arguments.json:
        ratios = [{**asdict(one), "ratio": round(one.ratio, 3)} for one in found]
        text = json.dumps({**_machine(), "runs": arguments.runs, "ratios": ratios}, indent=2)
        Path(arguments.json).write_text(text + "\n")


if __name__ == "__main__":
    main()
