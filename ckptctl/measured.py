"""A metric's values of checkpoints, and the best of them. Pure: no disk, no clock."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ckptctl.model import Measured
from ckptctl.plan import countable_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ckptctl.model import Checkpoint
    from ckptctl.policy import Best


def measure(best: Best, newest_first: Sequence[Checkpoint]) -> Measured:
    """Finds the checkpoints' values, and the best of those that a rule may count on.

    Args:
        best: What finds a checkpoint's value, and says which are better.
        newest_first: The checkpoints.
    """
    ranked, _ = best.ranked(countable_of(newest_first))
    values = {name: found.value for name, found in ranked}
    return Measured(best.metric, values, next(iter(values), None))
