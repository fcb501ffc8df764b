"""What speaks for each checkpoint of a plan, and what each rule does there. Pure, as `ckptctl.plan` is."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ckptctl.chronology import readings
from ckptctl.measured import measure
from ckptctl.plan import as_judged, countable_of
from ckptctl.policy import Best

if TYPE_CHECKING:
    from ckptctl.model import Decision, Measured, Plan
    from ckptctl.plan import Protections
    from ckptctl.policy import Policy


@dataclass(frozen=True, slots=True)
class Effect:
    """What a rule does in a plan.

    Attributes:
        sentence: What it keeps, as it follows the word "keep".
        keeps: How many checkpoints it speaks for.
        alone: How many of them stay for its sake alone.
    """

    sentence: str
    keeps: int
    alone: int


@dataclass(frozen=True, slots=True)
class Explanation:
    """A plan, and what it comes from.

    Attributes:
        plan: The plan.
        effects: What each rule does, in the policy's order.
        measured: The metric by which the best are kept, if any are.
    """

    plan: Plan
    effects: tuple[Effect, ...]
    measured: Measured | None = None


def explain(plan: Plan, policy: Policy, protections: Protections, *, now: float | None = None) -> Explanation:
    """Explains a plan.

    Args:
        plan: What `ckptctl.plan` made.
        policy: Of this policy,
        protections: and these protections,
        now: at this time; the clock's by default.
    """
    moment = time.time() if now is None else now
    newest_first = readings(
        countable_of([decision.checkpoint for decision in plan.decisions]), protections.order
    ).values()
    judged = [as_judged(one, policy, moment) for one in newest_first]
    speaking = [{name for one in judged for name in rule.keep(one)} for rule in policy.rules]
    unprotected = {one.checkpoint.name for one in plan.keep if not one.protections}
    effects = []
    for at, (rule, names) in enumerate(zip(policy.rules, speaking, strict=True)):
        others = set().union(*speaking[:at], *speaking[at + 1 :])
        effects.append(Effect(rule.sentence(), len(names), len((names & unprotected) - others)))
    best = next((rule for rule in policy.rules if isinstance(rule, Best)), None)
    newest = [decision.checkpoint for decision in reversed(plan.decisions)]
    return Explanation(plan, tuple(effects), None if best is None else measure(best, newest))


def against(decision: Decision) -> str:
    """Why a checkpoint goes, though a rule may speak for it."""
    though = f", though {'; '.join(dict.fromkeys(decision.rules))}" if decision.rules else ""
    return "; ".join(decision.reasons) + though


def protections_for(decision: Decision) -> tuple[str, ...]:
    """What else speaks for a checkpoint that stays, and what there is to say of it even so."""
    return tuple(
        dict.fromkeys([*decision.protections, *(r for r in decision.reasons if r not in decision.rules)])
    )
