"""What `explain` prints, of one directory. No Click, no I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ckptctl import render
from ckptctl.explanation import Explanation, against, protections_for
from ckptctl.units import format_bytes, format_count

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ckptctl.model import Decision


def explanation(one: Explanation, settings: Sequence[tuple[str, str]], form: str) -> str:
    """What speaks for each checkpoint, what each rule does, and where that is from.

    Args:
        one: The explanation.
        settings: The options in words, each with where it is from.
        form: The tables' format, by tabulate's name for it.
    """
    heading = render.escape(f"{one.plan.directory}: {one.plan.policy}")
    measured = one.measured
    metric = [] if measured is None else [render.escape(measured.metric)]
    rows = [
        (
            "keep" if decision.keep else "delete",
            decision.checkpoint.name,
            render.step(decision.checkpoint),
            render.local(decision.checkpoint.saved),
            format_bytes(decision.checkpoint.bytes),
            *([] if measured is None else [render.number(measured.values.get(decision.checkpoint.name))]),
            "; ".join(dict.fromkeys(decision.rules)) if decision.keep else against(decision),
            "; ".join(protections_for(decision)) if decision.keep else "",
        )
        for decision in one.plan.decisions
    ]
    headers = ("", "name", "step", "saved", "size", *metric, "rules", "protections")
    right = (2, 4, 5) if metric else (2, 4)
    parts = [
        f"{heading}\n{render.table(rows, headers, form, right)}"
        if rows
        else f"{heading}: there are no checkpoints"
    ]
    effects = [(each.sentence, f"{each.keeps:,}", f"{each.alone:,}") for each in one.effects]
    if effects:
        parts.append(render.table(effects, ("rule", "speaks for", "keeps alone"), form, (1, 2)))
    parts.append(render.table(settings, ("setting", "from"), form))
    return "\n\n".join([*parts, _total(one)])


def _total(one: Explanation) -> str:
    stay, go = one.plan.keep, one.plan.delete
    return (
        f"{format_count(len(stay), 'checkpoint')}, {format_bytes(_size(stay))}, would stay; "
        f"{format_count(len(go), 'checkpoint')} would go and free {format_bytes(_size(go))}"
    )


def _size(decisions: Sequence[Decision]) -> int:
    return sum(decision.checkpoint.bytes for decision in decisions)


def explanation_json(one: Explanation) -> dict[str, Any]:
    """One directory of what `explain --json` prints, but for the settings."""
    return {
        "directory": one.plan.directory,
        "policy": one.plan.policy,
        "checkpoints": [_decision_json(one, decision) for decision in one.plan.decisions],
        "rules": [
            {"rule": each.sentence, "speaks_for": each.keeps, "keeps_alone": each.alone}
            for each in one.effects
        ],
        "metric": None if one.measured is None else one.measured.metric,
        "kept_bytes": _size(one.plan.keep),
        "freed_bytes": _size(one.plan.delete),
        "over_bytes": one.plan.over_bytes,
    }


def _decision_json(one: Explanation, decision: Decision) -> dict[str, Any]:
    checkpoint = decision.checkpoint
    found: dict[str, Any] = {
        "name": checkpoint.name,
        "step": checkpoint.step,
        "saved": render.iso(checkpoint.saved),
        "bytes": checkpoint.bytes,
        "keep": decision.keep,
        "rules": list(dict.fromkeys(decision.rules)),
        "protections": list(decision.protections),
        "reasons": list(decision.reasons),
    }
    if one.measured is not None:
        found["metric"] = one.measured.values.get(checkpoint.name)
        found["best"] = one.measured.best == checkpoint.name
    return found
