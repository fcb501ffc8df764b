"""`ckptctl latest`."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import sys
from typing import TYPE_CHECKING

import click

from ckptctl import naming, posix, render
from ckptctl.cli import options
from ckptctl.cli.exits import Exit, complain
from ckptctl.cli.progress import Progress
from ckptctl.model import StateStatus
from ckptctl.scan import scan
from ckptctl.verify import open_scanned

if TYPE_CHECKING:
    from ckptctl.model import Checkpoint, Directory
    from ckptctl.proof import Proofs


@click.command(name="latest")
@options.directory
@click.option(
    "--verified", is_flag=True, help="Go back to the newest that passes `ckptctl verify`: --verify=data."
)
@options.verify
@options.workers
@options.latest_filename
@options.as_json
def command(
    *, path: str, verified: bool, level: str, workers: int, latest_filename: str, as_json: bool
) -> None:
    """Prints the path to restore from: the latest that the state file of DIR (default: .) names.

    Where the state file is not there, cannot be read, or names what is not there whole, it is the newest
    complete checkpoint instead; with --verify the newest that passes. What is passed over is said on stderr,
    and why.

    \b
    Exit codes: 0 fine; 2 usage; 3 there is none, or DIR cannot be read; 130 interrupted.

    \b
    Example:  python train.py --restore "$(ckptctl latest --verified runs/a)"
    """  # noqa: D301 - \b is Click's mark for a paragraph that is left as it is
    directory = scan(path, latest_filename=latest_filename)
    passed_over: list[dict[str, str]] = []

    def pass_over(name: str, why: str) -> None:
        passed_over.append({"checkpoint": name, "why": why})
        complain(f"passed over {name}: {why}")

    _doubt(directory, latest_filename)
    found = None
    asked = "data" if verified and level == "quick" else level
    with contextlib.ExitStack() as held:
        proofs = None if asked == "quick" else held.enter_context(options.proofs(asked, workers))
        for one in _candidates(directory):
            why = _incomplete(one) if proofs is None or not one.complete else _verify(path, one, proofs)
            if why is None:
                data = [file.name for file in one.shards]
                found = os.path.join(path, naming.restorable_name(one.name, data))
                break
            pass_over(one.name, why)
    if as_json:
        click.echo(json.dumps({"directory": path, "checkpoint": found, "passed_over": passed_over}, indent=2))
    elif found is not None:
        # For a program it is the very path; a terminal is spared what a name may hold.
        click.echo(render.escape(found) if sys.stdout.isatty() else os.fsencode(found))
    if found is None:
        complain(
            f"{path}: no checkpoint to restore from; `ckptctl ls {shlex.quote(path)}` shows what there is"
        )
        click.get_current_context().exit(Exit.UNREADABLE)


def _candidates(directory: Directory) -> list[Checkpoint]:
    """What the state names as the latest, then what is on the disk, newest first.

    What is made of links is as old as its links, which tells nothing: it comes last.
    """
    latest = [one for one in directory.checkpoints if one.latest]
    others = [one for one in reversed(directory.checkpoints) if one.on_disk and not one.latest]
    return latest + sorted(others, key=lambda one: not one.regular)


def _doubt(directory: Directory, latest_filename: str) -> None:
    """Says why the state file does not decide."""
    state = directory.state
    if state.status is StateStatus.ABSENT:
        complain(f"{directory.path}: no state file {latest_filename}; going by what is there")
    elif state.latest is None:
        complain(f"{directory.path}: {state.problem}; going by what is there")
    elif state.latest.foreign:
        complain(f"the state file names {state.latest.path}; going by its name in {directory.path}")


def _incomplete(one: Checkpoint) -> str | None:
    if one.complete:
        return None
    if not one.on_disk:
        return "the state file names it as the latest, and it is not there"
    return f"{one.status.value}: {one.problem}" if one.problem else one.status.value


def _verify(path: str, one: Checkpoint, proofs: Proofs) -> str | None:
    """Why a checkpoint does not pass; None if it does."""
    with posix.open_directory(path) as directory, Progress([one.bytes]) as progress:
        progress.begin(one.name)
        verdict = proofs.prove(open_scanned(directory, one, follow=True), progress.update)
    if verdict.ok:
        return None
    more = f" (and {len(verdict.findings) - 1:,} more)" if len(verdict.findings) > 1 else ""
    return f"{verdict.status.value}: {verdict.findings[0].message}{more}"
