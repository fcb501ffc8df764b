"""How far each layer moved from one checkpoint to the next: the norms that `ckptctl diff --numeric` has.

    movement of a layer = |b - a| / |a|    over those of its tensors whose values differ

What counts are the model's own numbers: floating and complex tensors of more than one number, without the
optimizer's slots. Tensors whose stored checksums agree are not read. No more than two checkpoints are open at
once, and their data are read in bounded memory.
"""

from __future__ import annotations

import math
import re
import shlex
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ckptctl import posix
from ckptctl.bundle.dtypes import DTYPES, NumberKind
from ckptctl.errors import CkptctlError, UnreadableError
from ckptctl.opened import find
from ckptctl.tensors.compare import Kind, compare, layer_of
from ckptctl.tensors.difference import measure
from ckptctl.tensors.elements import read_layers
from ckptctl.tensors.listing import list_tensors
from ckptctl.tensors.tree import SLOTS
from ckptctl.units import format_count

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from ckptctl.plotting.picture import Mark
    from ckptctl.posix import OpenDirectory
    from ckptctl.tensors.compare import Comparison, Diff
    from ckptctl.tensors.difference import Difference
    from ckptctl.tensors.listing import Listing, Tensor

MAX_COMPARED = 60
"""Of more checkpoints, as many are compared, evenly chosen: each is read whole, twice."""

MAX_LAYERS = 40
"""Of more layers, those are shown that moved most."""

Moved = dict[str, "float | None"]
"""The movement by layer.

0 for none, infinite for what was all zeros before, NaN where numbers are not finite, None for what cannot be
compared: the layer is new, or of another shape."""


@dataclass(frozen=True, slots=True)
class Movement:
    """How far layers moved.

    Attributes:
        places: Where the compared checkpoints stand, one more than there are columns.
        layers: Their names, in the order of the rows.
        rows: For each layer its movements, from each checkpoint to the next; see `Moved`.
        notes: What is not shown, and why.
    """

    places: tuple[float, ...]
    layers: tuple[str, ...]
    rows: tuple[tuple[float | None, ...], ...]
    notes: tuple[str, ...] = ()


def movement(path: str, marks: Sequence[Mark], progress: Callable[[str], None] = lambda _: None) -> Movement:
    """Reads how far layers moved.

    Args:
        path: The directory.
        marks: Its checkpoints, from left to right.
        progress: Is told which checkpoint is next.

    Raises:
        UnreadableError: No two of them can be compared.
    """
    chosen = compared(marks)
    if len(chosen) < 2:  # noqa: PLR2004 - a movement is between two
        raise UnreadableError(
            f"{path}: --weights needs two complete checkpoints at different places; "
            f"`ckptctl ls {shlex.quote(path)}` shows what there is"
        )
    with posix.open_directory(path) as directory:
        columns, problems = _columns(directory, chosen, progress)
    if not any(columns):
        raise UnreadableError(f"{path}: no two checkpoints have layers to compare{_why(problems)}")
    complete = len([mark for mark in marks if mark.checkpoint.complete])
    return table([mark.x for mark in chosen], columns, complete, problems)


def compared(marks: Sequence[Mark]) -> list[Mark]:
    """The checkpoints that are compared: complete ones, of those at one place the newest, not too many."""
    at = {mark.x: mark for mark in marks if mark.checkpoint.complete}
    there = list(at.values())
    if len(there) <= MAX_COMPARED:
        return there
    return [there[round(number * (len(there) - 1) / (MAX_COMPARED - 1))] for number in range(MAX_COMPARED)]


def table(
    places: Sequence[float], columns: Sequence[Moved], complete: int, problems: Sequence[str] = ()
) -> Movement:
    """Puts movements into rows.

    Args:
        places: Where the compared checkpoints stand.
        columns: The movements between each two.
        complete: How many checkpoints might have been compared.
        problems: Why some could not be.
    """
    names = {name for column in columns for name in column}
    rows = {name: tuple(column.get(name) for column in columns) for name in names}
    most = sorted(names, key=lambda name: (-_whole(rows[name]), name))[:MAX_LAYERS]
    shown = sorted(most, key=_natural)
    notes = []
    if len(places) < complete:
        notes.append(f"layers: {len(places):,} of {format_count(complete, 'checkpoint')} compared")
    if len(shown) < len(names):
        notes.append(f"layers: of {len(names):,} the {len(shown):,} that moved most")
    seen = {value for name in shown for value in rows[name] if value is not None}
    if 0.0 in seen:
        notes.append("layers: grey where nothing moved")
    if math.inf in seen:
        notes.append("layers: darkest where all was zero before")
    if any(map(math.isnan, seen)):
        notes.append("layers: blank where a number is NaN or infinite")
    if problems:
        notes.append(f"layers: blank where checkpoints could not be compared{_why(problems)}")
    return Movement(tuple(places), tuple(shown), tuple(rows[name] for name in shown), tuple(notes))


def _why(problems: Sequence[str]) -> str:
    if not problems:
        return ""
    more = f" (and {len(problems) - 1:,} more)" if len(problems) > 1 else ""
    return f": {problems[0]}{more}"


def _whole(row: Iterable[float | None]) -> float:
    return sum(value for value in row if value is not None and not math.isnan(value))


def _natural(name: str) -> list[tuple[int, str]]:
    """Puts `dense_2` before `dense_10`."""
    parts = re.split(r"([0-9]{1,9})", name)
    return [(int(part) if at % 2 else 0, part) for at, part in enumerate(parts)]


def _columns(
    directory: OpenDirectory, marks: Sequence[Mark], progress: Callable[[str], None]
) -> tuple[list[Moved], list[str]]:
    """The movements between each two; empty where one cannot be read, and then why."""
    columns: list[Moved] = []
    problems: list[str] = []
    before: Listing | None = None
    for at, mark in enumerate(marks):
        name = mark.checkpoint.name
        progress(name)
        after: Listing | None = None
        moved: Moved = {}
        try:
            after = list_tensors(find(directory, name, follow=True))
            if before is not None:
                moved = _moved(before, after)
        except (CkptctlError, OSError) as error:
            problems.append(str(error) if isinstance(error, CkptctlError) else posix.reason(error))
        if at:
            columns.append(moved)
        before = after
    return columns, problems


def _moved(a: Listing, b: Listing) -> Moved:
    """How far each layer of the second checkpoint moved.

    Raises:
        UnreadableError: One cannot be read; or a checkpoint is V1.
        BundleError: One is damaged.
    """
    diff = compare(a, b, read_layers(b))
    layers = _layers(diff)
    known, numbers = measure(
        a, b, replace(diff, comparisons=tuple(one for one in diff.comparisons if one.name in layers))
    )
    found: dict[str, list[Comparison]] = {}
    for one in known.comparisons:
        found.setdefault(layers[one.name], []).append(one)
    return {layer: _of_layer(tensors, numbers) for layer, tensors in found.items()}


def _layers(diff: Diff) -> dict[str, str]:
    """The layer of each tensor that counts."""
    names = {one.name for one in diff.comparisons}
    found = {}
    for one in diff.comparisons:
        layer = diff.layers.get(one.name)
        if layer is None:
            layer = layer_of(one.name, names)
        if one.b is not None and _counts(one.b) and not layer.endswith(SLOTS.strip()):
            found[one.name] = layer or "(none)"
    return found


def _counts(tensor: Tensor) -> bool:
    dtype = None if tensor.entry is None else DTYPES.get(tensor.entry.dtype)
    return bool(tensor.shape) and dtype is not None and dtype.kind in {NumberKind.FLOAT, NumberKind.COMPLEX}


def _of_layer(tensors: Sequence[Comparison], numbers: Mapping[str, Difference | None]) -> float | None:
    """The movement of all tensors of a layer together."""
    squares = base = 0.0
    known = False
    for one in tensors:
        difference = numbers.get(one.name)
        if difference is not None:
            if difference.non_finite:
                return math.nan
            known = True
            squares += _square(difference.norm)
            base += _square(difference.norm / difference.relative) if difference.relative else 0.0
        elif one.kind is Kind.SAME:
            known = True
    if not known:
        return None
    if not math.isfinite(squares + base):
        return math.nan
    if squares == 0.0:
        return 0.0
    return math.sqrt(squares / base) if base else math.inf


def _square(number: float) -> float:
    return number * number  # infinite where ** would raise
