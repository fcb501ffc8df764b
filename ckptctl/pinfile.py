"""The file of pins: text, a checkpoint's name a line, beside the checkpoints so that a copy has it too.

    # what stands behind a number sign at the start of a line is for people, as are empty lines
    ckpt-12
    odd%20%25name

A percent sign and two hexadecimal digits stand for a byte that is a percent sign, a space, a control
character, a number sign at the start, or not UTF-8. Whoever edits the file by hand is heard, and what they
wrote besides the names stays. A line that can be no name makes the whole file unreadable: what it was to
protect is then unknown.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from ckptctl import posix, rights
from ckptctl.errors import RefusedError
from ckptctl.model import Pins
from ckptctl.naming import PINS_FILE

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from ckptctl.posix import OpenDirectory

MAX_BYTES = 1024 * 1024
"""The largest file that is read: over ten thousand names."""

_HEADER = b"""\
# Checkpoints that ckptctl prune and ckptctl watch keep, whatever their rules say: one name a line.
# `ckptctl pin` adds to these lines, `ckptctl unpin` takes out.
"""
_BOM = b"\xef\xbb\xbf"
_NAME_MAX = 255
_LINE = re.compile(rb"(?:[^%\x00-\x1f\x7f]|%[0-9A-Fa-f]{2})+")
_ESCAPED = re.compile(rb"%([0-9A-Fa-f]{2})")


def read(directory: OpenDirectory, *, listed: bool = False) -> Pins:
    """Reads a directory's pins; a file that cannot be read is told by `Pins.problem`.

    Args:
        directory: The directory, held open.
        listed: Whether the file was there in a listing just now.
    """
    try:
        return Pins(frozenset(names(load(directory)[0])))
    except FileNotFoundError:
        return Pins(problem="the file was there, and cannot be found; try again" if listed else None)
    except (OSError, RefusedError) as error:
        return Pins(problem=posix.reason(error) + rights.why_not_read(error, directory.fd, PINS_FILE))


def load(directory: OpenDirectory) -> tuple[bytes, os.stat_result]:
    """The text of the file, and what fstat says of it.

    Raises:
        OSError: It cannot be read; FileNotFoundError if there is none.
        RefusedError: It is no regular file, or too large.
    """
    fd = posix.open_regular(directory.fd, PINS_FILE)
    try:
        found = os.fstat(fd)
        text = os.pread(fd, MAX_BYTES + 1, 0)
    finally:
        os.close(fd)
    if len(text) > MAX_BYTES:
        raise RefusedError(f"{PINS_FILE} holds more than {MAX_BYTES:,} bytes: no list of names is as long")
    return text, found


def names(text: bytes) -> list[str]:
    """The names in a file's text, in its order.

    Raises:
        RefusedError: A line of it can be no name; the message says which.
    """
    found = []
    for number, line in enumerate(_lines(text), 1):
        try:
            name = _name(line)
        except ValueError as error:
            raise RefusedError(f"line {number} of {PINS_FILE} is no checkpoint's name: {error}") from None
        if name is not None:
            found.append(name)
    return found


def added(text: bytes, new: Iterable[str]) -> bytes:
    """The text with further names at its end.

    Args:
        text: The file's text; empty for a file that is to be made.
        new: Names that it does not hold.
    """
    head = text or _HEADER
    return b"".join([head, b"" if head.endswith(b"\n") else b"\n", *(_line(name) + b"\n" for name in new)])


def removed(text: bytes, gone: Collection[str]) -> bytes | None:
    """The text without some names; None if it holds no name then."""
    lines = [line for line in _lines(text) if _name(line) not in gone]
    return b"\n".join(lines) if any(_name(line) is not None for line in lines) else None


def _lines(text: bytes) -> list[bytes]:
    return text.removeprefix(_BOM).split(b"\n")


def _name(line: bytes) -> str | None:
    """What a line names; None for a comment and an empty line.

    Raises:
        ValueError: It can name nothing.
    """
    words = line.strip(b" \t\r")
    if not words or words.startswith(b"#"):
        return None
    if not _LINE.fullmatch(words):
        raise ValueError("a control character or a percent sign in a name is written % and two digits")
    name = _ESCAPED.sub(lambda match: bytes([int(match[1], 16)]), words)
    if b"/" in name or b"\0" in name or name in {b".", b".."}:
        raise ValueError("a name is meant as `ckptctl ls` shows it, without a path")
    if len(name) > _NAME_MAX:
        raise ValueError(f"it has more than {_NAME_MAX} bytes")
    return os.fsdecode(name)


def _line(name: str) -> bytes:
    def escaped(char: str, at: int) -> bytes:
        raw = os.fsencode(char)
        plain = char.isprintable() and char not in "% " and not (char == "#" and at == 0)
        return raw if plain else b"".join(b"%%%02X" % byte for byte in raw)

    return b"".join(escaped(char, at) for at, char in enumerate(name))
