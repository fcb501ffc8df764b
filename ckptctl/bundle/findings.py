"""What verification finds: typed, with the place where it was found.

A check reports and goes on; it never stops at the first finding. The number of findings that one check keeps
is bounded, so that a file made of nothing but errors costs no more memory than one with a few.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field


class FindingKind(enum.Enum):
    """What is wrong."""

    INDEX = "index"
    """The index as a whole cannot be read: no footer, no header, no index block."""
    BLOCK = "block"
    """A block of the table fails its checksum, does not hold together, or has keys that do not ascend."""
    ENTRY = "entry"
    """A tensor's entry cannot be parsed, or holds a number that no writer puts there."""
    SIZE = "size"
    """The stored size is not what dtype and shape ask for."""
    SLICES = "slices"
    """The slices of a partitioned tensor are missing, orphaned, overlap, or do not cover it."""
    MISSING_SHARD = "missing shard"
    SHARD_LENGTH = "shard length"
    """A shard is shorter or longer than the index says."""
    RANGE = "range"
    """A tensor's bytes lie outside of its shard."""
    OVERLAP = "overlap"
    """Two tensors claim the same bytes."""
    CHECKSUM = "checksum"
    """A tensor's bytes fail their checksum."""
    LAYOUT = "layout"
    """The lengths inside a string or variant tensor do not fit it, or a shard ends while it is read."""
    PADDING = "padding"
    """Bytes that belong to nothing, and are not zero as alignment leaves them."""
    NOT_FINITE = "not finite"
    """A floating tensor holds NaN or Inf."""
    RESTORE = "restore"
    """TensorFlow does not restore what is there."""
    LOST = "lost"
    """TensorFlow's process was lost over it: it died, was short of memory or of time, or was not let read.
    That may be the checkpoint's doing, or the machine's."""
    NOT_REBUILT = "not rebuilt"
    """No fault: an object that cannot be rebuilt here, so that its restore is not proven."""
    UNREADABLE = "unreadable"
    """The system does not let us read the file."""
    OMITTED = "omitted"
    """There is more of this than is worth listing."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong with a checkpoint.

    Attributes:
        kind: What.
        message: Which file, what was expected there, what was found.
        tensor: The name of the tensor that it touches; None where it is not about a single one.
        shard: The number of the shard; None for the index.
        offset: Where, in bytes from the beginning of the file; None where no place can be named.
    """

    kind: FindingKind
    message: str
    tensor: str | None = None
    shard: int | None = None
    offset: int | None = None


MAX_FINDINGS = 10_000
"""How many findings one `Report` keeps."""


@dataclass(slots=True)
class Report:
    """Collects findings in the order in which they come.

    Attributes:
        findings: The first `limit` ones.
        omitted: How many came after those.
        limit: How many are kept.
    """

    findings: list[Finding] = field(default_factory=list)
    omitted: int = 0
    limit: int = MAX_FINDINGS

    def add(self, finding: Finding) -> None:
        """Takes a finding down, or counts it once there are enough."""
        if len(self.findings) < self.limit:
            self.findings.append(finding)
        else:
            self.omitted += 1

    def all(self) -> tuple[Finding, ...]:
        """Every finding kept, and one more that says how many were not."""
        if not self.omitted:
            return tuple(self.findings)
        more = Finding(FindingKind.OMITTED, f"and {self.omitted} more findings that are not listed")
        return (*self.findings, more)
