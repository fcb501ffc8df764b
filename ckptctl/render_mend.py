"""What `repair` did, as text and JSON. No Click, no I/O."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any

from ckptctl.render import escape

if TYPE_CHECKING:
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
    lines = text.rstrip(b"# \n").decode(errors="surrogateescape").split("\n")
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
