"""What `repair` and `clean` did, as text and JSON. No Click, no I/O."""

from __future__ import annotations

import difflib
import os
from typing import TYPE_CHECKING, Any

from ckptctl.render import escape, table
from ckptctl.units import format_bytes, format_count, format_duration

if TYPE_CHECKING:
    from ckptctl.clean import CleanPlan, CleanReport
    from ckptctl.repair import RepairReport

_MAX_LINES = 5000
"""More lines than this are compared by nobody: neither by a reader, nor in bearable time."""
_MAX_LINE = 500


def diff(report: RepairReport) -> list[str]:
    """What a repair changes in the state file, as a unified diff; without the padding at a text's end."""
    before, after = _lines(report.before), _lines(report.after)
    if max(len(before), len(after)) > _MAX_LINES:
        return [f"(too long to be compared: {len(before):,} lines before, {len(after):,} after)"]
    name = report.state_file
    return list(difflib.unified_diff(before, after, f"{name} before", f"{name} after", lineterm=""))


def _lines(text: bytes | None) -> list[str]:
    if text is None:
        return []
    lines = os.fsdecode(text.rstrip(b"# \n")).split("\n")  # its names as they are shown elsewhere
    return [line if len(line) <= _MAX_LINE else f"{line[:_MAX_LINE]}..." for line in lines]


def repair(report: RepairReport) -> str:
    """What was wrong, the diff, and what was done, for people to read."""
    latest = report.mended.state.latest
    where = f"{report.directory}: the state file {report.state_file}"
    if not report.mended.reasons or latest is None:
        return escape(f"{where} is as it should be: nothing to mend")
    lines = [f"{report.directory}: {reason}" for reason in report.mended.reasons]
    lines += diff(report)
    count = len(report.mended.state.entries)
    verb = "would be" if report.dry_run else "is"
    lines.append(f"{where} {verb} mended: latest {latest.path}, {count:,} listed")
    if report.backup is not None:
        lines.append(f"the old one is kept as {report.backup}")
    return "\n".join(escape(line) for line in lines)


def repair_json(report: RepairReport) -> dict[str, Any]:
    """What `repair --json` prints."""
    state = report.mended.state
    changed = bool(report.mended.reasons)
    return {
        "directory": report.directory,
        "state_file": report.state_file,
        "dry_run": report.dry_run,
        "mended": changed,
        "reasons": list(report.mended.reasons),
        "latest": None if state.latest is None else state.latest.path,
        "listed": [entry.path for entry in state.entries],
        "backup": report.backup,
        "diff": diff(report) if changed else [],
        "notes": list(report.notes),
    }


def clean_plan(made: CleanPlan, form: str) -> str:
    """What was left behind, and what becomes of it."""
    heading = escape(
        f"{made.directory}: delete leftovers, once all is quiet for {format_duration(made.older_than)}"
    )
    if not made.found:
        return f"{heading}: there are none"
    rows = [
        (
            "delete" if one.keep is None else "keep",
            one.path,
            format_bytes(one.bytes),
            one.what,
            one.keep or "",
        )
        for one in made.found
    ]
    return f"{heading}\n{table(rows, ('', 'path', 'size', 'what', 'why'), form, right=(2,))}"


def clean_outcome(report: CleanReport) -> str:
    """What carrying out such a plan came to, in one line."""
    if report.dry_run:
        going = report.plan.delete
        size = format_bytes(sum(one.bytes for one in going))
        staying = len(report.plan.found) - len(going)
        return f"would delete {format_count(len(going), 'leftover')}, {size}; {staying} would stay"
    count = format_count(len(report.deleted), "leftover")
    staying = len(report.plan.found) - len(report.deleted)
    return f"deleted {count}, freed {format_bytes(report.freed_bytes)}; {staying} stay"


def clean_json(report: CleanReport) -> dict[str, Any]:
    """One directory of what `clean --json` prints."""
    return {
        "directory": report.plan.directory,
        "older_than": report.plan.older_than,
        "dry_run": report.dry_run,
        "keep": [
            {"path": one.path, "bytes": one.bytes, "what": one.what, "why": one.keep}
            for one in report.plan.found
            if one.keep is not None
        ],
        "delete": [{"path": one.path, "bytes": one.bytes, "what": one.what} for one in report.plan.delete],
        "deleted": list(report.deleted),
        "spared": list(report.spared),
        "failed": [{"path": failure.name, "error": failure.error} for failure in report.failed],
        "freed_bytes": report.freed_bytes,
        "notes": list(report.notes),
    }
