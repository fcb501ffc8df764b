"""Every way to break a checkpoint against every level of `verify`: the README's table, put to the test."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ckptctl.errors import UnreadableError
from ckptctl.opened import open_checkpoint
from ckptctl.restore import Restorer
from ckptctl.verify import Level, VerdictStatus, verify

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

README = (Path(__file__).parent.parent / "README.md").read_text()
LEVELS = {"--quick": Level.INDEX, "default": Level.DATA, "--finite": Level.FINITE, "--restore": Level.DATA}

WRITER = """
import sys
import tensorflow as tf

directory = sys.argv[1]
options = tf.train.CheckpointOptions(
    experimental_sharding_callback=tf.train.experimental.MaxShardSizePolicy(max_shard_size=1100)
)
a, b = tf.Variable(tf.ones([275])), tf.Variable(tf.ones([275]))
checkpoint = tf.train.Checkpoint(a=a, b=b)
for value in (1.0, 2.0, float("nan")):
    a.assign(tf.fill([275], value))
    b.assign(tf.fill([275], 10 * value))
    checkpoint.save(f"{directory}/ckpt", options=options)
"""
"""Writes `ckpt-1`, its like `ckpt-2` with other values, and `ckpt-3` with NaN, each in several shards."""


def shards(run: Path, name: str = "ckpt-1") -> list[Path]:
    """The data files of a checkpoint; the first two hold a variable each, and are of one length."""
    found = sorted(run.glob(f"{name}.data-*"))
    large = [path for path in found if path.stat().st_size == 1100]
    assert len(large) == 2, [path.stat().st_size for path in found]
    return large


def flip(path: Path, at: int) -> None:
    """Changes one bit."""
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def cut(path: Path, size: int) -> None:
    """Leaves the beginning of a file."""
    path.write_bytes(path.read_bytes()[:size])


def swap(one: Path, other: Path) -> None:
    """Gives each the name of the other."""
    content = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(content)


def directory_for(path: Path) -> None:
    """Puts a directory in the place of a file."""
    path.unlink()
    path.mkdir()


def take(run: Path, name: str) -> None:
    """Makes another checkpoint the one that is looked at."""
    for path in run.glob("ckpt-1.*"):
        path.unlink()
    for path in run.glob(f"{name}.*"):
        path.rename(run / path.name.replace(name, "ckpt-1"))


WAYS: dict[str, Callable[[Path], object]] = {
    "nothing": lambda run: run,
    "a bit flipped in the index": lambda run: flip(run / "ckpt-1.index", 40),
    "the index cut short": lambda run: cut(run / "ckpt-1.index", 100),
    "the index empty": lambda run: cut(run / "ckpt-1.index", 0),
    "the index half written": lambda run: (run / "ckpt-1.index").write_bytes(
        (run / "ckpt-1.index").read_bytes()[:150] + bytes((run / "ckpt-1.index").stat().st_size - 150)
    ),
    "a directory in the index's place": lambda run: directory_for(run / "ckpt-1.index"),
    "a shard gone": lambda run: shards(run)[0].unlink(),
    "a shard cut short": lambda run: cut(shards(run)[0], 1000),
    "a bit flipped in a shard": lambda run: flip(shards(run)[0], 500),
    "two shards swapped": lambda run: swap(*shards(run)),
    "a shard of another save": lambda run: shutil.copy(shards(run, "ckpt-2")[0], shards(run)[0]),
    "NaN in the weights": lambda run: take(run, "ckpt-3"),
    "a directory of the checkpoint's own name": lambda run: (run / "ckpt-1").mkdir(),
}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What TensorFlow writes."""
    directory = tmp_path_factory.mktemp("written")
    done = subprocess.run(
        [sys.executable, "-c", WRITER, str(directory)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return directory


@pytest.fixture(scope="module")
def restorer() -> Iterator[Restorer]:
    """One process of TensorFlow for all."""
    with Restorer() as one:
        yield one


def table() -> dict[str, list[bool]]:
    """The README's table: what happened, and which levels find it."""
    header = "| what happened | `--quick` | by default | `--finite` | `--restore` |"
    lines = README[README.index(header) :].split("\n\n")[0].splitlines()[2:]
    rows = [re.findall(r"[^|]+", line.strip("|")) for line in lines]
    return {row[0].strip(): [cell.strip() == "found" for cell in row[1:]] for row in rows}


def test_the_table_has_every_way() -> None:
    """The README's table and this module know the same ways."""
    assert list(table()) == [way for way in WAYS if way != "nothing"]


@pytest.mark.parametrize("way", WAYS)
def test_what_each_level_finds(way: str, written: Path, restorer: Restorer, tmp_path: Path) -> None:
    """A checkpoint broken in this way is found to be by just those levels that the README says find it."""
    run = tmp_path / "run"
    shutil.copytree(written, run)
    WAYS[way](run)
    found = []
    for name, level in LEVELS.items():
        try:
            with open_checkpoint(f"{run}/ckpt-1.index") as checkpoint:
                verdict = verify(checkpoint, level, restorer=restorer if name == "--restore" else None)
        except UnreadableError:
            found.append(True)
            continue
        found.append(not verdict.ok)
        assert verdict.status is not VerdictStatus.READABLE
    assert found == table().get(way, [False] * 4)
