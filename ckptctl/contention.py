"""A trainer that deletes by rules of its own beside ours: what that comes to, and what to do about it.

A CheckpointManager holds the list of its checkpoints in memory and writes all of it at each save, twice. What
was deleted here is listed there again until its own `max_to_keep` has it go: harmless to TensorFlow, but the
state file grows, for ever with `max_to_keep=None`. And `keep_checkpoint_every_n_hours` decides about a
checkpoint only when that goes by `max_to_keep`: what was deleted here before then is preserved in name alone,
which `last_preserved_timestamp` gives away. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ckptctl.model import Report, State

_REMEMBERED = 10_000
"""Names; a trainer has no more in its list without a state file of megabytes."""


@dataclass(slots=True)
class Contention:
    """What is remembered of one directory, so that each thing is said once."""

    _deleted: dict[str, float | None] = field(default_factory=dict)
    """When the trainer says that it saved what was deleted here."""
    _state: State | None = None
    _said_of_list: bool = False
    _said_of_preserving: bool = False

    def warnings(self, report: Report) -> list[str]:
        """Takes note of what was done in the directory; says what the trainer has done against it since.

        Args:
            report: Of each prune of the directory, one after the other.
        """
        found = []
        times = {entry.name: entry.timestamp for entry in report.state.entries}
        there = {decision.checkpoint.name for decision in report.plan.decisions}
        again = [name for name in self._deleted if name in times and name not in there]
        if again and report.state != self._state and not self._said_of_list:
            self._said_of_list = True
            more = f" and {len(again) - 1:,} more" if len(again) > 1 else ""
            found.append(
                f"the trainer lists {again[0]}{more} again, deleted here: it keeps a list of its own. That "
                "is harmless, but its state file grows; give its CheckpointManager a max_to_keep of no more "
                "than is kept here"
            )
        last = report.state.last_preserved
        preserved = [name for name, at in self._deleted.items() if at is not None and at == last]
        if preserved and not self._said_of_preserving:
            self._said_of_preserving = True
            found.append(
                f"the trainer has preserved {preserved[0]} (keep_checkpoint_every_n_hours), which had been "
                "deleted here: keep at least its max_to_keep here, so that it decides first, or use "
                "--keep-every in place of that"
            )
        self._state = report.state
        self._deleted.update({name: times.get(name) for name in report.deleted})
        for oldest in list(self._deleted)[:-_REMEMBERED]:
            del self._deleted[oldest]
        return found
