"""Retention rules: which checkpoints a policy keeps. Pure: no disk, no clock.

A rule sees the complete checkpoints, newest first, and says which it keeps and why. A policy keeps what any
of its rules keeps, so adding a rule never deletes more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from ckptctl.errors import PolicyError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ckptctl.model import Checkpoint


class Rule(Protocol):
    """One reason to keep checkpoints."""

    def sentence(self) -> str:
        """What the rule keeps, as it follows the word "keep"."""
        ...

    def keep(self, newest_first: Sequence[Checkpoint]) -> dict[str, str]:
        """Chooses.

        Args:
            newest_first: The complete checkpoints.

        Returns:
            The names of those that it keeps, each with the reason.
        """
        ...


@dataclass(frozen=True, slots=True)
class Newest:
    """The newest `count` checkpoints.

    Raises:
        PolicyError: `count` is not at least 1.
    """

    count: int

    def __post_init__(self) -> None:
        if self.count < 1:
            raise PolicyError(f"--keep {self.count} would keep nothing: at least 1 checkpoint has to stay")

    def sentence(self) -> str:
        """What the rule keeps."""
        return "the newest one" if self.count == 1 else f"the {self.count} newest"

    def keep(self, newest_first: Sequence[Checkpoint]) -> dict[str, str]:
        """The first `count` of them."""
        return {checkpoint.name: f"among {self.sentence()}" for checkpoint in newest_first[: self.count]}


@dataclass(frozen=True, slots=True)
class Policy:
    """Rules of which any may keep a checkpoint.

    Raises:
        PolicyError: There is no rule.
    """

    rules: tuple[Rule, ...]

    def __post_init__(self) -> None:
        if not self.rules:
            raise PolicyError("the policy has no rule and would keep nothing: say --keep 3, for example")

    def sentence(self) -> str:
        """The policy as a sentence, printed before anything is done."""
        *most, last = [rule.sentence() for rule in self.rules]
        return "keep " + (f"{', '.join(most)} and {last}" if most else last)

    def keep(self, newest_first: Sequence[Checkpoint]) -> dict[str, tuple[str, ...]]:
        """Asks every rule.

        Args:
            newest_first: The complete checkpoints.

        Returns:
            The names that stay, each with all reasons.
        """
        kept: dict[str, tuple[str, ...]] = {}
        for rule in self.rules:
            for name, reason in rule.keep(newest_first).items():
                kept[name] = (*kept.get(name, ()), reason)
        return kept
