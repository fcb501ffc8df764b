"""The values of tensors as numpy arrays, each checked against its checksum.

NumPy is imported when values are asked for, not before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ckptctl.bundle.checksum import crc32c
from ckptctl.bundle.dtypes import DTYPES, STRING, VARIANT, numpy_dtype
from ckptctl.bundle.slices import check_cover
from ckptctl.bundle.source import new_buffer, stream
from ckptctl.bundle.strings import read_strings, read_variants
from ckptctl.errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np

    from ckptctl.bundle.dtypes import DType
    from ckptctl.bundle.entries import TensorEntry
    from ckptctl.bundle.index import Index
    from ckptctl.bundle.source import OpenShard, Source


def read_tensor(index: Index, entry: TensorEntry, open_shard: OpenShard) -> np.ndarray[Any, Any]:
    """Reads a tensor; a partitioned one is put together from its slices.

    Args:
        index: The index that the entry is from.
        entry: The tensor's.
        open_shard: Opens a shard, given its number and the number of shards.

    Returns:
        Its elements in the machine's byte order. Quantized types come as the integers they are made of;
        strings as objects, each a `bytes`; variants too, each a serialized VariantTensorDataProto.

    Raises:
        BundleError: The tensor's bytes are not there, fail their checksum, do not fit its shape, or are of a
            type that is not known here.
        OSError: A shard cannot be opened.
        UnreadableError: The system refuses.
    """
    if not entry.slices:
        return _read_part(index, entry, open_shard)
    where = f"{index.name}: tensor {entry.name!r}"
    try:
        check_cover(entry.shape, entry.slices)
    except BundleError as error:
        raise BundleError(f"{where}: {error}") from error
    whole = None
    for part, stored in zip(entry.slices, index.parts(entry), strict=True):
        values = _read_part(index, stored, open_shard)
        place = tuple(slice(begin, end) for begin, end in part.ranges(entry.shape))
        if whole is None:
            whole = _empty(entry, values.dtype, where)
        if stored.dtype != entry.dtype or whole[place].shape != values.shape:
            raise BundleError(f"{where}: slice {part} is stored with another dtype or shape")
        whole[place] = values
    if whole is None:
        raise BundleError(f"{where}: has no slices")
    return whole


def iter_values(index: Index, entry: TensorEntry, open_shard: OpenShard) -> Iterator[np.ndarray[Any, Any]]:
    """Yields the elements of a tensor of numbers piece by piece, in bounded memory.

    Args:
        index: The index that the entry is from.
        entry: The tensor's; of a partitioned one its slices follow each other.
        open_shard: Opens a shard, given its number and the number of shards.

    Yields:
        Flat arrays of up to 1 MiB in row-major order; use one before asking for the next, which takes its
        memory. A checksum that does not match is noticed behind the last piece.

    Raises:
        BundleError: As for `read_tensor`; also for strings and variants.
        OSError: A shard cannot be opened.
        UnreadableError: The system refuses.
    """
    buffer = new_buffer()
    header = index.header
    for part in index.parts(entry):
        dtype = _number_of(index.name, part)
        with open_shard(part.shard_id, header.num_shards) as source:
            crc = 0
            for piece in stream(source, part.size, part.offset, buffer, f"tensor {part.label!r}"):
                crc = crc32c(piece, crc)
                yield _view(piece, dtype, big_endian=header.big_endian)
            _compare(source, part, crc)


def _read_part(index: Index, entry: TensorEntry, open_shard: OpenShard) -> np.ndarray[Any, Any]:
    import numpy as np  # noqa: PLC0415 - numpy costs more than most commands

    header = index.header
    with open_shard(entry.shard_id, header.num_shards) as source:
        if entry.end > source.size:
            raise BundleError(
                f"{source.name}: tensor {entry.label!r} ends at byte {entry.end}, "
                f"the file has {source.size} bytes"
            )
        if entry.dtype in {STRING, VARIANT}:
            read = read_strings if entry.dtype == STRING else read_variants
            elements = read(source, entry, big_endian=header.big_endian)
            if len(elements) != entry.elements:
                raise BundleError(f"{source.name}: tensor {entry.label!r} has no bytes for its elements")
            objects = np.empty(len(elements), dtype=object)
            objects[:] = elements
            return objects.reshape(entry.shape)
        dtype = _number_of(index.name, entry)
        data = np.empty(entry.size, dtype=np.uint8)
        if source.preadinto(data.data, entry.offset) != entry.size:
            raise BundleError(f"{source.name}: ended in the middle of tensor {entry.label!r}")
        _compare(source, entry, crc32c(data.data))
    return _view(data, dtype, big_endian=header.big_endian).reshape(entry.shape)


def _number_of(name: str, entry: TensorEntry) -> DType:
    """The type of a tensor of numbers whose size fits its shape."""
    dtype = DTYPES.get(entry.dtype)
    if dtype is None:
        raise BundleError(f"{name}: tensor {entry.label!r}: values of {entry.dtype_name} cannot be shown")
    if entry.size != entry.expected_size:
        raise BundleError(
            f"{name}: tensor {entry.label!r}: {dtype.name} of shape {list(entry.shape)} takes "
            f"{entry.expected_size} bytes, the entry has {entry.size}"
        )
    return dtype


def _view(data: Any, dtype: DType, *, big_endian: bool) -> np.ndarray[Any, Any]:
    """Bytes as elements in the machine's own order."""
    import numpy as np  # noqa: PLC0415 - see above

    view = numpy_dtype(dtype, big_endian=big_endian)
    if big_endian and view.isnative and dtype.size > 1:
        swapped: np.ndarray[Any, Any] = np.frombuffer(data, dtype=f"u{dtype.size}").byteswap().view(view)
        return swapped
    values: np.ndarray[Any, Any] = np.frombuffer(data, dtype=view)
    return values if view.isnative else values.astype(view.newbyteorder("="))


def _empty(entry: TensorEntry, dtype: np.dtype[Any], where: str) -> np.ndarray[Any, Any]:
    import numpy as np  # noqa: PLC0415 - see above

    try:
        return np.empty(entry.shape, dtype=dtype)
    except (MemoryError, ValueError) as error:
        raise BundleError(f"{where}: of shape {list(entry.shape)}: {error}") from error


def _compare(source: Source, entry: TensorEntry, crc: int) -> None:
    if crc != entry.crc32c:
        raise BundleError(
            f"{source.name}: tensor {entry.label!r} in bytes {entry.offset} to {entry.end}: "
            f"checksum {crc:#010x}, expected {entry.crc32c:#010x}"
        )
