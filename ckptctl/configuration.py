"""The policy in a file: `ckptctl.toml` beside the checkpoints, or one that the user names.

    keep = 3
    keep-every = "12h"

    [directories."runs/*-large"]     # in a file that the user names, for some of the directories alone
    max-size = "2TB"

What the keys mean, and of what kind their values are, is not known here.

Whoever may write a directory may put a file of that name there. It counts for no more than what its writer is
allowed to ask for: see `ConfigurationFile.distrust`.
"""

from __future__ import annotations

import difflib
import fnmatch
import os
import posixpath
import stat
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from ckptctl import naming, posix
from ckptctl.errors import CkptctlError, PolicyError, RefusedError, UnreadableError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from ckptctl.posix import OpenDirectory

MAX_BYTES = 64 * 1024
"""The largest file that is read."""

MAX_LINE = 1000
"""The longest line. A key of many dots takes the parser time by the square of their number."""

DIRECTORIES = "directories"
"""The table of tables for directories."""

_T = TypeVar("_T")

_WRITABLE_BY_OTHERS = 0o022
_SHOWN = 40
"""How much of a key that nobody knows is shown."""


class Document(NamedTuple):
    """What a file says.

    Attributes:
        settings: Its keys with their values, as TOML has them.
        tables: Patterns of directories, each with the keys that count for those.
    """

    settings: Mapping[str, Any]
    tables: tuple[tuple[str, Mapping[str, Any]], ...]


def parse(text: bytes, keys: Collection[str], others: Collection[str] = (), *, tables: bool) -> Document:
    """Reads a file's text.

    Args:
        text: All of it.
        keys: Those that are known.
        others: Options that are no keys.
        tables: Whether there may be tables for directories.

    Raises:
        PolicyError: It is empty or not TOML, or has a key that is not known or a table where none belongs.
    """
    found = _toml(text)
    for_directories = found.pop(DIRECTORIES, {})
    if for_directories and not tables:
        raise PolicyError(f"[{DIRECTORIES}] belongs in a file that --config names")
    if not isinstance(for_directories, dict):
        raise PolicyError(f'{DIRECTORIES} is to hold tables such as [{DIRECTORIES}."runs/*-large"]')
    _expect_known(found, keys, others)
    for pattern, table in for_directories.items():
        if not isinstance(table, dict):
            raise PolicyError(
                f"{DIRECTORIES}.{pattern:.{_SHOWN}} is to be a table: "
                f'[{DIRECTORIES}."{pattern:.{_SHOWN}}"] on a line of its own'
            )
        _expect_known(table, keys, others)
    return Document(
        found, tuple((naming.from_text(pattern), table) for pattern, table in for_directories.items())
    )


def _toml(text: bytes) -> dict[str, Any]:
    """Takes a file's text apart."""
    if len(text) > MAX_BYTES:
        raise PolicyError(f"it has more than {MAX_BYTES:,} bytes: no policy is as long")
    if max(map(len, text.split(b"\n"))) > MAX_LINE:
        raise PolicyError(
            f"it has a line of more than {MAX_LINE:,} bytes: break it where an array has a comma"
        )
    try:
        plain = text.decode("utf-8-sig")
        if not plain.strip():  # an editor leaves it so for a moment while it saves
            raise PolicyError("it is empty: put a rule into it, or remove it")
        return _loads(plain)
    except UnicodeDecodeError as error:
        raise PolicyError("it is not UTF-8, as TOML has to be") from error
    except RecursionError as error:
        raise PolicyError("its arrays or tables are nested too deeply") from error
    except ValueError as error:
        raise PolicyError(f"it is not TOML: {error}") from error


def _loads(text: str) -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib  # noqa: PLC0415 - most directories have no such file
    else:
        import tomli as tomllib  # noqa: PLC0415 - the same
    return tomllib.loads(text)


def _expect_known(found: Collection[str], keys: Collection[str], others: Collection[str]) -> None:
    for key in found:
        if key in keys:
            continue
        hint = "".join(
            f"; the nearest is {near}" for near in difflib.get_close_matches(key[:_SHOWN], keys, n=1)
        )
        if key in others:
            hint = f": --{key} belongs on the command line"
        raise PolicyError(f"there is no key {key[:_SHOWN]!r}{hint}")


def is_meant(pattern: str, path: str, root: str) -> bool:
    """Whether a pattern of directories means one.

    Args:
        pattern: A path, relative to the file's directory unless it begins with a slash. `*` and `?` stand for
            anything but a slash, `**` between slashes for any number of directories; all else is literal.
        path: The directory's, absolute and without links.
        root: The file's directory, absolute and without links.
    """
    here = path if pattern.startswith("/") else posixpath.relpath(path, root)
    return _fits(_parts(posixpath.normpath(pattern)), _parts(here))


def _parts(path: str) -> list[str]:
    return [] if path == "." else path.split("/")


def _fits(pattern: list[str], names: list[str]) -> bool:
    """Takes the time of as many comparisons as the two have pairs of parts, however many `**` there are."""
    taken = {0}  # by the parts of the pattern up to here: how many names that may be
    for part in pattern:
        if part == "**":
            for at, name in enumerate(names):
                if at in taken and name != "..":
                    taken.add(at + 1)
        else:
            taken = {at + 1 for at in taken if at < len(names) and _is_name(part, names[at])}
    return len(names) in taken


def _is_name(part: str, name: str) -> bool:
    return (name != ".." or part == "..") and fnmatch.fnmatchcase(name, part.replace("[", "[[]"))


class ConfigurationFile(NamedTuple):
    """A file that was read.

    Attributes:
        path: Where it is.
        text: All of it, or somewhat more than `MAX_BYTES`.
        identity: Device and inode.
        distrust: Why it may be another user's words, as it follows the path; None for one that the user or
            root wrote and nobody else may write. Who may write the directory can put a file there that is
            theirs, or one of the user's from elsewhere: that takes no more than deleting the checkpoints
            does, unless the directory is one in which each may delete but their own (the sticky bit).
    """

    path: str
    text: bytes
    identity: tuple[int, int]
    distrust: str | None


_Seen = tuple[int, ...]


_REMEMBERED = 1000
"""How many files are remembered before it is looked which of their directories are still there."""


@dataclass(slots=True)
class Files(Generic[_T]):
    """Files of configuration, each understood once for as long as it stays the same.

    Attributes:
        understand: Makes something of a file. May raise PolicyError.
    """

    understand: Callable[[ConfigurationFile], _T]
    _known: dict[str, tuple[_Seen, _T | PolicyError]] = field(default_factory=dict)
    _most: int = _REMEMBERED

    def named(self, path: str) -> _T:
        """A file that the user names; a link is followed.

        Raises:
            UnreadableError: It cannot be read.
            PolicyError: It cannot be understood.
        """
        head, name = os.path.split(path)
        try:
            with posix.open_directory(head or ".") as directory:
                return self._read(path, directory, name, follow=True)
        except PolicyError as error:
            raise PolicyError(f"{path}: {error}") from error
        except (OSError, ValueError, CkptctlError) as error:
            raise UnreadableError(
                f"{path}: the configuration cannot be read: {posix.reason(error)}"
            ) from error

    def own(self, directory: OpenDirectory) -> _T | None:
        """A directory's own file, if it has one.

        Raises:
            RefusedError: It cannot be read or understood, so that nobody knows what is to stay.
        """
        path = os.path.join(directory.path, naming.CONFIG_FILE)
        try:
            return self._read(path, directory, naming.CONFIG_FILE, follow=False)
        except FileNotFoundError:
            if self._known.pop(path, None) is None:
                return None
            raise RefusedError(  # an editor may be writing it anew
                f"{path} has just gone. Nothing is deleted at this look, for it asked for what is to stay"
            ) from None
        except (OSError, PolicyError, RefusedError) as error:
            raise RefusedError(
                f"{path}: {posix.reason(error)}. Nothing is deleted, for it may ask for more to be kept. "
                "Put it right, or do without it by --no-own-config"
            ) from error

    def _read(self, path: str, directory: OpenDirectory, name: str, *, follow: bool) -> _T:
        fd = posix.open_regular(directory.fd, name, follow=follow)
        try:
            found, mode = os.fstat(fd), os.fstat(directory.fd).st_mode
            identity = found.st_dev, found.st_ino
            # Whoever gives it to others, or to others to write, changes its ctime.
            seen = (*identity, found.st_size, found.st_mtime_ns, found.st_ctime_ns, mode)
            before = self._known.get(path)
            if before is None or before[0] != seen:
                text = os.pread(fd, MAX_BYTES + 1, 0)
                made: _T | PolicyError
                try:
                    made = self.understand(ConfigurationFile(path, text, identity, _distrust(found, mode)))
                except PolicyError as error:
                    made = error
                before = self._known[path] = seen, made
                self._forget_gone()
        finally:
            os.close(fd)
        if isinstance(before[1], PolicyError):
            raise PolicyError(str(before[1]))
        return before[1]

    def _forget_gone(self) -> None:
        """Lets go of directories that are not there any more, now and then; there may be new ones for ever.

        Of those that are there none is forgotten: see `own` for a file that goes.
        """
        if len(self._known) > self._most:
            self._known = {
                path: one for path, one in self._known.items() if os.path.isdir(os.path.dirname(path) or ".")
            }
            self._most = max(_REMEMBERED, 2 * len(self._known))


def _distrust(found: os.stat_result, directory: int) -> str | None:
    """See `ConfigurationFile.distrust`; of the directory the mode counts."""
    if found.st_uid not in {0, os.geteuid()}:
        return f"belongs to another user (uid {found.st_uid})"
    if found.st_mode & _WRITABLE_BY_OTHERS:
        return f"may be written by others (mode {found.st_mode & 0o777:o}; chmod go-w)"
    if directory & stat.S_ISVTX and directory & _WRITABLE_BY_OTHERS:
        return f"lies where others may put files (mode {directory & 0o7777:o})"
    return None
