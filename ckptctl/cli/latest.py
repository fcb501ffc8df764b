"""`ckptctl latest`."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import click

from ckptctl import naming, posix, render
from ckptctl.cli import options
from ckptctl.cli.exits import Exit, complain, none_here
from ckptctl.cli.progress import Progress
from ckptctl.model import StateStatus, Status
from ckptctl.scan import scan
from ckptctl.verify import Level, open_scanned

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ckptctl.model import Checkpoint, Directory
    from ckptctl.proof import Proofs


@click.command(name="latest")
@options.directory
@click.option(
    "--verified", is_flag=True, help="Go back to the newest that passes `ckptctl verify`: --verify=data."
)
@options.verify
@options.order
@options.workers
@options.latest_filename
@options.as_json
def command(
    *,
    path: str,
    verified: bool,
    level: str,
    order: str | None,
    workers: int,
    latest_filename: str,
    as_json: bool,
) -> None:
    """Prints the path to restore from: the latest that the state file of DIR (default: .) names.

    Where the state file is not there, cannot be read, or names what is not there whole, it is the newest
    complete checkpoint instead; with --verify the newest that passes. What is passed over is said on stderr,
    and why. Where time and step disagree about which that is, --order decides.

    \b
    Exit codes: 0 fine; 2 usage; 3 there is none, or DIR cannot be read;
    4 refused: which is the newest is not clear; 130 interrupted.

    \b
    Example:  ckpt=$(ckptctl latest --verified runs/a) && train --restore "$ckpt"
    """  # noqa: D301 - \b is Click's mark for a paragraph that is left as it is
    if verified and level == "quick" and not options.is_default("level"):
        raise click.UsageError(
            "--verified reads the data (--verify=data), --verify=quick none: give one of them"
        )
    directory = scan(path, latest_filename=latest_filename)
    passed_over: list[dict[str, str]] = []

    def pass_over(one: Checkpoint, why: str) -> None:
        passed_over.append({"checkpoint": _path(directory, one), "why": why})
        complain(f"passed over {one.name}: {why}")

    _doubt(directory, latest_filename)
    asked = "data" if verified and level == "quick" else level
    with contextlib.ExitStack() as held:
        proofs = None if asked == "quick" else held.enter_context(options.proofs(asked, workers))
        found = _Search(directory, proofs, workers, order, pass_over).find()
    restorable = None if found is None else _path(directory, found)
    if as_json:
        document = {"directory": path, "checkpoint": restorable, "passed_over": passed_over}
        click.echo(json.dumps(document, indent=2))
    elif restorable is not None:
        # For a program it is the very path; a terminal is spared what a name may hold.
        click.echo(render.escape(restorable) if sys.stdout.isatty() else os.fsencode(restorable))
    if restorable is None:
        if directory.checkpoints:
            listing = f"`ckptctl ls {shlex.quote(path)}`"
            complain(f"{path}: no checkpoint to restore from; {listing} shows what there is")
        else:
            complain(none_here(path))
        click.get_current_context().exit(Exit.UNREADABLE)


@dataclass(slots=True)
class _Search:
    """The search for the checkpoint to restore from.

    Attributes:
        directory: Where.
        proofs: What it has to pass; without them, to be complete is enough, unless its data are younger than
            its index: see `ckptctl.proof`.
        workers: How many threads read.
        order: What makes a checkpoint newer, where time and step disagree.
        pass_over: Is told what does not pass, and why.
    """

    directory: Directory
    proofs: Proofs | None
    workers: int
    order: str | None
    pass_over: Callable[[Checkpoint, str], None]
    judged: dict[str, bool] = field(default_factory=dict)

    def find(self) -> Checkpoint | None:
        """What the state names as the latest if that passes, else the newest on the disk that does.

        What is made of links is as old as its links, which tells nothing: it comes last.

        Raises:
            RefusedError: Time and step disagree about what is newer.
            UnreadableError: It cannot be told whether one passes for which an older one would be taken.
        """
        named = next((one for one in self.directory.checkpoints if one.latest), None)
        if named is not None and self._passes(named):
            return named
        others = [one for one in self.directory.checkpoints if one.on_disk and not one.latest]
        return self._newest([one for one in others if one.regular]) or self._newest(
            [one for one in others if not one.regular]
        )

    def _newest(self, checkpoints: Sequence[Checkpoint]) -> Checkpoint | None:
        """The newest that passes, by every reading of "newest"."""
        from ckptctl.chronology import Order, readings  # noqa: PLC0415 - the same
        from ckptctl.mending import undecided  # noqa: PLC0415 - a state that holds decides by itself

        order = None if self.order is None else Order(self.order)
        first: dict[Order, Checkpoint | None] = {}
        for heard, way in readings([*filter(_has_a_say, checkpoints)], order).items():
            arranged = iter(way)
            every = (next(arranged) if _has_a_say(one) else one for one in reversed(checkpoints))
            first[heard] = next(filter(self._passes, every), None)
        found = {heard: one for heard, one in first.items() if one is not None}
        names = {heard: one.name for heard, one in found.items()}
        if len({*names.values()}) > 1:
            raise undecided(self.directory, names)
        return next(iter(found.values()), None)

    def _passes(self, one: Checkpoint) -> bool:
        if one.name not in self.judged:
            why = _incomplete(self.directory.path, one) or self._condemned(one)
            if why is not None:
                self.pass_over(one, why)
            self.judged[one.name] = why is None
        return self.judged[one.name]

    def _condemned(self, one: Checkpoint) -> str | None:
        """Why a complete checkpoint does not pass; None if it does, or nothing asks for that."""
        if self.proofs is None:
            if one.index is None or one.written <= one.index.mtime:
                return None
            from ckptctl.proof import Proofs  # noqa: PLC0415 - few are doubtful

            self.proofs = Proofs(Level.INDEX, self.workers)
        return _verify(self.directory.path, one, self.proofs) if self.proofs.asks(one) else None


def _has_a_say(one: Checkpoint) -> bool:
    """Whether it counts for the order. What cannot be read may be the newest.

    What is not whole, as a save under way, may not make that unclear: it is passed over in its place by time.
    """
    return one.complete or one.status is Status.UNREADABLE


def _path(directory: Directory, one: Checkpoint) -> str:
    """What TensorFlow takes to restore a checkpoint."""
    return os.path.join(directory.path, naming.restorable_name(one.name, [file.name for file in one.shards]))


def _doubt(directory: Directory, latest_filename: str) -> None:
    """Says why the state file does not decide."""
    state = directory.state
    if state.status is StateStatus.ABSENT:
        complain(f"{directory.path}: no state file {latest_filename}; going by what is there")
    elif state.latest is None:
        what = "cannot be read" if state.status is StateStatus.UNREADABLE else "is of no use"
        complain(
            f"{directory.path}: the state file {what} ({state.problem}); going by what is there. "
            f"`ckptctl repair {shlex.quote(directory.path)}` mends it"
        )
    elif state.latest.foreign:
        complain(f"the state file names {state.latest.path}; going by its name in {directory.path}")


def _incomplete(path: str, one: Checkpoint) -> str | None:
    """Why a checkpoint is not whole; None if it is. Raises: see `_Search.find`."""
    if one.complete:
        return None
    if one.status is Status.UNREADABLE:
        from ckptctl.proof import unknown  # noqa: PLC0415 - as in `_Search`

        raise unknown(path, one, str(one.problem))
    if not one.on_disk:
        return "the state file names it as the latest, and it is not there"
    return f"{one.status.value}: {one.problem}" if one.problem else one.status.value


def _verify(path: str, one: Checkpoint, proofs: Proofs) -> str | None:
    """Why a checkpoint does not pass; None if it does. Raises: see `_Search.find`."""
    from ckptctl.proof import expect_known  # noqa: PLC0415 - the same

    with posix.open_directory(path) as directory, Progress([one.bytes]) as progress:
        progress.begin(one.name)
        verdict = proofs.prove(open_scanned(directory, one, follow=True), progress.update)
    if verdict.ok:
        return None
    expect_known(path, one, verdict)  # whoever restores an older one may save over it
    more = f" (and {len(verdict.findings) - 1:,} more)" if len(verdict.findings) > 1 else ""
    return f"{verdict.status.value}: {verdict.findings[0].message}{more}"
