"""How bytes are read: at a place, from a file that is already open.

The caller opens files (relative to a directory's descriptor, following no link) and keeps them open;
nothing in `ckptctl.bundle` ever sees a path. Reads give their place, so threads may share a source.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from ckptctl.errors import BundleError, UnreadableError

CHUNK_BYTES = 1 << 20
"""How much is read at once when a range is streamed. At this size the bytes are still in the cache of the
core when their checksum is computed; it is a multiple of every element's size."""


class Source(Protocol):
    """A file that can be read at any place."""

    @property
    def name(self) -> str:
        """What messages call it."""

    @property
    def size(self) -> int:
        """Its length in bytes when it was opened."""

    def pread(self, length: int, offset: int) -> bytes:
        """Up to `length` bytes from `offset`; fewer only at the end of the file.

        Raises:
            UnreadableError: The system refuses.
        """

    def preadinto(self, buffer: memoryview, offset: int) -> int:
        """Fills `buffer` from `offset`, and says how much of it; less than all only at the end of the file.

        Raises:
            UnreadableError: The system refuses.
        """


OpenShard = Callable[[int, int], AbstractContextManager[Source]]
"""Opens a shard, given its number and the number of shards. Raises OSError where there is none."""


@dataclass(frozen=True, slots=True)
class FileSource:
    """A source over a file descriptor, which stays the caller's to close.

    Attributes:
        fd: Open for reading.
        name: What messages call the file.
        size: Its length in bytes.
    """

    fd: int
    name: str
    size: int

    @classmethod
    def of(cls, fd: int, name: str) -> FileSource:
        """A source over an open descriptor, as long as the file is now.

        Raises:
            UnreadableError: The system does not tell the file's size.
        """
        try:
            return cls(fd, name, os.fstat(fd).st_size)
        except OSError as error:
            raise _unreadable(name, error) from error

    def pread(self, length: int, offset: int) -> bytes:
        """See `Source.pread`."""
        if offset >= self.size:  # the system would not even take an offset of 2**63
            return b""
        try:
            data = os.pread(self.fd, length, offset)
        except OSError as error:
            raise _unreadable(self.name, error) from error
        if len(data) == length or not data:
            return data
        return data + self.pread(length - len(data), offset + len(data))

    def preadinto(self, buffer: memoryview, offset: int) -> int:
        """See `Source.preadinto`."""
        filled = 0
        if offset >= self.size:  # as above
            return 0
        try:
            while filled < len(buffer):
                count = os.preadv(self.fd, [buffer[filled:]], offset + filled)
                if count == 0:
                    break
                filled += count
        except OSError as error:
            raise _unreadable(self.name, error) from error
        return filled


@dataclass(frozen=True, slots=True)
class BytesSource:
    """A source over bytes in memory.

    Attributes:
        data: The whole file.
        name: What messages call it.
    """

    data: bytes
    name: str

    @property
    def size(self) -> int:
        """See `Source.size`."""
        return len(self.data)

    def pread(self, length: int, offset: int) -> bytes:
        """See `Source.pread`."""
        return self.data[offset : offset + length]

    def preadinto(self, buffer: memoryview, offset: int) -> int:
        """See `Source.preadinto`."""
        data = self.pread(len(buffer), offset)
        buffer[: len(data)] = data
        return len(data)


def new_buffer(size: int = CHUNK_BYTES) -> memoryview:
    """A buffer for `stream`; one for each thread, used again for each range.

    It begins at a page: to where a bytearray does, the kernel takes twice as long to copy.
    """
    return memoryview(mmap.mmap(-1, size))


def read_exactly(source: Source, length: int, offset: int, what: str) -> bytes:
    """Reads `length` bytes from `offset`.

    Args:
        source: Where from.
        length: Bytes.
        offset: From the beginning of the file.
        what: What they are, for the message.

    Raises:
        BundleError: The file does not have them. Nothing is allocated for what is not there.
        UnreadableError: The system refuses.
    """
    if offset < 0 or length < 0 or offset + length > source.size:
        raise BundleError(
            f"{source.name}: expected {what} in bytes {offset} to {offset + length}, "
            f"the file has {source.size} bytes"
        )
    data = source.pread(length, offset)
    if len(data) != length:
        raise BundleError(f"{source.name}: ended at byte {offset + len(data)}, in the middle of {what}")
    return data


def stream(source: Source, size: int, offset: int, buffer: memoryview, what: str) -> Iterator[memoryview]:
    """Yields a range piece by piece, each one in the same buffer: use a piece before asking for the next.

    Args:
        source: Where from.
        size: Bytes.
        offset: From the beginning of the file.
        buffer: Where the pieces are put; its size is theirs.
        what: What the bytes are, for the message.

    Raises:
        BundleError: The file does not have them.
        UnreadableError: The system refuses.
    """
    if offset < 0 or size < 0 or offset + size > source.size:
        raise BundleError(
            f"{source.name}: expected {what} in bytes {offset} to {offset + size}, "
            f"the file has {source.size} bytes"
        )
    end = offset + size
    while offset < end:
        piece = buffer[: min(len(buffer), end - offset)]
        if source.preadinto(piece, offset) != len(piece):
            raise BundleError(f"{source.name}: ended after byte {offset}, in the middle of {what}")
        yield piece
        offset += len(piece)


def _unreadable(name: str, error: OSError) -> UnreadableError:
    return UnreadableError(f"{name}: cannot be read: {error.strerror or error}")
