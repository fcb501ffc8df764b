"""A small file held open, so that it can be told from every other, with the text that it had."""

from __future__ import annotations

import os
from dataclasses import dataclass

from ckptctl import posix
from ckptctl.errors import RefusedError

MAX_BYTES = 32 * 1024 * 1024
"""The largest file that is read: over 100,000 checkpoints with timestamps."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A file held open, and the text that it had when it was opened. Close it.

    As long as it is held open its inode number cannot be given to another file.

    Attributes:
        fd: Its descriptor.
        text: Its bytes.
        stat: What fstat said.
    """

    fd: int
    text: bytes
    stat: os.stat_result

    @classmethod
    def take(cls, directory: int, name: str) -> Snapshot:
        """Opens and reads a file.

        Args:
            directory: A descriptor.
            name: The file's name in it.

        Raises:
            OSError: It cannot be opened or read.
            RefusedError: It is not a regular file, or too large to be read.
        """
        fd = posix.open_regular(directory, name)
        try:
            stat = os.fstat(fd)
            text = _read(fd, name)
        except BaseException:
            os.close(fd)
            raise
        return cls(fd, text, stat)

    def close(self) -> None:
        """Lets go of it."""
        os.close(self.fd)

    @property
    def digest(self) -> str:
        """Sixteen hexadecimal digits that stand for the text."""
        import hashlib  # noqa: PLC0415 - OpenSSL takes as long to load as all of this module

        return hashlib.sha256(self.text).hexdigest()[:16]

    def is_unchanged(self) -> bool:
        """Whether nobody has written to the file since it was read."""
        now = os.fstat(self.fd)
        return (now.st_size, now.st_mtime_ns) == (self.stat.st_size, self.stat.st_mtime_ns)

    def is_same(self, other: Snapshot) -> bool:
        """Whether it is the same file as another that is held open, with the same text."""
        return os.path.samestat(self.stat, other.stat) and self.text == other.text

    def is_current(self, directory: int, name: str) -> bool:
        """Whether the name still leads to this file, not written to since."""
        try:
            now = os.stat(name, dir_fd=directory, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return os.path.samestat(now, self.stat) and (now.st_size, now.st_mtime_ns) == (
            self.stat.st_size,
            self.stat.st_mtime_ns,
        )


def _read(fd: int, name: str) -> bytes:
    size = os.fstat(fd).st_size
    if size > MAX_BYTES:
        raise RefusedError(f"{name} holds {size:,} bytes: a state file has at most {MAX_BYTES:,}")
    parts = []
    got = 0
    while part := os.pread(fd, MAX_BYTES + 1 - got, got):
        parts.append(part)
        got += len(part)
        if got > MAX_BYTES:
            raise RefusedError(f"{name} grows while it is read")
    return b"".join(parts)
