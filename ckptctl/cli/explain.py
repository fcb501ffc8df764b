"""`ckptctl explain`."""

from __future__ import annotations

import json
from typing import Any

import click

from ckptctl import posix
from ckptctl.cli import options, settings
from ckptctl.cli.ahead import look_ahead
from ckptctl.cli.exits import Exit, Outcome, about, complain, none_here
from ckptctl.explanation import explain
from ckptctl.prune import prune_open
from ckptctl.render_explain import explanation, explanation_json
from ckptctl.roots import Place


@click.command(name="explain")
@options.directories
@settings.options
@options.verify
@options.workers
@options.latest_filename
@options.table_format
@options.as_json
def command(
    *,
    directories: tuple[str, ...],
    level: str,
    workers: int,
    latest_filename: str,
    form: str,
    as_json: bool,
    **given: Any,
) -> None:
    """Explains what prune would do in each DIR (default: the current one) with the same options.

    For each checkpoint it shows every rule and every protection that speaks for it, or why it goes; for each
    rule how many checkpoints it speaks for, and how many stay for its sake alone; for each option where it is
    from: the command line, the environment or a file. Of the environment it hears what prune hears
    (CKPTCTL_PRUNE_...), unless the same option is set for it alone (CKPTCTL_EXPLAIN_...). Nothing is changed,
    and no right to do so is needed.

    \b
    Exit codes: 0 fine; 1 --max-size could not be kept; 2 usage; 3 not there or
    unreadable; 4 prune would refuse, to protect data.

    \b
    Example:  ckptctl explain --keep 3 --keep-daily 7
    """  # noqa: D301 - \b is Click's mark for a paragraph that is left as it is
    retained = settings.Retention(given)
    paths = directories or (".",)
    outcome = Outcome()
    found: list[dict[str, Any]] = []
    shown = 0
    look_ahead([Place(path) for path in paths], retained)
    with options.proofs(level, workers) as proofs:
        for path in paths:
            with outcome.directory(), posix.open_directory(path) as directory:
                terms = retained.of(directory)
                report = prune_open(
                    directory,
                    terms.policy,
                    terms.protections,
                    latest_filename=latest_filename,
                    proofs=proofs,
                    dry_run=True,
                )
                made = explain(report.plan, terms.policy, terms.protections)
                said = [*terms.settings, *settings.beyond_files("verify", "latest-filename")]
                notes = (*report.plan.notes, *terms.notes, *report.notes)
                if as_json:
                    sources = [setting._asdict() for setting in said]
                    found.append({**explanation_json(made), "settings": sources, "notes": notes})
                else:
                    sources_told = [(str(setting), setting.source) for setting in said]
                    click.echo(("\n" if shown else "") + explanation(made, sources_told, form))
                    shown += 1
                    for note in notes:
                        complain(about(path, note))
                if not report.plan.decisions:
                    complain(none_here(path))
                if report.plan.over_bytes:
                    outcome.add(Exit.FOUND)
    if as_json:
        click.echo(json.dumps({"directories": found}, indent=2))
    outcome.exit()
