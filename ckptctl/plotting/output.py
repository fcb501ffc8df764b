"""Where a picture goes: a new file, or in the place of an older picture; whole or not at all.

A checkpoint's files and a state file may be called anything, `run.png` too. So what is there and is no
picture is left as it is, whatever else it may be.
"""

from __future__ import annotations

import contextlib
import enum
import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ckptctl import atomic, posix
from ckptctl.errors import PolicyError, RefusedError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ckptctl.posix import OpenDirectory


class Kind(enum.Enum):
    """What a picture is written as, by its name's suffix."""

    PNG = ".png"
    SVG = ".svg"
    HTML = ".html"


_BEGINNINGS = {
    Kind.PNG: (b"\x89png\r\n\x1a\n",),
    Kind.SVG: (b"<?xml", b"<svg"),
    Kind.HTML: (b"<!doctype html", b"<html"),
}
"""How files of that kind begin, in lower case."""


def kind_of(path: str) -> Kind:
    """What a picture of that name is written as.

    Raises:
        PolicyError: Its suffix says none of the kinds.
    """
    suffix = os.path.splitext(path)[1].lower()
    known = {kind.value: kind for kind in Kind}
    if suffix not in known:
        raise PolicyError(f"{path}: a picture's name ends in {', '.join(known)}")
    return known[suffix]


@dataclass(frozen=True, slots=True)
class Output:
    """A place for a picture, in a directory that is held open.

    Attributes:
        directory: It.
        name: The file's.
        kind: What is written.
        state_file: What a state file is called: a picture is not.
    """

    directory: OpenDirectory
    name: str
    kind: Kind
    state_file: str

    def check(self) -> os.stat_result | None:
        """Makes sure that nothing but a picture is in its place.

        Returns:
            What is known of the picture that is there; None if there is none.

        Raises:
            RefusedError: Something else is there.
        """
        path = os.path.join(self.directory.path, self.name)
        if self.name == self.state_file:
            raise RefusedError(f"{path}: that is the state file's name; choose another for the picture")
        try:
            found = os.stat(self.name, dir_fd=self.directory.fd, follow_symlinks=False)
        except FileNotFoundError:
            return None
        if not stat.S_ISREG(found.st_mode):
            raise RefusedError(
                f"{path}: it is there and no regular file; choose another name for the picture"
            )
        with posix.naming_paths(self.directory):
            fd = posix.open_regular(self.directory.fd, self.name)
        try:
            beginning = os.read(fd, 32).lower()
        finally:
            os.close(fd)
        if beginning and not beginning.startswith(_BEGINNINGS[self.kind]):
            raise RefusedError(
                f"{path}: it is there and no {self.kind.value[1:].upper()}, so it is left as it is; choose "
                "another name for the picture"
            )
        return found

    def write(self, content: bytes) -> None:
        """Puts the picture there.

        Raises:
            RefusedError: Something else has come there meanwhile.
            OSError: It cannot be written. What was there is as it was.
        """
        like = self.check()
        with posix.naming_paths(self.directory):
            atomic.replace(self.directory.fd, self.name, content, like=like)


@contextlib.contextmanager
def place(path: str, kind: Kind, state_file: str) -> Iterator[Output]:
    """Holds the place for a picture.

    Raises:
        UnreadableError: Its directory is not there.
        RefusedError: Something other than a picture is there.
    """
    head, name = os.path.split(path)
    with posix.open_directory(head or ".") as directory:
        output = Output(directory, name, kind, state_file)
        output.check()
        yield output
