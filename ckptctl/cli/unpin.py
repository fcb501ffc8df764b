"""`ckptctl unpin`."""

from __future__ import annotations

import click

from ckptctl.cli import options
from ckptctl.cli.pin import change
from ckptctl.pins import unpin


@click.command(name="unpin")
@options.checkpoints
@options.as_json
def command(*, checkpoints: tuple[str, ...], as_json: bool) -> None:
    """Lets the policy decide about each CHECKPOINT again, whether or not its files are still there.

    \b
    Exit codes: 0 fine; 2 usage; 3 neither there nor pinned, or unreadable;
    4 refused, to protect data: the pins cannot be read, or another ckptctl is at
    work.

    \b
    Example:  ckptctl unpin runs/a/ckpt-12
    """  # noqa: D301 - \b is Click's mark for a paragraph that is left as it is
    change(checkpoints, unpin, "unpinned", as_json=as_json)
