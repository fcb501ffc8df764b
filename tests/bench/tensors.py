"""Times `ckptctl show` and `ckptctl diff` on checkpoints of many tensors, and what they take of memory.

    python tests/bench/tensors.py [--directory DIR] [--runs N] [--mib MIB] [TENSORS]...

One line a command. All times are seconds of a whole process, start-up included, the best of so many; memory
is the process's peak. `import click` beside them is what Python and Click take alone. Of the two checkpoints
that `diff` compares every second tensor differs. `--stats` and `--numeric` read one tensor of so many MiB,
and another of four times as many.
"""

from __future__ import annotations

import argparse
import json
import os
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from crc32c import crc32c

sys.path.insert(0, str(Path(__file__).parent.parent))

import bundle_writer as writer

_FLOAT = 1
_CHUNK_BYTES = 1 << 20


def fill_many(directory: Path, name: str, tensors: int, factor: int) -> None:
    """Writes a checkpoint of small tensors; every second one depends on the factor."""
    bundle = writer.BundleWriter(block_bytes=1 << 12)
    for number in range(tensors):
        key = f"model/layer_{number // 4}/weights_{number % 4}/.ATTRIBUTES/VARIABLE_VALUE"
        value = float(number * (factor if number % 2 else 1))
        bundle.add(key.encode(), _FLOAT, [2, 2], struct.pack("<f", value) * 4)
    bundle.write(directory, name)


def fill_large(directory: Path, name: str, mib: int, value: float) -> None:
    """Writes a checkpoint of one large tensor."""
    piece = struct.pack("<f", value) * (_CHUNK_BYTES // 4)
    crc = 0
    with (directory / f"{name}.data-00000-of-00001").open("wb") as shard:
        for _ in range(mib):
            shard.write(piece)
            crc = crc32c(piece, crc)
    bundle = writer.BundleWriter()
    size = mib * _CHUNK_BYTES
    bundle.entries[b"x"] = writer.entry_proto(_FLOAT, [size // 4], size=size, crc=writer.rotated(crc))
    (directory / f"{name}.index").write_bytes(bundle.index())


def run(command: list[str]) -> tuple[float, float]:
    """Seconds and MiB that a process takes.

    Raises:
        SystemExit: It fails; 1 is what `diff` says of checkpoints that differ.
    """
    began = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.perf_counter() - began
    if process.returncode not in {0, 1}:
        raise SystemExit(f"{command}: exit code {process.returncode}")
    return seconds, usage.ru_maxrss / 1024


def measure(commands: dict[str, list[str]], runs: int, **about: int) -> None:
    """Runs each command so many times, in turns, and prints a line for each."""
    took: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    for _ in range(runs):
        for name, command in commands.items():
            took[name].append(run(command))
    for name, done in took.items():
        seconds = min(seconds for seconds, _ in done)
        mib = max(mib for _, mib in done)
        told = {**about, "command": name, "seconds": round(seconds, 3), "peak_mib": round(mib, 1)}
        sys.stdout.write(json.dumps(told) + "\n")
        sys.stdout.flush()


def main() -> None:
    """Prints one line a command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("tensors", metavar="TENSORS", type=int, nargs="*", default=[1_000, 20_000])
    parser.add_argument("--directory", metavar="DIR", help="where the checkpoints are made")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--mib", type=int, default=256)
    arguments = parser.parse_args()
    program = [sys.executable, "-m", "ckptctl"]
    for tensors in arguments.tensors:
        with tempfile.TemporaryDirectory(dir=arguments.directory) as name:
            a, b = (os.path.join(name, prefix) for prefix in ("a", "b"))
            fill_many(Path(name), "a", tensors, 1)
            fill_many(Path(name), "b", tensors, 2)
            commands = {
                "show": [*program, "show", a],
                "show --json": [*program, "show", a, "--json"],
                "diff": [*program, "diff", a, b],
                "diff, the same": [*program, "diff", a, a],
                "import click": [sys.executable, "-c", "import click"],
            }
            measure(commands, arguments.runs, tensors=tensors)
    for mib in (arguments.mib, 4 * arguments.mib):
        with tempfile.TemporaryDirectory(dir=arguments.directory) as name:
            a, b = (os.path.join(name, prefix) for prefix in ("a", "b"))
            fill_large(Path(name), "a", mib, 1.5)
            fill_large(Path(name), "b", mib, 2.5)
            commands = {
                "show --stats": [*program, "show", a, "--stats"],
                "diff --numeric": [*program, "diff", a, b, "--numeric"],
            }
            measure(commands, arguments.runs, mib=mib)


if __name__ == "__main__":
    main()
