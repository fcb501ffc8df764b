"""Exit codes, and how an error becomes one: the one place for both."""

from __future__ import annotations

import contextlib
import enum
import os
import shlex
import signal
import sys
from typing import TYPE_CHECKING

import click

from ckptctl import keras_formats, posix
from ckptctl.errors import CkptctlError, PolicyError, RefusedError
from ckptctl.render import escape
from ckptctl.roots import run_directories

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence


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


def about(path: str, message: str) -> str:
    """A message about a directory, which it names: there may be several, or a mail that nobody called for."""
    named = message.startswith((f"{path}:", f"{path} ", os.path.join(path, "")))
    return message if named else f"{path}: {message}"


def none_here(path: str, further: str = "ckptctl ls -r {}", *, recursive: bool = False) -> str:
    """Says that a directory has no checkpoints, and what there is in their place or where else to look.

    Args:
        path: The directory.
        further: The command that gets at those that lie below it.
        recursive: Whether that has been done.
    """
    entries: list[str] = []
    for where in [place.path for place in run_directories(path)] if recursive else [path]:
        with contextlib.suppress(OSError):
            entries += os.listdir(where)
    keras = keras_formats.told(entries, "here or below" if recursive else "here")
    if keras is not None:
        return f"{path}: {keras}"
    if recursive:
        return f"{path}: no checkpoints here or below"
    return f"{path}: no checkpoints here; `{further.format(shlex.quote(path))}` looks below too"


@contextlib.contextmanager
def failed() -> Iterator[None]:
    """Turns our errors, and the system's, into a message and an exit code; no traceback reaches a user.

    Ctrl-C has a code of its own: Click's would say that something was found.
    """
    try:
        yield
    except CkptctlError as error:
        with as_far_as_it_goes():
            complain(str(error))
        raise click.exceptions.Exit(exit_code(error)) from error
    except BrokenPipeError:
        raise  # the reader of our output has gone, which is told by the exit code alone
    except OSError as error:
        with as_far_as_it_goes():
            complain(_of_the_system(error))
        drop_unwritten()
        raise click.exceptions.Exit(Exit.UNREADABLE) from error
    except KeyboardInterrupt:
        raise click.exceptions.Exit(Exit.INTERRUPTED) from None


def _of_the_system(error: OSError) -> str:
    return f"{error.filename or 'the system'}: {posix.reason(error)}"


@contextlib.contextmanager
def as_far_as_it_goes(failed: Callable[[OSError], object] = lambda _: None) -> Iterator[None]:
    """Goes on where words cannot be written, as to a log on a full disk; not where the reader has left.

    Args:
        failed: Is told why they cannot.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        failed(error)


def drop_unwritten() -> None:
    """Lets what a full disk, or a reader that has gone, has not taken go nowhere: Python would fail of it."""
    for stream in filter(None, (sys.stdout, sys.stderr)):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


_TOLD = 10
"""How many directories are told of by name; there may be a whole tree of them."""


class Outcome:
    """Goes on with the next directory after one has failed, and remembers the gravest exit code.

    It goes on with its words unwritten, too: a disk that is full takes no log, and is why something is to go.
    """

    def __init__(self) -> None:
        self.code = Exit.FINE
        self._unwritten: OSError | None = None

    @contextlib.contextmanager
    def directory(self) -> Iterator[None]:
        """Catches what goes wrong with one directory."""
        try:
            yield
        except CkptctlError as error:
            self.complain(str(error))
            self.add(exit_code(error))
        except BrokenPipeError:
            raise
        except OSError as error:
            self.complain(_of_the_system(error))
            self.add(Exit.UNREADABLE)

    def each(self, paths: Sequence[str], signals: Sequence[int]) -> Iterator[str]:
        """Yields one directory after the other, until a signal has come; says to which it has not come.

        A signal ends the process, as a rule. Where it does not, as a caller's own handler may have it, the
        exit code tells of it all the same.
        """
        for at, path in enumerate(paths):
            if signals:
                more = f" and {len(paths) - at - _TOLD:,} more" if len(paths) - at > _TOLD else ""
                self.complain(f"stopped before it came to {', '.join(paths[at : at + _TOLD])}{more}")
                break
            yield path
        if signals:
            self.add(Exit(128 + signals[0]))

    def say(self, text: str) -> None:
        """Prints to stdout as far as that can be written; if it cannot, the exit code tells."""
        with as_far_as_it_goes(self._note_unwritten):
            click.echo(text)

    def complain(self, message: str) -> None:
        """Prints a diagnostic to stderr as `say` does to stdout."""
        with as_far_as_it_goes(self._note_unwritten):
            complain(message)

    def _note_unwritten(self, error: OSError) -> None:
        self._unwritten = error
        self.add(Exit.FOUND)

    def add(self, code: Exit) -> None:
        """Takes note of an exit code."""
        self.code = max(self.code, code)

    def exit(self) -> None:
        """Ends the command with the gravest code."""
        if self._unwritten is not None:
            self.complain(f"not all that was to be said could be written: {posix.reason(self._unwritten)}")
            drop_unwritten()
        click.get_current_context().exit(self.code)
