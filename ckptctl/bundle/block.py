"""A block of a table: entries that share prefixes, and the offsets at which that sharing begins anew.

    +-------------------------------------------------------+
    | entry 0 | entry 1 | ... | entry n-1                   |
    +-------------------------------------------------------+
    | restart 0 (uint32) | ... | restart m-1 (uint32)       |  offsets of entries with shared = 0
    | m (uint32)                                            |
    +-------------------------------------------------------+

    entry:  shared       varint   bytes of the key that it has in common with the key before it
            non-shared   varint   bytes of the key that follow here
            value length varint
            key suffix   non-shared bytes
            value        value length bytes

All fixed numbers are little-endian. Answers to LevelDB's `doc/table_format.md` and `table/block.cc`.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from ckptctl.bundle.coding import CodingError, read_varint
from ckptctl.errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Iterator

# A writer restarts every 16 entries, so that the keys of a block come to at most 16 times its size. A block
# that goes much further is made to exhaust its reader.
_MAX_KEY_EXPANSION = 32
_KEY_ALLOWANCE = 1 << 16

_UINT32_BYTES = 4


class Block:
    """The contents of a block, already checked against its checksum and decompressed.

    Args:
        data: The contents, without the trailer.
        where: File and place, for messages.

    Raises:
        BundleError: The restart array does not fit into the contents.
    """

    __slots__ = ("_count", "_data", "_limit", "_where")

    def __init__(self, data: bytes, where: str) -> None:
        self._data = data
        self._where = where
        if len(data) < _UINT32_BYTES:
            raise BundleError(f"{where}: expected a count of restarts, found {len(data)} bytes")
        self._count = int.from_bytes(data[-_UINT32_BYTES:], "little")
        self._limit = len(data) - _UINT32_BYTES * (1 + self._count)
        if self._limit < 0:
            raise BundleError(f"{where}: claims {self._count} restarts, has {len(data)} bytes")

    def __iter__(self) -> Iterator[tuple[bytes, bytes]]:
        """Yields keys and values.

        Raises:
            BundleError: The entries do not hold together, or their keys do not ascend.
        """
        data = self._data
        return ((key, data[begin:end]) for key, begin, end in self._entries(0))

    @property
    def size(self) -> int:
        """How many bytes the contents have."""
        return len(self._data)

    def spans(self) -> Iterator[tuple[bytes, int, int]]:
        """Yields keys, and where in the contents their values begin and end. Raises as `__iter__` does."""
        return self._entries(0)

    def get(self, key: bytes) -> bytes | None:
        """The value of a key; None if the block does not have it.

        Raises:
            BundleError: The part of the block that was looked at does not hold together.
        """
        entry = self.seek(key)
        return entry[1] if entry is not None and entry[0] == key else None

    def seek(self, key: bytes) -> tuple[bytes, bytes] | None:
        """The first entry whose key is not less; None if all are.

        Raises:
            BundleError: The part of the block that was looked at does not hold together.
        """
        # Before `low` every restart's key is less than the key; from `high` on none is.
        low, high = 0, self._count
        while low < high:
            middle = (low + high) // 2
            if self._key_at(self._restart(middle)) < key:
                low = middle + 1
            else:
                high = middle
        begin = self._restart(low - 1) if low else 0
        for found, value, end in self._entries(begin):
            if found >= key:
                return found, self._data[value:end]
        return None

    def _restart(self, number: int) -> int:
        (offset,) = struct.unpack_from("<I", self._data, self._limit + _UINT32_BYTES * number)
        if offset > self._limit:
            raise BundleError(f"{self._where}: restart {number} points to byte {offset} of {self._limit}")
        return int(offset)

    def _key_at(self, position: int) -> bytes:
        entry = next(self._entries(position), None)
        if entry is None:
            # An empty block has one restart all the same; its key is before every other.
            return b""
        return entry[0]

    def _entries(self, position: int) -> Iterator[tuple[bytes, int, int]]:
        data, limit = self._data, self._limit
        allowance = _KEY_ALLOWANCE + _MAX_KEY_EXPANSION * len(data)
        key = b""
        first = True
        while position < limit:
            start = position
            # The restart array follows the entries, so that these three bytes are always there.
            shared, non_shared, length = data[position], data[position + 1], data[position + 2]
            if (shared | non_shared | length) < 0x80:  # noqa: PLR2004 - one byte each, as nearly always
                position += 3
            else:
                shared, non_shared, length, position = self._header(start)
            suffix_end = position + non_shared
            end = suffix_end + length
            if end > limit or shared > len(key):
                raise BundleError(
                    f"{self._where}: entry at byte {start}: shares {shared} bytes with a key of {len(key)}, "
                    f"ends at byte {end} of {limit}"
                )
            previous, key = key, key[:shared] + data[position:suffix_end]
            if key <= previous and not first:
                raise BundleError(
                    f"{self._where}: entry at byte {start}: its key does not follow the one before"
                )
            first = False
            allowance -= len(key)
            if allowance < 0:
                raise BundleError(f"{self._where}: entry at byte {start}: the keys are out of all proportion")
            yield key, suffix_end, end
            position = end

    def _header(self, position: int) -> tuple[int, int, int, int]:
        start = position
        try:
            shared, position = read_varint(self._data, position, self._limit)
            non_shared, position = read_varint(self._data, position, self._limit)
            length, position = read_varint(self._data, position, self._limit)
        except CodingError as error:
            raise BundleError(f"{self._where}: entry at byte {start}: {error}") from error
        return shared, non_shared, length, position
