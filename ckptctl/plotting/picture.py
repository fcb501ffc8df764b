"""What a picture of a directory shows. Pure: no matplotlib, no disk, no clock."""

from __future__ import annotations

import enum
import shlex
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from ckptctl import render
from ckptctl.errors import UnreadableError
from ckptctl.model import Status
from ckptctl.units import format_bytes, format_count

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ckptctl.model import Checkpoint, Decision, Directory, Plan
    from ckptctl.policy import Best

_EARLIEST, _LATEST = -2_208_988_800.0, 7_258_118_400.0
"""The years 1900 to 2200: a time before or after them comes from a broken clock, and would spoil the axis."""

_LARGEST = 1e100
"""A value beyond it is left out: an axis has to be computed with it."""


class Axis(enum.Enum):
    """What checkpoints stand along."""

    TIME = "time"
    STEP = "step"


class Lane(enum.Enum):
    """What becomes of a checkpoint by the policy; without one, how it stands."""

    KEPT = "kept"
    GOES = "would go"
    COMPLETE = "complete"
    SAVING = "being saved"
    BROKEN = "broken"
    UNREADABLE = "cannot be read"
    ABSENT = "not there"
    """Missing or foreign: the state file lists it."""


_LANES = {
    Status.COMPLETE: Lane.COMPLETE,
    Status.SAVING: Lane.SAVING,
    Status.BROKEN: Lane.BROKEN,
    Status.UNREADABLE: Lane.UNREADABLE,
    Status.MISSING: Lane.ABSENT,
    Status.FOREIGN: Lane.ABSENT,
}


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric's values.

    Attributes:
        name: What it is called.
        values: By the checkpoint's name; finite.
        best: The names of the best of those, the best first.
    """

    name: str
    values: Mapping[str, float]
    best: tuple[str, ...] = ()


def metric_of(rule: Best, checkpoints: Iterable[Checkpoint]) -> Metric:
    """The values that a rule finds for checkpoints, with those that are best by it.

    Args:
        rule: Which metric, and how many are its best.
        checkpoints: Oldest first.
    """
    ranked, _ = rule.ranked([one for one in reversed(list(checkpoints)) if one.complete])
    values = {name: found.value for name, found in ranked}
    return Metric(rule.metric, values, tuple(values)[: rule.count])


@dataclass(frozen=True, slots=True)
class Mark:
    """A checkpoint in the picture.

    Attributes:
        checkpoint: It.
        x: Where it stands: its step, or when it was saved in seconds since the epoch.
        keep: What the policy does with it; None without a policy, and if it is not there.
        reasons: Why.
        value: The metric's.
        best: Whether that is among the best.
    """

    checkpoint: Checkpoint
    x: float
    keep: bool | None = None
    reasons: tuple[str, ...] = ()
    value: float | None = None
    best: bool = False

    @property
    def lane(self) -> Lane:
        """Where it stands in the picture's first panel."""
        if self.keep is None:
            return _LANES[self.checkpoint.status]
        return Lane.KEPT if self.keep else Lane.GOES

    @property
    def look(self) -> Lane:
        """How it is drawn: by what is wrong with it, if anything is; else as its lane."""
        own = _LANES[self.checkpoint.status]
        return self.lane if own is Lane.COMPLETE else own

    def told(self, metric: str | None = None) -> str:
        """All that is known of it in a few lines, for whoever points at it; escaped as in a table."""
        one = self.checkpoint
        words = [one.status.value]
        words += ["latest"] if one.latest else []
        words += ["preserved"] if one.preserved else []
        words += ["pinned"] if one.pinned else []
        lines = [one.name]
        lines += [] if one.step is None else [f"step {one.step:,}"]
        lines += [f"saved {when}" for when in [render.local(one.saved)] if when]
        lines += [format_bytes(one.bytes)] if one.on_disk else []
        lines.append(", ".join(words) + ("" if one.complete or one.problem is None else f": {one.problem}"))
        lines += [] if self.value is None else [f"{metric} {self.value:.6g}"]
        if self.keep is not None:
            lines.append(f"{self.lane.value}: {'; '.join(self.reasons)}")
        return "\n".join(map(render.escape, lines))


class Count(NamedTuple):
    """How much stands in a lane.

    Attributes:
        lane: It.
        marks: How many checkpoints.
        bytes: Their size together.
    """

    lane: Lane
    marks: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Picture:
    """What is shown of a directory.

    Attributes:
        title: The directory.
        sentence: The policy, in words; None without one.
        axis: What the checkpoints stand along.
        marks: The checkpoints, from left to right; those at the same place in the order of their age.
        metric: What the metric is called, if any checkpoint has a value.
        best: The names of the best by it that are shown, the best first.
        notes: What whoever looks at it has to know.
    """

    title: str
    sentence: str | None
    axis: Axis
    marks: tuple[Mark, ...]
    metric: str | None = None
    best: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def counts(self) -> list[Count]:
        """How much stands in each lane that has anything."""
        marks = Counter(mark.lane for mark in self.marks)
        sizes: Counter[Lane] = Counter()
        for mark in self.marks:
            sizes[mark.lane] += mark.checkpoint.bytes
        return [Count(lane, marks[lane], sizes[lane]) for lane in Lane if marks[lane]]

    def summary(self) -> str:
        """How much there is, in a line."""
        there = [mark for mark in self.marks if mark.checkpoint.on_disk]
        size = format_bytes(sum(mark.checkpoint.bytes for mark in there))
        return f"{format_count(len(there), 'checkpoint')}, {size}"


def as_planned(directory: Directory, plan: Plan) -> Directory:
    """A directory whose checkpoints are as a plan has them: a proof may know better than a scan."""
    known = {decision.checkpoint.name: decision.checkpoint for decision in plan.decisions}
    return replace(directory, checkpoints=tuple(known.get(one.name, one) for one in directory.checkpoints))


def picture(
    directory: Directory,
    title: str,
    plan: Plan | None = None,
    *,
    axis: Axis | None = None,
    metric: Metric | None = None,
) -> Picture:
    """Settles what is shown of a directory.

    Args:
        directory: What `ckptctl.scan` found.
        title: What the picture calls it.
        plan: What becomes of the checkpoints; None without a policy.
        axis: What they stand along. By default the step, if each complete one has one and all are counted in
            the same way; else the time.
        metric: A metric's values.

    Raises:
        UnreadableError: There are no checkpoints, or none has a place along the axis.
    """
    decided = {} if plan is None else {one.checkpoint.name: one for one in plan.decisions}
    seen = directory.checkpoints
    if not seen:
        raise UnreadableError(
            f"{directory.path}: there are no checkpoints to draw; "
            f"`ckptctl ls -r {shlex.quote(directory.path)}` looks below it too"
        )
    along = axis or _axis(seen)
    notes = []
    own = _own_places(seen, along)
    unplaced = own.count(None)
    if unplaced == len(seen):
        other = Axis.TIME if along is Axis.STEP else Axis.STEP
        raise UnreadableError(
            f"{directory.path}: no checkpoint has a {along.value} to stand at; try --by {other.value}"
        )
    if unplaced:
        what = "comparable step" if along is Axis.STEP else "time"
        count = format_count(unplaced, "checkpoint")
        notes.append(f"placed between those saved before and after: {count} without a {what}")
    values = {} if metric is None else {n: v for n, v in metric.values.items() if abs(v) <= _LARGEST}
    best = () if metric is None else tuple(name for name in metric.best if name in values)
    marks = sorted(
        (
            _mark(one, x, decided.get(one.name), values, best)
            for one, x in zip(seen, _between(own), strict=True)
        ),
        key=lambda mark: mark.x,
    )
    valued = sum(mark.value is not None for mark in marks)
    without = sum(mark.checkpoint.complete and mark.value is None for mark in marks)
    if metric is not None and without:
        notes.append(f"{metric.name}: {format_count(without, 'complete checkpoint')} without a value")
    return Picture(
        title=title,
        sentence=None if plan is None else plan.policy,
        axis=along,
        marks=tuple(marks),
        metric=metric.name if metric is not None and valued else None,
        best=best,
        notes=tuple(notes),
    )


def _axis(checkpoints: Sequence[Checkpoint]) -> Axis:
    """Steps, if all complete ones have one and count it in the same way."""
    there = [one for one in checkpoints if one.complete] or checkpoints
    comparable = all(one.step is not None for one in there) and len({one.step_from for one in there}) == 1
    return Axis.STEP if comparable else Axis.TIME


def _own_places(checkpoints: Sequence[Checkpoint], axis: Axis) -> list[float | None]:
    """Where each stands by what it says itself; steps count if they are counted as most are.

    What is broken may have no more than the number in its name, which says nothing among numbers of updates.
    """
    if axis is Axis.TIME:
        return [time_of(one) for one in checkpoints]
    stepped = [one for one in checkpoints if one.step is not None]
    counted = Counter(one.step_from for one in stepped if one.complete) or Counter(
        one.step_from for one in stepped
    )
    most = counted.most_common(1)[0][0] if counted else None
    return [None if one.step is None or one.step_from != most else float(one.step) for one in checkpoints]


def _between(places: Sequence[float | None]) -> list[float]:
    """Puts what has no place half way between those before and behind it that have one."""
    before = _last_known(places)
    behind = _last_known(places[::-1])[::-1]
    found = []
    for sides in zip(before, behind, strict=True):
        known = [side for side in sides if side is not None]
        found.append(sum(known) / len(known))
    return found


def _last_known(places: Sequence[float | None]) -> list[float | None]:
    """For each place itself or, where it is not known, the last before it that is."""
    last: float | None = None
    found = []
    for place in places:
        last = last if place is None else place
        found.append(last)
    return found


def time_of(checkpoint: Checkpoint) -> float | None:
    """When a checkpoint was saved, if a calendar of our days knows that time."""
    saved = checkpoint.saved
    return saved if saved is not None and _EARLIEST <= saved < _LATEST else None


def _mark(
    checkpoint: Checkpoint,
    x: float,
    decision: Decision | None,
    values: Mapping[str, float],
    best: Sequence[str],
) -> Mark:
    return Mark(
        checkpoint,
        x,
        keep=None if decision is None else decision.keep,
        reasons=() if decision is None else decision.reasons,
        value=values.get(checkpoint.name),
        best=checkpoint.name in best,
    )
