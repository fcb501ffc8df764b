"""Which value of a metric belongs to which checkpoint. Pure: no disk, no clock.

A checkpoint's step is how often its weights were updated; what a value's step counts is up to who wrote it.

- A file that the user made, and what TF1, Estimator and most training loops write, count updates as well: a
  checkpoint has the value of its step or, where there is none, the last one before it.
- Keras's TensorBoard callback writes its `epoch_…` tags with the number of the epoch, from 0 on. Matched by
  number, the checkpoint of update 32 would get the loss of epoch 32. What counts epochs is matched by *time*:
  the two callbacks act one right after the other, in either order. A value may stand before the save by half
  of the usual time between two values, for a save takes its time; after it by a second, and a quarter of that
  time, at most. Farther away it is the next epoch's: where a save takes longer than an epoch, the next value
  stands nearer to its end than its own. Of several checkpoints the nearest has the value.
- The same holds for any tag whose steps lag far behind those of the checkpoints, and for checkpoints whose
  step counts saves.

Times are the events' own and the checkpoints'. A copy that did not keep the files' times makes all
checkpoints younger than all values; then the names may tell, where one of their numbers fits the epochs
throughout, as `{epoch}` of a ModelCheckpoint does. What cannot be told is told as such, and is never guessed:
a checkpoint that was saved after all that has been read, for its own value may still be in the trainer's
memory; and one beside a value that is nobody's.
"""

from __future__ import annotations

import bisect
import itertools
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ckptctl import naming
from ckptctl.model import NAME

if TYPE_CHECKING:
    from collections.abc import Container, Sequence

    from ckptctl.model import Checkpoint

_SAVES = "save_counter"
_SLOWER = 3
"""A tag whose steps are so many times fewer than those of the checkpoints counts something else."""
_RIGHT_AFTER = 1.0
"""Seconds within which a callback writes its value that acts right after the one that saves."""
_JUST = 0.05
_NOT_YET = "saved after the last value was written, so its own may be yet to come"
_BEYOND = "its step lies beyond the last of the values, so its own may be yet to come"
_HOLES = "part of the events could not be read, so its value may be there"
_BETWEEN = "saved between two values and right beside neither, so which is its cannot be told"
_NO_TIMES = (
    "all checkpoints are younger than the last value, as after a copy that did not keep their times, so "
    "which value is its cannot be told"
)


@dataclass(frozen=True, slots=True)
class Values:
    """A metric's values, in the order in which they were written; of a step that recurs the last one counts.

    Attributes:
        steps: What the writer counted.
        values: As many numbers.
        times: When each was written, seconds since the epoch, ascending. Empty for a file that says
            no times: its steps are those of the checkpoints.
        until: Everything that was written up to then has been read; what was saved later may have a value
            that is still in the trainer's memory.
        epochs: Whether the steps are known to count epochs.
        holes: Whether there may be values that could not be read.
    """

    steps: Sequence[int]
    values: Sequence[float]
    times: Sequence[float] = ()
    until: float = math.inf
    epochs: bool = False
    holes: bool = False

    def __len__(self) -> int:
        return len(self.steps)


@dataclass(frozen=True, slots=True)
class Match:
    """The value of a checkpoint.

    Attributes:
        value: It.
        step: Its step, as its writer counted.
        how: What it was matched by, as it follows the value: `at step 7, written 0.2s after the save`. Empty
            where it is of the checkpoint's very step.
    """

    value: float
    step: int
    how: str


@dataclass(slots=True)
class Matches:
    """What came of matching; a checkpoint in neither has no value, for certain.

    Attributes:
        found: The values of checkpoints by name.
        doubtful: Names of those that may well have a value which cannot be told, each with the reason.
    """

    found: dict[str, Match] = field(default_factory=dict)
    doubtful: dict[str, str] = field(default_factory=dict)


def match(values: Values, newest_first: Sequence[Checkpoint], tolerance: int) -> Matches:
    """Finds each checkpoint's value.

    Args:
        values: The metric's.
        newest_first: The checkpoints.
        tolerance: How many steps the last value before a checkpoint may be away; for what is matched by step.
    """
    matches = _match(values, newest_first, tolerance)
    if values.holes:
        for one in newest_first:
            if one.name not in matches.found:
                matches.doubtful.setdefault(one.name, _HOLES)
    return matches


def _match(values: Values, newest_first: Sequence[Checkpoint], tolerance: int) -> Matches:
    if not values.times:
        return _by_step(values, newest_first, tolerance)
    counting = [one for one in newest_first if one.step is not None and one.step_from != _SAVES]
    if values.epochs or not _counts_alike(values, counting):
        return _by_time(values, newest_first)
    matches = _by_step(values, counting, tolerance)
    names = {one.name for one in counting}
    nearest = _by_time(values, [one for one in newest_first if one.name not in names])
    return Matches(matches.found | nearest.found, matches.doubtful | nearest.doubtful)


def _by_step(values: Values, checkpoints: Sequence[Checkpoint], tolerance: int) -> Matches:
    last = dict(zip(values.steps, values.values, strict=True))
    steps = sorted(last)
    matches = Matches()
    for one in checkpoints:
        if one.step is None:
            continue
        at = bisect.bisect_right(steps, one.step) - 1
        if at >= 0 and one.step - steps[at] <= tolerance:
            how = "" if steps[at] == one.step else f"at step {steps[at]:,}"
            matches.found[one.name] = Match(last[steps[at]], steps[at], how)
        elif at == len(steps) - 1 and not values.times:
            matches.doubtful[one.name] = _BEYOND
        elif at == len(steps) - 1 and _after(one, values):
            matches.doubtful[one.name] = _NOT_YET
    return matches


def _by_time(values: Values, newest_first: Sequence[Checkpoint]) -> Matches:
    named = _by_name(values, newest_first)
    late = sum(_after(one, values) for one in newest_first)
    if late > 1 and late == len(newest_first):
        matches = Matches(doubtful=dict.fromkeys([one.name for one in newest_first], _NO_TIMES))
    else:
        matches = _nearest(values, newest_first)
    # Where times say nothing the name does; where the two contradict each other neither is believed.
    for name, (step, value) in named.items():
        by_time = matches.found.get(name)
        if by_time is None:
            matches.found[name] = Match(value, step, f"at step {step:,}, by the number in its name")
            matches.doubtful.pop(name, None)
        elif by_time.step != step:
            del matches.found[name]
            matches.doubtful[name] = (
                f"by the time of its save its value is that of step {by_time.step:,}, "
                f"by the number in its name that of step {step:,}"
            )
    return matches


def _nearest(values: Values, newest_first: Sequence[Checkpoint]) -> Matches:
    """Each value goes to the nearest of the checkpoints that it may belong to."""
    matches = Matches()
    usual = _usual(values.times)
    claims: dict[int, tuple[float, Checkpoint]] = {}
    for one in newest_first:
        if one.saved is None:
            matches.doubtful[one.name] = "it is not known when it was saved"
            continue
        after = bisect.bisect_left(values.times, one.saved)
        gaps = [
            (abs(values.times[at] - one.saved), at)
            for at, reach in ((after - 1, usual / 2), (after, min(usual / 4, _RIGHT_AFTER)))
            if 0 <= at < len(values) and abs(values.times[at] - one.saved) <= reach
        ]
        if gaps:
            gap, at = min(gaps)
            if at not in claims or gap < claims[at][0]:
                claims[at] = gap, one
    for at, (gap, one) in claims.items():
        when = "before" if one.saved is not None and values.times[at] < one.saved else "after"
        long = "just" if gap < _JUST else f"{gap:.1f}s"
        how = f"at step {values.steps[at]:,}, written {long} {when} the save"
        matches.found[one.name] = Match(values.values[at], values.steps[at], how)
    saves = sorted(one.saved for one in newest_first if one.saved is not None)
    for one in newest_first:
        if one.name not in matches.found and one.saved is not None:
            if _after(one, values):
                matches.doubtful[one.name] = _NOT_YET
            elif _may_belong(values, claims, saves, one.saved):
                matches.doubtful[one.name] = _BETWEEN
    return matches


def _may_belong(values: Values, claims: Container[int], saves: Sequence[float], saved: float) -> bool:
    """Whether a checkpoint that claims no value is the next one to a value that none claims."""
    after = bisect.bisect_left(values.times, saved)
    before = saves[bisect.bisect_left(saves, saved) - 1] if saves[0] < saved else -math.inf
    behind = saves[bisect.bisect_right(saves, saved)] if saved < saves[-1] else math.inf
    return (after > 0 and after - 1 not in claims and before < values.times[after - 1]) or (
        after < len(values) and after not in claims and values.times[after] < behind
    )


def _usual(times: Sequence[float]) -> float:
    """What usually lies between two values: the median."""
    between = sorted(later - earlier for earlier, later in itertools.pairwise(times))
    # Of a single value nobody knows.
    return between[len(between) // 2] if between else _RIGHT_AFTER


def _by_name(values: Values, checkpoints: Sequence[Checkpoint]) -> dict[str, tuple[int, float]]:
    """The steps and values that a number in the names stands for, if there is one such number.

    It counts from 1, as `{epoch}` does: the highest is that of the last epoch, each has its epoch, and the
    checkpoints' updates are in proportion to it.
    """
    split = [naming.split_numbers(one.name) for one in checkpoints]
    if len({between for between, _ in split}) != 1:
        return {}
    last = dict(zip(values.steps, values.values, strict=True))
    fitting = [
        numbers
        for numbers in naming.counting_columns([numbers for _, numbers in split])
        if len(set(numbers)) == len(numbers)
        and max(numbers) - 1 == max(last, default=-1)
        and all(number - 1 in last for number in numbers)
        and _in_proportion(numbers, checkpoints)
    ]
    if len(fitting) != 1:
        return {}
    return {
        one.name: (number - 1, last[number - 1]) for one, number in zip(checkpoints, fitting[0], strict=True)
    }


def _in_proportion(numbers: Sequence[int], checkpoints: Sequence[Checkpoint]) -> bool:
    pairs = [
        (number, one.step)
        for number, one in zip(numbers, checkpoints, strict=True)
        if one.step is not None and one.step_from not in {_SAVES, NAME}
    ]
    return all(step * pairs[0][0] == pairs[0][1] * number for number, step in pairs)


def _counts_alike(values: Values, checkpoints: Sequence[Checkpoint]) -> bool:
    """Whether the values' steps are those of the checkpoints.

    What counts epochs lags far behind the updates, both in number and in pace; a late evaluation lags in
    number alone. Times that are not those of the saves tell nothing of a pace, and one value has none.
    """
    timed = sorted(
        (math.inf if one.saved is None else one.saved, one.step)
        for one in checkpoints
        if one.step is not None
    )
    if not timed or not len(values) or max(step for _, step in timed) <= _SLOWER * max(values.steps):
        return True
    if len(values) == 1:
        return values.steps[0] in {step for _, step in timed}
    if len(timed) == 1 or timed[0][0] > values.until:
        return False
    saving, writing = timed[-1][0] - timed[0][0], values.times[-1] - values.times[0]
    updates, counted = timed[-1][1] - timed[0][1], max(values.steps) - min(values.steps)
    return counted * saving * _SLOWER >= updates * writing


def _after(checkpoint: Checkpoint, values: Values) -> bool:
    """Whether it may have been saved after everything that has been read."""
    return (math.inf if checkpoint.saved is None else checkpoint.saved) > values.until
