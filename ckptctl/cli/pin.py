"""`ckptctl pin` and, in `ckptctl.cli.unpin`, what undoes it."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import click

from ckptctl import render
from ckptctl.cli import options
from ckptctl.cli.exits import Outcome, about, complain
from ckptctl.opened import place
from ckptctl.pins import pin

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ckptctl.pins import PinReport


@click.command(name="pin")
@options.checkpoints
@options.as_json
def command(*, checkpoints: tuple[str, ...], as_json: bool) -> None:
    """Keeps each CHECKPOINT whatever the policy of a prune or a watch says, until it is unpinned.

    A checkpoint is named by its prefix or by any of its files. The pins of a directory stand in its file
    ckptctl.pins, which the README describes, and are copied with it; `ckptctl ls` shows them. They bind
    ckptctl alone: what a CheckpointManager or a Saver deletes of its own accord, no pin keeps.

    \b
    Exit codes: 0 fine; 2 usage; 3 not there or unreadable; 4 refused, to protect
    data: the pins cannot be read, or another ckptctl is at work.

    \b
    Example:  ckptctl pin runs/a/ckpt-12 runs/b/best-3.index
    """  # noqa: D301 - \b is Click's mark for a paragraph that is left as it is
    change(checkpoints, pin, "pinned", as_json=as_json)


def change(
    paths: Sequence[str], action: Callable[[str, Sequence[str]], PinReport], verb: str, *, as_json: bool
) -> None:
    """Pins or unpins, a directory at a time, and tells what was done."""
    by_directory: dict[str, list[str]] = {}
    for path in paths:
        where, name = place(path)
        if not name or (os.path.isdir(path) and name in {".", ".."}):
            raise click.UsageError(f"{path} is a directory: name a checkpoint in it")
        by_directory.setdefault(where, []).append(name)
    outcome = Outcome()
    reports = []
    for directory, names in by_directory.items():
        with outcome.directory():
            reports.append(action(directory, names))
    if as_json:
        found = [
            {"directory": one.directory, verb: list(one.changed), "pins": list(one.pinned)} for one in reports
        ]
        click.echo(json.dumps({"directories": found}, indent=2))
    else:
        for report in reports:
            _show(report, verb)
    outcome.exit()


def _show(report: PinReport, verb: str) -> None:
    for note in report.notes:
        complain(about(report.directory, note))
    done = f"{verb} {', '.join(report.changed)}" if report.changed else "nothing to do"
    pinned = ", ".join(report.pinned) or "nothing"
    click.echo(render.escape(f"{report.directory}: {done}; pinned now: {pinned}"))
