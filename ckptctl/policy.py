"""Retention rules: which checkpoints a policy keeps. Pure: no disk, no clock.

A rule sees the complete checkpoints, newest first, and says which it keeps and why. A policy keeps what any
of its rules keeps, so adding a rule never deletes more.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from ckptctl.errors import NoRuleError, PolicyError
from ckptctl.matching import match
from ckptctl.units import format_bytes, format_duration

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from ckptctl.matching import Match, Matches, Values
    from ckptctl.model import Checkpoint


class Rule(Protocol):
    """One reason to keep checkpoints."""

    def sentence(self) -> str:
        """What the rule keeps, as it follows the word "keep"."""
        ...

    def keep(self, newest_first: Sequence[Checkpoint]) -> dict[str, str]:
        """Chooses.

        Args:
            newest_first: The complete checkpoints.

        Returns:
            The names of those that it keeps, each with the reason.
        """
        ...


@dataclass(frozen=True, slots=True)
class Newest:
    """The newest `count` checkpoints.

    Raises:
        PolicyError: `count` is not at least 1.
    """

    count: int

    def __post_init__(self) -> None:
        if self.count < 1:
            raise PolicyError(f"--keep {self.count} would keep nothing: at least 1 checkpoint has to stay")

    def sentence(self) -> str:
        """What the rule keeps."""
        return "the newest one" if self.count == 1 else f"the {self.count} newest"

    def keep(self, newest_first: Sequence[Checkpoint]) -> dict[str, str]:
        """The first `count` of them."""
        reason = self.sentence() if self.count == 1 else f"among {self.sentence()}"
        return {checkpoint.name: reason for checkpoint in newest_first[: self.count]}


@dataclass(frozen=True, slots=True)
class EverySteps:
    """Of each run of `count` steps the first checkpoint: that at the multiple, or the first after it.

    Steps of different origins are not compared: each has its own runs. What has no step cannot be judged by
    one, and stays.

    Raises:
        PolicyError: `count` is not at least 1.
    """

    count: int

    def __post_init__(self) -> None:
        _at_least_one("--keep-every-steps", self.count)

    def sentence(self) -> str:
        """What the rule keeps."""
        return f"the first of every {self.count:,} steps"

    def keep(self, newest_first: Sequence[Checkpoint]) -> dict[str, str]:
        """The lowest step of each run."""
        first: dict[tuple[str | None, int], Checkpoint] = {}
        kept = {}
        for one in newest_first:
            if one.step is None:
                kept[one.name] = "it is not known at which step it was saved"
                continue
            run = (one.step_from, one.step // self.count)
            if run not in first or one.step <= _number(first[run]):
                first[run] = one
        return kept | {
            one.name: f"the first from step {run * self.count:,} on" for (_, run), one in first.items()
        }


@dataclass(frozen=True, slots=True)
class Every:
    """One in each `seconds`, greedily from the oldest on, as `keep_checkpoint_every_n_hours` does.

    Raises:
        PolicyError: `seconds` is not more than 0.
    """

    seconds: float

    def __post_init__(self) -> None:
        _more_than_nothing("--keep-every", self.seconds)

    def sentence(self) -> str:
        """What the rule keeps."""
        return f"one every {format_duration(self.seconds)}"

    def keep(self, newest_first: Sequence[Checkpoint]) -> dict[str, str]:
        """The oldest, and each that was saved so long after the one that was kept before it."""
        return _by_time(newest_first, self._spaced, f"one in every {format_duration(self.seconds)}")

    def _spaced(self, timed: Sequence[tuple[float, Checkpoint]]) -> Iterator[Checkpoint]:
        last = -math.inf
        for saved, one in sorted(timed, key=lambda pair: (pair[0], pair[1].name)):
            if saved >= last + self.seconds:
                yield one
                last = saved


class Calendar(enum.Enum):
    """The buckets of a calendar in UTC."""

    HOURLY = "hour"
    DAILY = "day"
    WEEKLY = "week"
    """From Monday on, as ISO 8601 counts."""


_BUCKET_SECONDS = {Calendar.HOURLY: 3600.0, Calendar.DAILY: 86_400.0, Calendar.WEEKLY: 604_800.0}
_MONDAY = 4 * 86_400.0
"""Seconds from the epoch, a Thursday, to the first Monday after it."""


@dataclass(frozen=True, slots=True)
class PerCalendar:
    """The newest of each of the last `count` hours, days or weeks in which anything was saved.

    Raises:
        PolicyError: `count` is not at least 1.
    """

    calendar: Calendar
    count: int

    def __post_init__(self) -> None:
        _at_least_one(f"--keep-{self.calendar.name.lower()}", self.count)

    def sentence(self) -> str:
        """What the rule keeps."""
        period = self.calendar.value
        return f"the newest of the last {period if self.count == 1 else f'{self.count} {period}s'}"

    def keep(self, newest_first: Sequence[Checkpoint]) -> dict[str, str]:
        """The latest time of each bucket."""
        return _by_time(newest_first, self._newest, f"the newest of its {self.calendar.value}")

    def _newest(self, timed: Sequence[tuple[float, Checkpoint]]) -> list[Checkpoint]:
        newest: dict[int, tuple[float, Checkpoint]] = {}
        for saved, one in timed:
            bucket = math.floor((saved - _MONDAY) / _BUCKET_SECONDS[self.calendar])
            if bucket not in newest or saved > newest[bucket][0]:
                newest[bucket] = saved, one
        return [newest[bucket][1] for bucket in sorted(newest, reverse=True)[: self.count]]


@dataclass(frozen=True, slots=True)
class Within:
    """What was saved within `seconds` before the newest: a run that has stopped loses nothing by waiting.

    Raises:
        PolicyError: `seconds` is not more than 0.
    """

    seconds: float

    def __post_init__(self) -> None:
        _more_than_nothing("--keep-within", self.seconds)

    def sentence(self) -> str:
        """What the rule keeps."""
        return f"what was saved within {format_duration(self.seconds)} before the newest"

    def keep(self, newest_first: Sequence[Checkpoint]) -> dict[str, str]:
        """Those whose time is no further away from the latest."""
        reason = f"within {format_duration(self.seconds)} before the newest"
        return _by_time(newest_first, self._latest, reason)

    def _latest(self, timed: Sequence[tuple[float, Checkpoint]]) -> list[Checkpoint]:
        last = max((saved for saved, _ in timed), default=0.0)
        return [one for saved, one in timed if saved >= last - self.seconds]


@dataclass(frozen=True, slots=True)
class AtStep:
    """The checkpoints of one step."""

    step: int

    def sentence(self) -> str:
        """What the rule keeps."""
        return f"step {self.step:,}"

    def keep(self, newest_first: Sequence[Checkpoint]) -> dict[str, str]:
        """Those whose step it is."""
        return {one.name: f"step {self.step:,}" for one in newest_first if one.step == self.step}


class Mode(enum.Enum):
    """Which values of a metric are better."""

    MIN = "min"
    MAX = "max"


@dataclass(frozen=True, slots=True)
class Best:
    """The `count` best by a metric; ties go to the newer.

    Which value is a checkpoint's is decided in `ckptctl.matching`. Without one it is not among the best, and
    not held against it: the other rules decide. What is not a finite number never wins. A checkpoint stays
    whose value is not there yet or cannot be told, for it may be the best.

    Attributes:
        count: How many.
        metric: What it is called, for people.
        values: Its values.
        mode: Whether the lowest or the highest is best.
        tolerance: How many steps the last value before a checkpoint may be away to count as its own.

    Raises:
        PolicyError: `count` is not at least 1.
    """

    count: int
    metric: str
    values: Values
    mode: Mode = Mode.MIN
    tolerance: int = 0

    def __post_init__(self) -> None:
        _at_least_one("--keep-best", self.count)

    def sentence(self) -> str:
        """What the rule keeps."""
        which = "lowest" if self.mode is Mode.MIN else "highest"
        return f"the {'one' if self.count == 1 else self.count} with the {which} {self.metric}"

    def ranked(self, newest_first: Sequence[Checkpoint]) -> tuple[list[tuple[str, Match]], Matches]:
        """The names of those that have a finite value, best first, with it; and what came of matching."""
        matches = match(self.values, newest_first, self.tolerance)
        finite = [
            (one.name, found)
            for one in newest_first
            if (found := matches.found.get(one.name)) is not None and math.isfinite(found.value)
        ]
        sign = 1 if self.mode is Mode.MIN else -1
        return sorted(finite, key=lambda pair: sign * pair[1].value), matches  # stable: the newer first

    def keep(self, newest_first: Sequence[Checkpoint]) -> dict[str, str]:
        """The best of those that have a value, and those of which it cannot be told.

        Raises:
            PolicyError: None of several has a value, for certain: the rule would speak for nothing.
        """
        ranked, matches = self.ranked(newest_first)
        if len(newest_first) > 1 and not matches.found and not matches.doubtful:
            raise PolicyError(
                f"--keep-best {self.count}: no checkpoint has a value of {self.metric}: its steps are "
                f"{_span(self.values.steps)}, those of the checkpoints "
                f"{_span([one.step for one in newest_first if one.step is not None])}. Save a variable that "
                "counts as the metric's steps do, say how far back a value may lie with --metric-within, or "
                "leave --keep-best out"
            )
        kept = {
            name: f"number {place} by {self.metric}: {found.value:.6g} {found.how}".rstrip()
            for place, (name, found) in enumerate(ranked[: self.count], start=1)
        }
        return kept | {
            name: f"its {self.metric} is not known: {why}" for name, why in matches.doubtful.items()
        }


def _at_least_one(option: str, count: int) -> None:
    if count < 1:
        raise PolicyError(f"{option} {count} would keep nothing: at least 1 is meant")


def _more_than_nothing(option: str, seconds: float) -> None:
    if not 0 < seconds < math.inf:
        raise PolicyError(f"{option} {seconds:g}s makes no sense: write 36h or 7d, for example")


def _span(steps: Sequence[int]) -> str:
    """From where to where steps go, as it follows "are"."""
    if not steps:
        return "not known"
    first, last = min(steps), max(steps)
    return f"{first:,}" if first == last else f"{first:,} to {last:,}"


def _number(checkpoint: Checkpoint) -> int:
    return -1 if checkpoint.step is None else checkpoint.step


def _by_time(
    checkpoints: Sequence[Checkpoint],
    choose: Callable[[Sequence[tuple[float, Checkpoint]]], Iterable[Checkpoint]],
    reason: str,
) -> dict[str, str]:
    """What a rule about times keeps, given how it chooses among checkpoints with their times.

    What is dated ahead is judged by itself: a stray time of a wrong clock ends no span of the others, and a
    whole run of a trainer whose clock is ahead is thinned out even so. What has no time cannot be judged by
    one, and stays.
    """
    kept = {one.name: "it is not known when it was saved" for one in checkpoints if one.saved is None}
    for ahead, which in ((False, ""), (True, ", of those dated ahead")):
        group = [one for one in checkpoints if one.dated_ahead is ahead]
        timed = [(one.saved, one) for one in group if one.saved is not None]
        kept |= {one.name: f"{reason}{which}" for one in choose(timed)}
    return kept


@dataclass(frozen=True, slots=True)
class Policy:
    """Rules of which any may keep a checkpoint, and how much all of them may come to.

    Attributes:
        rules: The rules; none for all checkpoints.
        max_bytes: What the directory's checkpoints may take: after the rules the oldest go until they fit,
            but for the newest and what is protected. None for any size.

    Raises:
        NoRuleError: There is neither.
        PolicyError: No checkpoint could be so small.
    """

    rules: tuple[Rule, ...] = ()
    max_bytes: int | None = None

    def __post_init__(self) -> None:
        if not self.rules and self.max_bytes is None:
            raise NoRuleError("the policy has no rule and would keep nothing: say --keep 3, for example")
        if self.max_bytes is not None and self.max_bytes < 1:
            raise PolicyError(f"--max-size {self.max_bytes} would keep nothing: write 200GB, for example")

    def sentence(self) -> str:
        """The policy as a sentence, printed before anything is done."""
        *most, last = [rule.sentence() for rule in self.rules] or ["all"]
        kept = "keep " + (f"{', '.join(most)} and {last}" if most else last)
        return kept if self.max_bytes is None else f"{kept}, up to {format_bytes(self.max_bytes)} together"

    @property
    def by_time(self) -> bool:
        """Whether a rule goes by when checkpoints were saved, and so has to know which are dated ahead."""
        return any(isinstance(rule, (Every, PerCalendar, Within)) for rule in self.rules)

    def keep(self, newest_first: Sequence[Checkpoint]) -> dict[str, tuple[str, ...]]:
        """Asks every rule.

        Args:
            newest_first: The complete checkpoints.

        Returns:
            The names that stay, each with all reasons.
        """
        if not self.rules:
            return {checkpoint.name: ("there is no rule but for the size",) for checkpoint in newest_first}
        kept: dict[str, tuple[str, ...]] = {}
        for rule in self.rules:
            for name, reason in rule.keep(newest_first).items():
                kept[name] = (*kept.get(name, ()), reason)
        return kept
