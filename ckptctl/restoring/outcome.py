"""What came of one restore: what fails, and what is not proven."""

from __future__ import annotations

from dataclasses import dataclass, field

from ckptctl.bundle.findings import Finding, FindingKind, Report

_LIMIT = 1000


def _report() -> Report:
    return Report(limit=_LIMIT)


@dataclass(frozen=True, slots=True)
class Outcome:
    """Collects both, each to its own limit: no failure is lost among doubts."""

    failures: Report = field(default_factory=_report)
    doubts: Report = field(default_factory=_report)

    def fail(self, message: str, tensor: str | None = None) -> None:
        """Notes that something does not restore, or is not what the files hold."""
        self.failures.add(Finding(FindingKind.RESTORE, message, tensor))

    def lose(self, message: str) -> None:
        """Notes that it was broken off for want of something that is not the checkpoint's."""
        self.failures.add(Finding(FindingKind.LOST, message))

    def doubt(self, message: str, tensor: str | None = None) -> None:
        """Notes that something cannot be rebuilt, so that its restore is not proven."""
        self.doubts.add(Finding(FindingKind.NOT_REBUILT, message, tensor))

    def all(self) -> tuple[Finding, ...]:
        """Every failure, then every doubt."""
        return self.failures.all() + self.doubts.all()
