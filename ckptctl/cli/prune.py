"""`ckptctl prune`."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from ckptctl import posix, render
from ckptctl.cli import options, settings
from ckptctl.cli.ahead import look_ahead, passing_over
from ckptctl.cli.exits import Exit, Outcome, about, none_here
from ckptctl.prune import prune_open
from ckptctl.roots import MAX_DEPTH, Place, run_directories

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ckptctl.model import Plan, Report


@click.command(name="prune")
@options.directories
@settings.options
@options.verify
@options.workers
@options.dry_run
@click.option(
    "-r",
    "--recursive",
    is_flag=True,
    help="Prune every run directory below each DIR too; no link is followed.",
)
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
    recursive: bool,
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

    What one directory refuses does not stop the next. With -r, those without checkpoints are passed over.

    Ctrl-C and SIGTERM finish the deletion in hand; what was deleted is still reported.

    \b
    Exit codes: 0 fine; 1 something could not be deleted, --max-size not be
    kept, or not all of this be written out, as to a log on the full disk;
    2 usage; 3 not there or unreadable; 4 refused, to protect data;
    130 stopped by Ctrl-C, 143 by SIGTERM.

    \b
    Example:  ckptctl prune --keep 3 --protect 'best-*' -n
              ckptctl prune --keep 3 -r runs
    """  # noqa: D301 - \b is Click's mark for a paragraph that is left as it is
    retained = settings.Retention(given)
    paths = directories or (".",)
    outcome = Outcome()
    places = {place.path: place for place in _places(paths, outcome, recursive=recursive)}
    if recursive:
        retained.expect_rules(paths)
    look_ahead(list(places.values()), retained, recursive=recursive)
    account = _Account(outcome, form, as_json=as_json, recursive=recursive)
    with options.proofs(level, workers) as proofs, posix.signals_held() as signals:
        for path in outcome.each(list(places), signals):
            with (
                outcome.directory(),
                passing_over(places[path], recursive=recursive),
                places[path].open() as directory,
            ):
                terms = retained.of(directory)
                report = prune_open(
                    directory,
                    terms.policy,
                    terms.protections,
                    latest_filename=latest_filename,
                    proofs=proofs,
                    offline=offline,
                    dry_run=dry_run,
                    announce=account.begin,
                    stop=lambda: bool(signals),
                )
                account.add(replace(report, notes=(*terms.notes, *report.notes)))
        account.end(paths)
    outcome.exit()


def _places(paths: Sequence[str], outcome: Outcome, *, recursive: bool) -> Iterator[Place]:
    """What is to be pruned; says which directories lie too deep for that."""
    for root in paths:
        if not recursive:
            yield Place(root)
            continue
        cut: list[str] = []
        yield from run_directories(root, cut.append)
        if cut:
            outcome.complain(
                f"{cut[0]}: too deep: what is below it is not pruned, as all that lies more than {MAX_DEPTH} "
                f"directories below {root}"
            )
            outcome.add(Exit.FOUND)


class _Account:
    """What is told of one directory after the other, and of all of them in the end.

    Args:
        outcome: What takes the words and the exit codes.
        form: The format of tables.
        as_json: Whether all is told at the end, as JSON.
        recursive: Whether directories without checkpoints are passed over.
    """

    def __init__(self, outcome: Outcome, form: str, *, as_json: bool, recursive: bool) -> None:
        self._outcome = outcome
        self._form = form
        self._as_json = as_json
        self._recursive = recursive
        self._reports: list[Report] = []

    def begin(self, plan: Plan) -> None:
        """Shows what is about to be done in a directory."""
        if self._as_json or self._is_passed_over(plan):
            return
        self._outcome.say(("\n" if self._reports else "") + render.plan(plan, self._form))
        for note in plan.notes:
            self._outcome.complain(about(plan.directory, note))

    def add(self, report: Report) -> None:
        """Tells what came of it."""
        if self._is_passed_over(report.plan):
            return
        self._reports.append(report)
        if not self._as_json:
            self._show(report)
        if report.failed or report.plan.over_bytes:
            self._outcome.add(Exit.FOUND)
        if report.refused is not None:
            self._outcome.add(Exit.REFUSED)

    def end(self, paths: Sequence[str]) -> None:
        """Tells what there is to say of all; `paths` are those that were named."""
        if self._as_json:
            found = [render.report_json(report) for report in self._reports]
            self._outcome.say(json.dumps({"directories": found}, indent=2))
        elif len(self._reports) > 1:
            self._outcome.say(f"\nin all: {render.outcome(*self._reports)}")
        none = not any(report.plan.decisions for report in self._reports)
        # Of several, one may well be empty still; and what is the matter may have been said.
        if none and len(paths) == 1 and self._outcome.code is Exit.FINE:
            further = "ckptctl prune -r {} ..."
            self._outcome.complain(none_here(paths[0], further, recursive=self._recursive))

    def _is_passed_over(self, plan: Plan) -> bool:
        return self._recursive and not plan.decisions

    def _show(self, report: Report) -> None:
        said = [*report.notes]
        said += [f"{name} stays: the trainer wrote it or named it in the meantime" for name in report.spared]
        said += [f"{failure.name} could not be deleted: {failure.error}" for failure in report.failed]
        if report.refused is not None:
            said.append(f"stopped before everything was deleted: {report.refused}")
        for message in said:
            self._outcome.complain(about(report.plan.directory, message))
        self._outcome.say(render.outcome(report))
