"""What the standard library lacks of POSIX: directories and signals held, conditional renames.

Everything that is read, renamed or deleted is named relative to a directory's own descriptor, so that a path
which is made to lead elsewhere in the meantime leads nobody astray. No link is followed.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import functools
import os
import signal
import stat
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ckptctl import naming
from ckptctl.errors import RefusedError, UnreadableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import FrameType

READ_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
"""How a file of a directory is opened for reading: no link is followed, no FIFO waited for."""

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""What asks a process to end: Ctrl-C, `kill`, a terminal that is closed."""

_DIRECTORY_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_RENAME_NOREPLACE = 1
_RENAME_EXCHANGE = 2
_MACOS_FLAGS = {_RENAME_NOREPLACE: 4, _RENAME_EXCHANGE: 2}
"""RENAME_EXCL and RENAME_SWAP of its renameatx_np, which takes what renameat2 takes."""
_UNSUPPORTED = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP})
_UNLINKABLE = _UNSUPPORTED | {errno.EPERM, errno.EMLINK, errno.EROFS}
"""How a system says that a file can have no second name here."""


@dataclass(frozen=True, slots=True)
class OpenDirectory:
    """A directory held open.

    Attributes:
        path: As the user named it, for messages.
        fd: Its descriptor.
    """

    path: str
    fd: int


@contextlib.contextmanager
def open_directory(path: str) -> Iterator[OpenDirectory]:
    """Holds a directory open. A link as `path` itself is followed: the user typed it.

    Raises:
        UnreadableError: It is not there, is not a directory, or may not be read.
    """
    try:
        fd = os.open(path, _DIRECTORY_FLAGS)
    except (OSError, ValueError) as error:
        raise _not_opened(path, error) from error
    try:
        yield OpenDirectory(path, fd)
    finally:
        os.close(fd)


@contextlib.contextmanager
def open_below(root: OpenDirectory, names: Iterable[str]) -> Iterator[OpenDirectory]:
    """Holds a directory open that lies below another, whatever is put in its path in the meantime.

    Each directory is opened in the one above it, and no link is followed: what is opened lay below the root
    at that moment.

    Args:
        root: Where the walk begins.
        names: The names to follow one after the other; none of them may be `..` or hold a slash.

    Raises:
        UnreadableError: There is no such directory, one of the names is a link, or one may not be read.
    """
    path, fd = root.path, os.dup(root.fd)
    try:
        for name in names:
            path, above = os.path.join(path, name), fd
            try:
                fd = os.open(name, _DIRECTORY_FLAGS | os.O_NOFOLLOW, dir_fd=above)
            except (OSError, ValueError) as error:
                raise _not_opened(path, error) from error
            os.close(above)
        yield OpenDirectory(path, fd)
    finally:
        os.close(fd)


def expect_at_path(directory: OpenDirectory) -> None:
    """Makes sure that a directory which is held open still is where the user named it.

    Raises:
        RefusedError: Its path leads elsewhere, or nowhere: it was moved, or a mount went away.
    """
    try:
        if os.path.samestat(os.stat(directory.path), os.fstat(directory.fd)):
            return
        why = "another directory is in its place now"
    except OSError as error:
        why = reason(error)
    raise RefusedError(f"{directory.path} no longer is where it was: {why}")


def belongs_to_checkpoint(path: str) -> bool:
    """Whether a path is a checkpoint's prefix, or one of its files."""
    return path != "" and os.path.lexists(f"{naming.prefix_of(path.rstrip('/'))}.index")


def _not_opened(path: str, error: Exception) -> UnreadableError:
    if not isinstance(error, (FileNotFoundError, NotADirectoryError)):
        return UnreadableError(f"{path} cannot be read: {reason(error)}")
    if belongs_to_checkpoint(path):
        where = os.path.dirname(naming.prefix_of(path.rstrip("/"))) or "."
        return UnreadableError(f"{path} belongs to a checkpoint: name its directory, {where}")
    if isinstance(error, FileNotFoundError) and path:
        return UnreadableError(f"{path}: no such directory")
    here = path or "an empty path"
    return UnreadableError(
        f"{here} is not a directory: name the one that the trainer writes its checkpoints to"
    )


@contextlib.contextmanager
def signals_held() -> Iterator[list[int]]:
    """Holds back the signals that ask the process to end until the context does, and delivers them then.

    One that the process ignores goes on being ignored: SIGHUP under nohup, SIGINT in a script's background.
    Only the main thread is ever interrupted by Python's handlers; in another there is nothing to hold.

    Yields:
        The signals that have come so far.
    """
    arrived: list[int] = []

    def note(number: int, _: FrameType | None) -> None:
        arrived.append(number)

    if threading.current_thread() is not threading.main_thread():
        yield arrived
        return
    try:
        with contextlib.ExitStack() as handlers:
            for number in ENDING:
                before = signal.getsignal(number)
                if before not in {None, signal.SIG_IGN}:  # None: one of C, which Python cannot put back
                    handlers.callback(signal.signal, number, before)
                    signal.signal(number, note)
            yield arrived
    finally:
        for one in dict.fromkeys(arrived):
            signal.raise_signal(one)


def open_regular(directory: int, name: str, *, follow: bool = False) -> int:
    """Opens a regular file for reading, and never waits for a FIFO's other end.

    Args:
        directory: The descriptor of its directory.
        name: Its name there.
        follow: Whether it may be a link that leads to one. Where the system has O_PATH, nothing but a regular
            file is opened even then: to open a device may set it going.

    Raises:
        OSError: It cannot be opened.
        RefusedError: It is not a regular file.
    """
    try:
        fd = _open_through(directory, name) if follow else os.open(name, READ_FLAGS, dir_fd=directory)
    except OSError as error:
        if error.errno in {errno.ELOOP, errno.ENXIO}:  # a link; a socket
            raise RefusedError(f"{name} is not a regular file") from None
        raise
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise RefusedError(f"{name} is not a regular file")
    return fd


@contextlib.contextmanager
def naming_paths(directory: OpenDirectory) -> Iterator[None]:
    """Has the system's errors name a file by its path: by a name relative to a descriptor nobody finds it."""
    try:
        yield
    except OSError as error:
        if not isinstance(error.filename, str):
            raise
        path = os.path.join(directory.path, error.filename)
        raise OSError(error.errno, error.strerror, path) from error


def exists(directory: int, name: str, *, follow: bool) -> bool:
    """Whether there is anything of a name, relative to a directory's descriptor.

    Args:
        directory: The descriptor.
        name: Any; what no file can be called is not there.
        follow: Whether a link counts as what it leads to.
    """
    try:
        os.stat(name, dir_fd=directory, follow_symlinks=follow)
    except (OSError, ValueError):
        return False
    return True


def _open_through(directory: int, name: str) -> int:
    flags = READ_FLAGS & ~os.O_NOFOLLOW
    if not hasattr(os, "O_PATH"):
        return os.open(name, flags, dir_fd=directory)
    place = os.open(name, os.O_PATH | os.O_CLOEXEC, dir_fd=directory)
    try:
        if not stat.S_ISREG(os.fstat(place).st_mode):
            raise RefusedError(f"{name} is not a regular file")
        return os.open(f"/proc/self/fd/{place}", flags)
    except OSError as error:
        raise OSError(error.errno, error.strerror, name) from None
    finally:
        os.close(place)


def exchange(directory: int, one: str, other: str) -> None:
    """Swaps two names at one stroke: at every moment both exist.

    Raises:
        NotImplementedError: The system or this file system has no such call (NFS, FUSE).
        OSError: Anything else.
    """
    _renameat2(directory, one, other, _RENAME_EXCHANGE)


def rename_new(directory: int, old: str, new: str) -> None:
    """Renames a file, or a directory, to a name that is free.

    Where the file system can neither rename on that condition nor link (many of FUSE), the name is looked at
    first, and then renamed to: what somebody else makes of that name between the two is replaced. Other
    processes of ours are kept out by the directory's lock.

    Raises:
        FileExistsError: It is not free.
        OSError: Anything else.
    """
    try:
        _renameat2(directory, old, new, _RENAME_NOREPLACE)
    except NotImplementedError:
        if stat.S_ISDIR(os.stat(old, dir_fd=directory, follow_symlinks=False).st_mode):
            os.rename(old, new, src_dir_fd=directory, dst_dir_fd=directory)  # onto an empty one at most
            return
        try:
            os.link(old, new, src_dir_fd=directory, dst_dir_fd=directory, follow_symlinks=False)
        except OSError as error:
            if error.errno not in _UNLINKABLE:
                raise
            _expect_free(directory, new)
            os.rename(old, new, src_dir_fd=directory, dst_dir_fd=directory)
        else:
            os.unlink(old, dir_fd=directory)


def _expect_free(directory: int, name: str) -> None:
    try:
        os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return
    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), name)


def sync(fd: int) -> None:
    """Waits until a file or directory is on the disk. Once: a failed fsync says nothing the second time.

    Raises:
        OSError: It could not be written; what is on the disk is unknown.
    """
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:  # some file systems sync no directories
            raise


def keep_owner(fd: int, like: os.stat_result) -> None:
    """Gives a file the owner of another, if it has not got it.

    Raises:
        PermissionError: It may not, or the owner has no number here: another user namespace's, or the file
            system keeps no owners.
        OSError: Anything else.
    """
    made = os.fstat(fd)
    if (made.st_uid, made.st_gid) != (like.st_uid, like.st_gid):
        with _as_forbidden("owner"):
            os.fchown(fd, like.st_uid, like.st_gid)


def keep_mode(fd: int, like: os.stat_result) -> None:
    """Gives a file the mode of another. Raises: see `keep_owner`."""
    with _as_forbidden("mode"):
        os.fchmod(fd, like.st_mode & 0o7777)


@contextlib.contextmanager
def _as_forbidden(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
        said = f"a new file cannot be given its {what} ({reason(error)})"
        raise PermissionError(errno.EPERM, said) from error


def reason(error: BaseException) -> str:
    """What went wrong, in the system's words."""
    said = error.strerror if isinstance(error, OSError) else None
    return said or str(error) or type(error).__name__


def _renameat2(directory: int, old: str, new: str, flags: int) -> None:
    call = _libc_renameat2()
    if call is None:
        raise NotImplementedError("renameat2")
    if call(directory, os.fsencode(old), directory, os.fsencode(new), flags) == 0:
        return
    number = ctypes.get_errno()
    if number in _UNSUPPORTED:
        raise NotImplementedError("renameat2")
    raise OSError(number, os.strerror(number), old, None, new)


@functools.cache
def _libc_renameat2() -> Callable[[int, bytes, int, bytes, int], int] | None:
    try:
        library = ctypes.CDLL(None, use_errno=True)
        macos = not hasattr(library, "renameat2")
        call = library.renameatx_np if macos else library.renameat2
    except (OSError, AttributeError):  # another system, or an old C library
        return None
    call.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint]
    call.restype = ctypes.c_int

    def renameat2(old_dir: int, old: bytes, new_dir: int, new: bytes, flags: int) -> int:
        result: int = call(old_dir, old, new_dir, new, _MACOS_FLAGS[flags] if macos else flags)
        return result

    return renameat2
