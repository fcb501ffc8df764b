"""Exit codes, and how an error becomes one: the one place for both."""

from __future__ import annotations

import contextlib
import enum
import os
import shlex
import signal
from typing import TYPE_CHECKING

import click

from ckptctl import keras_formats, posix
from ckptctl.errors import CkptctlError, PolicyError, RefusedError
from ckptctl.render import escape
from ckptctl.roots import run_directories

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


class Exit(enum.IntEnum):
    """What a command's exit code says."""

    FINE = 0
    FOUND = 1
    """Something was found, or left undone."""
    USAGE = 2
    UNREADABLE = 3
    """Nothing there, or it cannot be read."""
    REFUSED = 4
    """Refused, to protect data; another ckptctl at work too."""
    INTERRUPTED = 128 + signal.SIGINT
    """By Ctrl-C, as a shell has it."""
    HUNG_UP = 128 + signal.SIGHUP
    UNHEARD = 128 + signal.SIGPIPE
    """Whoever read the output has gone, as `head` does."""
    TERMINATED = 128 + signal.SIGTERM


def exit_code(error: Exception) -> Exit:
    """The exit code that an error stands for."""
    if isinstance(error, PolicyError):
        return Exit.USAGE
    return Exit.REFUSED if isinstance(error, RefusedError) else Exit.UNREADABLE


def complain(message: str) -> None:
    """Prints a diagnostic to stderr."""
    click.echo(f"ckptctl: {escape(message)}", err=True)


def complain_of_none(path: str, command: str = "ls", *, recursive: bool = False) -> None:
    """Says that a directory has no checkpoints, and what there is in their place or where else to look.

    Args:
        path: The directory.
        command: The one whose -r looks below it.
        recursive: Whether that has been done.
    """
    entries: list[str] = []
    for where in run_directories(path) if recursive else (path,):
        with contextlib.suppress(OSError):
            entries += os.listdir(where)
    keras = keras_formats.told(entries, "here or below" if recursive else "here")
    if keras is not None:
        complain(f"{path}: {keras}")
    elif recursive:
        complain(f"{path}: no checkpoints here or below")
    else:
        complain(f"{path}: no checkpoints here; `ckptctl {command} -r {shlex.quote(path)}` looks below too")


@contextlib.contextmanager
def failed() -> Iterator[None]:
    """Turns our errors, and the system's, into a message and an exit code; no traceback reaches a user.

    Ctrl-C has a code of its own: Click's would say that something was found.
    """
    try:
        yield
    except CkptctlError as error:
        complain(str(error))
        raise click.exceptions.Exit(exit_code(error)) from error
    except BrokenPipeError:
        raise  # the reader of our output has gone, which is told by the exit code alone
    except OSError as error:
        complain(f"{error.filename or 'the system'}: {posix.reason(error)}")
        raise click.exceptions.Exit(Exit.UNREADABLE) from error
    except KeyboardInterrupt:
        raise click.exceptions.Exit(Exit.INTERRUPTED) from None


class Outcome:
    """Goes on with the next directory after one has failed, and remembers the gravest exit code."""

    def __init__(self) -> None:
        self.code = Exit.FINE

    @contextlib.contextmanager
    def directory(self) -> Iterator[None]:
        """Catches what goes wrong with one directory."""
        try:
            yield
        except CkptctlError as error:
            complain(str(error))
            self.add(exit_code(error))

    def each(self, paths: Sequence[str], signals: Sequence[int]) -> Iterator[str]:
        """Yields one directory after the other, until a signal has come; says to which it has not come.

        A signal ends the process, as a rule. Where it does not, as a caller's own handler may have it, the
        exit code tells of it all the same.
        """
        for at, path in enumerate(paths):
            if signals:
                complain(f"stopped before it came to {', '.join(paths[at:])}")
                break
            yield path
        if signals:
            self.add(Exit(128 + signals[0]))

    def add(self, code: Exit) -> None:
        """Takes note of an exit code."""
        self.code = max(self.code, code)

    def exit(self) -> None:
        """Ends the command with the gravest code."""
        click.get_current_context().exit(self.code)
