"""A metric's values of checkpoints, and the best of them. Pure: no disk, no clock."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ckptctl.matching import match
from ckptctl.model import Measured
from ckptctl.plan import countable_of
from ckptctl.policy import Mode

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
    found = match(best.values, newest_first, best.tolerance).found
    values = {name: one.value for name, one in found.items() if math.isfinite(one.value)}
    sign = 1 if best.mode is Mode.MIN else -1
    running = [one.name for one in countable_of(newest_first) if one.name in values]
    return Measured(best.metric, values, min(running, key=lambda name: sign * values[name], default=None))
