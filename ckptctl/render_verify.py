"""Tables, sentences and JSON of verdicts. No Click, no I/O."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from ckptctl.render import escape, table
from ckptctl.units import format_bytes, format_count

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ckptctl.verify import Verdict


def verdicts(made: Iterable[Verdict], form: str) -> str:
    """The table of `verify`."""
    rows = [
        (
            one.checkpoint,
            one.status.value,
            str(one.tensors) if one.ok or one.tensors else "",
            format_bytes(one.bytes) if one.ok or one.bytes else "",
            one.level.value,
            str(len(one.findings) or ""),
        )
        for one in made
    ]
    headers = ("checkpoint", "status", "tensors", "size", "level", "findings")
    return table(rows, headers, form, right=(2, 3, 5))


def findings(made: Iterable[Verdict]) -> Iterator[str]:
    """Yields what is wrong, line by line, as it stands below the table of `verify`."""
    for one in made:
        if one.findings:
            yield ""
            yield escape(
                f"{one.checkpoint}: {one.status.value}, {format_count(len(one.findings), 'finding')}"
            )
            for finding in one.findings:
                yield escape(f"  {finding.kind.value}: {finding.message}")


def summary(made: Sequence[Verdict]) -> str:
    """How many passed and how many did not, in one line."""
    counts = Counter(one.status.value for one in made)
    said = ", ".join(f"{count:,} {status}" for status, count in sorted(counts.items(), key=_ok_first))
    return f"{format_count(len(made), 'checkpoint')}, {format_bytes(sum(one.bytes for one in made))}: {said}"


def _ok_first(count: tuple[str, int]) -> tuple[bool, str]:
    return count[0] != "ok", count[0]


def verdict_json(one: Verdict) -> dict[str, Any]:
    """One checkpoint of what `verify --json` prints."""
    return {
        "checkpoint": one.checkpoint,
        "status": one.status.value,
        "level": one.level.value,
        "tensors": one.tensors,
        "bytes": one.bytes,
        "findings": [
            {
                "kind": finding.kind.value,
                "tensor": finding.tensor,
                "shard": finding.shard,
                "offset": finding.offset,
                "message": finding.message,
            }
            for finding in one.findings
        ],
    }
