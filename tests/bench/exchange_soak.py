"""Replaces a state file against a writer that renames over it as fast as it can, and counts lost updates.

    python tests/bench/exchange_soak.py [DIR]... [--rounds 100000] [--how exchange|rename]

An update is lost if the state does not hold the writer's last word, or a newer one, once a replacement that
began after that word is done. `--how rename` is the plain read, edit, rename, to show that the race is real.
The directories are temporary ones below each DIR: name one on each file system that matters. Exit code 1 if
anything was lost, or left over.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import sys
import tempfile
import time
from typing import TYPE_CHECKING, Any

from ckptctl import exchange, posix
from ckptctl.snapshot import Snapshot

if TYPE_CHECKING:
    from multiprocessing.sharedctypes import Synchronized

NAME = "checkpoint"
VICTIM = b"victim\n"


def _write(path: str, said: Synchronized[int], stop: Synchronized[int]) -> None:
    os.chdir(path)
    number = 0
    while not stop.value:
        number += 1
        with open("own", "wb") as file:
            file.write(b"%d\n" % number + VICTIM)
        os.rename("own", NAME)
        said.value = number


def _edit(words: Snapshot) -> bytes:
    return words.text.replace(VICTIM, b"")


def _by_exchange(directory: int) -> None:
    with contextlib.closing(Snapshot.take(directory, NAME)) as base:
        exchange.replace(directory, NAME, base, _edit).close()


def _by_rename(directory: int) -> None:
    with contextlib.closing(Snapshot.take(directory, NAME)) as base:
        text = _edit(base)
    fd = os.open("edited", os.O_CREAT | os.O_WRONLY | os.O_TRUNC, dir_fd=directory)
    os.write(fd, text)
    os.close(fd)
    os.rename("edited", NAME, src_dir_fd=directory, dst_dir_fd=directory)


def soak(below: str, rounds: int, how: str) -> dict[str, Any]:
    """One race in a temporary directory.

    Args:
        below: Where the directory is made.
        rounds: How many replacements.
        how: "exchange", which is ours, or "rename".

    Returns:
        What was counted.
    """
    replace = _by_exchange if how == "exchange" else _by_rename
    context = multiprocessing.get_context("fork")
    said, stop = context.Value("q", 0), context.Value("i", 0)
    lost = 0
    with tempfile.TemporaryDirectory(dir=below) as path, posix.open_directory(path) as directory:
        with open(os.path.join(path, NAME), "wb") as file:
            file.write(b"0\n" + VICTIM)
        writer = context.Process(target=_write, args=(path, said, stop), daemon=True)
        writer.start()
        began = time.perf_counter()
        for _ in range(rounds):
            before = said.value
            replace(directory.fd)
            with contextlib.closing(Snapshot.take(directory.fd, NAME)) as now:
                lost += int(now.text.split()[0]) < before
        seconds = time.perf_counter() - began
        stop.value = 1
        writer.join()
        with contextlib.closing(Snapshot.take(directory.fd, NAME)) as now:
            lost += int(now.text.split()[0]) != said.value
        left = [name for name in os.listdir(path) if name.startswith(".ckptctl-")]
    return {
        "below": below,
        "how": how,
        "rounds": rounds,
        "words": said.value,
        "lost": lost,
        "left": len(left),
        "seconds": round(seconds, 1),
    }


def main() -> None:
    """Runs one race for each directory."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("below", metavar="DIR", nargs="*", default=[tempfile.gettempdir()])
    parser.add_argument("--rounds", type=int, default=100_000)
    parser.add_argument("--how", choices=("exchange", "rename"), default="exchange")
    args = parser.parse_args()
    lost = 0
    for below in args.below:
        result = soak(below, args.rounds, args.how)
        lost += result["lost"] + result["left"]
        sys.stdout.write(json.dumps(result) + "\n")
    sys.exit(1 if lost and args.how == "exchange" else 0)


if __name__ == "__main__":
    main()
