"""`ckptctl clean`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from ckptctl import posix, render_mend
from ckptctl.clean import clean
from ckptctl.cli import options
from ckptctl.cli.exits import Exit, Outcome, about, none_here
from ckptctl.roots import is_run

if TYPE_CHECKING:
    from ckptctl.clean import CleanPlan, CleanReport


@click.command(name="clean")
@options.directories
@click.option(
    "--older-than",
    type=options.Duration(),
    default="1h",
    show_default=True,
    help="For how long nothing may have been written there; a minute at least, 90 is 90s.",
)
@click.option(
    "--offline",
    is_flag=True,
    help="No trainer is at work, not even a suspended one: delete what is newer than all checkpoints too.",
)
@options.dry_run
@options.latest_filename
@options.table_format
@options.as_json
def command(
    *,
    directories: tuple[str, ...],
    older_than: float,
    offline: bool,
    dry_run: bool,
    latest_filename: str,
    form: str,
    as_json: bool,
) -> None:
    """Deletes what interrupted saves left in each DIR (default: the current one), and no checkpoint.

    Leftovers are shards without an index, a .meta without a checkpoint, directories of parts (NAME_temp,
    workertemp_N), and files before their rename (.tempstate, checkpoint.tmp). Only what as a whole has a name
    that TensorFlow gives goes: the plan is shown first, with the reason why anything stays. Nothing goes
    where there is neither a checkpoint nor a state file.

    A save under way leaves the same names. So nothing goes as long as any file of a save was written within
    --older-than: best run this when no trainer is about to begin. What was written after the newest
    checkpoint may be of a save that is suspended, and goes on when its job does: it waits for the next
    checkpoint, or for --offline.

    \b
    Exit codes: 0 fine; 1 something could not be deleted, or not all of this be
    written out; 2 usage; 3 not there or unreadable; 4 refused, to protect data;
    130 stopped by Ctrl-C, 143 by SIGTERM.

    \b
    Example:  ckptctl clean runs/a --older-than 1d -n
    """  # noqa: D301 - \b is Click's mark for a paragraph that is left as it is
    paths = directories or (".",)
    outcome = Outcome()
    reports: list[CleanReport] = []

    def announce(plan: CleanPlan) -> None:
        if not as_json:
            outcome.say(("\n" if reports else "") + render_mend.clean_plan(plan, form))

    with posix.signals_held() as signals:
        for path in outcome.each(paths, signals):
            with outcome.directory():
                report = clean(
                    path,
                    older_than=older_than,
                    latest_filename=latest_filename,
                    offline=offline,
                    dry_run=dry_run,
                    announce=announce,
                    stop=lambda: bool(signals),
                )
                reports.append(report)
                if not as_json:
                    _show(report, outcome)
                if not report.plan.found and not is_run(path):
                    outcome.complain(none_here(path))
                if report.failed:
                    outcome.add(Exit.FOUND)
        if as_json:
            found = [render_mend.clean_json(report) for report in reports]
            outcome.say(json.dumps({"directories": found}, indent=2))
    outcome.exit()


def _show(report: CleanReport, outcome: Outcome) -> None:
    said = [*report.notes]
    said += [f"{path} stays: it was written in the meantime" for path in report.spared]
    said += [f"{failure.name} could not be deleted: {failure.error}" for failure in report.failed]
    for message in said:
        outcome.complain(about(report.plan.directory, message))
    if report.plan.found:
        outcome.say(render_mend.clean_outcome(report))
