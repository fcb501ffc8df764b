"""What `ls --summary` prints: a directory a row, to see which takes the room. No Click, no I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from ckptctl.render import SORT_KEYS, local, step, table
from ckptctl.units import format_bytes, format_count

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ckptctl.model import Checkpoint, Directory


class _Row(NamedTuple):
    """A directory.

    Attributes:
        path: Its path.
        checkpoints: How many it has on the disk.
        bytes: The size of their files.
        leftovers: The size of what belongs to none.
        last: The latest that the state file names if that is complete, else the newest complete one.
    """

    path: str
    checkpoints: int
    bytes: int
    leftovers: int
    last: Checkpoint | None


def overview(directories: Sequence[Directory], form: str, sort: str | None) -> str:
    """The table.

    Args:
        directories: What is to be shown.
        form: The table's format, by tabulate's name for it.
        sort: A key of `SORT_KEYS`, lowest first: the directory's path and size, the time and step of its
            latest. None: the largest first.
    """
    rows = [_row(directory) for directory in directories]
    rows.sort(key=(lambda row: -_room(row)) if sort is None else (lambda row: _key(row, sort)))
    left = any(row.leftovers for row in rows)
    cells = [
        [
            row.path,
            f"{row.checkpoints:,}",
            format_bytes(row.bytes),
            *([format_bytes(row.leftovers) if row.leftovers else ""] if left else []),
            *(("", "", "") if row.last is None else (row.last.name, step(row.last), local(row.last.saved))),
        ]
        for row in rows
    ]
    more = ["leftovers"] if left else []
    headers = ("directory", "checkpoints", "size", *more, "latest", "step", "saved")
    return table(cells, headers, form, right=(1, 2, 3, 5) if left else (1, 2, 4))


def total(directories: Sequence[Directory]) -> str:
    """What directories hold together, as it stands below the table."""
    rows = [_row(directory) for directory in directories]
    where = "1 directory" if len(rows) == 1 else f"{len(rows):,} directories"
    count = format_count(sum(row.checkpoints for row in rows), "checkpoint")
    left = sum(row.leftovers for row in rows)
    more = f"; leftovers, {format_bytes(left)}" if left else ""
    return f"{where}: {count}, {format_bytes(sum(row.bytes for row in rows))}{more}"


def _row(directory: Directory) -> _Row:
    there = [one for one in directory.checkpoints if one.on_disk]
    complete = [one for one in there if one.complete]
    newest = complete[-1] if complete else None
    return _Row(
        directory.path,
        len(there),
        sum(one.bytes for one in there),
        sum(file.size for file in directory.leftovers),
        next((one for one in complete if one.latest), newest),
    )


def _room(row: _Row) -> int:
    return row.bytes + row.leftovers


def _key(row: _Row, sort: str) -> Any:
    if sort == "name":
        return row.path
    if sort == "size":
        return _room(row)
    if row.last is None:
        return -1
    return (row.last.saved or 0) if sort == "time" else SORT_KEYS[sort](row.last)
