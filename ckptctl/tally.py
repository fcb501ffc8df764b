"""What a watch has come to, directory by directory: the numbers behind its metrics and its status line. Pure.

A standing is replaced and never changed, so that another thread may read all of them at any moment.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ckptctl import units
from ckptctl.model import Status

if TYPE_CHECKING:
    from ckptctl.model import Plan, Report


@dataclass(frozen=True, slots=True)
class Standing:
    """How a directory stood when it was last looked at, and what was done in it since the watch began.

    Attributes:
        checkpoints: How many are there.
        bytes: The size of their files together.
        newest_saved: When the newest complete one was saved, seconds since the epoch.
        deleted: How many were deleted.
        freed_bytes: What the file system has got back.
        failures: How many looks failed or were refused, in whole or in part.
        failing: Whether the last one did.
        last_success: When the last one ended that did not.
        last_verified: When the last one ended at which the newest checkpoint, but for one that was being
            saved, had passed a `--verify` that reads the data.
    """

    checkpoints: int = 0
    bytes: int = 0
    newest_saved: float | None = None
    deleted: int = 0
    freed_bytes: int = 0
    failures: int = 0
    failing: bool = False
    last_success: float | None = None
    last_verified: float | None = None


class Tally:
    """The standings of the directories that are there."""

    def __init__(self) -> None:
        self._standings: dict[str, Standing] = {}

    def standings(self) -> dict[str, Standing]:
        """A copy, by directory; made in one step, beside a thread that changes them too."""
        return self._standings.copy()

    def looked(self, path: str, report: Report, at: float, *, named: bool, verifies: bool) -> None:
        """Takes note of a look.

        Args:
            path: The directory.
            report: What it came to.
            at: When it ended.
            named: Whether the user named the directory. Another one counts once it has had a checkpoint.
            verifies: Whether a checkpoint has to have its data read to count.
        """
        old = self._standings.get(path)
        if old is None and not named and not report.plan.decisions:
            return
        old = old or Standing()
        gone = set(report.deleted)
        there = [one.checkpoint for one in report.plan.decisions if one.checkpoint.name not in gone]
        failing = bool(report.failed) or report.refused is not None
        saved = [one.saved for one in there if one.complete and one.saved is not None]
        self._standings[path] = Standing(
            checkpoints=len(there),
            bytes=sum(one.bytes for one in there),
            newest_saved=max(saved, default=old.newest_saved),
            deleted=old.deleted + len(gone),
            freed_bytes=old.freed_bytes + report.freed_bytes,
            failures=old.failures + failing,
            failing=failing,
            last_success=old.last_success if failing else at,
            last_verified=at if verifies and _newest_counts(report.plan) else old.last_verified,
        )

    def failed(self, path: str) -> None:
        """Takes note of a look that came to nothing: refused, or the directory cannot be read."""
        old = self._standings.get(path, Standing())
        self._standings[path] = replace(old, failures=old.failures + 1, failing=True)

    def gone(self, path: str, *, named: bool) -> None:
        """Takes note that a directory is not there any more.

        One that the user named may come back, and an alarm about it must not end because it went.
        """
        if not named:
            self._standings.pop(path, None)
        elif path in self._standings:
            self._standings[path] = replace(self._standings[path], checkpoints=0, bytes=0)

    def summary(self) -> str:
        """All of it in a line."""
        standings = self._standings.values()
        checkpoints = sum(one.checkpoints for one in standings)
        size = units.format_bytes(sum(one.bytes for one in standings))
        deleted = sum(one.deleted for one in standings)
        freed = units.format_bytes(sum(one.freed_bytes for one in standings))
        line = (
            f"directories: {len(standings)}; checkpoints: {checkpoints}, {size}; deleted: {deleted}, {freed}"
        )
        failing = sum(one.failing for one in standings)
        return f"{line}; in trouble: {failing}" if failing else line


def _newest_counts(plan: Plan) -> bool:
    """Whether the newest checkpoint passed; one that is being saved is not it yet."""
    saved = [one for one in plan.decisions if one.checkpoint.status is not Status.SAVING]
    return bool(saved) and saved[-1].counts
