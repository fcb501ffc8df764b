"""One checkpoint's files, opened through its directory's descriptor for `ckptctl.bundle` to read.

A link is followed where the user named the checkpoint, or asked for a look and no more: many stores keep
their files as links. It may lead to anything even then: what that is is looked at before it is opened, so
that no device is woken and no FIFO waited for.
"""

from __future__ import annotations

import contextlib
import os
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ckptctl import naming, posix
from ckptctl.bundle import v1
from ckptctl.bundle.source import FileSource
from ckptctl.errors import RefusedError, UnreadableError, UnsupportedError
from ckptctl.model import Format

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from ckptctl.posix import OpenDirectory


@dataclass(frozen=True, slots=True)
class OpenCheckpoint:
    """A checkpoint of a directory that is held open.

    Attributes:
        directory: The directory.
        name: The checkpoint's prefix in it.
        format: V2 or V1.
        data: V1: the names of its files. V2 has its shards counted by its index.
        follow: Whether links are followed.
    """

    directory: OpenDirectory
    name: str
    format: Format = Format.V2
    data: tuple[str, ...] = ()
    follow: bool = False

    @property
    def path(self) -> str:
        """What TensorFlow takes to restore it."""
        return os.path.join(self.directory.path, naming.restorable_name(self.name, self.data))

    def index(self) -> contextlib.AbstractContextManager[FileSource]:
        """Opens the index. See `open_file`."""
        return self.open_file(f"{self.name}.index")

    def shard(self, shard: int, shards: int) -> contextlib.AbstractContextManager[FileSource]:
        """Opens a shard; an `OpenShard` for the readers of bundles. See `open_file`."""
        return self.open_file(naming.shard_name(self.name, shard, shards))

    @contextlib.contextmanager
    def open_file(self, name: str) -> Iterator[FileSource]:
        """Opens a file of the directory for as long as the context lasts.

        Raises:
            OSError: It cannot be opened; FileNotFoundError if there is none.
            UnreadableError: It is no regular file.
        """
        try:
            with posix.naming_paths(self.directory):
                fd = posix.open_regular(self.directory.fd, name, follow=self.follow)
        except RefusedError as error:
            raise UnreadableError(str(error)) from error
        try:
            yield FileSource.of(fd, name)
        finally:
            os.close(fd)

    @contextlib.contextmanager
    def open_data(self) -> Iterator[list[FileSource]]:
        """Opens all files of a V1 checkpoint. See `open_file`."""
        with contextlib.ExitStack() as held:
            yield [held.enter_context(self.open_file(name)) for name in self.data]


@contextlib.contextmanager
def open_checkpoint(path: str, *, follow: bool = True) -> Iterator[OpenCheckpoint]:
    """Finds the checkpoint that a user means, and holds its directory open.

    Args:
        path: Its prefix, or the path of any of its files.
        follow: Whether its files may be links.

    Raises:
        UnreadableError: There is none, or its directory cannot be read.
    """
    where, name = place(path)
    with posix.open_directory(where) as directory:
        yield find(directory, name, follow=follow)


def place(path: str) -> tuple[str, str]:
    """The path of the directory of the checkpoint that a user means, and the checkpoint's name in it.

    A slash behind the name says nothing, unless there is a directory of that name.
    """
    if path.endswith("/") and not os.path.isdir(path):
        path = path.rstrip("/")
    head, name = os.path.split(naming.prefix_of(path))
    return head or ".", name


def find(directory: OpenDirectory, name: str, *, follow: bool, known: Collection[str] = ()) -> OpenCheckpoint:
    """Finds a checkpoint in a directory by its name.

    Args:
        directory: The directory.
        name: The checkpoint's prefix.
        follow: Whether its files may be links.
        known: What may have been meant besides what the directory's entries are called, if there is none.

    Raises:
        UnreadableError: There is none of that name.
    """
    if name and posix.exists(directory.fd, f"{name}.index", follow=False):
        return OpenCheckpoint(directory, name, follow=follow)
    bare = OpenCheckpoint(directory, name, Format.V1, (name,), follow)
    if name and _is_v1(bare):
        return bare
    entries = os.listdir(directory.fd)
    parsed = ((naming.parse(entry), entry) for entry in entries)
    shards = sorted(
        (one.shards, one.shard, entry)
        for one, entry in parsed
        if one is not None and one.role is naming.Role.V1_SHARD and one.prefix == name
    )
    sharded = OpenCheckpoint(directory, name, Format.V1, tuple(entry for _, _, entry in shards), follow)
    if shards and _is_v1(sharded):
        return sharded
    raise _not_found(directory, name, naming.checkpoints_among(set(entries)).union(known))


def _not_found(directory: OpenDirectory, name: str, known: Collection[str]) -> UnreadableError:
    """That there is no checkpoint of a name; with what there is of that name, or of nearly that."""
    import difflib  # noqa: PLC0415 - most names are right

    path = name if directory.path == "." else os.path.join(directory.path, name)
    if name == naming.STATE_FILE and posix.exists(directory.fd, name, follow=True):
        return UnreadableError(f"{path} is the state file: name the directory, {directory.path}")
    near = difflib.get_close_matches(name, sorted(known), n=3)
    if near:
        return UnreadableError(f"{path}: no such checkpoint; did you mean {' or '.join(near)}?")
    if os.path.isdir(path):
        return UnreadableError(
            f"{path}: a directory, expected a checkpoint's prefix or one of its files; "
            f"`ckptctl ls {shlex.quote(path)}` shows what there is"
        )
    what = "checkpoint" if posix.exists(directory.fd, name, follow=False) else "directory or checkpoint"
    listing = f"; `ckptctl ls {shlex.quote(directory.path)}` shows what there is" if known else ""
    return UnreadableError(f"{path}: no such {what}{listing}")


def _is_v1(checkpoint: OpenCheckpoint) -> bool:
    try:
        with checkpoint.open_data() as sources:
            return all(v1.is_v1(source) for source in sources)
    except UnsupportedError:
        return True  # whoever reads it says why that is more than can be read
    except (OSError, ValueError, UnreadableError):
        return False
