"""The options that say where a metric is and which of its values are better, and what reads it there."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

from ckptctl.cli.options import is_default, stack
from ckptctl.errors import PolicyError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ckptctl.events import Events
    from ckptctl.matching import Values
    from ckptctl.policy import Best

options = stack(
    click.option(
        "--metrics",
        type=click.Path(readable=False),
        metavar="FILE",
        help="Where the metric is, if in no events files: JSON or CSV, rows with `step` and the metric.",
    ),
    click.option(
        "--events",
        type=click.Path(readable=False),
        metavar="DIR",
        help="Where TensorBoard's events files are, if not in DIR or below it.",
    ),
    click.option(
        "--metric",
        metavar="TAG",
        default="loss",
        show_default=True,
        help="What it is called; with its run where several have it: validation/epoch_loss.",
    ),
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
"""See `Sources.best`."""


class Sources:
    """Where metrics are. Files are read again when they have changed, events as far as they have grown.

    Attributes:
        notes: What is to be said of the events files that were read last.
    """

    def __init__(self) -> None:
        self.notes: tuple[str, ...] = ()
        self._files: dict[tuple[str, str], tuple[tuple[int, ...], Values]] = {}
        self._events: dict[tuple[str, str], Events] = {}

    def best(self, given: Mapping[str, Any], count: int, directory: str) -> Best:
        """The best by the metric that the options name.

        Args:
            given: Their values.
            count: How many of them.
            directory: The path of the directory of checkpoints.

        Raises:
            PolicyError: They name two places.
            UnreadableError: The metric cannot be read there.
        """
        from ckptctl.policy import Best, Mode  # noqa: PLC0415 - few ask for it

        values = self._values(given, directory)
        return Best(count, given["metric"], values, Mode(given["mode"]), given["metric_within"])

    def _values(self, given: Mapping[str, Any], directory: str) -> Values:
        self.notes = ()
        metric, file = given["metric"], given["metrics"]
        if file is not None and given["events"] is not None:
            raise PolicyError("--metrics and --events are two places for a metric: say one")
        if file is not None:
            return self._file(file, metric)
        from ckptctl.events import Events  # noqa: PLC0415 - few ask for it

        where = directory if given["events"] is None else given["events"]
        if (where, metric) not in self._events:
            self._events[where, metric] = Events(where)
        events = self._events[where, metric]
        values = events.values(metric)
        self.notes = events.notes
        return values

    def _file(self, path: str, metric: str) -> Values:
        from ckptctl.metrics import read_values  # noqa: PLC0415 - few ask for it

        try:
            found = os.stat(path)
            seen: tuple[int, ...] = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
        except (OSError, ValueError):
            seen = ()
        before = self._files.get((path, metric))
        if before is None or before[0] != seen:
            before = self._files[path, metric] = seen, read_values(path, metric)
        return before[1]


def is_asked_for(given: Mapping[str, Any]) -> bool:
    """Whether a metric is named, or said to be somewhere.

    Raises:
        PolicyError: It is neither, and there are words about its values.
    """
    if given["metrics"] is not None or given["events"] is not None or not is_default("metric"):
        return True
    for name in ("mode", "metric_within"):
        if not is_default(name):
            raise PolicyError(f"--{name.replace('_', '-')} is for --metric: say which metric is to be shown")
    return False
