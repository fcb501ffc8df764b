"""The options that say where a metric is and which of its values are better."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ckptctl.cli.options import is_default, stack
from ckptctl.errors import PolicyError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ckptctl.matching import Values
    from ckptctl.policy import Best

options = stack(
    click.option(
        "--metrics",
        type=click.Path(readable=False),
        metavar="FILE",
        help="Where the metric is: JSON or CSV, rows with `step` and the metric.",
    ),
    click.option("--metric", metavar="NAME", default="loss", show_default=True, help="What it is called."),
    click.option(
        "--mode",
        type=click.Choice(["min", "max"]),
        default="min",
        show_default=True,
        help="Whether its lowest or its highest is the best.",
    ),
    click.option(
        "--metric-within",
        type=click.IntRange(0),
        metavar="STEPS",
        default=0,
        show_default=True,
        help="A checkpoint without a value of its own has the last before it, so many steps back at most.",
    ),
)
"""See `best`."""


def best(
    given: Mapping[str, Any], count: int, option: str, read: Callable[[str, str], Values] | None = None
) -> Best:
    """The best by the metric that the options name.

    Args:
        given: Their values.
        count: How many of them.
        option: The one that asks for a metric.
        read: What gives the values, by the file's path and the metric's name; they are read by default.

    Raises:
        PolicyError: They name none.
        UnreadableError: The metrics cannot be read.
    """
    from ckptctl.metrics import read_values  # noqa: PLC0415 - few ask for it
    from ckptctl.policy import Best, Mode  # noqa: PLC0415

    if given["metrics"] is None:
        raise PolicyError(f"{option} needs --metrics FILE, with rows of `step` and the metric")
    values = (read or read_values)(given["metrics"], given["metric"])
    return Best(count, given["metric"], values, Mode(given["mode"]), given["metric_within"])


def shown(given: Mapping[str, Any]) -> Best | None:
    """The best one by the metric that is to be shown, if one is named or said to be somewhere.

    Raises:
        PolicyError: It is not said where it is.
        UnreadableError: The metrics cannot be read.
    """
    if given["metrics"] is None and is_default("metric"):
        return None
    return best(given, 1, "--metric")
