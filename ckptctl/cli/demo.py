"""`ckptctl demo`."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
import time
from typing import TYPE_CHECKING

import click

from ckptctl import render
from ckptctl.errors import CkptctlError
from ckptctl.scan import scan

if TYPE_CHECKING:
    from collections.abc import Iterator

_KEEP = 3
_SAVES = 10
_BEFORE = 5
"""How many checkpoints pile up before the watch begins."""
_DEADLINE = 120.0
"""Seconds until the demo gives up on a process of its own."""


@click.command(name="demo")
def command() -> None:
    """Shows a watch at work beside a small real trainer, in a temporary directory.

    A Keras model is trained and saved ten times under names of its own, so nothing but ckptctl prunes. In the
    end TensorFlow restores the newest checkpoint. Takes a quarter of a minute, most of it TensorFlow's start.

    \b
    Exit codes: 0 fine; 3 a part of the demo did not work.
    """  # noqa: D301 - \b is Click's mark for a paragraph that is left as it is
    with tempfile.TemporaryDirectory(prefix="ckptctl-demo-") as directory:
        click.echo(f"A Keras model is trained in {directory}, and saved under a new name each time.")
        with _started("ckptctl.demo_trainer", "train", directory, f"--wait-after={_BEFORE}") as trainer:
            _await_saves(trainer, _BEFORE)
            click.echo(f"\n$ ckptctl ls            # after {_BEFORE} saves\n{_listing(directory)}")
            click.echo(f"\n$ ckptctl watch --keep {_KEEP} &\nThe trainer goes on.")
            with _started("ckptctl", "watch", directory, f"--keep={_KEEP}", "--settle=100ms") as watch:
                _pass_on(watch, "watching")
                _tell(trainer, "go on\n")
                _await_saves(trainer, _SAVES)
                _await_count(directory, _KEEP)
                watch.terminate()
                _pass_on(watch, "stopped")
        click.echo(f"\n$ ckptctl ls            # after {_SAVES} saves\n{_listing(directory)}\n")
        click.echo("And TensorFlow? ", nl=False)
        with _started("ckptctl.demo_trainer", "restore", directory) as restore:
            click.echo(_line(restore))
    click.echo(
        "\nNow with your own: ckptctl ls DIR, ckptctl prune DIR --keep 3 -n, ckptctl watch DIR --keep 3"
    )


def _listing(directory: str) -> str:
    found = scan(directory)
    return f"{render.summary(found)}\n{render.checkpoints(found, 'simple')}"


@contextlib.contextmanager
def _started(module: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Runs a module of ours beside us; its errors are shown only if it fails."""
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(  # noqa: S603 - our own modules
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        try:
            with process:
                try:
                    yield process
                    process.wait(_DEADLINE)
                except BaseException:
                    process.kill()
                    raise
            if process.returncode:
                raise CkptctlError(f"exit code {process.returncode}")  # noqa: TRY301 - told in one place
        except (OSError, CkptctlError, subprocess.TimeoutExpired) as error:
            errors.seek(0)
            click.echo(errors.read(), err=True)
            raise CkptctlError(f"the demo's {module} did not work: {error}") from error


def _line(process: subprocess.Popen[str]) -> str:
    if process.stdout is None or not (line := process.stdout.readline()):
        raise CkptctlError("it ended early")
    return line.rstrip("\n")


def _tell(process: subprocess.Popen[str], line: str) -> None:
    if process.stdin is not None:
        process.stdin.write(line)
        process.stdin.flush()


def _await_saves(trainer: subprocess.Popen[str], count: int) -> None:
    while _line(trainer) != f"saved {count}":
        pass


def _pass_on(watch: subprocess.Popen[str], last: str) -> None:
    """Shows what the watch says, up to a line that ends with a word."""
    while True:
        line = _line(watch)
        click.echo(line)
        if line.endswith(last):
            return


def _await_count(directory: str, count: int) -> None:
    deadline = time.monotonic() + _DEADLINE
    while len(scan(directory).checkpoints) != count:
        if time.monotonic() > deadline:
            raise CkptctlError(f"there are not {count} checkpoints after {_DEADLINE:.0f} seconds")
        time.sleep(0.05)
