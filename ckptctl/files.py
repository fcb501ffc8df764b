"""A directory -> its files by prefix and role, in one pass. What they hold is not looked at."""

from __future__ import annotations

import contextlib
import os
import posixpath
import stat
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ckptctl import naming
from ckptctl.model import File, FileKind
from ckptctl.naming import ParsedName, Role

if TYPE_CHECKING:
    from ckptctl.posix import OpenDirectory


@dataclass(slots=True)
class Group:
    """The files of one prefix.

    Attributes:
        index: `P.index`.
        meta: `P.meta`.
        shards: `P.data-NNNNN-of-MMMMM`.
        v1_shards: `P-NNNNN-of-MMMMM`.
    """

    index: File | None = None
    meta: File | None = None
    shards: list[tuple[ParsedName, File]] = field(default_factory=list)
    v1_shards: list[tuple[ParsedName, File]] = field(default_factory=list)


@dataclass(slots=True)
class Listing:
    """A directory's entries.

    Attributes:
        groups: What a saver's files are called, by prefix.
        bare: What no saver calls its files, by name; a V1 checkpoint may be among them.
        links: Names of links, by the name in the directory that they lead to; an empty one for the others.
        targets: Names of links, by the inode that they lead to, by whatever path.
        leftovers: Parts of saves under way or cut short, and private files of ours.
        subdirectories: Names of the others.
    """

    groups: dict[str, Group] = field(default_factory=dict)
    bare: dict[str, os.DirEntry[str]] = field(default_factory=dict)
    links: dict[str, list[str]] = field(default_factory=dict)
    targets: dict[int, list[str]] = field(default_factory=dict)
    leftovers: list[File] = field(default_factory=list)
    subdirectories: list[str] = field(default_factory=list)


def list_files(directory: OpenDirectory) -> Listing:
    """Goes through a directory once.

    Args:
        directory: The directory, held open.

    Raises:
        OSError: It cannot be listed.
    """
    found = Listing()
    with os.scandir(directory.fd) as entries:
        for entry in entries:
            try:
                _sort_in(found, directory, entry)
            except FileNotFoundError:
                continue
    return found


def file_of(directory: OpenDirectory, entry: os.DirEntry[str]) -> File:
    """What a directory entry is.

    Raises:
        OSError: It went.
    """
    found = entry.stat(follow_symlinks=False)
    if stat.S_ISREG(found.st_mode):
        return File(entry.name, found.st_size, found.st_mtime_ns, found.st_ino, ctime_ns=found.st_ctime_ns)
    kind, size = FileKind.OTHER, 0
    if stat.S_ISLNK(found.st_mode):
        with contextlib.suppress(OSError):
            target = os.stat(entry.name, dir_fd=directory.fd)
            if stat.S_ISREG(target.st_mode):
                kind, size = FileKind.LINK, target.st_size
    return File(entry.name, size, found.st_mtime_ns, found.st_ino, kind)


def _sort_in(found: Listing, directory: OpenDirectory, entry: os.DirEntry[str]) -> None:
    parsed = naming.parse(entry.name)
    if entry.is_file(follow_symlinks=False):
        pass  # as nearly all are
    elif entry.is_symlink():
        target = os.readlink(entry.name, dir_fd=directory.fd)
        found.links.setdefault(_inside(directory, target), []).append(entry.name)
        with contextlib.suppress(OSError):  # dangling
            found.targets.setdefault(os.stat(entry.name, dir_fd=directory.fd).st_ino, []).append(entry.name)
    elif entry.is_dir(follow_symlinks=False):
        if naming.is_leftover_directory(entry.name):
            found.leftovers.append(_tree(directory, entry))
            return
        if naming.may_be_a_run(entry.name):
            found.subdirectories.append(entry.name)
    if parsed is None:
        found.bare[entry.name] = entry
        return
    _add(found, parsed, file_of(directory, entry))


def _add(found: Listing, parsed: ParsedName, file: File) -> None:
    role = parsed.role
    if role is Role.LEFTOVER or role is Role.PRIVATE:
        found.leftovers.append(file)
        return
    group = found.groups.get(parsed.prefix)
    if group is None:
        group = found.groups[parsed.prefix] = Group()
    if role is Role.INDEX:
        group.index = file
    elif role is Role.META:
        group.meta = file
    elif role is Role.SHARD:
        group.shards.append((parsed, file))
    else:
        group.v1_shards.append((parsed, file))


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
    """The name in the directory that a link leads to, by whatever path; an empty one for others."""
    parent, base = posixpath.split(posixpath.normpath(target))
    if parent:
        try:
            if not os.path.samestat(os.stat(parent, dir_fd=directory.fd), os.fstat(directory.fd)):
                return ""
        except (OSError, ValueError):
            return ""
    return base
