"""Directories of small whole checkpoints made without TensorFlow, in no time."""

from __future__ import annotations

import errno
import functools
import importlib
import os
import time
import types
from typing import TYPE_CHECKING

from bundle_writer import BundleWriter, v1_table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    import pytest

_UINT8 = 4

EPOCH = 1_700_000_000
"""The time from which `run` counts, seconds."""


@functools.cache
def bundle(shards: int = 1, size: int = 100) -> BundleWriter:
    """A bundle with one tensor of `size` zeros in each shard; it says nothing about its step."""
    writer = BundleWriter(num_shards=shards)
    for shard in range(shards):
        writer.add(b"weights/%d" % shard, _UINT8, (size,), bytes(size), shard)
    return writer


@functools.cache
def index(shards: int = 1, size: int = 100) -> bytes:
    """The index of such a bundle."""
    return bundle(shards, size).index()


def v1() -> bytes:
    """A V1 data file."""
    return v1_table([(b"weights", _UINT8, (1,), [((None,), b"")])])


def checkpoint(
    directory: Path, name: str, *, at: float = EPOCH, shards: int = 1, size: int = 100, meta: bool = False
) -> list[Path]:
    """Writes the files of one checkpoint.

    Args:
        directory: Where.
        name: Its prefix.
        at: When it is said to have been written.
        shards: How many data files.
        size: Bytes in each of them.
        meta: Whether there is a `.meta`.

    Returns:
        The files.
    """
    contents = {f"{name}.data-{shard:05d}-of-{shards:05d}": bytes(size) for shard in range(shards)}
    contents[f"{name}.index"] = index(shards, size)
    if meta:
        contents[f"{name}.meta"] = b"graph"
    files = []
    for file, content in contents.items():
        files.append(directory / file)
        files[-1].write_bytes(content)
        os.utime(files[-1], (at, at))
    return files


def state_text(
    names: Iterable[str],
    *,
    latest: str | None = None,
    timestamps: bool = True,
    first: int = 1,
    last_preserved: float | None = None,
) -> str:
    """The text of a state file as TensorFlow writes it; `first` is the number of the first save of `run`."""
    listed = list(names)
    lines = [f'model_checkpoint_path: "{latest or listed[-1]}"']
    lines += [f'all_model_checkpoint_paths: "{name}"' for name in listed]
    if timestamps:
        lines += [
            f"all_model_checkpoint_timestamps: {EPOCH + 60.5 * (first - 1 + at)}" for at in range(len(listed))
        ]
    if last_preserved is not None:
        lines.append(f"last_preserved_timestamp: {last_preserved}")
    return "\n".join(lines) + "\n"


def run(directory: Path, count: int, *, listed: int | None = None, **options: object) -> Path:
    """A run of `ckpt-1` to `ckpt-<count>`, saved a minute apart; the state lists the last `listed` of them.

    Args:
        directory: Where; made if need be.
        count: How many checkpoints.
        listed: How many of them the state lists, all by default; 0 for no state file.
        options: As for `state_text`.

    Returns:
        The directory.
    """
    directory.mkdir(parents=True, exist_ok=True)
    for step in range(1, count + 1):
        checkpoint(directory, f"ckpt-{step}", at=EPOCH + 60.5 * (step - 1))
    first = 1 if listed is None else count - listed + 1
    names = [f"ckpt-{step}" for step in range(first, count + 1)]
    if names:
        text = state_text(names, first=first, **options)  # type: ignore[arg-type]
        (directory / "checkpoint").write_text(text)
    return directory


def names(directory: Path) -> set[str]:
    """The checkpoints that have an index there."""
    return {path.name.removesuffix(".index") for path in directory.glob("*.index")}


def contents(directory: Path) -> dict[str, bytes]:
    """Every file below a directory with its bytes."""
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


def set_clock(monkeypatch: pytest.MonkeyPatch, module: str) -> None:
    """Two hours from now, for a module: change times cannot be set back, so the clock is set forward."""
    ahead = types.SimpleNamespace(time=lambda: time.time() + 7200)
    monkeypatch.setattr(importlib.import_module(module), "time", ahead)


def deny_reading(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    """From now on the disk answers each reading of a file with EIO, in this process."""
    inode = path.stat().st_ino
    for name in ("pread", "preadv"):
        call = getattr(os, name)

        def failing(fd: int, *arguments: object, call: Callable[..., object] = call) -> object:
            if os.fstat(fd).st_ino == inode:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return call(fd, *arguments)

        monkeypatch.setattr(os, name, failing)
