"""Tells the service manager that started this process how it goes, by systemd's protocol (sd_notify(3)).

Datagrams to the socket that `$NOTIFY_SOCKET` names: that all is ready, how things stand in a line, that it
ends; and, where `$WATCHDOG_USEC` asks for it, a sign of life in half of that time. It is given by whoever
works, so that work which hangs is noticed. What goes wrong here is no reason to stop that.
"""

from __future__ import annotations

import contextlib
import math
import os
import socket
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping

_EXTENSION_SECONDS = 120.0
"""How long a sign of life keeps a start from being taken for one that hangs."""
_PATIENCE_SECONDS = 1.0
"""How long a manager may take no word from its socket before one is lost."""
_MICRO = 1_000_000


class Notifier:
    """What is said to the service manager. Without one, nothing is sent and nothing is ever due.

    Args:
        environment: The process's. What the manager put there is taken out, so that no child speaks for it.

    Attributes:
        due: When the next sign of life has to be given, monotonic seconds.
    """

    def __init__(self, environment: MutableMapping[str, str]) -> None:
        self._address = _address(environment.pop("NOTIFY_SOCKET", ""))
        self._watchdog = _watchdog(
            environment.pop("WATCHDOG_USEC", ""), environment.pop("WATCHDOG_PID", str(os.getpid()))
        )
        self._socket: socket.socket | None = None
        if self._address:
            with contextlib.suppress(OSError):  # it may be forbidden to us
                self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
                self._socket.settimeout(_PATIENCE_SECONDS)
        self._interval = _EXTENSION_SECONDS / 2
        self._status: str | None = None
        self.due = math.inf if self._socket is None else -math.inf

    def alive(self) -> None:
        """Gives a sign of life if one is due; to be called often while there is work.

        Until all is ready that is a request for more time, since a first look may take long.
        """
        now = time.monotonic()
        if now < self.due:
            return
        self.due = now + self._interval
        extension = f"EXTEND_TIMEOUT_USEC={_EXTENSION_SECONDS * _MICRO:.0f}"
        self._send(extension if self._status is None else "WATCHDOG=1")

    def ready(self, status: Callable[[], str]) -> None:
        """Says that all is ready, the first time, and how things stand, whenever that has changed.

        Args:
            status: Tells it in a line.
        """
        if self._socket is None:
            return
        line = status()
        if self._status is None:
            self._interval = self._watchdog / 2
            self.due = time.monotonic() + self._interval
            self._send("READY=1", f"STATUS={line}")
        elif self._status != line:
            self._send(f"STATUS={line}")
        self._status = line

    def stopping(self) -> None:
        """Says that it is about to end, and nothing after that."""
        self._send("STOPPING=1")
        if self._socket is not None:
            self._socket.close()
        self._socket, self.due = None, math.inf

    def _send(self, *lines: str) -> None:
        if self._socket is not None:
            with contextlib.suppress(OSError):  # the manager has gone, or has no time for us
                self._socket.sendto("\n".join(lines).encode(), self._address)


def _address(named: str) -> str:
    """The socket's address: a path, or behind an `@` a name in Linux's abstract space; else nothing."""
    if named.startswith("@"):
        return f"\0{named[1:]}"
    return named if named.startswith("/") else ""


def _watchdog(microseconds: str, pid: str) -> float:
    """In how many seconds at most a sign of life is expected of this process."""
    try:
        seconds = int(microseconds) / _MICRO
    except (ValueError, OverflowError):
        return math.inf
    return seconds if seconds > 0 and pid == str(os.getpid()) else math.inf
