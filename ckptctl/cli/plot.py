"""`ckptctl plot`."""

from __future__ import annotations

import json
import logging
import os
from typing import TYPE_CHECKING, Any

import click

from ckptctl.cli import metric, options, retention, settings
from ckptctl.cli.ahead import expect_known
from ckptctl.cli.exits import about, complain
from ckptctl.cli.progress import Progress
from ckptctl.errors import CkptctlError, NoRuleError
from ckptctl.plotting.movement import compared, movement
from ckptctl.plotting.output import kind_of, place
from ckptctl.plotting.picture import Axis, as_planned, metric_of, picture
from ckptctl.policy import Best, Newest, Policy
from ckptctl.posix import open_directory
from ckptctl.prune import prune
from ckptctl.render import escape
from ckptctl.roots import Place
from ckptctl.scan import scan
from ckptctl.units import format_count

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ckptctl.model import Directory, Plan
    from ckptctl.plan import Protections
    from ckptctl.plotting.movement import Movement
    from ckptctl.plotting.output import Kind
    from ckptctl.plotting.picture import Picture


@click.command(name="plot")
@options.directory
@click.option(
    "-o",
    "--output",
    type=click.Path(readable=False),
    required=True,
    metavar="FILE",
    help="The picture: FILE.png, FILE.svg, or FILE.html, which tells more where it is pointed at.",
)
@click.option(
    "--by",
    type=click.Choice(["time", "step"]),
    help="What checkpoints stand along; by default the step, where each has one.",
)
@click.option(
    "--weights",
    is_flag=True,
    help="Read the checkpoints, and show how far each layer moved from one to the next.",
)
@settings.options
@options.verify
@options.workers
@options.latest_filename
@options.as_json
def command(
    *,
    path: str,
    output: str,
    by: str | None,
    weights: bool,
    level: str,
    workers: int,
    latest_filename: str,
    as_json: bool,
    **given: Any,
) -> None:
    """Draws the checkpoints of DIR (default: the current one): sizes, times, steps, and how they stand.

    With rules as for `ckptctl prune`, the picture shows which checkpoints they keep, and what would go;
    nothing is deleted. With --metric or --metrics it shows the metric too, and the best. It is drawn with
    matplotlib, which comes with ckptctl[plot].

    \b
    Exit codes: 0 fine; 2 usage; 3 there are no checkpoints, something cannot be
    read or written, or there is no matplotlib; 4 refused: FILE is there and no
    picture, or the rules cannot be applied; 130 interrupted.

    \b
    Example:  ckptctl plot run1 --keep 3 -o run1.html
    """  # noqa: D301 - \b is Click's mark for a paragraph that is left as it is
    kind = kind_of(output)
    policy, protections = _terms(path, given)
    best = _best(path, given, policy)
    rendered = _renderer()
    with place(output, kind, latest_filename) as file:
        directory, plan = _seen(path, policy, protections, latest_filename, level, workers)
        shown = picture(
            directory,
            _title(path),
            plan,
            axis=None if by is None else Axis(by),
            metric=None if best is None else metric_of(best, directory.checkpoints),
        )
        moved = _moved(path, shown) if weights else None
        file.write(rendered(shown, moved, kind))
    notes = [*shown.notes, *(() if moved is None else moved.notes)]
    for note in notes:
        complain(about(path, note))
    if as_json:
        document = {"file": output, "checkpoints": len(shown.marks), "notes": notes}
        click.echo(json.dumps(document, indent=2))
    else:
        click.echo(f"{escape(output)}: {format_count(len(shown.marks), 'checkpoint')}")


def _terms(path: str, given: Mapping[str, Any]) -> tuple[Policy | None, Protections]:
    """What holds in the directory; no policy if there is no rule."""
    retained = settings.Retention(given, shows_metric=True)
    try:
        with open_directory(path) as directory:
            terms = retained.of(directory)
    except NoRuleError:
        expect_known([Place(path)], retained)
        return None, retention.protections_of(given)
    expect_known([Place(path)], retained)
    for note in terms.notes:
        complain(about(path, note))
    return terms.policy, terms.protections


def _best(path: str, given: Mapping[str, Any], policy: Policy | None) -> Best | None:
    """Which metric is shown, and how many are its best."""
    for rule in () if policy is None else policy.rules:
        if isinstance(rule, Best):
            return rule
    return metric.Sources().best(given, 1, path) if metric.is_asked_for(given) else None


def _renderer() -> Callable[[Picture, Movement | None, Kind], bytes]:
    """What draws.

    Raises:
        CkptctlError: matplotlib is not there, or does not work.
    """
    # It tells of a home that cannot be written to, and of fonts: nothing that changes the picture.
    logging.getLogger("matplotlib").setLevel(logging.CRITICAL)
    try:
        from ckptctl.plotting.rendering import rendered  # noqa: PLC0415 - loads matplotlib
    except ModuleNotFoundError as error:
        raise CkptctlError(
            f"plot draws with matplotlib, which is not installed ({error.name} is missing): "
            "install ckptctl with its extra [plot], or `pip install matplotlib`"
        ) from error
    except (ImportError, OSError, ValueError) as error:
        raise CkptctlError(f"plot draws with matplotlib, which cannot be loaded: {error}") from error
    return rendered


def _seen(
    path: str,
    policy: Policy | None,
    protections: Protections,
    latest_filename: str,
    level: str,
    workers: int,
) -> tuple[Directory, Plan | None]:
    """What is there and what becomes of it, as `prune -n` has it."""
    directory = scan(path, latest_filename=latest_filename)
    if policy is None and level == "quick":
        return directory, None
    # Where no rule is given, all that is there has to pass.
    everything = Policy((Newest(max(1, len(directory.checkpoints))),))
    with options.proofs(level, workers) as proofs:
        report = prune(
            path,
            policy or everything,
            protections,
            latest_filename=latest_filename,
            proofs=proofs,
            dry_run=True,
        )
    for note in (*report.plan.notes, *report.notes):
        complain(about(path, note))
    return as_planned(directory, report.plan), None if policy is None else report.plan


def _title(path: str) -> str:
    """What the picture calls the directory: by its name, where the user's word has none."""
    return path if os.path.basename(path) not in {"", os.curdir, os.pardir} else os.path.abspath(path)


def _moved(path: str, shown: Picture) -> Movement:
    """How far the layers moved; how far the reading is shows on a terminal."""
    sizes = [mark.checkpoint.bytes for mark in compared(shown.marks)]
    with Progress(sizes) as progress:
        return movement(path, shown.marks, progress.begin)
