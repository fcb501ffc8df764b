"""The values of tensors as numpy arrays, each checked against its checksum.

NumPy is imported when values are asked for, not before.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from ckptctl.bundle.checksum import crc32c
from ckptctl.bundle.dtypes import DTYPES, STRING, VARIANT, numpy_dtype
from ckptctl.bundle.slices import check_cover
from ckptctl.bundle.source import new_buffer, stream
from ckptctl.bundle.strings import excerpts_of_strings, excerpts_of_variants, read_strings, read_variants
from ckptctl.errors import BundleError, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np

    from ckptctl.bundle.dtypes import DType
    from ckptctl.bundle.entries import TensorEntry
    from ckptctl.bundle.index import Index
    from ckptctl.bundle.source import OpenShard, Source


MAX_CORNER = 1 << 20
"""The most elements that `read_corners` gives: as many as a tensor of 7 dimensions has corners."""


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
        UnsupportedError: Its shape is none that numpy's arrays can have.
        OSError: A shard cannot be opened.
        UnreadableError: The system refuses.
    """
    if not entry.slices:
        return _read_part(index, entry, open_shard)
    where = f"{index.name}: tensor {entry.name!r}"
    _check_cover(entry, where)
    whole = None
    for part, stored in zip(entry.slices, index.parts(entry), strict=True):
        values = _read_part(index, stored, open_shard)
        place = tuple(slice(begin, end) for begin, end in part.ranges(entry.shape))
        if whole is None:
            whole = _empty(entry.shape, values.dtype, where)
        if stored.dtype != entry.dtype or whole[place].shape != values.shape:
            raise BundleError(f"{where}: slice {part} is stored with another dtype or shape")
        whole[place] = values
    if whole is None:
        raise BundleError(f"{where}: has no slices")
    return whole


def read_corners(
    index: Index, entry: TensorEntry, open_shard: OpenShard, *, edge: int, most: int
) -> np.ndarray[Any, Any]:
    """Reads what a summary of a tensor shows of it. All its bytes are checked, in bounded memory.

    Args:
        index: The index that the entry is from.
        entry: The tensor's.
        open_shard: Opens a shard, given its number and the number of shards.
        edge: How many elements of each axis are given from its beginning, and how many from its end.
        most: How many bytes are given of each string or variant.

    Returns:
        The tensor, but for the middle of each axis of more than `2 * edge` elements: there it has a single
        one, of no meaning. NumPy's summary of this array, with that many edge items, is that of the tensor.
        Strings and variants come as objects, each an `Excerpt`.

    Raises:
        BundleError: As for `read_tensor`.
        UnsupportedError: There would be more than `MAX_CORNER` elements; or as for `read_tensor`.
        OSError: A shard cannot be opened.
        UnreadableError: The system refuses.
    """
    where = f"{index.name}: tensor {entry.name!r}"
    axes = [_ends(size, edge) for size in entry.shape]
    shape = tuple(len(axis) for axis in axes)
    if math.prod(shape) > MAX_CORNER:
        raise UnsupportedError(f"{where}: shape {list(entry.shape)} has too many dimensions to be summarised")
    _check_cover(entry, where)
    corners = None
    for part, stored in zip(entry.slices or (None,), index.parts(entry), strict=True):
        ranges = [(0, size) for size in entry.shape] if part is None else part.ranges(entry.shape)
        if (stored.dtype, stored.shape) != (entry.dtype, tuple(end - begin for begin, end in ranges)):
            raise BundleError(f"{where}: slice {part} is stored with another dtype or shape")
        places = []  # of the elements that are given and lie in this part: in the result, and in the part
        chosen = []
        for axis, (begin, end) in zip(axes, ranges, strict=True):
            inside = [at for at, element in enumerate(axis) if begin <= element < end]
            places.append(inside)
            chosen.append([axis[at] - begin for at in inside])
        if corners is None:
            corners = _empty(shape, _dtype_of(index.name, stored), where)
        picked = _pick(index, stored, open_shard, _flat(chosen, stored.shape), most)
        corners.reshape(-1)[_flat(places, shape)] = picked
    if corners is None:
        raise BundleError(f"{where}: has no slices")
    return corners


def _ends(size: int, edge: int) -> list[int]:
    """The places on an axis that a summary shows; -1 for all others together."""
    if size <= 2 * edge:
        return list(range(size))
    return [*range(edge), -1, *range(size - edge, size)]


def _flat(axes: list[list[int]], shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    """Which elements these places of each axis are, counted in row-major order."""
    import numpy as np  # noqa: PLC0415 - numpy costs more than most commands

    grid = np.ix_(*[np.array(axis, dtype=np.int64) for axis in axes])
    return np.ravel(np.ravel_multi_index(grid, shape))


def _pick(
    index: Index, entry: TensorEntry, open_shard: OpenShard, chosen: np.ndarray[Any, Any], most: int
) -> np.ndarray[Any, Any]:
    """Reads all of a tensor that is stored in one piece, and gives the chosen elements."""
    import numpy as np  # noqa: PLC0415 - see above

    found = np.empty(len(chosen), dtype=_dtype_of(index.name, entry))
    if found.dtype == object:
        excerpts = excerpts_of_strings if entry.dtype == STRING else excerpts_of_variants
        with open_shard(entry.shard_id, index.header.num_shards) as source:
            elements = excerpts(source, entry, chosen.tolist(), most, big_endian=index.header.big_endian)
            _expect_elements(source, entry, len(elements), len(found))
        for at, element in enumerate(elements):
            found[at] = element
        return found
    begin = low = 0
    for piece in iter_values(index, entry._replace(slices=()), open_shard):
        high = int(np.searchsorted(chosen, begin + len(piece)))
        found[low:high] = piece[chosen[low:high] - begin]
        begin, low = begin + len(piece), high
    return found


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
            _expect_elements(source, entry, len(elements), entry.elements)
            objects = np.empty(len(elements), dtype=object)
            objects[:] = elements
            return _shaped(objects, entry, index.name)
        dtype = _number_of(index.name, entry)
        data = np.empty(entry.size, dtype=np.uint8)
        if source.preadinto(data.data, entry.offset) != entry.size:
            raise BundleError(f"{source.name}: ended in the middle of tensor {entry.label!r}")
        _compare(source, entry, crc32c(data.data))
    return _shaped(_view(data, dtype, big_endian=header.big_endian), entry, index.name)


def _dtype_of(name: str, entry: TensorEntry) -> np.dtype[Any]:
    """What the elements of a tensor are in memory."""
    import numpy as np  # noqa: PLC0415 - see above

    if entry.dtype in {STRING, VARIANT}:
        return np.dtype(object)
    dtype = numpy_dtype(_number_of(name, entry))
    return dtype if dtype.isnative else dtype.newbyteorder("=")


def _expect_elements(source: Source, entry: TensorEntry, found: int, expected: int) -> None:
    if found != expected:
        raise BundleError(f"{source.name}: tensor {entry.label!r} has no bytes for its elements")


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


def _shaped(values: np.ndarray[Any, Any], entry: TensorEntry, name: str) -> np.ndarray[Any, Any]:
    try:
        return values.reshape(entry.shape)
    except ValueError as error:
        raise _no_array(f"{name}: tensor {entry.label!r}", entry.shape, error) from error


def _empty(shape: tuple[int, ...], dtype: np.dtype[Any], where: str) -> np.ndarray[Any, Any]:
    import numpy as np  # noqa: PLC0415 - see above

    try:
        return np.empty(shape, dtype=dtype)
    except (MemoryError, ValueError) as error:
        raise _no_array(where, shape, error) from error


def _no_array(where: str, shape: tuple[int, ...], error: Exception) -> UnsupportedError:
    """For a tensor of more dimensions than numpy knows, empty with a huge one, or larger than memory."""
    return UnsupportedError(f"{where} of shape {list(shape)}: {error}")


def _check_cover(entry: TensorEntry, where: str) -> None:
    """Makes sure that the slices of a partitioned tensor are it, each element once."""
    if entry.slices:
        try:
            check_cover(entry.shape, entry.slices)
        except BundleError as error:
            raise BundleError(f"{where}: {error}") from error


def _compare(source: Source, entry: TensorEntry, crc: int) -> None:
    if crc != entry.crc32c:
        raise BundleError(
            f"{source.name}: tensor {entry.label!r} in bytes {entry.offset} to {entry.end}: "
            f"checksum {crc:#010x}, expected {entry.crc32c:#010x}"
        )
