"""Times `ckptctl verify` on large checkpoints, beside TensorFlow's own reading and beside `cat`.

    python tests/bench/verify.py [--directory DIR] [--tensorflow-up-to GIB] [--runs N] [GIB]...

Each line of the output is one checkpoint, or the index of many tensors for `--quick`. All times are seconds
of a whole process, start-up included, the best of so many on a file that is in the page cache; memory is the
process's peak. The programs take turns, so that a busy machine is busy for all of them.
"""

from __future__ import annotations

import argparse
import compileall
import json
import multiprocessing
import os
import random
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from crc32c import crc32c

sys.path.insert(0, str(Path(__file__).parent.parent))

import bundle_writer as writer

import ckptctl

if TYPE_CHECKING:
    from collections.abc import Callable

_NAME = "ckpt-1"
_FLOAT = 1
_CHUNK_BYTES = 1 << 20
_GIB = 1 << 30
_TENSORS = 8

READ_WITH_TENSORFLOW = """
import sys
import tensorflow as tf
reader = tf.train.load_checkpoint(sys.argv[1])
for name in reader.get_variable_to_shape_map():
    reader.get_tensor(name)
"""


@dataclass(frozen=True)
class Run:
    """What a process took.

    Attributes:
        seconds: From its start to its end.
        mib: Its peak memory.
    """

    seconds: float
    mib: float


def fill(directory: Path, gib: float) -> None:
    """Writes a checkpoint of a few large tensors of random bytes."""
    size = int(gib * _GIB) // _TENSORS // 4 * 4
    noise = random.Random(0).randbytes(_CHUNK_BYTES)  # noqa: S311 - it has to be the same each time
    entries = {b"": writer.header_proto(1)}
    with (directory / f"{_NAME}.data-00000-of-00001").open("wb") as shard:
        for number in range(_TENSORS):
            crc, offset, left = 0, shard.tell(), size
            while left:
                turned = (number * 4099 + left) % _CHUNK_BYTES  # no chunk is the same as the one before
                piece = (noise[turned:] + noise[:turned])[: min(left, _CHUNK_BYTES)]
                shard.write(piece)
                crc = crc32c(piece, crc)
                left -= len(piece)
            entries[b"tensor_%d" % number] = writer.entry_proto(
                _FLOAT, [size // 4], offset=offset, size=size, crc=writer.rotated(crc)
            )
    (directory / f"{_NAME}.index").write_bytes(writer.table(sorted(entries.items())))


def fill_many(directory: Path, tensors: int, prefix: str = _NAME) -> None:
    """Writes a checkpoint of many small tensors."""
    bundle = writer.BundleWriter(block_bytes=1 << 12)
    for number in range(tensors):
        name = f"model/layer_{number // 8}/weights_{number % 8}/.ATTRIBUTES/VARIABLE_VALUE"
        bundle.add(name.encode(), _FLOAT, [4, 4], (number + len(prefix)).to_bytes(4, "little") * 16)
    bundle.write(directory, prefix)


def compile_ours() -> None:
    """Compiles the package, as pip does when it installs one: else a checkout may compile at each start."""
    compileall.compile_dir(str(Path(ckptctl.__file__).parent), quiet=1)


def apart(function: Callable[..., None], *arguments: object) -> None:
    """Calls it in a process of its own: a child's peak memory begins at what its parent has."""
    process = multiprocessing.get_context("fork").Process(target=function, args=arguments)
    process.start()
    process.join()
    if process.exitcode:
        raise SystemExit("the checkpoint could not be made")


def best(commands: dict[str, list[str]], runs_each: int) -> dict[str, Run]:
    """Runs each command so many times, in turns; returns the best time and the highest memory of each.

    Raises:
        SystemExit: One of them fails.
    """
    runs: dict[str, list[Run]] = {name: [] for name in commands}
    for _ in range(runs_each):
        for name, command in commands.items():
            runs[name].append(_run(command))
    return {
        name: Run(min(run.seconds for run in done), max(run.mib for run in done))
        for name, done in runs.items()
    }


def _run(command: list[str]) -> Run:
    began = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{command}: exit code {process.returncode}")
    return Run(seconds, usage.ru_maxrss / 1024)


def _told(runs: dict[str, Run]) -> dict[str, dict[str, float]]:
    return {
        name: {"seconds": round(run.seconds, 3), "peak_mib": round(run.mib, 1)} for name, run in runs.items()
    }


def measure(directory: Path, gib: float, runs_each: int, *, with_tensorflow: bool) -> dict[str, object]:
    """Times one large checkpoint, and says how `verify` stands to the others."""
    apart(fill, directory, gib)
    prefix = str(directory / _NAME)
    commands = {
        "verify": [sys.executable, "-m", "ckptctl", "verify", prefix],
        "cat": ["cat", f"{prefix}.data-00000-of-00001"],
    }
    if with_tensorflow:
        commands["tensorflow"] = [sys.executable, "-c", READ_WITH_TENSORFLOW, prefix]
    runs = best(commands, runs_each)
    ours = runs["verify"].seconds
    told: dict[str, object] = {
        "gib": gib,
        **_told(runs),
        "cat_to_verify": round(runs["cat"].seconds / ours, 2),
    }
    if with_tensorflow:
        told["tensorflow_to_verify"] = round(runs["tensorflow"].seconds / ours, 2)
    return told


def measure_quick(directory: Path, tensors: int, runs_each: int) -> dict[str, object]:
    """Times `verify --quick` of many tensors, beside the import of Click alone."""
    apart(fill_many, directory, tensors)
    runs = best(
        {
            "quick": [sys.executable, "-m", "ckptctl", "verify", "--quick", str(directory / _NAME)],
            "import_click": [sys.executable, "-c", "import click"],
        },
        runs_each,
    )
    return {"tensors": tensors, **_told(runs)}


def main() -> None:
    """Prints one line a checkpoint."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sizes", metavar="GIB", type=float, nargs="*", default=[1, 4])
    parser.add_argument("--directory", metavar="DIR", help="where the checkpoints are made")
    parser.add_argument("--tensorflow-up-to", metavar="GIB", type=float, default=1)
    parser.add_argument("--tensors", type=int, default=20_000)
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    compile_ours()
    for gib in arguments.sizes:
        with tempfile.TemporaryDirectory(dir=arguments.directory) as directory:
            told = measure(
                Path(directory), gib, arguments.runs, with_tensorflow=gib <= arguments.tensorflow_up_to
            )
            sys.stdout.write(json.dumps(told) + "\n")
            sys.stdout.flush()
    with tempfile.TemporaryDirectory(dir=arguments.directory) as directory:
        sys.stdout.write(json.dumps(measure_quick(Path(directory), arguments.tensors, arguments.runs)) + "\n")


if __name__ == "__main__":
    main()
