"""The elements of a tensor as numpy prints them: in summary, or every one in time that is linear."""

from __future__ import annotations

import math
import sys
from itertools import islice
from typing import TYPE_CHECKING, Any

from ckptctl.tensors.elements import EDGE, SUMMARISED

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import numpy as np

    Array = np.ndarray[Any, Any]

_LINE_WIDTH = 75
"""How many characters of a line numpy fills by default."""

_AT_ONCE = 100
"""How many elements numpy is given in a row: its time is quadratic in them."""


def summary_text(values: Array, *, summarised: bool) -> str:
    """What `ckptctl.tensors.elements.read_summary` has read.

    Args:
        values: It.
        summarised: Whether the tensor has more elements than are shown.
    """
    import numpy as np  # noqa: PLC0415 - numpy costs more than most commands

    if values.ndim == 0 and values.dtype == object:
        return _excerpt(values[()])
    threshold = 0 if summarised else sys.maxsize
    return np.array2string(values, threshold=threshold, edgeitems=EDGE, formatter={"object": _excerpt})


def _excerpt(one: Any) -> str:
    """An `Excerpt` in words."""
    if len(one.head) == one.length:
        return repr(one.head)
    return f"{one.head!r}… ({one.length:,} bytes)"


def full_text(values: Array) -> str:
    """Every element, as `np.array2string` has them, whose own time is quadratic in their number."""
    import numpy as np  # noqa: PLC0415 - see above

    if values.ndim == 0 and values.dtype == object:
        return repr(values[()])
    if values.dtype == object and values.size:
        return "".join(_laid_out(map(repr, values.ravel()), values.shape))
    if values.ndim == 0 or values.size <= SUMMARISED:
        return np.array2string(values, threshold=sys.maxsize)
    return "".join(_laid_out(_words(values), values.shape))


def _words(numbers: Array) -> list[str]:
    """Numbers as numpy writes them beside each other, all of the same width."""
    import numpy as np  # noqa: PLC0415 - see above

    rows = math.ceil(numbers.size / _AT_ONCE)
    grid = np.resize(numbers, (rows, _AT_ONCE))  # filled up with elements that are there already
    text = np.array2string(grid, separator="\n", threshold=sys.maxsize, max_line_width=sys.maxsize)
    return text[2:-2].replace("]\n [", "\n").split("\n")[: numbers.size]


def _laid_out(words: Iterable[str], shape: Sequence[int]) -> Iterator[str]:
    """Puts words into lines and brackets, row by row, as numpy does."""
    words = iter(words)
    indent = " " * len(shape)
    width = _LINE_WIDTH - len(shape)
    for row in range(math.prod(shape[:-1])):
        opened = 1 + _begun(row, shape)
        yield " " * (len(shape) - opened) + "[" * opened
        line = indent
        for word in islice(words, shape[-1]):
            if len(line) + len(word) > width and len(line) > len(indent):
                yield line[len(indent) :].rstrip() + "\n" + indent
                line = indent
            line += word + " "
        closed = 1 + _begun(row + 1, shape)
        yield line[len(indent) : -1] + "]" * closed
        if closed < len(shape):
            yield "\n" * closed


def _begun(row: int, shape: Sequence[int]) -> int:
    """How many axes begin anew with a row, besides the last one."""
    count = 0
    for size in reversed(shape[:-1]):
        row, place = divmod(row, size)
        if place:
            break
        count += 1
    return count
