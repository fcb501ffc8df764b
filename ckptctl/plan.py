"""Rules and protections -> Plan. Pure: no disk, and no clock but for the time that nobody gave.

The protections stand above every policy; each is a reason that the plan shows. Wherever two readings of a
directory are possible, what any of them would keep is kept.
"""

from __future__ import annotations

import fnmatch
import math
import shlex
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ckptctl import naming, removal, units
from ckptctl.chronology import Order, by_name, groups, readings
from ckptctl.errors import PolicyError, RefusedError, SavedModelError
from ckptctl.model import Checkpoint, Decision, Directory, FileKind, Plan, StateStatus, Status
from ckptctl.notes import PRESERVED, notes

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from ckptctl.policy import Policy


@dataclass(frozen=True, slots=True)
class Protections:
    """What a user adds to, or takes from, the protections that always hold.

    Attributes:
        min_age: Seconds. Whatever was written to since is kept.
        protect: Names, or patterns with `*` and `?`, that are kept.
        include_preserved: Lets the policy decide about preserved checkpoints too.
        order: By what "newest" is judged; None: by all, and what any of them keeps is kept.
        skip_open: Keeps what a process of this machine has open, as far as `ckptctl.openfiles` tells.
        besides: Another policy with its protections: what those would keep is kept too. However little a
            policy keeps that others had a hand in, no more goes than with this one.
    """

    min_age: float = 0.0
    protect: tuple[str, ...] = ()
    include_preserved: bool = False
    order: Order | None = None
    skip_open: bool = False
    besides: tuple[Policy, Protections] | None = None

    def __post_init__(self) -> None:
        if not self.min_age >= 0:
            raise PolicyError(
                f"a minimum age of {self.min_age} seconds makes no sense: it cannot be negative"
            )


RESAVE_SECONDS = 60.0
"""How long a trainer that saves under an old name may take from the last of its data to the state file."""

_FEW_NAMES = 3
"""How many kinds of names are told apart."""

DEFAULT_PROTECTIONS = Protections()


def plan(
    directory: Directory,
    policy: Policy,
    protections: Protections = DEFAULT_PROTECTIONS,
    *,
    now: float | None = None,
    level: str = "data",
) -> Plan:
    """Decides what becomes of each checkpoint that is on disk.

    Args:
        directory: What `ckptctl.scan` found.
        policy: Which checkpoints to keep.
        protections: What is kept besides.
        now: The present: `min_age` counts back from it, and what was saved later has no time that counts; the
            clock's by default.
        level: The `--verify` by which `ckptctl repair` finds what counts for nothing here, for the notes.

    Returns:
        A decision with its reasons for each.

    Raises:
        RefusedError: The state file exists and cannot be read, so that the trainer's last word is unknown;
            or it is a SavedModel's `variables/`.
        PolicyError: A rule makes no sense for these checkpoints.
    """
    refuse(directory)
    moment = time.time() if now is None else now
    decisions, heard = _decide(directory, policy, protections, moment)
    if protections.besides is not None:
        besides, _ = _decide(directory, *protections.besides, moment)
        decisions = tuple(map(_either, decisions, besides))
    over = 0
    if policy.max_bytes is not None:
        over = max(0, sum(one.checkpoint.bytes for one in decisions if one.keep) - policy.max_bytes)
    countable = countable_of([one.checkpoint for one in decisions])
    ahead = sum(one.dated_ahead for one in as_judged(countable, policy, moment))
    gone = _last_of_their_names(decisions, protections.order)
    told = [*notes(directory, decisions, heard=heard, level=level, gone=gone, ahead=ahead)]
    if over:
        told.append(f"what has to stay is {units.format_bytes(over)} more than --max-size allows")
    return Plan(directory.path, policy.sentence(), decisions, tuple(told), over)


def _decide(
    directory: Directory, policy: Policy, protections: Protections, now: float
) -> tuple[tuple[Decision, ...], tuple[Order, ...]]:
    """A decision for each checkpoint, oldest first; and the orders that disagree about what to keep."""
    checkpoints = [checkpoint for checkpoint in directory.checkpoints if checkpoint.on_disk]
    countable = countable_of(checkpoints)
    orders = readings(countable, protections.order)
    try:
        choices = {order: policy.keep(as_judged(found, policy, now)) for order, found in orders.items()}
    except PolicyError as error:
        raise PolicyError(f"{directory.path}: {error}") from error
    disagree = len({tuple(sorted(choice)) for choice in choices.values()}) > 1
    kept: dict[str, list[str]] = {checkpoint.name: [] for checkpoint in checkpoints}
    for order, choice in choices.items():
        for name, reasons in choice.items():
            kept[name] += [f"{reason} by {order.value}" if disagree else reason for reason in reasons]
    newest = {by[0].name: "the newest complete one" for by in orders.values() if by}
    last = _last_written(countable, now)
    if protections.order is None and last is not None:
        newest.setdefault(last, "the last complete one to be written")
    if protections.order is not None:
        for alike in groups(countable[::-1], protections.order):
            newest.setdefault(
                alike[0].name,
                f"the newest complete one of those that --order {protections.order.value} compares",
            )
    protected = {one.name: _protections(one, newest, protections, now) for one in checkpoints}
    _keep_saved_again(checkpoints, protected, now)
    _keep_under_way(checkpoints, countable, protected, now)
    _keep_broken(checkpoints, newest, protected)
    why = {name: [*ruled, *protected[name]] for name, ruled in kept.items()}
    dropped = _fit(checkpoints, why, protected, policy.max_bytes)
    counting = set(newest).union(*choices.values()) - dropped.keys()
    decisions = tuple(
        [
            Decision(
                one,
                True,
                _for(one, why[one.name]),
                one.name in counting,
                tuple(kept[one.name]),
                tuple(protected[one.name]),
            )
            if why[one.name] and one.name not in dropped
            else Decision(one, False, dropped.get(one.name) or _against(one), rules=tuple(kept[one.name]))
            for one in checkpoints
        ]
    )
    return decisions, tuple(orders) if disagree else ()


def _either(one: Decision, other: Decision) -> Decision:
    """The one that keeps, of two decisions about a checkpoint; it has to restore if either counts on it."""
    made = one if one.keep or not other.keep else other
    return replace(made, counts=one.counts or other.counts)


def countable_of(checkpoints: Iterable[Checkpoint]) -> list[Checkpoint]:
    """Those that rules may count on.

    A link's target may change or go at any time: what is made of links stays, and counts for nothing.
    """
    return [one for one in checkpoints if one.complete and one.regular and one.doubt is None]


def as_judged(checkpoints: Sequence[Checkpoint], policy: Policy, now: float) -> Sequence[Checkpoint]:
    """Those that rules may count on, as rules see them: with what a clock that was wrong has dated ahead."""
    if not policy.by_time:
        return checkpoints
    latest = now + RESAVE_SECONDS
    return [one if (one.saved or 0.0) <= latest else replace(one, dated_ahead=True) for one in checkpoints]


def _fit(
    checkpoints: Sequence[Checkpoint],
    reasons: Mapping[str, Sequence[str]],
    protected: Mapping[str, Sequence[str]],
    max_bytes: int | None,
) -> dict[str, tuple[str, ...]]:
    """What has to go, oldest first, for the rest to fit, or to come as near to that as it can."""
    dropped: dict[str, tuple[str, ...]] = {}
    if max_bytes is None:
        return dropped
    total = sum(one.bytes for one in checkpoints if reasons[one.name])
    for one in checkpoints:
        if total > max_bytes and reasons[one.name] and not protected[one.name]:
            dropped[one.name] = (f"over {units.format_bytes(max_bytes)}, and the oldest go first",)
            total -= one.bytes
    return dropped


def matches(name: str, pattern: str) -> bool:
    """Whether `--protect` means a checkpoint: its very name, or a pattern of `*` and `?` that fits."""
    return name == pattern or fnmatch.fnmatchcase(name, pattern.replace("[", "[[]"))


def refuse(directory: Directory) -> None:
    """Refuses a directory in which nothing may be deleted.

    Raises:
        RefusedError: Its state file or its pins exist and cannot be read, so that it is not known what is to
            stay; or it is a SavedModel's `variables/`.
    """
    if directory.saved_model:
        raise SavedModelError(
            f"{directory.path} belongs to a SavedModel: its variables are no checkpoint to prune"
        )
    if directory.state.status in {StateStatus.UNREADABLE, StateStatus.INVALID}:
        repair = f"`ckptctl repair {shlex.quote(directory.path)}` mends it"
        remedy = "Run ckptctl as a user who may read it" if directory.state.forbidden else repair
        raise RefusedError(
            f"{directory.path}: the state file cannot be read: {directory.state.problem}. Without it nobody "
            f"knows which checkpoint the trainer counts on. {remedy}; or move it aside to go by times and "
            "steps alone"
        )
    if directory.pins.problem is not None:
        raise RefusedError(
            f"{directory.path}: the pins cannot be read: {directory.pins.problem}. Without them nobody knows "
            f"what is to stay. Put {naming.PINS_FILE} right, or remove it if nothing is pinned"
        )


def _last_written(countable: Sequence[Checkpoint], now: float) -> str | None:
    """Of which checkpoint the last of all files is, whatever the state says of that.

    A trainer may have died between its last save, under a name that it had used before, and the state file.
    Times from the future tell nothing.
    """
    # Of equal times the newer one's comes first, and so wins.
    written = [(one.written, one.name) for one in reversed(countable)]
    past = [pair for pair in written if pair[0] < now + RESAVE_SECONDS]
    return max(past, key=lambda pair: pair[0], default=(-math.inf, None))[1]


def _is_older(one: Checkpoint, other: Checkpoint) -> bool:
    """Whether neither the steps, as far as they can be compared, nor the names' numbers say otherwise."""
    numbers = [(naming.step_of(one.name), naming.step_of(other.name))]
    if one.step_from == other.step_from:
        numbers.append((one.step, other.step))
    return all(mine is None or its is None or mine < its for mine, its in numbers)


def _protections(
    checkpoint: Checkpoint, newest: Mapping[str, str], protections: Protections, now: float
) -> list[str]:
    found = []
    if checkpoint.latest:
        found.append("the latest in the state file")
    if checkpoint.latest_elsewhere:
        found.append(f"the latest in {naming.STATE_FILE}, the usual state file")
    if checkpoint.name in newest:
        found.append(newest[checkpoint.name])
    if checkpoint.status is Status.SAVING:
        found.append(f"being saved: {checkpoint.problem}")
    # What was written in ten years' time, by a clock that was wrong, is not young for so long.
    if protections.min_age and abs(now - checkpoint.written) < protections.min_age:
        found.append(f"younger than {units.format_duration(protections.min_age)}")
    if checkpoint.preserved and not protections.include_preserved:
        found.append(PRESERVED)
    if checkpoint.pinned:
        found.append("pinned")
    if protections.skip_open and checkpoint.used_by is not None:
        found.append(f"open in process {checkpoint.used_by}")
    matched = [pattern for pattern in protections.protect if matches(checkpoint.name, pattern)]
    found += [f"protected by --protect {pattern}" for pattern in matched]
    return found + _doubts(checkpoint)


def _doubts(checkpoint: Checkpoint) -> list[str]:
    """What speaks against deleting a checkpoint in itself."""
    found = [] if checkpoint.doubt is None else [checkpoint.doubt]
    found += [f"{link} leads to it" for link in checkpoint.linked_from]
    if not all(removal.is_removable(file.name) for file in checkpoint.files):
        found.append("its name is too long to be deleted safely")
    odd = [file.name for file in checkpoint.files if file.kind is not FileKind.REGULAR]
    return found + [f"{name} is not a regular file" for name in odd]


def _keep_saved_again(checkpoints: Sequence[Checkpoint], kept: dict[str, list[str]], now: float) -> None:
    """What has just been written under an old name may be the trainer's next word, which follows the files.

    It is known by being younger than what comes after it in the order, as a plain run of saves never is. Of
    that only what stays by itself is looked at, the newest at least: the next plan has to see the same.
    """
    earliest = math.inf
    for checkpoint in reversed(checkpoints):
        written = checkpoint.written
        stays = bool(kept[checkpoint.name])
        if earliest < written and abs(now - written) < RESAVE_SECONDS:
            kept[checkpoint.name].append("just written, later than newer ones: it may be being saved again")
        if stays:
            earliest = min(earliest, written)


def _keep_under_way(
    checkpoints: Sequence[Checkpoint], countable: Sequence[Checkpoint], kept: dict[str, list[str]], now: float
) -> None:
    """What was written after all that is complete, and its data after its index, is a save under way.

    However long ago that was: the trainer may be stopped, or its disk stand still. When it goes on it writes
    the index, and names the checkpoint as its latest. What bears another kind of name may be another
    program's, which has saved meanwhile.
    """
    last: dict[tuple[str, ...], float] = {}
    for one in checkpoints:
        if one.index is None or not one.shards:
            continue
        data = max([shard.mtime_ns for shard in one.shards])
        if not one.index.mtime_ns < data < (now + RESAVE_SECONDS) * 1e9:
            continue
        if not last:
            for whole in countable:
                if whole.written < now + RESAVE_SECONDS:  # times from the future tell nothing
                    kind = naming.split_numbers(whole.name)[0]
                    last[kind] = max(whole.written, last.get(kind, -math.inf))
        if data / 1e9 >= last.get(naming.split_numbers(one.name)[0], -math.inf):
            kept[one.name].append(
                "its data are the youngest, and its index older: it may be being saved again"
            )


def _keep_broken(
    checkpoints: Sequence[Checkpoint], newest: Collection[str], kept: dict[str, list[str]]
) -> None:
    """A broken checkpoint goes only when a complete one is newer by every reading: it may still be of use."""
    broken = [checkpoint for checkpoint in checkpoints if checkpoint.status is Status.BROKEN]
    if not broken:
        return
    good = [checkpoint for checkpoint in checkpoints if checkpoint.name in newest]
    by_time = checkpoints[::-1]
    places = [{one.name: at for at, one in enumerate(way)} for way in (by_time, by_name(by_time))]
    for checkpoint in broken:
        older = bool(good) and all(
            _is_older(checkpoint, one) and all(place[one.name] < place[checkpoint.name] for place in places)
            for one in good
        )
        if not older:
            kept[checkpoint.name].append("no complete one is newer")


def _for(checkpoint: Checkpoint, reasons: Iterable[str]) -> tuple[str, ...]:
    broken = [f"though broken: {checkpoint.problem}"] if checkpoint.status is Status.BROKEN else []
    return tuple(dict.fromkeys([*reasons, *broken]))


_NO_RULE = ("no rule keeps it",)


def _against(checkpoint: Checkpoint) -> tuple[str, ...]:
    if checkpoint.status is Status.BROKEN:
        return (f"broken ({checkpoint.problem}), and a complete one is newer",)
    return _NO_RULE


def _last_of_their_names(decisions: Sequence[Decision], order: Order | None) -> list[tuple[str, str]]:
    """What goes though nothing newer is called so, as the best ones of a second CheckpointManager may be.

    Returns:
        The names, each with a pattern for all that are alike but for numbers, or with itself where that fits
        others too. None where there are many kinds: there names tell nothing.
    """
    found = [decision.checkpoint for decision in decisions]
    kinds = {one.name: naming.split_numbers(one.name)[0] for one in found}
    if len({*kinds.values()}) <= 1:  # the newest of all stays
        return []
    newest: dict[tuple[str, ...], list[str]] = {}
    for newest_first in readings([one for one in found if one.complete], order).values():
        for kind, name in {kinds[one.name]: one.name for one in reversed(newest_first)}.items():
            newest.setdefault(kind, []).append(name)
    stay = {decision.checkpoint.name for decision in decisions if decision.keep}
    gone = [(kind, names[0]) for kind, names in newest.items() if stay.isdisjoint(names)]
    if len(gone) > _FEW_NAMES:  # each pattern is held against every name
        return []
    told = []
    for kind, name in gone:
        pattern = "*".join(kind)
        fits = {kinds[other] for other in kinds if matches(other, pattern)}
        told.append((name, pattern if fits == {kind} else name))
    return told
