r"""V1 checkpoints, as TF1 wrote them with `write_version=V1`: a table that holds tensors and all.

    key           value
    ""            SavedTensorSlices with `meta`: each tensor's name, shape, dtype and slices, and the version
    <slice key>   SavedTensorSlices with `data`: name, slice, and the values as a TensorProto

A sharded checkpoint has one such file a shard, each with the `meta` of its own slices. A tensor that is not
partitioned has one slice, which is all of it.

A block ends behind the entry that takes it over 256 KiB, so that one with a large tensor may have gigabytes.
To verify it, such a block is streamed: for its checksum, and for its keys, from one entry to the next. Every
byte but the footer's is covered by a block's checksum. Who only asks for the tensors or the step, as each
look at a directory does, does not wait for that: of a large block the entries at its beginning are read.

Answers to `tensor_slice_writer.cc`, `tensor_slice_reader.cc` and `saved_tensor_slice.proto` in
`tensorflow/core/util`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ckptctl import protos
from ckptctl.bundle.entries import parse_shape
from ckptctl.bundle.findings import MAX_FINDINGS, Finding, FindingKind, Report
from ckptctl.bundle.index import MAX_ENTRIES
from ckptctl.bundle.large_block import check_large_block, is_walkable, walk_large_block
from ckptctl.bundle.parts import expect_few
from ckptctl.bundle.slices import TensorSlice, parse_slices, slice_key
from ckptctl.bundle.source import new_buffer, read_exactly
from ckptctl.bundle.step import Step
from ckptctl.bundle.table import MAGIC, BlockTooLargeError, Table
from ckptctl.errors import BundleError, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ckptctl.bundle.source import Source
    from ckptctl.bundle.table import BlockHandle

MAX_META_BYTES = 1 << 24
"""The largest `meta` that is read."""

MAX_META_PARTS = 1_000_000
"""The most messages and strings in a `meta`; 20,000 tensors of four dimensions have 240,000."""

WHOLE_BYTES = 1 << 22
"""The largest block that is read and checked as a whole where a file is not being verified."""

HEAD_BYTES = 1 << 20
"""How far into a larger one entries are looked for: all of them begin within the writer's 256 KiB."""

MAX_NUMBER_BYTES = 1 << 12
"""The largest record that is read for a step."""

VERSION = 1
"""`TF_CHECKPOINT_VERSION`: what TensorFlow writes."""

STEP_NAME = b"global_step"

_MAGIC = MAGIC.to_bytes(8, "little")


@dataclass(frozen=True, slots=True)
class V1Tensor:
    """A tensor, as the `meta` has it.

    Attributes:
        name: Its name; what is not UTF-8 cannot stand in it.
        dtype: Its number in `types.proto`.
        shape: Of the whole tensor.
        slices: Those that are stored; one, which is all of it, unless it is partitioned.
    """

    name: str
    dtype: int
    shape: tuple[int, ...]
    slices: tuple[TensorSlice, ...]


def is_v1(source: Source) -> bool:
    """Whether a file is a V1 checkpoint, or a shard of one: a table whose first record is a readable `meta`.

    Raises:
        UnsupportedError: The record, or what leads to it, is larger than what is read here.
        UnreadableError: The system refuses.
    """
    # The magic tells nearly everything, and at a small price.
    if source.size < len(_MAGIC) or source.pread(len(_MAGIC), source.size - len(_MAGIC)) != _MAGIC:
        return False
    try:
        _read_record(Table(source))
    except UnsupportedError:
        raise
    except BundleError:
        return False
    return True


def read_v1(sources: Iterable[Source], *, checked: bool = False) -> dict[str, V1Tensor]:
    """Lists the tensors of a V1 checkpoint.

    Args:
        sources: Its files: one, or each of its shards.
        checked: Whether to read all of the block that has the list, however large, for its checksum.

    Returns:
        The tensors by name, in the order of their names; slices from all shards are put together.

    Raises:
        BundleError: A file is no V1 checkpoint, or files disagree about a tensor.
        UnreadableError: The system refuses.
    """
    tensors: dict[str, V1Tensor] = {}
    slices: dict[str, list[TensorSlice]] = {}
    for source in sources:
        for tensor in _read_meta(Table(source), checked=checked):
            known = tensors.get(tensor.name, tensor)
            if (known.dtype, known.shape) != (tensor.dtype, tensor.shape):
                raise BundleError(
                    f"{source.name}: tensor {tensor.name!r} has another dtype or shape than in another shard"
                )
            tensors[tensor.name] = known
            slices.setdefault(tensor.name, []).extend(tensor.slices)
    return {
        name: tensor
        if len(tensor.slices) == len(slices[name])
        else replace(tensor, slices=tuple(slices[name]))
        for name, tensor in sorted(tensors.items())
    }


def check_v1(source: Source, report: Report) -> int:
    """Checks one file of a V1 checkpoint: every block, the `meta`, and that every slice it lists is there.

    Args:
        source: The file.
        report: Takes the findings.

    Returns:
        How many tensors it lists.

    Raises:
        UnreadableError: The system refuses.
    """
    try:
        table = Table(source)
    except BundleError as error:
        report.add(Finding(FindingKind.INDEX, str(error)))
        return 0
    table.check(report)
    buffer = new_buffer()
    keys: set[bytes] = set()
    complete = True
    try:
        for _, handle in table.handles():
            try:
                complete &= _collect_keys(table, handle, keys, buffer)
            except BundleError as error:
                report.add(Finding(FindingKind.BLOCK, str(error), offset=handle.offset))
                complete = False
        tensors = _read_meta(table)
    except BundleError as error:
        report.add(Finding(list_finding_kind(error), str(error)))
        return 0
    listed = sum(len(tensor.slices) for tensor in tensors)
    if complete and listed > len(keys) + MAX_FINDINGS:  # what each one is called would not be shown anyway
        message = f"{source.name}: {listed} slices are listed, and at most {len(keys)} are there"
        report.add(Finding(FindingKind.SLICES, message))
    elif complete:
        for tensor in tensors:
            _check_slices(source.name, tensor, keys, report)
    return len(tensors)


def list_finding_kind(error: BundleError) -> FindingKind:
    """What it is that a list of tensors cannot be read: nothing against a file whose list is too large."""
    # A footer that is damaged may claim a block too large as well.
    large = isinstance(error, UnsupportedError) and not isinstance(error, BlockTooLargeError)
    return FindingKind.UNREADABLE if large else FindingKind.INDEX


def read_v1_step(sources: Iterable[Source]) -> Step | None:
    """Finds the step of a V1 checkpoint: its `global_step`, if it has one.

    Args:
        sources: Its files: one, or each of its shards.

    Raises:
        BundleError: A file is no V1 checkpoint, or holds something else under that name.
        UnreadableError: The system refuses.
    """
    for source in sources:
        value = _value(Table(source), slice_key(STEP_NAME, TensorSlice(())), MAX_NUMBER_BYTES)
        if value is not None:
            where = f"{source.name}: tensor {STEP_NAME!r}"
            data = protos.parse(protos.load().SavedTensorSlices, value, where).data.data
            numbers = [*data.int64_val, *data.int_val, *data.float_val, *data.double_val]
            if len(numbers) != 1 or numbers[0] != numbers[0] // 1:
                raise BundleError(f"{where}: expected one whole number")
            return Step(int(numbers[0]), STEP_NAME.decode())
    return None


def _read_meta(table: Table, *, checked: bool = False) -> list[V1Tensor]:
    return [_tensor(table.source.name, proto) for proto in _read_record(table, checked=checked).meta.tensor]


def _read_record(table: Table, *, checked: bool = False) -> Any:
    """The record under the empty key, as a message; what it says of tensors is not looked at."""
    name = table.source.name
    value = _value(table, b"", MAX_META_BYTES, checked=checked)
    if value is None:
        raise BundleError(f"{name}: expected a record under the empty key, found none")
    where = f"{name}: the record under the empty key"
    message = protos.load().SavedTensorSlices
    expect_few(message, value, MAX_META_PARTS, where)
    saved = protos.parse(message, value, where)
    if not saved.HasField("meta"):
        raise BundleError(f"{where} has no list of tensors")
    versions = saved.meta.versions
    if versions.min_consumer > VERSION or VERSION in versions.bad_consumers:
        raise BundleError(
            f"{name}: written for readers of at least version {versions.min_consumer}, expected {VERSION}"
        )
    return saved


def _tensor(name: str, proto: Any) -> V1Tensor:
    try:
        shape = parse_shape(proto.shape)
        slices = parse_slices(proto.slice, len(shape))
        for part in slices:
            part.ranges(shape)
    except BundleError as error:
        raise type(error)(f"{name}: tensor {proto.name!r}: {error}") from error
    return V1Tensor(proto.name, proto.type, shape, slices)


def _value(table: Table, key: bytes, max_bytes: int, *, checked: bool = False) -> bytes | None:
    """The value of a key, from a block of any size; a large one is read whole only to check it."""
    handle = table.locate(key)
    if handle is None:
        return None
    # There is no finding a key in a compressed one without decompressing all of it.
    if handle.size <= WHOLE_BYTES or not is_walkable(table.source, handle):
        return table.block(handle).get(key)
    if checked:
        check_large_block(table.source, handle, new_buffer())
    for found, offset, length in walk_large_block(table.source, handle, HEAD_BYTES):
        if found >= key:
            if found > key:
                break
            if length > max_bytes:
                raise UnsupportedError(
                    f"{table.source.name}: record of {length} bytes, expected at most {max_bytes}"
                )
            return read_exactly(table.source, length, offset, "a record")
    return None


def _collect_keys(table: Table, handle: BlockHandle, keys: set[bytes], buffer: memoryview) -> bool:
    """Checks a block and adds its keys; returns whether they could be told."""
    try:
        keys.update(key for key, _ in table.block(handle))
    except BlockTooLargeError:
        if not check_large_block(table.source, handle, buffer):
            return False
        keys.update(key for key, _, _ in walk_large_block(table.source, handle))
    return len(keys) <= MAX_ENTRIES


def _check_slices(name: str, tensor: V1Tensor, keys: set[bytes], report: Report) -> None:
    for part in tensor.slices:
        if slice_key(tensor.name.encode(), part) not in keys:
            message = f"{name}: tensor {tensor.name!r}: slice {part} is listed, and not there"
            report.add(Finding(FindingKind.SLICES, message, tensor.name))
