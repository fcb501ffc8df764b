"""What a scan sees in a checkpoint: whether it is whole, as far as its index tells, and its step.

The index is read, every checksum of it; of the data a few bytes, those of the step. Only files that the scan
has seen to be regular ones are opened; should one have been replaced since, a link is not followed and a
FIFO not waited for.
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
import re
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from ckptctl import naming, posix
from ckptctl.bundle.dtypes import DTYPES
from ckptctl.bundle.findings import FindingKind, Report
from ckptctl.bundle.likeness import Kinds, Likeness
from ckptctl.bundle.step import STEP_KEYS, Step, read_step
from ckptctl.bundle.structure import check_structure
from ckptctl.bundle.table import read_footer
from ckptctl.bundle.v1 import is_v1, read_v1, read_v1_step
from ckptctl.errors import BundleError, UnreadableError, UnsupportedError
from ckptctl.model import Details
from ckptctl.opened import OpenCheckpoint

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ckptctl.bundle.index import Index
    from ckptctl.bundle.source import FileSource, Source
    from ckptctl.model import File
    from ckptctl.posix import OpenDirectory

_TELLING = (FindingKind.MISSING_SHARD, FindingKind.SHARD_LENGTH)
"""What explains other findings, and is told in their place."""


class CannotReadError(Exception):
    """A file cannot be read by the system's word or by ours, which proves nothing about it."""


class Contents(NamedTuple):
    """What was seen.

    Attributes:
        problem: What is wrong; None if nothing is.
        step: The step that the checkpoint says it has.
        details: What it holds, if that is asked for and can be told.
        corrupt: Whether the problem is one that no save under way explains.
        doubt: Why nothing can be told.
        unlike: Whether the index is none, so that names alone say that it is a checkpoint.
    """

    problem: str | None = None
    step: Step | None = None
    details: Details | None = None
    corrupt: bool = False
    doubt: str | None = None
    unlike: bool = False


class _ScannedFile:
    """A `Source` that opens the file when it is entered, and takes what the scan saw of it at its word.

    Thousands of them are read in a scan, so that each system call counts. Should the file have been replaced
    by something else since, that can be read at no offset, or holds other bytes than it should.
    """

    __slots__ = ("_directory", "_fd", "name", "size")

    def __init__(self, directory: int, name: str, size: int) -> None:
        self._directory = directory
        self._fd = -1
        self.name = name
        self.size = size

    def __enter__(self) -> _ScannedFile:  # noqa: PYI034 - typing.Self needs 3.11
        self._fd = os.open(self.name, posix.READ_FLAGS, dir_fd=self._directory)
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)

    def pread(self, length: int, offset: int) -> bytes:
        """See `Source.pread`; what is asked for lies within the size."""
        return os.pread(self._fd, length, offset)

    def preadinto(self, buffer: memoryview, offset: int) -> int:
        """See `Source.preadinto`."""
        return os.preadv(self._fd, [buffer], offset)


class Looker:
    """Looks into the checkpoints of one directory, and remembers what the indexes of a run have in common.

    Args:
        directory: The directory, held open.
        detailed: Whether `Contents.details` are asked for.
    """

    def __init__(self, directory: OpenDirectory, *, detailed: bool = False) -> None:
        self._directory = directory
        self._detailed = detailed
        self._kinds = Kinds(STEP_KEYS)
        self._whole: dict[tuple[tuple[tuple[int, int], int], ...], Index] = {}
        self._details: tuple[Index, Details] | None = None

    def look(self, name: str, index_file: File, sizes: Mapping[tuple[int, int], int]) -> Contents:
        """Looks into a TensorBundle.

        Args:
            name: The checkpoint's prefix.
            index_file: Its index.
            sizes: The lengths in bytes of the shards that are there, each by its number and the number of
                shards in its name.

        Raises:
            CannotReadError: Its index or its step cannot be read, or whether a shard is there cannot be told.
        """
        if not index_file.size:
            return Contents("its index is empty", unlike=True)
        fd = self._directory.fd
        try:
            with _ScannedFile(fd, index_file.name, index_file.size) as source:
                index = self._kinds.read(source)
        except UnsupportedError as error:
            raise CannotReadError(_plain(error, index_file.name)) from error
        except BundleError as error:
            return Contents(_plain(error, index_file.name), unlike=True)
        except OSError as error:
            raise CannotReadError(f"its index cannot be read: {posix.reason(error)}") from error
        known = index.kind.index if isinstance(index, Likeness) else index
        details = self._details_of(known) if self._detailed else None
        problem = self._problem(name, known, sizes)
        if problem is not None:
            return Contents(problem, None, details)

        def open_shard(shard: int, shards: int) -> _ScannedFile:
            return _ScannedFile(fd, naming.shard_name(name, shard, shards), sizes[shard, shards])

        try:
            return Contents(None, read_step(index, open_shard), details)
        except BundleError as error:
            return Contents(str(error), None, details, corrupt=True)
        except FileNotFoundError:  # it is being deleted
            return Contents(None, None, details)
        except OSError as error:
            raise CannotReadError(f"its data cannot be read: {posix.reason(error)}") from error

    def look_v1(self, name: str, files: tuple[str, ...], *, vouched: bool) -> Contents | None:
        """Looks into a V1 checkpoint.

        Args:
            name: The checkpoint's prefix.
            files: The names of its files.
            vouched: Whether the state file or a `.meta` says that it is a checkpoint: then one whose list of
                tensors cannot be read is a broken one.

        Returns:
            None if the files are none of a V1 checkpoint's.

        Raises:
            CannotReadError: They cannot be read.
        """
        checkpoint = OpenCheckpoint(self._directory, name, data=files)
        try:
            with checkpoint.open_data() as sources:
                if not all(is_v1(source) for source in sources):
                    broken = vouched and all(_is_table(source) for source in sources)
                    return Contents("its list of tensors cannot be read") if broken else None
                step = None
                with contextlib.suppress(BundleError):  # TF1 knows of no number that has to be called so
                    step = read_v1_step(sources)
                return Contents(None, step, _v1_details(sources) if self._detailed else None)
        except UnsupportedError as error:
            raise CannotReadError(str(error)) from error
        except (OSError, UnreadableError) as error:
            raise CannotReadError(f"it cannot be read: {posix.reason(error)}") from error

    def _problem(self, name: str, known: Index, sizes: Mapping[tuple[int, int], int]) -> str | None:
        """What is wrong with an index of a kind, or with the lengths of the shards that it means."""
        alike = tuple(sizes.items())
        if self._whole.get(alike) is known:
            return None
        here = {shard: size for (shard, shards), size in sizes.items() if shards == known.header.num_shards}
        report = Report()
        check_structure(replace(known, name=f"{name}.index"), here, report)
        if not report.findings:
            self._whole[alike] = known
            return None
        telling = next((one for one in report.findings if one.kind in _TELLING), report.findings[0])
        if telling.kind is FindingKind.MISSING_SHARD and telling.shard is not None:
            self._expect_missing(naming.shard_name(name, telling.shard, known.header.num_shards))
        return _plain(telling.message, f"{name}.index")

    def _expect_missing(self, shard: str) -> None:
        """Looks by name for a shard that the listing lacks, before a checkpoint is called broken for it."""
        try:
            os.stat(shard, dir_fd=self._directory.fd, follow_symlinks=False)
        except FileNotFoundError:
            return
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:  # no file can be called so
                return
            raise CannotReadError(f"{shard} cannot be looked at: {posix.reason(error)}") from error
        raise CannotReadError(f"{shard} is there, and the listing of the directory lacks it")

    def _details_of(self, known: Index) -> Details:
        """What an index of a kind lists; of a run with many checkpoints it is counted once."""
        if self._details is None or self._details[0] is not known:
            self._details = known, _details(known)
        return self._details[1]


_GRAPH = b"_CHECKPOINTABLE_OBJECT_GRAPH"
_LAYER = re.compile(rb"layer_with_weights-\d+/|layer-\d+/|_layer_checkpoint_dependencies/")


def _details(index: Index) -> Details:
    tensors = list(index.tensors())
    return Details(
        len(tensors),
        sum(entry.elements for entry in tensors if entry.dtype in DTYPES),
        object_based=_GRAPH in index.entries,
        counted=STEP_KEYS[-1] in index.entries,
        layers=any(_LAYER.match(entry.key) for entry in tensors),
    )


def _v1_details(sources: list[FileSource]) -> Details | None:
    with contextlib.suppress(BundleError):
        tensors = read_v1(sources).values()
        return Details(
            len(tensors), sum(math.prod(tensor.shape) for tensor in tensors if tensor.dtype in DTYPES)
        )
    return None


def _plain(message: object, file: str) -> str:
    """A message without the name of the file, where that is shown beside it."""
    return str(message).removeprefix(f"{file}: ")


def _is_table(source: Source) -> bool:
    try:
        read_footer(source)
    except BundleError:
        return False
    return True
