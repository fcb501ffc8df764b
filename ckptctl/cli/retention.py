"""The options that say which checkpoints stay, which `prune`, `watch` and `explain` share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ckptctl import naming
from ckptctl.cli import completion, metric
from ckptctl.cli.options import Duration, Size, order, stack

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ckptctl.plan import Protections
    from ckptctl.policy import Policy, Rule

options = stack(
    click.option("--keep", type=int, metavar="N", help="Keep the N newest complete checkpoints."),
    click.option(
        "--keep-every-steps",
        type=int,
        metavar="N",
        help="Keep of each run of N steps the first checkpoint: that at the multiple, or the first after it.",
    ),
    click.option(
        "--keep-every",
        type=Duration(),
        help="Keep one in so long a time, as keep_checkpoint_every_n_hours does: 12h, for example.",
    ),
    click.option("--keep-hourly", type=int, metavar="N", help="Keep the newest of each of the last N hours."),
    click.option("--keep-daily", type=int, metavar="N", help="The same with days, in UTC."),
    click.option("--keep-weekly", type=int, metavar="N", help="The same with weeks, from Monday on."),
    click.option(
        "--keep-within",
        type=Duration(),
        help="Keep what was saved so long before the newest, whatever the clock says now.",
    ),
    click.option("--keep-step", type=int, multiple=True, metavar="STEP", help="Keep this step. Repeatable."),
    click.option("--keep-best", type=int, metavar="K", help="Keep the K best by --metric, wherever it is."),
    metric.options,
    click.option(
        "--max-size",
        type=Size(),
        help="After the rules, let the oldest go until all that is there fits: 200GB, 1.5TiB.",
    ),
    click.option(
        "--min-age",
        type=Duration(),
        default="0s",
        show_default=True,
        help="Keep whatever was written more recently than this, besides; 30 is 30s.",
    ),
    click.option(
        "--protect",
        multiple=True,
        metavar="NAME",
        shell_complete=completion.protected,
        help="Keep this checkpoint whatever the policy says; * and ? stand for anything. Repeatable.",
    ),
    click.option(
        "--include-preserved",
        is_flag=True,
        help="Let the policy decide about checkpoints that keep_checkpoint_every_n_hours may have preserved.",
    ),
    click.option(
        "--skip-open",
        is_flag=True,
        help="Keep, this time, what another process of this machine has open: an evaluation, a copy.",
    ),
    order,
)
"""A policy and protections, see `policy_of` and `protections_of`."""


def policy_of(given: Mapping[str, Any], sources: metric.Sources, directory: str) -> Policy:
    """The policy that the options make for a directory.

    Args:
        given: Their values.
        sources: What reads metrics.
        directory: Its path.

    Raises:
        PolicyError: It is empty or makes no sense.
        UnreadableError: The metric cannot be read.
    """
    from ckptctl.policy import Policy  # noqa: PLC0415 - of no use for help and completion

    rules = rules_of(given)
    if given["keep_best"] is not None:
        rules.append(sources.best(given, given["keep_best"], directory))
    return Policy(tuple(rules), given["max_size"])


def rules_of(given: Mapping[str, Any]) -> list[Rule]:
    """The rules that need no metric; of options that are not there, there is none.

    Raises:
        PolicyError: One makes no sense.
    """
    from ckptctl import policy  # noqa: PLC0415 - as above

    rules: list[Rule] = [
        make(given[name])
        for name, make in (
            ("keep", policy.Newest),
            ("keep_every_steps", policy.EverySteps),
            ("keep_every", policy.Every),
            ("keep_hourly", lambda count: policy.PerCalendar(policy.Calendar.HOURLY, count)),
            ("keep_daily", lambda count: policy.PerCalendar(policy.Calendar.DAILY, count)),
            ("keep_weekly", lambda count: policy.PerCalendar(policy.Calendar.WEEKLY, count)),
            ("keep_within", policy.Within),
        )
        if given.get(name) is not None
    ]
    return [*rules, *(policy.AtStep(step) for step in given.get("keep_step", ()))]


def protections_of(given: Mapping[str, Any]) -> Protections:
    """The protections that the options make."""
    from ckptctl.chronology import Order  # noqa: PLC0415 - as above
    from ckptctl.plan import Protections  # noqa: PLC0415 - as above

    return Protections(
        min_age=given["min_age"],
        protect=protected_names(given["protect"]),
        include_preserved=given["include_preserved"],
        order=None if given["order"] is None else Order(given["order"]),
        skip_open=given["skip_open"],
    )


def protected_names(given: Iterable[str]) -> tuple[str, ...]:
    """The names and patterns that --protect means, whichever file of a checkpoint is named, by any path."""
    return tuple(naming.prefix_of(name).rpartition("/")[2] for name in given)
