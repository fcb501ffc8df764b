"""What was saved before what: the state's own order where it lists, times elsewhere. Pure."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ckptctl import naming

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ckptctl.model import Checkpoint, State


_SKEW_SECONDS = 10.0
"""By how much the clock that dates the files, a file server's, may be ahead of the trainer's."""


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
