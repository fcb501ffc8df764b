"""What a plan says beside its decisions: what is odd about them, and what the user can do. Pure: no disk."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from ckptctl import units
from ckptctl.chronology import disagreement
from ckptctl.model import Status

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ckptctl.chronology import Order
    from ckptctl.model import Checkpoint, Decision, Directory

PRESERVED = "may be preserved by keep_checkpoint_every_n_hours"
"""Why what a CheckpointManager may have left to be kept for ever stays."""

_UNRESTORABLE = "TensorFlow does not restore it"
"""How a doubt begins of what is known to fail; of others nobody can tell."""


def notes(
    directory: Directory,
    decisions: Sequence[Decision],
    *,
    heard: Sequence[Order],
    level: str,
    gone: Sequence[tuple[str, str]],
    ahead: int,
) -> Iterator[str]:
    """What is to be said of a plan.

    Args:
        directory: What it was made for.
        decisions: What becomes of each checkpoint.
        heard: The orders that disagree about what to keep.
        level: The `--verify` by which `ckptctl repair` finds what counts for nothing here.
        gone: What goes as the newest of its name, each with what to `--protect`.
        ahead: How many are dated ahead, where a rule goes by times.
    """
    latest, where = directory.state.latest, shlex.quote(directory.path)
    if latest is not None and not any(c.latest and c.on_disk for c in directory.checkpoints):
        yield (
            f"the state file names {latest.path} as the latest, which is not there; "
            f"`ckptctl repair {where}` points it at the newest that is"
        )
    for one in directory.checkpoints:
        if one.latest and (one.status is Status.BROKEN or one.doubt is not None):
            wrong = one.doubt or f"broken: {one.problem}"
            remedy = _remedy(one, level, where)
            yield f"{one.name}, the latest in the state file, stays, though {wrong}. {remedy}"
    if decisions and not any(decision.counts for decision in decisions):
        yield "no checkpoint counts as one that restores, so that none is deleted for the sake of another"
    lost = sorted(directory.pins.names - {c.name for c in directory.checkpoints if c.on_disk})
    if lost:
        more = f" and {len(lost) - 1:,} more" if len(lost) > 1 else ""
        yield f"{lost[0]}{more} is pinned and not there; `ckptctl unpin` takes it off the list"
    if heard:
        told, options = disagreement(heard)
        yield (
            f"{told} disagree about which are the newest, so what any of them would keep is kept; "
            f"{options} decides"
        )
    if ahead:
        are = "is" if ahead == 1 else "are"
        yield (
            f"{units.format_count(ahead, 'checkpoint')} {are} dated ahead of this machine's clock; rules by "
            "time count them by themselves"
        )
    for name, pattern in gone:
        yield (
            f"{name} goes, the newest that is called so: the rules count all names together; "
            f"--protect {shlex.quote(pattern)} keeps {'it' if pattern == name else 'such as this'}"
        )
    preserved = [decision.checkpoint for decision in decisions if decision.reasons == (PRESERVED,)]
    if preserved:
        size = units.format_bytes(sum(checkpoint.bytes for checkpoint in preserved))
        yield (
            f"kept: {units.format_count(len(preserved), 'checkpoint')}, {size}, only because a "
            "CheckpointManager may have preserved them; --include-preserved lets the policy decide"
        )


def _remedy(latest: Checkpoint, level: str, where: str) -> str:
    """What to do about a latest that does not count; `repair` refuses where nobody knows that it fails."""
    if latest.doubt is None or latest.doubt.startswith(_UNRESTORABLE):
        return f"`ckptctl repair --verify={level} {where}` points the state file at the newest that passes"
    if latest.status is Status.UNREADABLE or level != "restore":
        return "Make it readable, or run ckptctl as a user who may read it"
    return "Try again, with more memory or time if TensorFlow lacked it, or as a user who may read it"
