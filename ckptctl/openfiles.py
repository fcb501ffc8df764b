"""Who has a file open: what Linux says in /proc of the processes on this machine, those of other users aside.

A file that is deleted while it is open stays readable to whoever opened it. But a restore opens an index
first and its shards later, some of them when a variable is made, and finds them gone. A file is known by its
device and inode, whatever path it was opened by; one that is mapped, by its inode and either of device and
name, since some file systems (overlay, btrfs) give another device there.
"""

from __future__ import annotations

import contextlib
import os
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ckptctl import posix
from ckptctl.errors import RefusedError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ckptctl.model import File
    from ckptctl.posix import OpenDirectory

_PROC = "/proc"
_MAPPING = re.compile(rb"\S+ \S+ \S+ (?P<major>[0-9a-f]+):(?P<minor>[0-9a-f]+) (?P<inode>\d+) +(?P<path>/.*)")


@dataclass(slots=True)
class Users:
    """Who uses some files.

    Attributes:
        pids: A process that has it open, by the file's name.
        hidden: How many processes may not be looked into.
    """

    pids: dict[str, int] = field(default_factory=dict)
    hidden: int = 0


def users(directory: OpenDirectory, files: Iterable[File]) -> Users:
    """Looks through all processes once.

    Args:
        directory: The directory that holds the files.
        files: What they are asked for.

    Raises:
        RefusedError: It cannot be told: this system has no /proc, or a limit is reached.
    """
    if not os.path.isdir(f"{_PROC}/self/fd"):
        raise RefusedError(
            f"{directory.path}: who has its files open is told by /proc alone, which is not there"
        )
    device = os.fstat(directory.fd).st_dev
    wanted: dict[int, list[str]] = {}  # a file may have several names
    for file in files:
        wanted.setdefault(file.inode, []).append(file.name)
    found = Users()
    for pid in filter(str.isdigit, os.listdir(_PROC)):
        try:
            for inode in _inodes(f"{_PROC}/{pid}", device, wanted):
                for name in wanted[inode]:
                    found.pids.setdefault(name, int(pid))
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has ended
        except PermissionError:
            found.hidden += 1
        except OSError as error:
            raise RefusedError(
                f"{directory.path}: it cannot be told who has its files open: {posix.reason(error)}"
            ) from error
    return found


def _inodes(process: str, device: int, wanted: dict[int, list[str]]) -> Iterator[int]:
    """Which of the files one process has open, or mapped."""
    with os.scandir(f"{process}/fd") as descriptors:
        for descriptor in descriptors:
            with contextlib.suppress(OSError):  # closed, or on a file system in trouble
                if os.readlink(descriptor.path).startswith("/"):  # else a pipe, a socket ...
                    found = os.stat(descriptor.path)
                    if found.st_dev == device and found.st_ino in wanted:
                        yield found.st_ino
    with open(f"{process}/maps", "rb") as mappings:
        for line in mappings:
            mapping = _MAPPING.match(line)
            inode = 0 if mapping is None else int(mapping["inode"])
            if mapping is None or inode not in wanted:
                continue
            its = os.makedev(int(mapping["major"], 16), int(mapping["minor"], 16))
            name = os.path.basename(mapping["path"].removesuffix(b" (deleted)"))
            names = [os.fsencode(one).replace(b"\n", rb"\012") for one in wanted[inode]]
            if its == device or name in names:
                yield inode
