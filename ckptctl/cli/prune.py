"""`ckptctl prune`."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from ckptctl import posix, render
from ckptctl.cli import options, settings
from ckptctl.cli.ahead import look_ahead
from ckptctl.cli.exits import Exit, Outcome, complain, complain_of_none
from ckptctl.prune import prune_open

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
    and what is being saved. Only checkpoints that pass --verify count: by default a whole index, and files as
    long as that says. An older one that passes does not go for the sake of a newer one that does not; with
    --verify=restore, to pass is to restore.

    Ctrl-C and SIGTERM finish the deletion in hand; what was deleted is still reported.

    \b
    Exit codes: 0 fine; 1 something could not be deleted, or --max-size not be
    kept; 2 usage; 3 not there or unreadable; 4 refused, to protect data;
    130 stopped by Ctrl-C, 143 by SIGTERM.

    \b
    Example:  ckptctl prune --keep 3 --protect 'best-*' -n
    """  # noqa: D301 - \b is Click's mark for a paragraph that is left as it is
    retained = settings.Retention(given)
    paths = directories or (".",)
    outcome = Outcome()
    reports: list[Report] = []

    def announce(plan: Plan) -> None:
        if not as_json:
            click.echo(("\n" if reports else "") + render.plan(plan, form))
            for note in plan.notes:
                complain(note)

    look_ahead(paths, retained)
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
                    _show(report)
                if not report.plan.decisions:
                    complain_of_none(path)
                if report.failed or report.plan.over_bytes:
                    outcome.add(Exit.FOUND)
                if report.refused is not None:
                    outcome.add(Exit.REFUSED)
        if as_json:
            found = [render.report_json(report) for report in reports]
            click.echo(json.dumps({"directories": found}, indent=2))
    outcome.exit()


def _show(report: Report) -> None:
    for note in report.notes:
        complain(note)
    for name in report.spared:
        complain(f"{name} stays: the trainer wrote it or named it in the meantime")
    for failure in report.failed:
        complain(f"{failure.name} could not be deleted: {failure.error}")
    if report.refused is not None:
        complain(f"stopped before everything was deleted: {report.refused}")
    click.echo(render.outcome(report))
