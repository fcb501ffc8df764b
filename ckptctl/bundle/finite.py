"""Counts elements that are not finite, in every floating and complex type.

NumPy is imported when the first tally is asked for, not before.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ckptctl.bundle.dtypes import DTYPES, NumberKind, numpy_dtype

if TYPE_CHECKING:
    from collections.abc import Callable

    from ckptctl.bundle.entries import TensorEntry


@dataclass(frozen=True, slots=True)
class Tally:
    """How many elements are not finite; a complex one counts once, as NaN if any half of it is.

    Attributes:
        nan: Not a number.
        inf: Plus or minus infinity.
    """

    nan: int = 0
    inf: int = 0

    def __add__(self, other: Tally) -> Tally:
        return Tally(self.nan + other.nan, self.inf + other.inf)


def tally_of(entry: TensorEntry, *, big_endian: bool) -> Callable[[memoryview], Tally] | None:
    """What counts the elements of a piece of a tensor that are not finite; the piece holds whole elements.

    Args:
        entry: The tensor's.
        big_endian: Of the machine that wrote the bundle.

    Returns:
        None for a type that knows no such elements, and where the entry's size does not fit its shape.
    """
    dtype = DTYPES.get(entry.dtype)
    if dtype is None or dtype.kind not in {NumberKind.FLOAT, NumberKind.COMPLEX}:
        return None
    if entry.size != entry.expected_size:
        return None
    import numpy as np  # noqa: PLC0415 - numpy costs more than most commands

    view = numpy_dtype(dtype, big_endian=big_endian)
    swap = big_endian and dtype.size > 1 and view.isnative

    def tally(piece: memoryview) -> Tally:
        values = (
            np.frombuffer(piece, dtype=np.uint16).byteswap().view(view)
            if swap
            else np.frombuffer(piece, view)
        )
        finite = np.isfinite(values)
        if finite.all():
            return Tally()
        others = values[~finite]
        nan = int(np.isnan(others).sum())
        return Tally(nan, len(others) - nan)

    return tally
