"""What a watcher says: events, and what may stay as it is for days only when it changes."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True)
class Event:
    """Something that a watcher has to say.

    Attributes:
        time: Seconds since the epoch.
        event: `watching`, `waiting` (the directory is not there yet), `gone`, `pruned`, `refused` (data would
            be at risk), `failed` (something could not be deleted or read), `warning` (the trainer works
            against it, or what is to be protected is not there), `polling`, or `stopped`.
        directory: The directory that it is about; empty where it is about all.
        details: What belongs to the event, ready for JSON.
    """

    time: float
    event: str
    directory: str
    details: dict[str, Any] = field(default_factory=dict)


class Voice:
    """Says things.

    Args:
        report: Is given every event.
    """

    def __init__(self, report: Callable[[Event], None]) -> None:
        self._report = report
        self._said: dict[str, object] = {}

    def say(self, event: str, path: str, **details: Any) -> None:
        """Says something about a directory."""
        self._report(Event(time.time(), event, path, details))

    def say_once(self, event: str, path: str, **details: Any) -> None:
        """Says what may stay as it is for days only when it changes."""
        if self._said.get(path) != (event, details):
            self._said[path] = (event, details)
            self.say(event, path, **details)

    def forget(self, path: str) -> None:
        """What was said once about a directory is over, and would be said again."""
        self._said.pop(path, None)
