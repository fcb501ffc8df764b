"""`ckptctl ls`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from ckptctl import render
from ckptctl.cli import metric, options
from ckptctl.cli.exits import Exit, Outcome, complain, none_here
from ckptctl.scan import scan, scan_tree

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ckptctl.model import Directory, Measured


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
    "--summary",
    is_flag=True,
    help="A row for each directory in place of one for each checkpoint; the largest first, unless --sort is "
    "given.",
)
@click.option(
    "--sort",
    type=click.Choice(list(render.SORT_KEYS)),
    default="time",
    show_default=True,
    help="The order of the rows, lowest first.",
)
@metric.options
@options.latest_filename
@options.table_format
@options.as_json
def command(
    *,
    directories: tuple[str, ...],
    recursive: bool,
    detailed: bool,
    summary: bool,
    sort: str,
    latest_filename: str,
    form: str,
    as_json: bool,
    **given: Any,
) -> None:
    """Lists the checkpoints of each DIR (default: the current one), oldest first.

    With --metric TAG or --metrics FILE there is a column with that metric, and the best is marked.

    What is wrong is shown as far as the indexes and the lengths of files tell, and the command that mends it
    is named on stderr.

    \b
    Exit codes: 0 fine; 2 usage; 3 no checkpoints there, or it cannot be read.

    \b
    Examples:  ckptctl ls -r runs --sort size
               ckptctl ls -r --summary runs
    """  # noqa: D301 - \b is Click's mark for a paragraph that is left as it is
    outcome = Outcome()
    sources = metric.Sources() if metric.is_asked_for(given) else None
    if summary:
        _exclude({"--json": as_json, "--long": detailed, "--metric": sources is not None})

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

    seen = [(directory, _measured(directory, sources, given, outcome)) for directory in found()]
    if as_json:
        listed = [render.directory_json(directory, measured) for directory, measured in seen]
        click.echo(json.dumps({"directories": listed}, indent=2))
    elif summary:
        _summarise([directory for directory, _ in seen], form, None if options.is_default("sort") else sort)
    else:
        _show_all(seen, form, sort, detailed=detailed)
    bare = [directory.path for directory, _ in seen if not directory.checkpoints]
    for path in () if recursive else bare:
        complain(none_here(path))
    if len(bare) == len(seen):
        _end_with_none(directories or (".",), outcome, recursive=recursive)
    outcome.exit()


def _exclude(others: Mapping[str, bool]) -> None:
    for other, present in others.items():
        if present:
            raise click.UsageError(f"--summary and {other} do not go together: {other} tells of checkpoints")


def _summarise(seen: Sequence[Directory], form: str, sort: str | None) -> None:
    from ckptctl import render_overview  # noqa: PLC0415 - a listing does without

    directories = [directory for directory in seen if directory.checkpoints or directory.leftovers]
    if directories:
        click.echo(render_overview.overview(directories, form, sort))
        if options.is_default("form"):
            click.echo(render_overview.total(directories))


def _end_with_none(paths: tuple[str, ...], outcome: Outcome, *, recursive: bool) -> None:
    if recursive and outcome.code is Exit.FINE:  # else it has been said what is the matter
        for path in paths:
            complain(none_here(path, recursive=True))
    outcome.add(Exit.UNREADABLE)


def _show_all(
    seen: Sequence[tuple[Directory, Measured | None]], form: str, sort: str, *, detailed: bool
) -> None:
    for at, (directory, measured) in enumerate(seen):
        if options.is_default("form"):
            click.echo(("\n" if at else "") + render.summary(directory))
        _show(directory, measured, form, sort, detailed=detailed)


def _show(directory: Directory, measured: Measured | None, form: str, sort: str, *, detailed: bool) -> None:
    if directory.checkpoints:
        click.echo(render.checkpoints(directory, form, sort, detailed=detailed, measured=measured))
    for remedy in render.remedies(directory):
        complain(remedy)


def _measured(
    directory: Directory, sources: metric.Sources | None, given: Mapping[str, Any], outcome: Outcome
) -> Measured | None:
    """What the metric that is to be shown, if one is, says of a directory's checkpoints."""
    if sources is None or not directory.checkpoints:
        return None
    from ckptctl.measured import measure  # noqa: PLC0415 - a listing without does not load what plans

    with outcome.directory():
        best = sources.best(given, 1, directory.path)
        for note in sources.notes:
            complain(note)
        return measure(best, [one for one in reversed(directory.checkpoints) if one.on_disk])
    return None
