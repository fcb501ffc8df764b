"""Blocks too large for memory: checked and walked where they lie.

In a V1 checkpoint a block holds whatever tensor took it over its size. `ckptctl.bundle.block` has the layout.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ckptctl.bundle.checksum import crc32c, unmask
from ckptctl.bundle.coding import CodingError, read_varint
from ckptctl.bundle.source import read_exactly, stream
from ckptctl.bundle.table import TRAILER_BYTES, UNCOMPRESSED, BlockTooLargeError
from ckptctl.errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ckptctl.bundle.source import Source
    from ckptctl.bundle.table import BlockHandle

MAX_KEY_BYTES = 1 << 16
"""The longest key; a tensor's name and slice."""

_MAX_HEADER_BYTES = 30  # three varints
_MAX_HEAD_BYTES = _MAX_HEADER_BYTES + MAX_KEY_BYTES
_WINDOW_BYTES = 2 * _MAX_HEAD_BYTES  # read at once, as entries may be small and many
_UINT32_BYTES = 4


def check_large_block(source: Source, handle: BlockHandle, buffer: memoryview) -> bool:
    """Checks a block of any size against its checksum.

    Args:
        source: The table.
        handle: Where the block is.
        buffer: For streaming.

    Returns:
        Whether it is uncompressed, so that it can be walked.

    Raises:
        BundleError: It is not all there, or fails its checksum.
        UnreadableError: The system refuses.
    """
    crc = 0
    kind = UNCOMPRESSED
    for piece in stream(source, handle.size + 1, handle.offset, buffer, "a data block"):
        crc = crc32c(piece, crc)
        kind = piece[-1]
    trailer = read_exactly(source, _UINT32_BYTES, handle.end - _UINT32_BYTES, "a block's checksum")
    stored = unmask(int.from_bytes(trailer, "little"))
    if crc != stored:
        where = f"{source.name}: a data block at byte {handle.offset}"
        raise BundleError(f"{where}: checksum {crc:#010x}, expected {stored:#010x}")
    return kind == UNCOMPRESSED


def is_walkable(source: Source, handle: BlockHandle) -> bool:
    """Whether a block says that it is uncompressed. One byte is read, and no checksum vouches for it.

    Raises:
        BundleError: It is not all there.
        UnreadableError: The system refuses.
    """
    return read_exactly(source, 1, handle.end - TRAILER_BYTES, "a block's type")[0] == UNCOMPRESSED


def walk_large_block(
    source: Source, handle: BlockHandle, most: int | None = None
) -> Iterator[tuple[bytes, int, int]]:
    """Yields for each entry of an uncompressed block its key, and where its value begins and how long it is.

    Args:
        source: The table.
        handle: Where the block is.
        most: How far from its beginning an entry may begin; None for anywhere.

    Raises:
        BlockTooLargeError: An entry begins farther away than that.
        BundleError: The entries do not hold together, or their keys do not ascend.
        UnreadableError: The system refuses.
    """
    end = handle.end - TRAILER_BYTES
    count = read_exactly(source, _UINT32_BYTES, end - _UINT32_BYTES, "a count of restarts")
    limit = end - _UINT32_BYTES * (1 + int.from_bytes(count, "little"))
    position = begin = handle.offset
    window = b""
    key = b""
    first = True
    while position < limit:
        where = f"{source.name}: entry at byte {position} of the block at byte {handle.offset}"
        if most is not None and position - handle.offset > most:
            raise BlockTooLargeError(f"{where}: expected it within {most} bytes")
        if position + _MAX_HEAD_BYTES > begin + len(window):
            window, begin = source.pread(min(_WINDOW_BYTES, limit - position), position), position
        try:
            shared, at = read_varint(window, position - begin, len(window))
            non_shared, at = read_varint(window, at, len(window))
            length, at = read_varint(window, at, len(window))
        except CodingError as error:
            raise BundleError(f"{where}: {error}") from error
        value = begin + at + non_shared
        if shared > len(key) or shared + non_shared > MAX_KEY_BYTES or value + length > limit:
            raise BundleError(
                f"{where}: shares {shared} bytes with a key of {len(key)}, adds {non_shared}, "
                f"ends at byte {value + length} of {limit}"
            )
        previous, key = key, key[:shared] + window[at : at + non_shared]
        if key <= previous and not first:
            raise BundleError(f"{where}: its key does not follow the one before")
        first = False
        yield key, value, length
        position = value + length
