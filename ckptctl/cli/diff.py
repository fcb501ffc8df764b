"""`ckptctl diff`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ckptctl.cli import options
from ckptctl.cli.exits import Exit
from ckptctl.tensors import render
from ckptctl.tensors.compare import compare
from ckptctl.tensors.difference import measure
from ckptctl.tensors.elements import read_layers
from ckptctl.tensors.listing import open_listing

if TYPE_CHECKING:
    from ckptctl.tensors.difference import Difference


@click.command(name="diff")
@options.checkpoint("a")
@options.checkpoint("b")
@click.option(
    "--numeric", is_flag=True, help="Read what differs from both, and tell how far the values are apart."
)
@options.table_format
@options.as_json
def command(*, a: str, b: str, numeric: bool, form: str, as_json: bool) -> None:
    """Shows what differs between the checkpoints A and B: each its prefix, or any of its files.

    Names, dtypes, shapes and the stored checksums of the values are compared; no values are read.

    \b
    Exit codes: 0 the same; 1 they differ, or the indexes do not tell; 2 usage;
    3 one cannot be read; 130 interrupted.

    \b
    Example:  ckptctl diff run1/ckpt-3 run1/ckpt-4 --numeric
    """  # noqa: D301 - \b is Click's mark for a paragraph that is left as it is
    with open_listing(a) as first, open_listing(b) as second:
        diff = compare(first, second, read_layers(second))
        numbers: dict[str, Difference | None] | None = None
        if numeric:
            diff, numbers = measure(first, second, diff)
    if as_json:
        click.echo(render.dump(render.diff_json(diff, numbers)))
    else:
        tables = render.diff_tables(diff, numbers, form)
        if tables:
            click.echo(tables)
        if options.is_default("form"):
            click.echo(("\n" if tables else "") + "\n".join(render.diff_summary(diff)))
    click.get_current_context().exit(Exit.FINE if diff.same else Exit.FOUND)
