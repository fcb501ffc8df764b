"""One events file: the scalars in it, read as far as it has grown.

An events file is a row of records, each an `Event`, which a trainer adds to for weeks:

    length (uint64) | masked CRC32C of it | the event | masked CRC32C of it    (little-endian, CRCs uint32)

A scalar is a `simple_value` (TF1) or a tensor with the plugin `scalars` (TF2). The messages and the decoding
of tensors are TensorBoard's, and what is read is what its own loader reads: tests hold the two together. Only
the records are taken apart here. Without TensorFlow, TensorBoard computes their checksums byte by byte in
Python (8 MB a second, and images stand there too) and holds a record of any length in memory; and TensorFlow
itself shall not be loaded for this. Nothing that is imported here asks `tensorboard.compat` for it.
"""

from __future__ import annotations

import functools
import math
import os
import struct
from array import array
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ckptctl.bundle.checksum import crc32c, mask
from ckptctl.errors import UnreadableError

if TYPE_CHECKING:
    from typing import BinaryIO

MAX_RECORD = 1 << 26
"""The longest event that is read; longer ones are images or graphs, and are passed over."""
MAX_VALUES = 1_000_000
"""The most values of one tag that are held; they take 24 MB."""
MAX_TAGS = 1_000
"""The most tags of one file of which the names are held."""
MAX_NAME = 500
"""The longest name of a tag that is held, in characters."""

_HEADER = struct.Struct("<QI")
_CHECKSUM = struct.Struct("<I")
_MOST_CONTENT = 16
"""Bytes of the largest number."""


@dataclass(slots=True)
class Column:
    """The values of one tag in one file, in the order in which they stand there.

    Attributes:
        steps: What the writer counted.
        values: As many numbers.
        times: When each was written, seconds since the epoch.
    """

    steps: array[int] = field(default_factory=lambda: array("q"))
    values: array[float] = field(default_factory=lambda: array("d"))
    times: array[float] = field(default_factory=lambda: array("d"))


@dataclass(slots=True)
class EventFile:
    """An events file, as far as it has been read.

    Attributes:
        metric: What the user calls the metric, see `ckptctl.events`: only tags are held that it may mean.
        columns: Their values.
        tags: All scalars.
        until: The latest time of an event.
        problem: What is wrong behind what has been read.
        passed: How many events were passed over, because they are too large or are none.
    """

    metric: str
    columns: dict[str, Column] = field(default_factory=dict)
    tags: set[str] = field(default_factory=set)
    until: float = -math.inf
    problem: str | None = None
    passed: int = 0
    _identity: tuple[int, int] = (0, 0)
    _offset: int = 0

    def read(self, stream: BinaryIO) -> None:
        """Reads what the file has grown by; all of it, if it is another one or was cut or written anew.

        Args:
            stream: It, open and buffered.

        Raises:
            OSError: It cannot be read.
            UnreadableError: A tag has too many values, or TensorBoard is not installed.
        """
        status = os.fstat(stream.fileno())
        identity = (status.st_dev, status.st_ino)
        if self._identity != identity or status.st_size < self._offset:
            self._forget(identity)
        begin, known = self._offset, self.problem
        self._read_on(stream, status.st_size)
        if self.problem and not known and self._offset == begin > 0:  # it may have been written anew in place
            self._forget(identity)
            self._read_on(stream, status.st_size)

    def _forget(self, identity: tuple[int, int]) -> None:
        self.columns, self.tags, self.until, self.passed = {}, set(), -math.inf, 0
        self._identity, self._offset = identity, 0

    def _read_on(self, stream: BinaryIO, size: int) -> None:
        stream.seek(self._offset)
        self.problem = None
        while self._offset < size:
            header = stream.read(_HEADER.size)
            if len(header) < _HEADER.size:  # the trainer is writing it
                return
            length, checksum = _HEADER.unpack(header)
            end = self._offset + _HEADER.size + length + _CHECKSUM.size
            if mask(crc32c(header[:8])) != checksum:
                self._garbled()
                return
            if end > size:
                return
            if length > MAX_RECORD:
                self.passed += 1
                stream.seek(end)
            else:
                record = stream.read(length)
                if stream.read(_CHECKSUM.size) != _CHECKSUM.pack(mask(crc32c(record))):
                    self._garbled()
                    return
                self._take(record)
            self._offset = end

    def _garbled(self) -> None:
        self.problem = f"garbled from byte {self._offset:,} on; what stands before that counts"

    def _take(self, record: bytes) -> None:
        tensorboard = load()
        try:
            event = tensorboard.event.FromString(record)
        except Exception:  # noqa: BLE001 - what protobuf raises depends on its implementation
            self.passed += 1
            return
        if not math.isfinite(event.wall_time):
            return
        self.until = max(self.until, event.wall_time)
        for value in event.summary.value:
            tag = value.tag
            if not self._is_scalar(value):
                continue
            meant = tag == self.metric or self.metric.endswith(f"/{tag}")
            if meant or (len(self.tags) < MAX_TAGS and len(tag) <= MAX_NAME):
                self.tags.add(tag)
            number = tensorboard.number(value) if meant else None
            if number is None:
                continue
            column = self.columns.setdefault(tag, Column())
            if len(column.steps) >= MAX_VALUES:
                raise too_many(tag)
            column.steps.append(event.step)
            column.values.append(number)
            column.times.append(event.wall_time)

    def _is_scalar(self, value: Any) -> bool:
        """A TF1 writer says what a tensor is at a tag's first value alone."""
        if value.HasField("simple_value"):
            return True
        plugin = value.metadata.plugin_data.plugin_name
        return value.HasField("tensor") and (
            plugin == load().scalars or (not plugin and value.tag in self.tags)
        )


def too_many(tag: str) -> UnreadableError:
    """The error for a tag with more values than are held."""
    return UnreadableError(
        f"the scalar `{tag}` has more than {MAX_VALUES:,} values: name one that is written less often, once "
        "an epoch or once an evaluation"
    )


@dataclass(frozen=True, slots=True)
class TensorBoard:
    """What is used of TensorBoard.

    Attributes:
        event: The message.
        make_ndarray: Makes an array of a tensor.
        scalars: The name of the plugin whose tensors are scalars.
    """

    event: Any
    make_ndarray: Any
    scalars: str

    def number(self, value: Any) -> float | None:
        """The number that a scalar is, if it is one."""
        if value.HasField("simple_value"):
            return float(value.simple_value)
        tensor = value.tensor
        # One number is taken for any shape, so a hostile shape would make an array of any size.
        if len(tensor.tensor_content) > _MOST_CONTENT or any(
            dim.size != 1 for dim in tensor.tensor_shape.dim
        ):
            return None
        try:
            one = self.make_ndarray(tensor)
            return float(one.item()) if one.dtype.kind in "fiub" else None
        except Exception:  # noqa: BLE001 - what TensorBoard raises for a tensor that is none
            return None


@functools.cache
def load() -> TensorBoard:
    """Loads what is used of TensorBoard: 0.2 seconds and 20 MB, numpy included; never TensorFlow.

    Raises:
        UnreadableError: It is not installed.
    """
    try:
        from tensorboard.compat.proto import event_pb2  # noqa: PLC0415 - of no use without --keep-best
        from tensorboard.plugins.scalar import metadata  # noqa: PLC0415
        from tensorboard.util import tensor_util  # noqa: PLC0415
    except ImportError as error:
        raise UnreadableError(
            "events files are read with TensorBoard, which cannot be loaded "
            f"({error}): install ckptctl with its extra [events]"
        ) from error
    return TensorBoard(event_pb2.Event, tensor_util.make_ndarray, metadata.PLUGIN_NAME)
