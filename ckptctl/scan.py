"""A directory -> Directory: its checkpoints, its state, its leftovers, in one pass.

The state file is read before the directory: a checkpoint that the trainer adds in between is then unlisted
for once, while the other way round it would look missing.
"""

from __future__ import annotations

import contextlib
import math
import os
import posixpath
import re
import stat
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from ckptctl import chronology, naming, posix, statefile
from ckptctl.errors import UnreadableError
from ckptctl.model import Checkpoint, Directory, File, FileKind, Format, State, StateEntry, Status
from ckptctl.naming import Role

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ckptctl.posix import OpenDirectory

SAVING_SECONDS = 3600.0
"""How long after its last write an incomplete checkpoint counts as being saved."""

_TABLE_MAGIC = 0xDB4775248B80FB57.to_bytes(8, "little")
"""The last bytes of every index and of every V1 data file: both are LevelDB tables, written front to back."""


def scan(
    path: str | os.PathLike[str], *, latest_filename: str = naming.STATE_FILE, now: float | None = None
) -> Directory:
    """Looks at a directory of checkpoints.

    Args:
        path: The directory.
        latest_filename: The state file's name, for a trainer that chose one of its own.
        now: The time by which an incomplete checkpoint is young or old; the clock's by default.

    Returns:
        What is there.

    Raises:
        UnreadableError: The directory is not there or cannot be read. A state file that cannot be read is
            no error: see `Directory.state`.
    """
    with posix.open_directory(os.fspath(path)) as directory:
        state, snapshot = statefile.read(directory, latest_filename)
        if snapshot is not None:
            snapshot.close()
        return scan_open(directory, state, now=now)


def scan_tree(
    path: str,
    *,
    latest_filename: str = naming.STATE_FILE,
    now: float | None = None,
    on_error: Callable[[UnreadableError], None] | None = None,
) -> Iterator[Directory]:
    """Looks at a directory and at all below it, without following links.

    Args:
        path: Where to begin.
        latest_filename: See `scan`.
        now: See `scan`.
        on_error: Is told of each directory below `path` that cannot be read.

    Yields:
        Each directory that a trainer wrote to, parents first. A SavedModel's `variables/` is none.

    Raises:
        UnreadableError: `path` itself cannot be read.
    """
    waiting = [path]
    while waiting:
        here = waiting.pop()
        try:
            found = scan(here, latest_filename=latest_filename, now=now)
        except UnreadableError as error:
            if here == path:
                raise
            if on_error is not None:
                on_error(error)
            continue
        if found.is_run and not found.saved_model:
            yield found
        waiting.extend(os.path.join(here, name) for name in sorted(found.subdirectories, reverse=True))


def scan_open(directory: OpenDirectory, state: State, *, now: float | None = None) -> Directory:
    """Looks at a directory that is held open, with its state already read.

    Args:
        directory: The directory.
        state: What its state file said before this call.
        now: See `scan`.

    Returns:
        What is there.

    Raises:
        UnreadableError: It cannot be listed.
    """
    try:
        found = _list(directory)
    except OSError as error:
        raise UnreadableError(f"{directory.path} cannot be listed: {posix.reason(error)}") from error
    state = _resolve(state, found)
    checkpoints, leftovers = _group(directory, found, state, time.time() if now is None else now)
    return Directory(
        path=directory.path,
        state=state,
        checkpoints=tuple(chronology.oldest_first(checkpoints, state)),
        leftovers=tuple(sorted([*found.leftovers, *leftovers], key=lambda file: file.name)),
        subdirectories=tuple(found.subdirectories),
        saved_model=_is_saved_model(directory, found),
    )


@dataclass(slots=True)
class _Group:
    """The files of one prefix, as they are met."""

    index: File | None = None
    meta: File | None = None
    shards: list[tuple[naming.ParsedName, File]] = field(default_factory=list)
    v1_shards: list[tuple[naming.ParsedName, File]] = field(default_factory=list)


@dataclass(slots=True)
class _Listing:
    """One pass over the directory, sorted by role."""

    groups: dict[str, _Group] = field(default_factory=dict)
    bare: dict[str, os.DirEntry[str]] = field(default_factory=dict)
    links: dict[str, list[str]] = field(default_factory=dict)
    targets: dict[int, list[str]] = field(default_factory=dict)
    """Inodes that links lead to, by whatever path."""
    leftovers: list[File] = field(default_factory=list)
    subdirectories: list[str] = field(default_factory=list)


def _list(directory: OpenDirectory) -> _Listing:
    found = _Listing()
    with os.scandir(directory.fd) as entries:
        for entry in entries:
            try:
                _sort_in(found, directory, entry)
            except FileNotFoundError:
                continue
    return found


def _sort_in(found: _Listing, directory: OpenDirectory, entry: os.DirEntry[str]) -> None:
    parsed = naming.parse(entry.name)
    if entry.is_symlink():
        target = os.readlink(entry.name, dir_fd=directory.fd)
        found.links.setdefault(_inside(directory, target), []).append(entry.name)
        with contextlib.suppress(OSError):  # dangling
            found.targets.setdefault(os.stat(entry.name, dir_fd=directory.fd).st_ino, []).append(entry.name)
    elif entry.is_dir(follow_symlinks=False):
        if naming.is_leftover_directory(entry.name):
            found.leftovers.append(_tree(directory, entry))
            return
        found.subdirectories.append(entry.name)
    if parsed is None:
        found.bare[entry.name] = entry
        return
    file = _file(directory, entry)
    role = parsed.role
    if role is Role.LEFTOVER or role is Role.PRIVATE:
        found.leftovers.append(file)
        return
    group = found.groups.get(parsed.prefix)
    if group is None:
        group = found.groups[parsed.prefix] = _Group()
    if role is Role.INDEX:
        group.index = file
    elif role is Role.META:
        group.meta = file
    elif role is Role.SHARD:
        group.shards.append((parsed, file))
    else:
        group.v1_shards.append((parsed, file))


def _file(directory: OpenDirectory, entry: os.DirEntry[str]) -> File:
    found = entry.stat(follow_symlinks=False)
    kind, size = FileKind.OTHER, 0
    if stat.S_ISREG(found.st_mode):
        kind, size = FileKind.REGULAR, found.st_size
    elif stat.S_ISLNK(found.st_mode):
        with contextlib.suppress(OSError):
            target = os.stat(entry.name, dir_fd=directory.fd)
            if stat.S_ISREG(target.st_mode):
                kind, size = FileKind.LINK, target.st_size
    return File(entry.name, size, found.st_mtime_ns, found.st_ino, kind)


def _tree(directory: OpenDirectory, entry: os.DirEntry[str]) -> File:
    """A directory of parts; savers put files into it and no directories."""
    found = entry.stat(follow_symlinks=False)
    size = 0
    with contextlib.suppress(OSError):
        fd = os.open(entry.name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=directory.fd)
        try:
            with os.scandir(fd) as parts:
                size = sum(part.stat(follow_symlinks=False).st_size for part in parts)
        finally:
            os.close(fd)
    return File(entry.name, size, found.st_mtime_ns, found.st_ino, FileKind.OTHER)


def _inside(directory: OpenDirectory, target: str) -> str:
    """The name in the directory that a link leads to, or an empty one."""
    parent, base = posixpath.split(posixpath.normpath(target))
    if parent and parent not in {os.path.abspath(directory.path), os.path.realpath(directory.path)}:
        return ""
    return base


def _resolve(state: State, found: _Listing) -> State:
    """Sees Windows paths for what they are, unless a file really is called so."""

    def settle(entry: StateEntry) -> StateEntry:
        if entry.foreign or "\\" not in entry.name or entry.name in found.groups or entry.name in found.bare:
            return entry
        return replace(entry, name=re.split(r"[\\/]", entry.name)[-1], foreign=True)

    if state.latest is None:
        return state
    return replace(
        state, latest=settle(state.latest), entries=tuple(settle(entry) for entry in state.entries)
    )


def _group(
    directory: OpenDirectory, found: _Listing, state: State, now: float
) -> tuple[list[Checkpoint], list[File]]:
    """Makes checkpoints of files and of what the state lists; what belongs to none is left over."""
    listed = {entry.name: entry for entry in state.entries}
    if state.latest is not None:
        listed.setdefault(state.latest.name, state.latest)
    checkpoints: list[Checkpoint] = []
    leftovers: list[File] = []
    for name in [*found.groups, *(name for name in listed if name and name not in found.groups)]:
        group = found.groups.get(name, _Group())
        entry = listed.get(name)
        if group.index is not None:
            made: Checkpoint | None = _v2(directory, name, group, group.index)
        else:
            made = _v1(directory, found, name, group, entry)
        if made is None:
            leftovers += [file for _, file in group.shards]
            leftovers += [] if group.meta is None else [group.meta]
            if entry is None:
                continue
            made = Checkpoint(name, Format.V2, Status.FOREIGN if entry.foreign else Status.MISSING)
        checkpoints.append(_described(made, found, state, entry, now))
    return checkpoints, leftovers


def _v2(directory: OpenDirectory, name: str, group: _Group, index: File) -> Checkpoint:
    """An index with its shards: those of the last save, and any that an older one in other numbers left."""
    shards = group.shards
    if len(shards) > 1:
        shards.sort(key=lambda shard: (shard[0].shards, shard[0].shard))
    files = tuple([file for _, file in shards])
    problem = None
    for file in (index, *files):
        if file.kind is FileKind.OTHER:
            problem = f"{file.name} is not a file"
            break
    if problem is None and index.kind is FileKind.REGULAR:
        table = _is_table(directory, index)
        if table is None:
            index = replace(index, kind=FileKind.OTHER)  # not to be vouched for, nor deleted
            problem = "its index cannot be read"
        elif not table:
            problem = "its index is cut short" if index.size else "its index is empty"
    return Checkpoint(
        name,
        Format.V2,
        Status.COMPLETE,
        index=index,
        shards=files,
        meta=group.meta,
        problem=problem or _missing_shards([parsed for parsed, _ in shards]),
    )


def _v1(
    directory: OpenDirectory, found: _Listing, name: str, group: _Group, entry: StateEntry | None
) -> Checkpoint | None:
    """A table under the bare prefix or one a shard, with a .meta or a mention in the state to vouch for it.

    Any file might be called `model`, and data sets are called `train-00000-of-00010`: only tables count.
    """
    if group.shards or (group.meta is None and entry is None):
        return None
    problem = None
    shards = sorted(group.v1_shards, key=lambda shard: (shard[0].shards, shard[0].shard))
    files = [file for _, file in shards]
    if shards:
        problem = _missing_shards([parsed for parsed, _ in shards])
    elif name in found.bare:
        files = [_file(directory, found.bare[name])]
    tables = [_is_table(directory, file) for file in files]
    if not files or False in tables:
        return None
    if None in tables:
        files = [replace(file, kind=FileKind.OTHER) for file in files]  # not to be vouched for, nor deleted
        problem = "it cannot be read"
    return Checkpoint(name, Format.V1, Status.COMPLETE, shards=tuple(files), meta=group.meta, problem=problem)


def _missing_shards(parsed: list[naming.ParsedName]) -> str | None:
    """Which shard is not there; None if none is missing."""
    if not parsed:
        return "it has no shard"
    if len(parsed) == parsed[0].shards == 1:
        return None
    there: dict[int, set[int]] = {}
    for one in parsed:
        there.setdefault(one.shards, set()).add(one.shard)
    lacking = [(shards, numbers) for shards, numbers in there.items() if len(numbers) != shards]
    if not lacking:
        return None
    # Which of several numbers of shards the index means is not known here: all have to be there.
    shards, numbers = lacking[0]
    first = next(number for number in range(shards) if number not in numbers)
    return f"shard {first} of {shards} is not there"


def _described(
    made: Checkpoint, found: _Listing, state: State, entry: StateEntry | None, now: float
) -> Checkpoint:
    """Adds what the state, the links and the clock say."""
    saved: float | None = None
    status, problem = made.status, made.problem
    if made.on_disk:
        saved = made.files[0].mtime
        if problem is not None:
            youngest = max(file.mtime for file in made.files)
            status = Status.SAVING if now - youngest < SAVING_SECONDS else Status.BROKEN
    if entry is not None and entry.timestamp is not None and math.isfinite(entry.timestamp):
        saved = entry.timestamp
    step = naming.step_of(made.name)
    linked: list[str] = []
    if found.links:
        for name in (made.name, *(file.name for file in made.files)):
            linked += found.links.get(name, [])
        for file in made.files:
            linked += found.targets.get(file.inode, [])
    return Checkpoint(  # `replace` would cost as much as all the rest
        made.name,
        made.format,
        status,
        index=made.index,
        shards=made.shards,
        meta=made.meta,
        problem=problem,
        step=step,
        saved=saved,
        latest=state.latest is not None and state.latest.name == made.name,
        listed=entry is not None,
        preserved=entry is None and chronology.is_preserved(state, saved, step),
        linked_from=tuple(dict.fromkeys(linked)),
    )


def _is_table(directory: OpenDirectory, file: File) -> bool | None:
    """Whether a file ends as a table does; None if it cannot be read now, which proves nothing."""
    if file.kind is not FileKind.REGULAR:
        return False
    try:
        # What has become of it since it was seen to be a regular file does not matter: a link is not
        # followed, a FIFO not waited for, and neither can be read at an offset.
        fd = os.open(file.name, posix.READ_FLAGS, dir_fd=directory.fd)
    except OSError:
        return None
    try:
        return os.pread(fd, len(_TABLE_MAGIC), max(0, file.size - len(_TABLE_MAGIC))) == _TABLE_MAGIC
    except OSError:
        return None
    finally:
        os.close(fd)


def _is_saved_model(directory: OpenDirectory, found: _Listing) -> bool:
    """`variables/` of an export. TensorFlow writes it before the `saved_model.pb` beside it."""
    if "variables" in found.groups and os.path.basename(os.path.realpath(directory.path)) == "variables":
        return True
    return (
        any(_exists(directory, f"../{name}") for name in ("saved_model.pb", "saved_model.pbtxt"))
        and "variables" in found.groups
    )


def _exists(directory: OpenDirectory, name: str) -> bool:
    try:
        os.stat(name, dir_fd=directory.fd)
    except OSError:
        return False
    return True
