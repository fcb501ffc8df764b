"""`ckptctl show`."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import click

from ckptctl.cli import options
from ckptctl.errors import UnreadableError
from ckptctl.tensors import render
from ckptctl.tensors.elements import (
    SUMMARISED,
    check_decodable,
    read_elements,
    read_graph,
    read_summary,
    read_variables,
)
from ckptctl.tensors.listing import SORT_KEYS, Listing, Tensor, open_listing
from ckptctl.tensors.printing import full_text, summary_text
from ckptctl.tensors.statistics import is_floating, statistics_of
from ckptctl.tensors.tree import name_tree, object_tree

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def _not_empty(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    if value == "":
        raise click.BadParameter("it is empty", ctx, param)
    return value


@click.command(name="show")
@options.checkpoint("checkpoint")
@click.option(
    "--sort",
    type=click.Choice(list(SORT_KEYS)),
    help="The order of the tensors, lowest first.  [default: name]",
)
@click.option(
    "--match",
    metavar="GLOB",
    callback=_not_empty,
    help="Only tensors of such names, else of variables that are called so; * and ? stand for anything.",
)
@click.option("--tree", is_flag=True, help="The objects that hold the tensors, with optimizer slots.")
@click.option(
    "--tensor", metavar="NAME", callback=_not_empty, help="The values of this one, summarised as numpy does."
)
@click.option("--full", is_flag=True, help="With --tensor: every value.")
@click.option(
    "--stats", is_flag=True, help="Read the floating tensors: min, max, mean, std, zeros, NaN, infinities."
)
@options.table_format
@options.as_json
def command(
    *,
    checkpoint: str,
    sort: str | None,
    match: str | None,
    tree: bool,
    tensor: str | None,
    full: bool,
    stats: bool,
    form: str,
    as_json: bool,
) -> None:
    """Shows the tensors of CHECKPOINT: its prefix, or any of its files.

    A name may be given without its /.ATTRIBUTES/VARIABLE_VALUE, as the table has it; or be what the variable
    itself is called, as --tree shows it.

    \b
    Exit codes: 0 fine; 2 usage; 3 no such checkpoint or tensor, or it cannot be
    read, or is too large to be shown whole; 130 interrupted.

    \b
    Example:  ckptctl show run1/ckpt-3 --match '*kernel*' --stats
    """  # noqa: D301 - \b is Click's mark for a paragraph that is left as it is
    chosen = {"--match": match is not None, "--sort": sort is not None, "--stats": stats}
    _exclude("--tree", given=tree, others={"--tensor": tensor is not None, **chosen})
    _exclude("--tensor", given=tensor is not None, others=chosen)
    if full and tensor is None:
        raise click.UsageError("--full goes with --tensor NAME")
    with open_listing(checkpoint) as listing:
        if tree:
            _tree(listing, form, as_json=as_json)
        elif tensor is not None:
            _values(
                listing, listing.find(tensor, lambda: read_variables(listing)), as_json=as_json, full=full
            )
        else:
            variables: dict[str, str] = {}
            tensors = list(listing.tensors.values()) if match is None else listing.matching(match)
            if match is not None and not tensors:
                variables = read_variables(listing)
                tensors = _called(listing, match, variables)
            if sort is not None:
                tensors.sort(key=SORT_KEYS[sort])
            (_statistics if stats else _table)(listing, tensors, variables, form, as_json=as_json)


def _called(listing: Listing, match: str, variables: Mapping[str, str]) -> list[Tensor]:
    """The tensors of variables whose own name fits, where no tensor's does."""
    tensors = listing.called(match, variables)
    if not tensors:
        raise UnreadableError(
            f"{listing.path}: no tensor's name fits {match}, and no variable's; "
            f"`ckptctl show --tree {shlex.quote(listing.path)}` lists both"
        )
    return tensors


def _exclude(option: str, *, given: bool, others: dict[str, bool]) -> None:
    for other, present in others.items():
        if given and present:
            raise click.UsageError(f"{option} and {other} do not go together")


def _table(
    listing: Listing, tensors: Sequence[Tensor], variables: Mapping[str, str], form: str, *, as_json: bool
) -> None:
    if as_json:
        click.echo(render.dump(render.listing_json(listing, tensors)))
        return
    _heading(render.summary(listing, tensors))
    click.echo(render.tensor_table(listing, tensors, variables, form))


def _statistics(
    listing: Listing, tensors: Sequence[Tensor], variables: Mapping[str, str], form: str, *, as_json: bool
) -> None:
    check_decodable(listing)
    found = {tensor.name: statistics_of(listing, tensor) for tensor in tensors if is_floating(tensor)}
    if as_json:
        document = render.listing_json(listing, tensors)
        for row in document["tensors"]:
            one = found.get(row["name"])
            row["statistics"] = one and render.statistics_json(one)
        click.echo(render.dump(document))
        return
    _heading(render.summary(listing, tensors))
    click.echo(render.statistics_table(listing, found, variables, form))


def _tree(listing: Listing, form: str, *, as_json: bool) -> None:
    graph = read_graph(listing)
    made = name_tree(listing.tensors) if graph is None else object_tree(graph, listing.tensors)
    tensors = list(listing.tensors.values())
    if as_json:
        document = {
            **render.listing_json(listing, tensors),
            "object_graph": graph is not None,
            "tree": render.tree_json(made),
            "cut": made.cut,
        }
        click.echo(render.dump(document))
        return
    _heading(render.summary(listing, tensors))
    if graph is None:
        _heading("no object graph in it: these are the tensors' names, taken apart at their slashes")
    click.echo(render.tree_table(listing, made, form))


def _values(listing: Listing, tensor: Tensor, *, full: bool, as_json: bool) -> None:
    check_decodable(listing)
    summarised = tensor.entry is not None and tensor.entry.elements > SUMMARISED
    if as_json:
        shown = full or not summarised
        values = render.plain(read_elements(listing, tensor).tolist()) if shown else None
        row = {**render.tensor_json(tensor), "values": values}
        click.echo(render.dump({"checkpoint": listing.path, "tensor": row}))
        return
    if full:
        text = full_text(read_elements(listing, tensor))
    else:
        text = summary_text(read_summary(listing, tensor), summarised=summarised)
    click.echo(render.tensor_line(tensor))
    click.echo(text)


def _heading(text: str) -> None:
    """What stands above a table that people read; a format that was asked for is for programs."""
    if options.is_default("form"):
        click.echo(text)
