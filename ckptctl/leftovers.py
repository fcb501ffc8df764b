"""What a save or a prune that was cut short left behind, and whether it may go.

Nothing goes by a name that only looks like one of a save: each has to be, as a whole, one that TensorFlow
gives (`ckptctl.leftover_names`). Of a directory of parts everything in it is looked at, and one file that is
not known keeps all of it. What a link in the directory leads to stays, too.

A save under way leaves the very same names, and to take them away makes it fail. So nothing goes until the
directory has been quiet for a while: no file of a checkpoint, of a leftover, or of the state has been
written, renamed or copied there since. That is told by the change time too, which a copy that keeps times
cannot set back.

A save that is suspended (by Slurm, or with its container or machine) is quiet for as long as you like, and
goes on when it is resumed. So what was written after the newest checkpoint goes only where the user says that
no trainer is at work. Once there is a later checkpoint, it is of a save that was cut short. The state file's
time tells nothing here: a prune writes it, too.
"""

from __future__ import annotations

import os
import shlex
import stat
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ckptctl import naming, posix, removal, units
from ckptctl.bundle.coding import CodingError, read_varint
from ckptctl.errors import RefusedError, UnreadableError
from ckptctl.files import list_files
from ckptctl.leftover_names import UNSURE, Names, belongs, nests
from ckptctl.model import File, FileKind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ckptctl.files import Listing
    from ckptctl.model import Directory
    from ckptctl.posix import OpenDirectory

_TOO_LONG = "its name is too long to be deleted safely"
_META_FIELDS = range(1, 8)
_MAX_META_FIELDS = 10_000
_LENGTH_DELIMITED = 2


@dataclass(frozen=True, slots=True)
class Tree:
    """A directory of parts, as it was when it was looked at.

    Attributes:
        name: Its name in the directory above it.
        files: The files in it, by name.
        trees: The directories in it, by name.
        unknown: The path in it of something that no save puts there.
        changed: When anything in it, or it itself, was changed last.
        written: When anything in it was written last, or given its name there; nanoseconds since the epoch.
        bytes: The size of all that is in it.
        inode: Its own.
    """

    name: str
    files: tuple[File, ...] = ()
    trees: tuple[Tree, ...] = ()
    unknown: str | None = None
    changed: float = 0.0
    written: int = 0
    bytes: int = 0
    inode: int = 0


@dataclass(frozen=True, slots=True)
class Leftover:
    """Something that was left behind.

    Attributes:
        item: The file, or the directory with what is in it.
        what: What it is.
        keep: Why it stays; None if it goes.
        prefix: The checkpoint that it is a part of; empty if its name does not tell.
    """

    item: File | Tree
    what: str
    keep: str | None = None
    prefix: str = ""

    @property
    def path(self) -> str:
        """Its name in the directory."""
        return self.item.name

    @property
    def bytes(self) -> int:
        """Its size."""
        return self.item.size if isinstance(self.item, File) else self.item.bytes


def find(
    directory: OpenDirectory,
    scanned: Directory,
    latest_filename: str,
    older_than: float,
    now: float,
    *,
    offline: bool = False,
) -> tuple[Leftover, ...]:
    """Finds what was left behind in a directory, and decides what goes.

    Args:
        directory: The directory, held open.
        scanned: What a scan found in it.
        latest_filename: The state file's name.
        older_than: For how many seconds nothing may have been written there.
        now: Seconds since the epoch.
        offline: Whether no trainer is at work, not even one that is suspended.

    Raises:
        UnreadableError: The directory cannot be listed.
    """
    names = Names.of(scanned, latest_filename)
    try:
        listing = list_files(directory)
    except OSError as error:
        raise UnreadableError(f"{directory.path} cannot be listed: {posix.reason(error)}") from error
    items = [
        look(directory, file.name) if _is_directory(directory, file.name) else file
        for file in scanned.leftovers
    ]
    found = [_described(directory, item, names, listing) for item in items]
    found = [replace(one, keep=one.keep or _linked(one.item, listing)) for one in found]
    changes = [*_changes(directory, scanned, latest_filename)]
    changes += [item.changed for item in items if isinstance(item, Tree)]
    busy = _busy(now - max(changes, default=0.0), older_than)
    last = _last_saves(scanned, now)
    suspended = (
        "it was written after the newest checkpoint: a save that is suspended may go on; where no trainer is "
        f"at work, `ckptctl clean --offline {shlex.quote(directory.path)}` deletes it"
    )
    return tuple(
        replace(one, keep=one.keep or busy or (None if offline or _is_outlived(one, last) else suspended))
        for one in found
    )


def _is_directory(directory: OpenDirectory, name: str) -> bool:
    try:
        return stat.S_ISDIR(os.stat(name, dir_fd=directory.fd, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return False


UNREADABLE = "it cannot be read"
"""Why a tree is unknown that the system does not let us look into."""


def look(directory: OpenDirectory, name: str) -> Tree:
    """Looks at a directory of parts. No link is followed.

    Args:
        directory: The directory above it.
        name: Its name there.
    """
    try:
        with posix.open_below(directory, [name]) as inside:
            return _tree(inside, name)
    except (OSError, UnreadableError):
        return Tree(name, unknown=UNREADABLE)


def _tree(inside: OpenDirectory, name: str) -> Tree:
    files, trees, unknown, size = [], [], None, 0
    given = removal.given_name(name)
    own = os.fstat(inside.fd)
    changed, written = max(own.st_mtime, own.st_ctime), own.st_mtime_ns
    with os.scandir(inside.fd) as entries:
        for entry in sorted(entries, key=lambda one: one.name):
            found = entry.stat(follow_symlinks=False)
            changed = max(changed, found.st_mtime, found.st_ctime)
            written = max(written, found.st_mtime_ns)
            size += found.st_size if entry.is_file(follow_symlinks=False) else 0
            if entry.is_file(follow_symlinks=False) and belongs(given, entry.name):
                files.append(File(entry.name, found.st_size, found.st_mtime_ns, found.st_ino))
            elif entry.is_dir(follow_symlinks=False) and nests(given, entry.name):
                trees.append(look(inside, entry.name))
                changed = max(changed, trees[-1].changed)
                written = max(written, trees[-1].written)
                size += trees[-1].bytes
                if trees[-1].unknown is not None:
                    unknown = f"{entry.name}/{trees[-1].unknown}"
            else:
                unknown = entry.name
    return Tree(name, tuple(files), tuple(trees), unknown, changed, written, size, own.st_ino)


def _described(directory: OpenDirectory, item: File | Tree, names: Names, listing: Listing) -> Leftover:
    if isinstance(item, Tree):
        empty = not (item.files or item.trees or item.unknown)
        what, prefix, keep = names.of_tree(removal.given_name(item.name), empty=empty)
        if keep is None and not removal.is_removable(item.name):
            keep = _TOO_LONG
        if keep is None and item.unknown is not None:
            keep = f"no save puts there what is in it: {item.unknown}"
        return Leftover(item, what, keep, prefix)
    what, prefix, keep = names.of_file(item.name)
    if keep is not None:
        return Leftover(item, what, keep, prefix)
    parsed = naming.parse(item.name)
    if item.kind is not FileKind.REGULAR:
        keep = "it is not a regular file"
    elif parsed is not None and parsed.role is naming.Role.META:
        keep = _why_meta_stays(directory, item.name, prefix, listing)
    elif not removal.is_removable(item.name):
        keep = _TOO_LONG
    return Leftover(item, what, keep, prefix)


def _why_meta_stays(directory: OpenDirectory, name: str, prefix: str, listing: Listing) -> str | None:
    """A V1 checkpoint that is damaged, or a link, is no checkpoint to a scan, and still has a `.meta`."""
    group = listing.groups.get(prefix)
    if prefix in listing.bare or (group is not None and group.v1_shards):
        return f"{prefix} may be its checkpoint"
    return None if _is_meta_graph(directory, name) else UNSURE


def _linked(item: File | Tree, listing: Listing) -> str | None:
    """Why something stays that a link in the directory leads to, whatever the path that is in the link."""
    links = [*listing.links.get(item.name, ())]
    for inode in _inodes(item):
        links += listing.targets.get(inode, ())
    return f"the link {links[0]} leads to it" if links else None


def _inodes(item: File | Tree) -> Iterator[int]:
    yield item.inode
    if isinstance(item, Tree):
        inside: tuple[File | Tree, ...] = (*item.files, *item.trees)
        for below in inside:
            yield from _inodes(below)


def _changes(directory: OpenDirectory, scanned: Directory, latest_filename: str) -> Iterator[float]:
    """When each file that has to do with a save was changed last."""
    names = {file.name for one in scanned.checkpoints for file in one.files}
    names |= {file.name for file in scanned.leftovers if not file.name.startswith(naming.PRIVATE_PREFIX)}
    for name in (*names, latest_filename, naming.STATE_FILE):
        try:
            found = os.stat(name, dir_fd=directory.fd, follow_symlinks=False)
        except FileNotFoundError:
            continue
        yield max(found.st_mtime, found.st_ctime)


def _last_saves(scanned: Directory, now: float) -> dict[tuple[str, ...], int]:
    """When the newest checkpoint of each kind of name was written; nanoseconds since the epoch.

    Times from the future tell nothing.
    """
    last: dict[tuple[str, ...], int] = {}
    for one in scanned.checkpoints:
        if one.complete and one.regular:
            files = one.shards if one.index is None else (one.index,)
            kind, written = naming.split_numbers(one.name)[0], max(file.mtime_ns for file in files)
            if written <= now * 1e9:
                last[kind] = max(written, last.get(kind, 0))
    return last


def _is_outlived(one: Leftover, last: dict[tuple[str, ...], int]) -> bool:
    """Whether the saver that left it has saved since: one of its names, or where that is not known, each."""
    since = last.get(naming.split_numbers(one.prefix)[0]) if one.prefix else None
    return _written(one.item) < (min(last.values(), default=0) if since is None else since)


def _written(item: File | Tree) -> int:
    return item.mtime_ns if isinstance(item, File) else item.written


def _busy(quiet: float, older_than: float) -> str | None:
    if quiet >= older_than:
        return None
    if quiet < 0:
        return "something here was written in the future, by this clock: a save may be under way"
    ago = units.format_duration(quiet // 60 * 60 if quiet >= 60 else quiet // 1)  # noqa: PLR2004 - a minute
    return f"something here was written {ago} ago: a save may be under way"


def _is_meta_graph(directory: OpenDirectory, name: str) -> bool:
    """Whether a file is made of a MetaGraphDef's fields, from its first byte to its last."""
    try:
        fd = posix.open_regular(directory.fd, name)
    except (OSError, RefusedError):
        return False
    try:
        size, at = os.fstat(fd).st_size, 0
        for _ in range(_MAX_META_FIELDS):
            head = os.pread(fd, 11, at)
            tag, behind = read_varint(head, 0, len(head))
            if tag & 7 != _LENGTH_DELIMITED or tag >> 3 not in _META_FIELDS:
                return False
            length, behind = read_varint(head, behind, len(head))
            at += behind + length
            if at >= size:
                return at == size
    except (OSError, CodingError):
        return False
    finally:
        os.close(fd)
    return False
