"""`ckptctl prune`."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from ckptctl import posix, render
from ckptctl.cli import options, settings
from ckptctl.cli.ahead import look_ahead
from ckptctl.cli.exits import Exit, Outcome, about, none_here
from ckptctl.prune import prune_open
from ckptctl.roots import Place

if TYPE_CHECKING:
    from ckptctl.model import Plan, Report


@click.command(name="prune")
@options.directories
@settings.options
@options.verify
@options.workers
@options.dry_run
@options.offline
@options.latest_filename
@options.table_format
@options.as_json
def command(
    *,
    directories: tuple[str, ...],
    level: str,
    workers: int,
    dry_run: bool,
    offline: bool,
    latest_filename: str,
    form: str,
    as_json: bool,
    **given: Any,
) -> None:
    """Deletes the checkpoints of each DIR (default: the current one) that no rule keeps.

    The plan is shown first, with the reasons for each checkpoint. There is no prompt: the rule that you give
    is the consent. -n shows the plan alone, and `ckptctl explain` more of it: what each rule and protection
    does, and which file an option is from.

    Rules may stand in a file as well: in ckptctl.toml in the DIR, or in one that --config names. Another
    user's file in the DIR may only keep more.

    Whatever the rules say, the latest that the state file names stays, and the newest complete checkpoint,
    and what is being saved. Only checkpoints that pass --verify count: an older one that restores does not go
    for the sake of a newer one that does not.

    Ctrl-C and SIGTERM finish the deletion in hand; what was deleted is still reported.

    \b
    Exit codes: 0 fine; 1 something could not be deleted, --max-size not be kept, or not all of
    this be written out, as to a log on the full disk; 2 usage; 3 not there or unreadable;
    4 refused, to protect data; 130 stopped by Ctrl-C, 143 by SIGTERM.

    \b
    Example:  ckptctl prune --keep 3 --protect 'best-*' -n
    """  # noqa: D301 - \b is Click's mark for a paragraph that is left as it is
    retained = settings.Retention(given)
    paths = directories or (".",)
    outcome = Outcome()
    reports: list[Report] = []

    def announce(plan: Plan) -> None:
        if not as_json:
            outcome.say(("\n" if reports else "") + render.plan(plan, form))
            for note in plan.notes:
                outcome.complain(about(plan.directory, note))

    look_ahead([Place(path) for path in paths], retained)
    with options.proofs(level, workers) as proofs, posix.signals_held() as signals:
        for path in outcome.each(paths, signals):
            with outcome.directory(), posix.open_directory(path) as directory:
                terms = retained.of(directory)
                report = prune_open(
                    directory,
                    terms.policy,
                    terms.protections,
                    latest_filename=latest_filename,
                    proofs=proofs,
                    offline=offline,
                    dry_run=dry_run,
                    announce=announce,
                    stop=lambda: bool(signals),
                )
                report = replace(report, notes=(*terms.notes, *report.notes))
                reports.append(report)
                if not as_json:
                    _show(report, outcome)
                if not report.plan.decisions and len(paths) == 1:  # of several, one may well be empty still
                    outcome.complain(none_here(path))
                if report.failed or report.plan.over_bytes:
                    outcome.add(Exit.FOUND)
                if report.refused is not None:
                    outcome.add(Exit.REFUSED)
        if as_json:
            found = [render.report_json(report) for report in reports]
            outcome.say(json.dumps({"directories": found}, indent=2))
    outcome.exit()


def _show(report: Report, outcome: Outcome) -> None:
    said = [*report.notes]
    said += [f"{name} stays: the trainer wrote it or named it in the meantime" for name in report.spared]
    said += [f"{failure.name} could not be deleted: {failure.error}" for failure in report.failed]
    if report.refused is not None:
        said.append(f"stopped before everything was deleted: {report.refused}")
    for message in said:
        outcome.complain(about(report.plan.directory, message))
    outcome.say(render.outcome(report))
