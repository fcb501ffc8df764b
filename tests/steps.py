"""Runs our own code in a forked process, and kills it or lets a trainer write before one of its system calls.

The kill is a real SIGKILL, so nothing of the killed code runs on. Calls are counted in the order in which
they are made, so "before call 7" is the same place in every run of the same code on the same directory.
"""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Any

import pytest

from ckptctl import posix

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_CALLS = ("open", "write", "fsync", "rename", "unlink", "link", "stat", "scandir", "listdir", "fchmod")

READING = ("pread", "fstat", "lstat", "readlink", "dup", "fchown", "rmdir")
"""Further calls. A kill before one of them shows nothing new; an error does."""


def in_child(work: Callable[[], object], before: Callable[[int], None], further: Iterable[str] = ()) -> int:
    """Runs something in a forked process.

    Args:
        work: What to run there.
        before: Is called before each of its system calls, with the call's number from 0. What it raises, the
            call raises, and is not made.
        further: Calls that count besides those which change something.

    Returns:
        How many calls it made, or minus the number of the signal that killed it.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        write = os.write  # uncounted, and sure to succeed
        try:
            os.close(reader)
            count = _counting(work, before, (*_CALLS, *further))
            write(writer, str(count).encode())
            code = 0
        finally:
            os._exit(code)
    os.close(writer)
    with os.fdopen(reader) as answer:
        said = answer.read()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return -os.WTERMSIG(status)
    assert os.waitstatus_to_exitcode(status) == 0, "the child raised; its traceback is above"
    return int(said)


def signalled(
    work: Callable[[], object], number: signal.Signals, moment: int, also: Callable[[], object] = lambda: None
) -> int:
    """Runs something in a forked process that is sent a signal before one of its system calls.

    Args:
        work: What to run there; Ctrl-C has to come out of it.
        number: The signal.
        moment: The call's number.
        also: What happens at that moment besides, just before.

    Returns:
        See `in_child`.
    """
    sent = False

    def before(call: int) -> None:
        nonlocal sent
        if call == moment and not sent:
            sent = True
            also()
            os.kill(os.getpid(), number)

    def interrupted() -> None:
        with pytest.raises(KeyboardInterrupt):
            work()

    return in_child(interrupted, before)


def kill() -> None:
    """Ends this process as kill -9 does."""
    os.kill(os.getpid(), signal.SIGKILL)


def _counting(work: Callable[[], object], before: Callable[[int], None], calls: Iterable[str]) -> int:
    count = 0
    busy = False

    def counted(call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            nonlocal count, busy
            if not busy:
                busy = True  # calls of `before` itself do not count
                count += 1
                try:
                    before(count - 1)
                finally:
                    busy = False
            return call(*args, **kwargs)

        return wrapper

    for name in calls:
        setattr(os, name, counted(getattr(os, name)))
    posix._renameat2 = counted(posix._renameat2)
    work()
    return count
