"""One ckptctl at a time in a directory: for a deed by a lock, for a purpose by a claim. No file is left."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import struct
import sys
from typing import TYPE_CHECKING

from ckptctl import posix
from ckptctl.errors import LockedError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ckptctl.posix import OpenDirectory


@contextlib.contextmanager
def lock(directory: OpenDirectory) -> Iterator[str | None]:
    """Keeps other ckptctl processes out of a directory, by a lock on its own descriptor: no file is left.

    Yields:
        None, or why the file system gives no such lock (NFS), for the user to be told.

    Raises:
        LockedError: Another process holds it.
    """
    try:
        fcntl.flock(directory.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise LockedError(
            f"{directory.path}: another ckptctl is at work here; try again when it is done"
        ) from None
    except OSError as error:
        yield f"this file system cannot lock a directory ({posix.reason(error)}): run one ckptctl at a time"
        return
    try:
        yield None
    finally:
        fcntl.flock(directory.fd, fcntl.LOCK_UN)


def claim(directory: OpenDirectory, purpose: str) -> socket.socket | None:
    """Makes this process the only one with a purpose in a directory, for as long as the socket is not closed.

    The lock of a directory is taken for one deed; this claim stands beside it, and leaves no file behind
    either: it is a name in Linux's abstract socket space, gone with the process.

    Returns:
        What to close in the end; None where the system has no such names, or where another user has taken
        this one, who has no say in it.

    Raises:
        LockedError: Another process of this user or of root has the claim.
    """
    identity = os.fstat(directory.fd)
    address = f"\0ckptctl-{purpose}-{identity.st_dev:x}-{identity.st_ino:x}"
    if sys.platform != "linux":
        return None
    claimed = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        claimed.bind(address)
        claimed.listen(1)
    except OSError:
        with claimed, contextlib.suppress(OSError):
            claimed.setblocking(False)  # nobody takes the call: after a few, the next would wait for ever
            try:
                claimed.connect(address)
            except BlockingIOError:
                raise LockedError(
                    f"{directory.path}: another ckptctl {purpose} has this directory already; one is enough"
                ) from None
            who = claimed.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
            pid, uid, _ = struct.unpack("3i", who)
            if uid in {0, os.getuid()}:
                raise LockedError(
                    f"{directory.path}: process {pid} has this directory already for ckptctl {purpose}; "
                    "one is enough"
                ) from None
        return None
    return claimed
