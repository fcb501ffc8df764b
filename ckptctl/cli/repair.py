"""`ckptctl repair`."""

from __future__ import annotations

import json

import click

from ckptctl import render_mend
from ckptctl.chronology import Order
from ckptctl.cli import options
from ckptctl.cli.exits import Exit, about, complain
from ckptctl.repair import repair


@click.command(name="repair")
@options.directory
@options.verify
@options.order
@options.workers
@click.option("-n", "--dry-run", is_flag=True, help="Show what would be changed, and touch nothing.")
@options.offline
@options.latest_filename
@options.as_json
def command(
    *,
    path: str,
    level: str,
    order: str | None,
    workers: int,
    dry_run: bool,
    offline: bool,
    latest_filename: str,
    as_json: bool,
) -> None:
    """Mends the state file of DIR (default: the current one), so that TensorFlow can use it again.

    It is rebuilt from the checkpoints that are there if it is absent, empty, garbled or a pointer. One that
    can be read has its paths made relative, and drops what is not there; where the latest that it names is
    not whole, or does not pass --verify, it names the newest that does. The old file stays as
    checkpoint.bak-<time>, and a unified diff is shown.

    A trainer may be at work: what it says in the meantime counts.

    \b
    Exit codes: 0 mended, or nothing to mend; 1 with -n, something to mend;
    2 usage; 3 no checkpoint passes, or unreadable; 4 refused, to protect data;
    130 interrupted.

    \b
    Example:  ckptctl repair --verify -n runs/a
    """  # noqa: D301 - \b is Click's mark for a paragraph that is left as it is
    with options.proofs(level, workers) as proofs:
        report = repair(
            path,
            latest_filename=latest_filename,
            proofs=proofs,
            order=None if order is None else Order(order),
            offline=offline,
            dry_run=dry_run,
        )
    if as_json:
        click.echo(json.dumps(render_mend.repair_json(report), indent=2))
    else:
        click.echo(render_mend.repair(report))
        for note in report.notes:
            complain(about(path, note))
    if dry_run and report.mended.reasons:
        click.get_current_context().exit(Exit.FOUND)
