"""What the elements of a floating tensor come to, in one pass and in bounded memory.

NumPy is imported when the first tensor is read, not before.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ckptctl.bundle.dtypes import DTYPES, NumberKind
from ckptctl.tensors.elements import stream_elements

if TYPE_CHECKING:
    import numpy as np

    from ckptctl.tensors.listing import Listing, Tensor


@dataclass(frozen=True, slots=True)
class Statistics:
    """A floating tensor in numbers, computed in float64.

    Attributes:
        min: The least element; like the next three, of the finite elements, and None if there are none.
        max: The greatest.
        mean: Their mean.
        std: Their standard deviation, of the whole population as numpy computes it.
        zeros: How many elements are 0.
        nan: How many are not a number.
        inf: How many are plus or minus infinity.
    """

    min: float | None
    max: float | None
    mean: float | None
    std: float | None
    zeros: int
    nan: int
    inf: int


def is_floating(tensor: Tensor) -> bool:
    """Whether a tensor's elements are floating numbers."""
    dtype = None if tensor.entry is None else DTYPES.get(tensor.entry.dtype)
    return dtype is not None and dtype.kind is NumberKind.FLOAT


def statistics_of(listing: Listing, tensor: Tensor) -> Statistics:
    """Reads a floating tensor piece by piece.

    Raises:
        UnreadableError: It cannot be read; or the checkpoint is V1.
        BundleError: It is damaged.
    """
    running = _Running()
    for piece in stream_elements(listing, tensor):
        running.add(piece)
    return running.result()


class _Running:
    """Statistics of the elements so far; a piece is merged by the formulas of Chan, Golub and LeVeque."""

    def __init__(self) -> None:
        self._count = self._zeros = self._nan = self._inf = 0
        self._min, self._max = math.inf, -math.inf
        self._mean = self._squares = 0.0

    def add(self, piece: np.ndarray[Any, Any]) -> None:
        """Takes in a piece."""
        import numpy as np  # noqa: PLC0415 - numpy costs more than most commands

        values = piece.astype(np.float64)
        finite = np.isfinite(values)
        if not finite.all():
            nan = int(np.isnan(values).sum())
            values = values[finite]
            self._nan += nan
            self._inf += len(piece) - len(values) - nan
        if not len(values):
            return
        self._zeros += len(values) - int(np.count_nonzero(values))
        self._min = min(self._min, float(values.min()))
        self._max = max(self._max, float(values.max()))
        with np.errstate(over="ignore", invalid="ignore"):  # squares beyond float64 are infinite
            mean = float(values.mean())
            values -= mean
            squares = float(np.einsum("i,i", values, values))
        count = self._count + len(values)
        shift = mean - self._mean
        self._squares += squares + shift * shift * (self._count * len(values) / count)
        self._mean += shift * (len(values) / count)
        self._count = count

    def result(self) -> Statistics:
        """What all of it comes to."""
        if not self._count:
            return Statistics(None, None, None, None, self._zeros, self._nan, self._inf)
        std = math.sqrt(self._squares / self._count)
        return Statistics(self._min, self._max, self._mean, std, self._zeros, self._nan, self._inf)
