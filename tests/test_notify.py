"""What a service manager is told, and that nothing comes of one that does not listen."""

from __future__ import annotations

import math
import os
import select
import socket
from typing import TYPE_CHECKING

import pytest

from ckptctl.notify import Notifier

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def manager() -> Iterator[socket.socket]:
    """A socket as systemd binds it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bound:
        bound.bind("")  # Linux chooses an abstract name
        bound.settimeout(10)
        yield bound


def environment(manager: socket.socket, **more: str) -> dict[str, str]:
    """What a process is started with."""
    return {"NOTIFY_SOCKET": f"@{manager.getsockname()[1:].decode()}", "HOME": "/", **more}


def test_order(manager: socket.socket) -> None:
    """It asks for time, is ready once, tells what has changed, and has a last word."""
    given = environment(manager)
    notifier = Notifier(given)
    assert given == {"HOME": "/"}, "nothing is left for a child"
    notifier.alive()
    for line in ("one", "one", "two"):
        notifier.alive()
        notifier.ready(lambda line=line: line)  # type: ignore[misc]
    assert notifier.due == math.inf, "there is no watchdog to wake up for"
    notifier.stopping()
    notifier.stopping()
    notifier.ready(lambda: "three")
    said = [manager.recv(1000).decode() for _ in range(4)]
    assert select.select([manager], [], [], 0)[0] == [], "that was all"
    assert said == ["EXTEND_TIMEOUT_USEC=120000000", "READY=1\nSTATUS=one", "STATUS=two", "STOPPING=1"]


@pytest.mark.parametrize(
    ("asked", "answered"),
    [
        pytest.param({"WATCHDOG_USEC": "3000000"}, True, id="of nobody in particular"),
        pytest.param({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getpid())}, True, id="of us"),
        pytest.param({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getppid())}, False, id="of another"),
        pytest.param({"WATCHDOG_USEC": "0"}, False, id="zero"),
        pytest.param({"WATCHDOG_USEC": "soon"}, False, id="no number"),
        pytest.param({"WATCHDOG_USEC": "-1"}, False, id="negative"),
    ],
)
def test_watchdog(
    manager: socket.socket, monkeypatch: pytest.MonkeyPatch, asked: dict[str, str], *, answered: bool
) -> None:
    """A sign of life is due in half of the time, if it is asked of this process."""
    now = 1000.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    given = environment(manager, **asked)
    notifier = Notifier(given)
    assert given == {"HOME": "/"}
    notifier.ready(lambda: "")
    assert notifier.due == (1001.5 if answered else math.inf)
    manager.recv(1000)
    now = 1001.5
    notifier.alive()
    assert notifier.due == (1003.0 if answered else math.inf)
    notifier.stopping()
    assert manager.recv(1000) == (b"WATCHDOG=1" if answered else b"STOPPING=1")


@pytest.mark.parametrize("named", ["", "@", "/", "nowhere", "vsock:2:1", f"/{'x' * 200}", "@gone"])
def test_nobody_listens(tmp_path: Path, named: str) -> None:
    """A socket that is none, or that nobody holds, is no failure."""
    given = {"NOTIFY_SOCKET": named.replace("nowhere", f"{tmp_path}/nowhere")}
    notifier = Notifier(given)
    notifier.alive()
    notifier.ready(lambda: "")
    notifier.stopping()
    assert given == {}


def test_manager_that_hangs(manager: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    """Words that it does not take are lost, and nobody waits for ever."""
    monkeypatch.setattr("ckptctl.notify._PATIENCE_SECONDS", 0.01)
    notifier = Notifier(environment(manager))
    for number in range(15):  # more than a queue takes by number, or by size where it takes more
        notifier.ready(lambda number=number: f"{number} {'x' * 50_000}")  # type: ignore[misc]
    notifier.stopping()
