"""An index that is like one before it but for its checksums need not be taken apart again.

The checkpoints of a run hold the same tensors in the same shapes, so that their indexes differ in nothing but
the checksums: of the tensors, in the last four bytes of each entry, and of the blocks. To know one that is
compared as a number, with those bits masked out: two milliseconds for 20,000 tensors, where parsing takes
a hundred. What holds for the first of its kind then holds for all: where its tensors are, how long its
shards have to be. The checksums of the blocks are checked in each, so that nothing is taken on trust.

Answers to `tensorflow/core/protobuf/tensor_bundle.proto`: `crc32c` is a fixed32, the last field of an entry
that is not a partitioned tensor's.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ckptctl.bundle.checksum import crc32c, mask, unmask
from ckptctl.bundle.entries import TensorEntry
from ckptctl.bundle.index import Index, read_index
from ckptctl.bundle.source import BytesSource
from ckptctl.bundle.table import UNCOMPRESSED, Table

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ckptctl.bundle.entries import BundleHeader
    from ckptctl.bundle.source import Source

MAX_BYTES = 1 << 24
"""The largest index that is compared; a larger one is parsed."""

_KINDS = 8
"""How many kinds are remembered: a run has one, or a few."""

_CRC_BYTES = 4
_CRC_TAG = bytes([6 << 3 | 5])


@dataclass(frozen=True, slots=True)
class Kind:
    """What indexes have in common that differ in their checksums only.

    Attributes:
        index: The first one of this kind.
        entries: Those of the asked-for entries that there are, and where in the file their checksums stand.
    """

    index: Index
    entries: dict[bytes, tuple[TensorEntry, int]]
    _mask: int
    _pattern: int
    _checked: tuple[tuple[int, int], ...]
    """From where to where the checksums of blocks are of; each follows at once."""

    def has(self, data: bytes) -> bool:
        """Whether an index, as long as the first one, is of this kind, and whole."""
        if int.from_bytes(data, "little") & self._mask != self._pattern:
            return False
        view = memoryview(data)
        for begin, end in self._checked:
            if _stored(crc32c(view[begin:end])) != view[end : end + _CRC_BYTES]:
                return False
        return True


@dataclass(frozen=True, slots=True)
class Likeness:
    """An index of a known kind.

    Attributes:
        kind: Its kind.
        data: The file.
    """

    kind: Kind
    data: bytes

    @property
    def header(self) -> BundleHeader:
        """See `Index.header`."""
        return self.kind.index.header

    def get(self, key: bytes) -> TensorEntry | None:
        """The entry of one of the asked-for keys, with this index's own checksum; None if there is none."""
        found = self.kind.entries.get(key)
        if found is None:
            return None
        entry, place = found
        stored = int.from_bytes(self.data[place : place + _CRC_BYTES], "little")
        return TensorEntry(*entry[:6], unmask(stored), *entry[7:])  # `_replace` takes twice as long


@dataclass(slots=True)
class Kinds:
    """Remembers the kinds of indexes that have been read.

    What an index has in common with others is worked out once a second one of its length comes: where some
    value grows from save to save, as a dataset's iterator may, none ever does.

    Attributes:
        keys: The entries that `Likeness.get` will be asked for.
    """

    keys: Iterable[bytes]
    _known: dict[int, Kind | tuple[bytes, Index] | None] = field(default_factory=dict)

    def read(self, source: Source) -> Index | Likeness:
        """Reads an index, every checksum of it; as a `Likeness` if one of its kind has been read before.

        Args:
            source: The file.

        Raises:
            BundleError: Anything in it is not as the format asks for.
            UnreadableError: The system refuses.
        """
        if source.size > MAX_BYTES:
            return read_index(source)
        data = source.pread(source.size, 0)
        length = len(data)
        known = self._known.get(length)
        if isinstance(known, tuple):
            known = self._known[length] = _kind(*known, self.keys)
        if known is not None and known.has(data):
            return Likeness(known, data)
        index = read_index(BytesSource(data, source.name))
        if known is None and length in self._known:  # compressed, as the next one of its length will be
            return index
        self._known.pop(length, None)
        self._known[length] = data, index
        if len(self._known) > _KINDS:
            del self._known[next(iter(self._known))]
        return index


def _kind(data: bytes, index: Index, keys: Iterable[bytes]) -> Kind | None:
    """What an index has in common with others; None if its checksums do not lie open, as in snappy blocks."""
    table = Table(BytesSource(data, index.name))
    wanted = set(keys)
    entries = {}
    keep = bytearray(b"\xff" * len(data))
    blocks = [handle for _, handle in table.handles()]
    for block in blocks:
        if data[block.offset + block.size] != UNCOMPRESSED:
            return None
        for key, _, end in table.block(block).spans():
            place = block.offset + end - _CRC_BYTES
            entry = index.entries.get(key)
            if entry is None or entry.slices:
                continue
            if data[place - 1 : place + _CRC_BYTES] != _CRC_TAG + _stored(entry.crc32c):
                return None
            keep[place : place + _CRC_BYTES] = bytes(_CRC_BYTES)
            if key in wanted:
                entries[key] = entry, place
    blocks.append(table.footer.index)
    for block in blocks:
        keep[block.end - _CRC_BYTES : block.end] = bytes(_CRC_BYTES)
    mask_bits = int.from_bytes(keep, "little")
    checked = tuple((block.offset, block.end - _CRC_BYTES) for block in blocks)
    return Kind(index, entries, mask_bits, int.from_bytes(data, "little") & mask_bits, checked)


def _stored(crc: int) -> bytes:
    return mask(crc).to_bytes(_CRC_BYTES, "little")
