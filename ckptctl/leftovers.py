"""What a save or a prune that was cut short left behind, and whether it may go.

Nothing goes by a name that only looks like one of a save: each has to be, as a whole, one that TensorFlow
gives. Of a directory of parts everything in it is looked at, and one file that is not known keeps all of it.

A save under way leaves the very same names, and to take them away makes it fail. So nothing goes until the
directory has been quiet for a while: no file of a checkpoint, of a leftover, or of the state has been
written, renamed or copied there since. That is told by the change time too, which a copy that keeps times
cannot set back.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ckptctl import naming, posix, removal, units
from ckptctl.bundle.coding import CodingError, read_varint
from ckptctl.errors import RefusedError, UnreadableError
from ckptctl.model import File, FileKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ckptctl.model import Directory
    from ckptctl.posix import OpenDirectory

_SHARDS = r"\d{5,9}-of-\d{5,9}"
_TEMPSTATE = r"\.tempstate\d+"
_RANDOM = r"\.tmp[0-9a-f]{32}"
_PART = re.compile(rf"part-{_SHARDS}(?:\.index|\.data-{_SHARDS})(?:{_TEMPSTATE})?", re.ASCII)
_PARTS = re.compile(r".+_temp(?:_[0-9a-f]{32})?", re.DOTALL)
_WORKER = re.compile(r"workertemp_\d+", re.ASCII)
_UNRENAMED = re.compile(rf".+(?:\.index|\.data-{_SHARDS}){_TEMPSTATE}", re.ASCII | re.DOTALL)
_META = re.compile(r".+-\d+\.meta", re.ASCII | re.DOTALL)
_META_UNRENAMED = re.compile(rf".+\.meta{_RANDOM}", re.DOTALL)

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
        bytes: The size of all that is in it.
    """

    name: str
    files: tuple[File, ...] = ()
    trees: tuple[Tree, ...] = ()
    unknown: str | None = None
    changed: float = 0.0
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class Leftover:
    """Something that was left behind.

    Attributes:
        item: The file, or the directory with what is in it.
        what: What it is.
        keep: Why it stays; None if it goes.
    """

    item: File | Tree
    what: str
    keep: str | None = None

    @property
    def path(self) -> str:
        """Its name in the directory."""
        return self.item.name

    @property
    def bytes(self) -> int:
        """Its size."""
        return self.item.size if isinstance(self.item, File) else self.item.bytes


def find(
    directory: OpenDirectory, scanned: Directory, latest_filename: str, older_than: float, now: float
) -> tuple[Leftover, ...]:
    """Finds what was left behind in a directory, and decides what goes.

    Args:
        directory: The directory, held open.
        scanned: What a scan found in it.
        latest_filename: The state file's name.
        older_than: For how many seconds nothing may have been written there.
        now: Seconds since the epoch.
    """
    trees = {
        file.name: look(directory, file.name) for file in scanned.leftovers if file.kind is FileKind.OTHER
    }
    protected = set(scanned.pins.names)
    if scanned.state.latest is not None:
        protected.add(scanned.state.latest.name)
    found = [
        _described(directory, trees.get(file.name) or file, protected, latest_filename)
        for file in scanned.leftovers
    ]
    changes = [*_changes(directory, scanned, latest_filename), *(tree.changed for tree in trees.values())]
    latest = max(changes, default=0.0)
    busy = _busy(now - latest, older_than)
    return tuple(replace(one, keep=one.keep or busy) for one in found)


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
        return Tree(name, unknown="it cannot be read")


def _tree(inside: OpenDirectory, name: str) -> Tree:
    files, trees, unknown, size = [], [], None, 0
    own = os.fstat(inside.fd)
    changed = max(own.st_mtime, own.st_ctime)
    with os.scandir(inside.fd) as entries:
        for entry in sorted(entries, key=lambda one: one.name):
            found = entry.stat(follow_symlinks=False)
            changed = max(changed, found.st_mtime, found.st_ctime)
            size += found.st_size if entry.is_file(follow_symlinks=False) else 0
            if entry.is_file(follow_symlinks=False) and _belongs(name, removal.given_name(entry.name)):
                files.append(File(entry.name, found.st_size, found.st_mtime_ns, found.st_ino))
            elif entry.is_dir(follow_symlinks=False) and _nests(name, entry.name):
                trees.append(look(inside, entry.name))
                changed = max(changed, trees[-1].changed)
                size += trees[-1].bytes
                if trees[-1].unknown is not None:
                    unknown = f"{entry.name}/{trees[-1].unknown}"
            else:
                unknown = entry.name
    return Tree(name, tuple(files), tuple(trees), unknown, changed, size)


def _nests(tree: str, name: str) -> bool:
    return _WORKER.fullmatch(tree) is not None and _PARTS.fullmatch(name) is not None


def _belongs(tree: str, name: str) -> bool:
    """Whether a save puts a file of that name into a directory of parts of that name."""
    if not _WORKER.fullmatch(tree):
        return _PARTS.fullmatch(tree) is not None and _PART.fullmatch(name) is not None
    # A worker that is not the chief makes whole checkpoints there, to throw them away.
    parsed = naming.parse(name)
    if parsed is not None and parsed.role in {naming.Role.INDEX, naming.Role.SHARD}:
        return True
    return name == naming.STATE_FILE or _is_unrenamed(name, naming.STATE_FILE)


def _is_unrenamed(name: str, latest_filename: str) -> bool:
    if _UNRENAMED.fullmatch(name) or _META_UNRENAMED.fullmatch(name):
        return True
    states = "|".join(re.escape(state) for state in {naming.STATE_FILE, latest_filename})
    return re.fullmatch(rf"(?:{states}){_RANDOM}", name) is not None


def _described(
    directory: OpenDirectory, item: File | Tree, protected: Iterable[str], latest_filename: str
) -> Leftover:
    if isinstance(item, Tree):
        keep = None if item.unknown is None else f"no save puts there what is in it: {item.unknown}"
        if not (_PARTS.fullmatch(item.name) or _WORKER.fullmatch(item.name)):
            keep = "no save gives a directory that name"
        return Leftover(item, "parts of a save", keep)
    what, keep = _told_by_name(directory, item.name, latest_filename)
    parsed = naming.parse(item.name)
    if keep is not None:
        return Leftover(item, what, keep)
    if item.kind is not FileKind.REGULAR:
        keep = "it is not a regular file"
    elif parsed is not None and parsed.prefix and parsed.prefix in protected:
        keep = f"{parsed.prefix} is pinned, or the latest in the state file"
    elif not removal.is_removable(item):
        keep = "its name is too long to be deleted safely"
    return Leftover(item, what, keep)


def _told_by_name(directory: OpenDirectory, name: str, latest_filename: str) -> tuple[str, str | None]:
    """What a file is, and why it stays if its name is not one of a save's through and through."""
    parsed = naming.parse(name)
    role = naming.Role.LEFTOVER if parsed is None else parsed.role
    if role is naming.Role.PRIVATE:
        return "ckptctl's own", "the next run for the same state file puts it right"
    if role is naming.Role.SHARD:
        return "a shard without an index", None
    if role is naming.Role.META:
        sure = _META.fullmatch(name) is not None and _is_meta_graph(directory, name)
        return "a .meta without a checkpoint", None if sure else "it may be something else"
    known = _is_unrenamed(name, latest_filename)
    return "a file before its rename", None if known else "no save gives that name"


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
