"""What a state file is to say, so that TensorFlow and a CheckpointManager go on from what is whole. Pure.

What can be read stays the trainer's: its list, order, timestamps and `last_preserved_timestamp`. Entries that
are nowhere are dropped, paths that lead here by another way are made relative, and the latest, if it does not
pass, becomes the newest that does. What is absent or says nothing is rebuilt from the checkpoints that are
there, with times that have a CheckpointManager adopt them all.

Answers to `CheckpointManager.__init__` in `tensorflow/python/checkpoint/checkpoint_management.py`, which
adopts a listed checkpoint if its timestamp, or the present if that is earlier, is later than
`last_preserved_timestamp`.
"""

from __future__ import annotations

import itertools
import math
import shlex
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ckptctl import naming, units
from ckptctl.chronology import Order, disagreement, readings
from ckptctl.errors import RefusedError, SavedModelError, UnreadableError
from ckptctl.model import Format, State, StateEntry, StateStatus
from ckptctl.plan import RESAVE_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from ckptctl.model import Checkpoint, Directory

    Doubt = Callable[[Checkpoint], str | None]
    """Why a complete checkpoint does not pass; None if it does."""


@dataclass(frozen=True, slots=True)
class Mended:
    """What a state is to be.

    Attributes:
        state: It.
        reasons: What was wrong, and what is done about it; empty if nothing is to be done.
        notes: What the user should know besides.
    """

    state: State
    reasons: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def mend(
    directory: Directory,
    doubt: Doubt,
    *,
    order: Order | None = None,
    elsewhere: Collection[str] = (),
    now: float,
) -> Mended:
    """Decides what a state is to be. Pure but for what `doubt` does.

    Args:
        directory: What a scan found.
        doubt: Tells why a complete checkpoint does not pass. It is asked for as few as possible.
        order: What makes a checkpoint newer, where time, step and name disagree.
        elsewhere: Paths of the state that lead out of the directory, to something that is there.
        now: Seconds since the epoch.

    Raises:
        UnreadableError: No checkpoint passes.
        RefusedError: See `repair`.
    """
    if directory.saved_model:
        raise SavedModelError(f"{directory.path} belongs to a SavedModel, which has no state file")
    if directory.state.latest is None:
        return _rebuild(directory, doubt, order, now)
    return _correct(directory, directory.state.latest, doubt, order, elsewhere, now)


def _rebuild(directory: Directory, doubt: Doubt, order: Order | None, now: float) -> Mended:
    """A state that lists what is there, up to the newest that passes.

    What is pinned is left out: what no list names no manager deletes.
    """
    ways = readings(_candidates(directory), order)
    if len(ways) > 1:
        raise undecided(directory, {order: way[0].name for order, way in ways.items()})
    (newest_first,) = ways.values()
    latest, failed = _first(newest_first, doubt)
    if latest is None:
        raise _none_passes(directory, failed)
    _expect_known_after(latest, directory)
    listed = [one for one in reversed(newest_first[len(failed) :]) if not one.pinned]
    entries = tuple(StateEntry(_path(one), one.name, timestamp=_saved(one, now)) for one in listed)
    # A manager takes times to come for the present, and adopts what is later than `last_preserved`.
    earliest = min([now, *(_saved(one, now) for one in listed)])
    absent = directory.state.status is StateStatus.ABSENT
    why = "there is no state file" if absent else f"the state file is of no use ({directory.state.problem})"
    reasons = [f"{why}: rebuilt from {units.format_count(len(newest_first) - len(failed), 'checkpoint')}"]
    reasons += [f"passed over {name}: {doubted}" for name, doubted in failed.items()]
    notes = []
    if len(listed) > 1:
        notes.append(
            f"a CheckpointManager adopts all {len(listed):,}, and at its next save deletes the oldest beyond "
            "its max_to_keep; what is pinned before the repair is not listed, and no manager deletes that"
        )
    made = State(StateStatus.OK, StateEntry(_path(latest), latest.name), entries, last_preserved=earliest - 1)
    return Mended(made, tuple(reasons), tuple(notes))


def _correct(
    directory: Directory,
    latest: StateEntry,
    doubt: Doubt,
    order: Order | None,
    elsewhere: Collection[str],
    now: float,
) -> Mended:
    """The trainer's own state, as far as it holds."""
    state = directory.state
    by_name = {one.name: one for one in directory.checkpoints}
    named = by_name.get(latest.name)
    there = {name for name, one in by_name.items() if one.on_disk}
    kept = [entry for entry in state.entries if entry.path in elsewhere or entry.name in there]
    missing = len(state.entries) - len(kept)
    reasons, notes = [], []
    why = None
    if latest.path in elsewhere:
        notes.append(f"the latest, {latest.path}, is there and not in this directory: it is left alone")
    else:
        why = _why_not(named, doubt)
    if why is not None:
        chosen, failed = _choose(directory, named, why, doubt, order, now)
        reasons.append(f"the latest, {latest.path}, {why}: {chosen.name} takes its place")
        reasons += [f"passed over {name}: {doubted}" for name, doubted in failed.items()]
        gone = {latest.name, *failed, *_incomplete_after(chosen, directory)}
        before = [entry for entry in kept if entry.name == chosen.name and entry.path not in elsewhere]
        stamped = any(entry.timestamp is not None for entry in state.entries)
        made = StateEntry(_path(chosen), chosen.name, timestamp=_saved(chosen, now) if stamped else None)
        latest = before[-1] if before else made
        kept = [
            entry
            for entry in kept
            if entry.path in elsewhere or (entry.name not in gone and entry.name != chosen.name)
        ]
        if before or not chosen.pinned:
            kept.append(latest)  # as the last, where TensorFlow has the latest
    if missing:
        reasons.append(f"what is not there is dropped: {missing:,} of {len(state.entries):,} listed")
    moved = {entry.path for entry in (*kept, latest) if _relative(entry, elsewhere).path != entry.path}
    if moved:
        reasons.append(f"{units.format_count(len(moved), 'path')} made relative to the directory")
    entries = {(one := _relative(entry, elsewhere)).path: one for entry in kept}
    times = [entry.timestamp for entry in state.entries if entry.timestamp is not None]
    if not state.editable or not all(map(math.isfinite, times)):
        reasons.append("the timestamps do not match the paths, or are none: taken from the files")
        for path, entry in entries.items():
            entries[path] = replace(entry, timestamp=_saved(by_name.get(entry.name), now))
    made_state = replace(state, latest=_relative(latest, elsewhere), entries=tuple(entries.values()))
    return Mended(made_state, tuple(reasons), tuple(notes))


def _incomplete_after(chosen: Checkpoint, directory: Directory) -> set[str]:
    """What a state that ends with `chosen` has no place for; an older one a manager may still sweep."""
    after = itertools.dropwhile(lambda one: one.name != chosen.name, directory.checkpoints)
    return {one.name for one in after if not one.complete}


def _choose(
    directory: Directory,
    named: Checkpoint | None,
    why: str,
    doubt: Doubt,
    order: Order | None,
    now: float,
) -> tuple[Checkpoint, dict[str, str]]:
    """The newest that passes, by every reading of "newest", and what was passed over on the way."""
    if named is not None and named.doubt is not None:
        raise UnreadableError(f"{directory.path}: {named.name}, the latest in the state file: {named.doubt}")
    if named is not None and any(abs(now - file.mtime) < RESAVE_SECONDS for file in named.files):
        raise RefusedError(
            f"{directory.path}: {named.name}, the latest in the state file, {why}, and was written just now: "
            "the trainer may be saving it. Try again in a minute"
        )
    candidates = [one for one in _candidates(directory) if named is None or one.name != named.name]
    failed: dict[str, str] = {}
    chosen: dict[Order, Checkpoint] = {}
    for heard, newest_first in readings(candidates, order).items():
        first, passed_over = _first(newest_first, doubt)
        failed |= passed_over
        if first is None:
            raise _none_passes(directory, failed)
        chosen[heard] = first
    names = {heard: one.name for heard, one in chosen.items()}
    if len({*names.values()}) > 1:
        raise undecided(directory, names)
    only = next(iter(chosen.values()))
    _expect_known_after(only, directory)
    return only, failed


def _expect_known_after(chosen: Checkpoint, directory: Directory) -> None:
    """Sees that nothing is newer which nobody can tell of: the trainer would go on from an older one for it.

    What may be another program's V1 table, since no list names it, is none.
    """
    for one in reversed(directory.checkpoints):
        if one.name == chosen.name:
            return
        if one.on_disk and one.doubt is not None and (one.format is Format.V2 or one.listed):
            raise UnreadableError(
                f"{directory.path}: {one.name} is newer than {chosen.name}: {one.doubt}. Nothing is written; "
                "if it stays so, move its files away first"
            )


def _candidates(directory: Directory) -> list[Checkpoint]:
    """What TensorFlow can restore and a state file can name, oldest first.

    What is made of links is as old as its links and as lasting as their targets: it comes in only where there
    is nothing else.
    """
    named = [one for one in directory.checkpoints if _is_utf8(one.name)]
    whole = [one for one in named if one.complete and one.doubt is None]
    return [one for one in whole if one.regular] or whole


def _first(newest_first: Sequence[Checkpoint], doubt: Doubt) -> tuple[Checkpoint | None, dict[str, str]]:
    failed: dict[str, str] = {}
    for one in newest_first:
        why = doubt(one)
        if why is None:
            return one, failed
        failed[one.name] = why
    return None, failed


def _why_not(named: Checkpoint | None, doubt: Doubt) -> str | None:
    """Why the latest that a state names is not to be it."""
    if named is None or not named.on_disk:
        return "is not there"
    if not named.complete:
        return f"is not whole ({named.problem})"
    why = doubt(named)
    return None if why is None else f"does not pass ({why})"


def undecided(directory: Directory, names: Mapping[Order, str]) -> RefusedError:
    """The refusal where readings of "newest first" disagree.

    Args:
        directory: What was scanned.
        names: What each has as the newest; they may disagree about older ones alone.
    """
    told, options = disagreement(names)
    different = list(dict.fromkeys(names.values()))
    which = f" ({' or '.join(different)})" if len(different) > 1 else ""
    return RefusedError(f"{directory.path}: {told} disagree about what is newer{which}; {options} decides")


def _none_passes(directory: Directory, failed: dict[str, str]) -> UnreadableError:
    told = "; ".join(f"{name}: {why}" for name, why in itertools.islice(failed.items(), 3))
    if not any(one.on_disk for one in directory.checkpoints):
        return UnreadableError(
            f"{directory.path}: there are no checkpoints here that a state file could name; "
            f"`ckptctl ls -r {shlex.quote(directory.path)}` looks below too"
        )
    found = f"no checkpoint passes ({told})" if failed else "there is no whole checkpoint"
    return UnreadableError(
        f"{directory.path}: {found}, so that a state file could name none; "
        f"`ckptctl verify {shlex.quote(directory.path)}` tells what is there"
    )


def _path(one: Checkpoint) -> str:
    """What a state file calls a checkpoint."""
    return naming.restorable_name(one.name, [file.name for file in one.shards])


def _relative(entry: StateEntry, elsewhere: Collection[str]) -> StateEntry:
    if entry.path in elsewhere:
        return entry
    rest = entry.path[len(naming.listed_prefix(entry.path)) :]
    return StateEntry(entry.name + rest, entry.name, timestamp=entry.timestamp)


def _saved(one: Checkpoint | None, now: float) -> float:
    return now if one is None or one.saved is None else one.saved


def _is_utf8(name: str) -> bool:
    """Whether a state file, whose strings are UTF-8, can hold a name."""
    try:
        naming.to_text(name).encode()
    except UnicodeEncodeError:
        return False
    return True
