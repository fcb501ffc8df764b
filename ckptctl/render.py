"""Tables, sentences and JSON of what was found and done. No Click, no I/O.

Whatever comes from the disk is shown escaped: a name must not be able to move the cursor or start a line.
"""

from __future__ import annotations

import datetime as dt
import shlex
from typing import TYPE_CHECKING, Any

from ckptctl.leftover_names import Names
from ckptctl.model import Checkpoint, Directory, Measured, Plan, Report, State, StateStatus, Status
from ckptctl.units import format_bytes, format_count
from ckptctl.writers import writer_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence


SORT_KEYS: dict[str, Callable[[Checkpoint], Any]] = {
    "time": lambda _: 0,  # as they come: oldest first
    "name": lambda checkpoint: checkpoint.name,
    "step": lambda checkpoint: -1 if checkpoint.step is None else checkpoint.step,
    "size": lambda checkpoint: checkpoint.bytes,
}


_SIMPLE = "simple"
"""The format of tables that nobody asked for by name."""


def escape(text: str) -> str:
    """Shows control characters, unusual spaces and bytes that are not UTF-8 as escapes."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _escaped(char) for char in text)


def _escaped(char: str) -> str:
    if "\udc80" <= char <= "\udcff":  # a byte that is not UTF-8, as os.fsdecode keeps it
        return f"\\x{ord(char) - 0xDC00:02x}"
    return char.encode("unicode_escape").decode("ascii")


def table(rows: Iterable[Sequence[str]], headers: Sequence[str], form: str, right: Iterable[int] = ()) -> str:
    """A table through tabulate, with every cell taken for the text that it is.

    Args:
        rows: The cells.
        headers: One a column.
        form: The name of a format of tabulate's.
        right: The columns that are aligned to the right.
    """
    numeric = set(right)
    cells = [[escape(cell) for cell in row] for row in rows]
    if form == _SIMPLE and cells and all(cell.isascii() for row in cells for cell in row):
        return _simple(cells, headers, numeric)
    from tabulate import tabulate  # noqa: PLC0415 - the default table does without its 40 ms

    return tabulate(
        cells,
        headers=headers,
        tablefmt=form,
        disable_numparse=True,
        preserve_whitespace=True,
        colalign=["right" if at in numeric else "left" for at in range(len(headers))],
    )


def _simple(cells: Sequence[Sequence[str]], headers: Sequence[str], right: Collection[int]) -> str:
    """What tabulate makes of this, in a twentieth of the time; it knows how wide other letters are."""
    columns = []
    for at, header in enumerate(headers):
        width = max([len(header) + 2, *(len(row[at]) for row in cells)])
        place = str.rjust if at in right else str.ljust
        columns.append([place(cell, width) for cell in (header, "-" * width, *(row[at] for row in cells))])
    return "\n".join("  ".join(line).rstrip() for line in zip(*columns, strict=True))


def checkpoints(
    directory: Directory,
    form: str,
    sort: str = "time",
    *,
    detailed: bool = False,
    measured: Measured | None = None,
) -> str:
    """The table of `ls`, with `detailed` that of `ls -l`, with `measured` that of `ls --metric`."""
    rows = []
    for one in sorted(directory.checkpoints, key=SORT_KEYS[sort]):
        row = [one.name, step(one), local(one.saved), _size(one), _shards(one)]
        if detailed:
            row += _details(one, directory)
        if measured is not None:
            row.append(number(measured.values.get(one.name)))
        rows.append([*row, _status(one, best=measured is not None and measured.best == one.name)])
    more = ["tensors", "parameters", "writer", "step from"] if detailed else []
    right = [1, 3, 4, 5, 6] if detailed else [1, 3, 4]
    if measured is not None:
        right.append(5 + len(more))
        more.append(escape(measured.metric))
    return table(rows, ("name", "step", "saved", "size", "shards", *more, "status"), form, right)


def summary(directory: Directory) -> str:
    """A directory in one line, as it stands above the table of `ls`."""
    there = [one for one in directory.checkpoints if one.on_disk]
    parts = [f"{format_count(len(there), 'checkpoint')}, {format_bytes(sum(one.bytes for one in there))}"]
    state = directory.state
    if state.latest is not None:
        parts.append(f"latest {state.latest.path}")
    elif state.status is StateStatus.ABSENT:
        parts.append("no state file")
    else:
        parts.append(f"state file {state.status.value}: {state.problem}")
    if directory.pins.problem is not None:
        parts.append(f"pins unreadable: {directory.pins.problem}")
    if directory.leftovers:
        size = format_bytes(sum(file.size for file in directory.leftovers))
        parts.append(f"{format_count(len(directory.leftovers), 'leftover')}, {size}")
    return escape(f"{directory.path}: {'; '.join(parts)}")


def remedies(directory: Directory) -> list[str]:
    """Which commands mend what the listing of a directory shows."""
    path = shlex.quote(directory.path)
    there = [one for one in directory.checkpoints if one.on_disk]
    found = []
    state = directory.state
    mendable = state.status in {StateStatus.UNREADABLE, StateStatus.INVALID} and not state.forbidden
    if mendable or any(one.latest and one.status in _NOT_LATEST for one in directory.checkpoints):
        found.append(f"`ckptctl repair {path}` mends the state file")
    if any(one.status is Status.BROKEN for one in there):
        found.append(
            f"`ckptctl verify {path}` tells why it is broken; prune deletes it if a newer one is whole"
        )
    names = Names.of(directory)
    if any(names.may_go(file) for file in directory.leftovers):
        found.append(f"`ckptctl clean {path}` deletes leftovers, or says why they stay")
    return found


_NOT_LATEST = frozenset({Status.MISSING, Status.BROKEN})
"""What no state file should name as the latest. A foreign one may be there, under its own path."""


def plan(made: Plan, form: str) -> str:
    """The policy as a sentence, then what becomes of each checkpoint and why."""
    rows = [
        (
            "keep" if decision.keep else "delete",
            decision.checkpoint.name,
            step(decision.checkpoint),
            local(decision.checkpoint.saved),
            _size(decision.checkpoint),
            "; ".join(decision.reasons),
        )
        for decision in made.decisions
    ]
    if not rows:
        return escape(f"{made.directory}: there are no checkpoints here, so none goes")
    heading = escape(f"{made.directory}: {made.policy}")
    return heading + "\n" + table(rows, ("", "name", "step", "saved", "size", "why"), form, right=(2, 4))


def outcome(*reports: Report) -> str:
    """What carrying out plans came to, in one line. They are all dry runs, or none is."""
    there = sum(len(report.plan.decisions) for report in reports)
    if any(report.dry_run for report in reports):
        going = [decision.checkpoint for report in reports for decision in report.plan.delete]
        size = format_bytes(sum(checkpoint.bytes for checkpoint in going))
        return (
            f"would delete {format_count(len(going), 'checkpoint')}, {size}; {there - len(going)} would stay"
        )
    deleted = sum(len(report.deleted) for report in reports)
    freed = format_bytes(sum(report.freed_bytes for report in reports))
    return f"deleted {format_count(deleted, 'checkpoint')}, freed {freed}; {there - deleted} stay"


def directory_json(directory: Directory, measured: Measured | None = None) -> dict[str, Any]:
    """One directory of what `ls --json` prints."""
    state = directory.state
    found = {
        "directory": directory.path,
        "state": {
            "status": state.status.value,
            "latest": None if state.latest is None else state.latest.path,
            "problem": state.problem,
        },
        "checkpoints": [_checkpoint_json(one, state, measured) for one in directory.checkpoints],
        "pins": {"names": sorted(directory.pins.names), "problem": directory.pins.problem},
        "leftovers": [{"path": file.name, "bytes": file.size} for file in directory.leftovers],
    }
    if measured is not None:
        found["metric"] = measured.metric
    return found


def _checkpoint_json(one: Checkpoint, state: State, measured: Measured | None) -> dict[str, Any]:
    found: dict[str, Any] = {
        "name": one.name,
        "step": one.step,
        "step_from": one.step_from,
        "saved": iso(one.saved),
        "bytes": one.bytes,
        "shards": len(one.shards),
        "format": one.format.value,
        "status": one.status.value,
        "problem": one.problem,
        "latest": one.latest,
        "listed": one.listed,
        "preserved": one.preserved,
        "pinned": one.pinned,
        "files": [file.name for file in one.files],
    }
    if one.details is not None:
        found["tensors"] = one.details.tensors
        found["parameters"] = one.details.parameters
        found["writer"] = writer_of(one, state)
    if measured is not None:
        found["metric"] = measured.values.get(one.name)
        found["best"] = measured.best == one.name
    return found


def report_json(report: Report) -> dict[str, Any]:
    """One directory of what `prune --json` prints."""
    return {
        "directory": report.plan.directory,
        "policy": report.plan.policy,
        "dry_run": report.dry_run,
        "keep": [{"name": d.checkpoint.name, "reasons": list(d.reasons)} for d in report.plan.keep],
        "delete": [
            {"name": d.checkpoint.name, "bytes": d.checkpoint.bytes, "reasons": list(d.reasons)}
            for d in report.plan.delete
        ],
        "deleted": list(report.deleted),
        "spared": list(report.spared),
        "failed": [{"name": failure.name, "error": failure.error} for failure in report.failed],
        "freed_bytes": report.freed_bytes,
        "over_bytes": report.plan.over_bytes,
        "notes": [*report.plan.notes, *report.notes],
        "refused": report.refused,
    }


def iso(seconds: float | None) -> str | None:
    """A time as ISO 8601 in UTC; None for one that no calendar knows."""
    moment = _moment(seconds, dt.timezone.utc)
    return None if moment is None else moment.isoformat()


def local(seconds: float | None) -> str:
    """A time as tables show it, by this machine's clock; empty for one that no calendar knows."""
    moment = _moment(seconds, None)
    return "" if moment is None else moment.strftime("%Y-%m-%d %H:%M:%S")


def _moment(seconds: float | None, zone: dt.timezone | None) -> dt.datetime | None:
    try:
        return None if seconds is None else dt.datetime.fromtimestamp(seconds, zone)
    except (ValueError, OverflowError, OSError):
        return None


def step(one: Checkpoint) -> str:
    """A checkpoint's step as tables show it."""
    return "" if one.step is None else str(one.step)


def number(value: float | None) -> str:
    """A metric's value as tables show it."""
    return "" if value is None else f"{value:.6g}"


def _details(one: Checkpoint, directory: Directory) -> list[str]:
    source = one.step_from or ""
    if one.details is None:
        return ["", "", "", source]
    writer = writer_of(one, directory.state) or ""
    return [f"{one.details.tensors:,}", f"{one.details.parameters:,}", writer, source]


def _size(one: Checkpoint) -> str:
    return format_bytes(one.bytes) if one.on_disk else ""


def _shards(one: Checkpoint) -> str:
    return str(len(one.shards)) if one.on_disk else ""


def _status(one: Checkpoint, *, best: bool) -> str:
    words = [one.status.value]
    words += ["latest"] if one.latest else []
    words += ["best"] if best else []
    words += ["preserved"] if one.preserved else []
    words += ["pinned"] if one.pinned else []
    text = ", ".join(words)
    return text if one.status is Status.COMPLETE or one.problem is None else f"{text}: {one.problem}"
