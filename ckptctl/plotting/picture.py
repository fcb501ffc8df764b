"""What a picture of a directory shows. Pure: no matplotlib, no disk, no clock."""

from __future__ import annotations

import enum
import math
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
    ABSENT = "not there"
    """Missing or foreign: the state file lists it."""


_LANES = {
    Status.COMPLETE: Lane.COMPLETE,
    Status.SAVING: Lane.SAVING,
    Status.BROKEN: Lane.BROKEN,
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
    there = [one for one in reversed(list(checkpoints)) if one.on_disk]
    values = {one.name: value for one in there if (value := rule.value(one)) is not None}
    best = rule.keep([one for one in there if one.complete])
    return Metric(rule.metric, values, tuple(best))


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
        left_out: How many checkpoints are not shown.
        notes: What whoever looks at it has to know.
    """

    title: str
    sentence: str | None
    axis: Axis
    marks: tuple[Mark, ...]
    metric: str | None = None
    best: tuple[str, ...] = ()
    left_out: int = 0
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
        axis: What they stand along. By default the step, if each has one and all are counted in the same way;
            else the time.
        metric: A metric's values.

    Raises:
        UnreadableError: There are no checkpoints, or none has a place along the axis.
    """
    decided = {} if plan is None else {one.checkpoint.name: one for one in plan.decisions}
    seen = directory.checkpoints
    if not seen:
        raise UnreadableError(f"{directory.path}: there are no checkpoints to draw")
    along = axis or _axis(seen)
    notes = []
    placed = [one for one in seen if _place(one, along) is not None]
    if not placed:
        other = Axis.TIME if along is Axis.STEP else Axis.STEP
        raise UnreadableError(
            f"{directory.path}: no checkpoint has a {along.value} to stand at; try --by {other.value}"
        )
    left_out = len(seen) - len(placed)
    if left_out:
        notes.append(f"{format_count(left_out, 'checkpoint')} without a {along.value} left out")
    if along is Axis.STEP and len({one.step_from for one in placed if one.on_disk}) > 1:
        notes.append("not all steps are counted in the same way; --by time puts them in order")
    values = {} if metric is None else {n: v for n, v in metric.values.items() if abs(v) <= _LARGEST}
    best = () if metric is None else metric.best
    marks = sorted(
        (_mark(one, along, decided.get(one.name), values, best) for one in placed), key=lambda mark: mark.x
    )
    valued = sum(mark.value is not None for mark in marks)
    there = sum(mark.checkpoint.on_disk for mark in marks)
    if metric is not None and valued < there:
        notes.append(
            f"{metric.name}: {there - valued:,} of {format_count(there, 'checkpoint')} without a value"
        )
    return Picture(
        title=title,
        sentence=None if plan is None else plan.policy,
        axis=along,
        marks=tuple(marks),
        metric=metric.name if metric is not None and valued else None,
        best=tuple(
            name for name in best if any(mark.checkpoint.name == name and mark.best for mark in marks)
        ),
        left_out=left_out,
        notes=tuple(notes),
    )


def _axis(checkpoints: Sequence[Checkpoint]) -> Axis:
    """Steps where all on disk can be compared by them, and where they tell more than times do."""
    there = [one for one in checkpoints if one.on_disk] or checkpoints
    comparable = all(one.step is not None for one in there) and len({one.step_from for one in there}) == 1
    return Axis.STEP if comparable else Axis.TIME


def _place(checkpoint: Checkpoint, axis: Axis) -> float | None:
    if axis is Axis.STEP:
        return None if checkpoint.step is None else float(checkpoint.step)
    return time_of(checkpoint)


def time_of(checkpoint: Checkpoint) -> float | None:
    """When a checkpoint was saved, if a calendar of our days knows that time."""
    saved = checkpoint.saved
    return saved if saved is not None and _EARLIEST <= saved < _LATEST else None


def _mark(
    checkpoint: Checkpoint,
    axis: Axis,
    decision: Decision | None,
    values: Mapping[str, float],
    best: Sequence[str],
) -> Mark:
    x = _place(checkpoint, axis)
    return Mark(
        checkpoint,
        math.nan if x is None else x,
        keep=None if decision is None else decision.keep,
        reasons=() if decision is None else decision.reasons,
        value=values.get(checkpoint.name),
        best=checkpoint.name in best and checkpoint.name in values,
    )
