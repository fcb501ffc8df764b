"""`ckptctl ls`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from ckptctl import render
from ckptctl.cli import options
from ckptctl.cli.exits import Exit, Outcome, complain
from ckptctl.scan import scan, scan_tree

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ckptctl.model import Directory


@click.command(name="ls")
@options.directories
@click.option("-r", "--recursive", is_flag=True, help="Look below each DIR too; links are not followed.")
@click.option(
    "-l",
    "--long",
    "detailed",
    is_flag=True,
    help="Also tensors, parameters, the writer as far as the files tell, and what tells the step.",
)
@click.option(
    "--sort",
    type=click.Choice(list(render.SORT_KEYS)),
    default="time",
    show_default=True,
    help="The order of the rows, lowest first.",
)
@options.latest_filename
@options.table_format
@options.as_json
def command(
    *,
    directories: tuple[str, ...],
    recursive: bool,
    detailed: bool,
    sort: str,
    latest_filename: str,
    form: str,
    as_json: bool,
) -> None:
    """Lists the checkpoints of each DIR (default: the current one), oldest first.

    What is wrong is shown as far as the indexes and the lengths of files tell, and the command that mends it
    is named on stderr.

    \b
    Exit codes: 0 fine; 2 usage; 3 no checkpoints there, or it cannot be read.

    \b
    Example:  ckptctl ls -r runs --sort size
    """  # noqa: D301 - \b is Click's mark for a paragraph that is left as it is
    outcome = Outcome()

    def found() -> Iterator[Directory]:
        for path in directories or (".",):
            with outcome.directory():
                if recursive:
                    yield from scan_tree(
                        path, latest_filename=latest_filename, detailed=detailed, on_error=unreadable
                    )
                else:
                    yield scan(path, latest_filename=latest_filename, detailed=detailed)

    def unreadable(error: Exception) -> None:
        complain(str(error))
        outcome.add(Exit.UNREADABLE)

    seen = list(found())
    if as_json:
        click.echo(json.dumps(render.directories_json(seen), indent=2))
    else:
        for at, directory in enumerate(seen):
            if options.is_default("form"):
                click.echo(("\n" if at else "") + render.summary(directory))
            _show(directory, form, sort, detailed=detailed)
    if not any(directory.checkpoints for directory in seen):
        outcome.add(Exit.UNREADABLE)
    outcome.exit()


def _show(directory: Directory, form: str, sort: str, *, detailed: bool) -> None:
    if directory.checkpoints:
        click.echo(render.checkpoints(directory, form, sort, detailed=detailed))
    for remedy in render.remedies(directory):
        complain(remedy)
