"""What was saved before what: by time, by step, and by the numbers in the names. Pure.

By time is the state's own order where it lists, and that of the times elsewhere. The other two put only those
in order whose steps or names can be compared: in the places that these have by time as long as all orders are
heard, and group by group where a user has decided for one.
"""

from __future__ import annotations

import enum
import itertools
import math
from typing import TYPE_CHECKING

from ckptctl import naming
from ckptctl.model import NAME

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ckptctl.model import Checkpoint, State


_SKEW_SECONDS = 10.0
"""By how much the clock that dates the files, a file server's, may be ahead of the trainer's."""


class Order(enum.Enum):
    """By what "newest" is judged where the two disagree."""

    TIME = "time"
    """The state's own order and timestamps where listed, else when the index was written."""
    STEP = "step"
    """The step, among checkpoints whose steps count the same."""
    NAME = "name"
    """The number in the name, among checkpoints whose names are alike but for numbers."""

    @property
    def phrase(self) -> str:
        """What it goes by, as it follows "the order of"."""
        return {Order.TIME: "saving", Order.STEP: "steps", Order.NAME: "the numbers in the names"}[self]


def is_preserved(state: State, saved: float | None, step: int | None) -> bool:
    """Whether an unlisted checkpoint may be one that a CheckpointManager left to be kept for ever."""
    if state.last_preserved is None or saved is None:
        return False
    if saved <= state.last_preserved + _SKEW_SECONDS:
        return True
    # In a copy that did not keep the times, the time of an unlisted checkpoint is the copy's and tells
    # nothing: it is then later than the trainer's last save of a higher step.
    last = state.entries[-1] if state.entries else None
    if last is None or last.timestamp is None or step is None:
        return False
    last_step = naming.step_of(last.name)
    return last_step is not None and step < last_step and saved > last.timestamp


def oldest_first(checkpoints: Iterable[Checkpoint], state: State) -> list[Checkpoint]:
    """Oldest first. Among listed ones the state's order counts, whatever the times say."""
    rank = {entry.name: at for at, entry in enumerate(state.entries)}
    if state.latest is not None:
        rank.setdefault(state.latest.name, len(state.entries))
    keys: dict[str, tuple[float, int, int, str]] = {}
    earliest = -math.inf
    pending = list(checkpoints)
    for one in sorted((c for c in pending if c.name in rank), key=lambda c: rank[c.name]):
        earliest = max(earliest, -math.inf if one.saved is None else one.saved)
        keys[one.name] = (earliest, rank[one.name], 0, one.name)
    for one in pending:
        if one.name not in keys:
            at = -math.inf if one.saved is None else one.saved
            keys[one.name] = (at, -1, -1 if one.step is None else one.step, one.name)
    return sorted(pending, key=lambda one: keys[one.name])


def readings(complete: Sequence[Checkpoint], order: Order | None) -> dict[Order, list[Checkpoint]]:
    """The readings of "newest first" that are to be heard; of those that say the same, the first.

    Names are not heard where all steps bear the times out: a trainer that begins to number again from 1, as
    an asynchronous CheckpointManager does, is then no riddle.

    Args:
        complete: Checkpoints, oldest first as a scan has them.
        order: The one that the user decided for, if they did.
    """
    by_time = list(reversed(complete))
    if order is not None:
        return {order: [one for alike in groups(by_time, order) for one in alike]}
    heard = {Order.TIME: by_time}
    if not _is_borne_out(by_time):
        for another, newest_first in ((Order.STEP, by_step(by_time)), (Order.NAME, by_name(by_time))):
            if newest_first not in heard.values():
                heard[another] = newest_first
    return heard


def groups(by_time: Sequence[Checkpoint], order: Order) -> list[list[Checkpoint]]:
    """Those that an order can compare, newest first, group by group; what it cannot compare comes last.

    The first of a group stands for its place in time: as long as that stays, so does the order of the others,
    whichever of them go.

    Args:
        by_time: Checkpoints, newest first.
        order: Which; in time all are one group.
    """
    if order is Order.TIME:
        return [list(by_time)] if by_time else []
    found: dict[object, list[Checkpoint]] = {}
    for one in by_time:
        count = None if one.step is None else (one.step_from,)
        found.setdefault(naming.split_numbers(one.name)[0] if order is Order.NAME else count, []).append(one)
    place = {one.name: at for at, one in enumerate(by_time)}
    if order is Order.NAME:
        return sorted(map(by_name, found.values()), key=lambda alike: place[alike[0].name])
    unknown = found.pop(None, [])
    stepped = [sorted(by_name(alike), key=_step, reverse=True) for alike in found.values()]
    stepped.sort(key=lambda alike: place[alike[0].name])
    return [*stepped, unknown] if unknown else stepped


def _is_borne_out(by_time: Sequence[Checkpoint]) -> bool:
    """Whether each checkpoint says its step, all count the same, and the newer have the higher."""
    counts = {one.step_from for one in by_time}
    steps = [one.step for one in by_time if one.step is not None]
    falls = all(newer > older for newer, older in itertools.pairwise(steps))
    return len(counts) == 1 and counts.isdisjoint({None, NAME}) and len(steps) == len(by_time) and falls


def disagreement(orders: Iterable[Order]) -> tuple[str, str]:
    """Which orders disagree, and the options of which one decides, each as a phrase."""
    *most, last = orders
    told = ", ".join([f"the order of {order.phrase}" for order in most])
    options = ", ".join([f"--order {order.value}" for order in most])
    return f"{told} and the order of {last.phrase}", f"{options} or --order {last.value}"


def by_step(by_time: Sequence[Checkpoint]) -> list[Checkpoint]:
    """Newest first by steps that are counted in the same way.

    A number of saves says nothing about a number of updates, nor the other way round.

    Args:
        by_time: Checkpoints, newest first.
    """
    places: dict[str | None, list[int]] = {}
    for place, checkpoint in enumerate(by_time):
        if checkpoint.step is not None:
            places.setdefault(checkpoint.step_from, []).append(place)
    arranged = list(by_time)
    for alike in places.values():
        found = sorted([by_time[place] for place in alike], key=_step, reverse=True)
        for place, checkpoint in zip(alike, found, strict=True):
            arranged[place] = checkpoint
    return arranged


def by_name(by_time: Sequence[Checkpoint]) -> list[Checkpoint]:
    """Newest first by the numbers of names that are alike but for these: `model_9` comes before `model_10`.

    Several numbers tell nothing where they contradict each other, as an epoch does and a batch within it.

    Args:
        by_time: Checkpoints, newest first.
    """
    rows: list[Sequence[str]] = []
    places: dict[tuple[str, ...], list[int]] = {}
    for place, checkpoint in enumerate(by_time):
        between, numbers = naming.split_numbers(checkpoint.name)
        rows.append(numbers)
        places.setdefault(between, []).append(place)
    arranged = list(by_time)
    for alike in places.values():
        columns = naming.counting_columns([rows[place] for place in alike])
        if all(column == sorted(column, reverse=True) for column in columns):
            continue
        numbered = [*zip(zip(*columns, strict=True), alike, strict=True)]
        numbered.sort(key=lambda pair: pair[0], reverse=True)
        ordered = zip(*[numbers for numbers, _ in numbered], strict=True)
        if all([*column] == sorted(column, reverse=True) for column in ordered):
            for place, (_, source) in zip(alike, numbered, strict=True):
                arranged[place] = by_time[source]
    return arranged


def _step(checkpoint: Checkpoint) -> int:
    return -1 if checkpoint.step is None else checkpoint.step
