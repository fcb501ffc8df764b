"""The state file: read through `tf.train.get_checkpoint_state`, written as TensorFlow writes it.

TensorFlow answers None both for a state file that is not there and for one that it cannot parse, waits for
ever on a FIFO, reads files of any size, and can be handed another file between its look and its reading. So
the file is opened here, once, safely, and TensorFlow is given the name of that descriptor: the text that it
parses is the one that an edit is made from.

Answers to `tensorflow/python/checkpoint/checkpoint_management.py`.
"""

from __future__ import annotations

import contextlib
import os
import posixpath
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

from ckptctl import naming, posix, rights, tensorflow
from ckptctl.errors import RefusedError
from ckptctl.model import ABSENT, State, StateEntry, StateStatus
from ckptctl.snapshot import Snapshot

if TYPE_CHECKING:
    from collections.abc import Collection

    from ckptctl.posix import OpenDirectory

MAX_MARKS = 1_500_000
"""The most quotes, colons, commas, dots and ends of lines in a text: 100,000 checkpoints with timestamps
have seven each, and up to eight dots in their paths. Nearly all the time of a reading goes by these."""
MAX_LINE = 1 << 18
"""Bytes of the longest line. A path has 4 KiB; the reader takes 200 bytes for each space or escape."""
MAX_BACKSLASHES = 16
"""The most in a row; in a longer one the reader looks for `\\x` by the square of their number."""

_MARKS = b"\"':,.\n"
_DESCRIPTORS = "/proc/self/fd"
_MAX_PARENTS = 64
"""How many different directories a state may name before all further ones are taken for foreign unlooked."""


class _Said(NamedTuple):
    """What a state file says, as it is written there."""

    latest: str
    paths: list[str]
    times: list[float]
    last_preserved: float | None


@dataclass(slots=True)
class Memory:
    """What the state files of directories said last: TensorFlow takes 15 us for each of their entries."""

    _last: dict[tuple[int, int, str], tuple[bytes, _Said | State]] = field(default_factory=dict)

    def said(self, directory: OpenDirectory, name: str, snapshot: Snapshot) -> _Said | State:
        """What a state file says; TensorFlow is asked where its text is another than the last time."""
        found = os.fstat(directory.fd)
        key = (found.st_dev, found.st_ino, name)
        text, said = self._last.pop(key, (b"", None))
        if said is None or text != snapshot.text:
            said = _parse(directory, name, snapshot)
        if snapshot.is_unchanged():  # else TensorFlow may have read more than we did
            self._last[key] = snapshot.text, said
        while len(self._last) > _REMEMBERED:
            del self._last[next(iter(self._last))]
        return said


_REMEMBERED = 1000
"""Directories."""


def read(directory: OpenDirectory, name: str, memory: Memory | None = None) -> tuple[State, Snapshot | None]:
    """Reads a directory's state file.

    Args:
        directory: The directory, held open.
        name: The state file's name.
        memory: What was read before; without it, TensorFlow is asked.

    Returns:
        The state, and the file that it was read from, to be closed by the caller; None if there is no file
        or it cannot be opened.
    """
    try:
        snapshot = Snapshot.take(directory.fd, name)
    except FileNotFoundError:
        return ABSENT, None
    except (OSError, RefusedError) as error:
        problem = posix.reason(error) + rights.why_not_read(error, directory.fd, name)
        forbidden = isinstance(error, PermissionError)
        return State(StateStatus.UNREADABLE, problem=problem, forbidden=forbidden), None
    try:
        return parse(directory, name, snapshot, memory), snapshot
    except BaseException:
        snapshot.close()
        raise


def parse(directory: OpenDirectory, name: str, snapshot: Snapshot, memory: Memory | None = None) -> State:
    """Has TensorFlow read a state file that is held open.

    Args:
        directory: The directory that it describes.
        name: The state file's name.
        snapshot: The file.
        memory: See `read`.

    Returns:
        The state; unreadable or invalid ones say why.
    """
    said = _parse(directory, name, snapshot) if memory is None else memory.said(directory, name, snapshot)
    if isinstance(said, State):
        return said
    latest, paths, times, last_preserved = said
    parallel = len(times) == len(paths)
    locate = _Locator(directory)
    entries = tuple([locate(path, times[at] if parallel else None) for at, path in enumerate(paths)])
    return State(
        StateStatus.OK,
        latest=next((entry for entry in entries if entry.path == latest), None) or locate(latest),
        entries=entries,
        last_preserved=last_preserved,
        editable=parallel or not times,
    )


def _parse(directory: OpenDirectory, name: str, snapshot: Snapshot) -> _Said | State:
    problem = _why_too_much(snapshot.text)
    if problem is not None:
        return State(StateStatus.UNREADABLE, problem=problem)
    here, file = _DESCRIPTORS, str(snapshot.fd)
    if not os.path.exists(f"{here}/{file}"):  # no /proc: another system, or a bare chroot
        here, file = directory.path, name
    try:
        found = tensorflow.get_checkpoint_state(here, file)
    except UnicodeDecodeError:
        return State(StateStatus.UNREADABLE, problem="it is not text: another program's file?")
    except ValueError:
        return State(StateStatus.INVALID, problem="it names no latest checkpoint (model_checkpoint_path)")
    if found is None:
        return State(StateStatus.UNREADABLE, problem="TensorFlow cannot parse it as a CheckpointState")

    def written(path: str) -> str:
        # TensorFlow has joined relative paths onto the directory that it was given.
        return naming.from_text(path.removeprefix(here + "/"))

    return _Said(
        written(found.model_checkpoint_path),
        [written(path) for path in found.all_model_checkpoint_paths],
        list(found.all_model_checkpoint_timestamps),
        found.last_preserved_timestamp or None,
    )


def _why_too_much(text: bytes) -> str | None:
    """What keeps a text from the reader, which would take minutes or gigabytes; no trainer writes such."""
    if sum(text.count(mark) for mark in _MARKS) > MAX_MARKS:
        return f"it has more than {MAX_MARKS:,} quotes, colons, commas, dots and lines: no list is as long"
    if b"\\" * (MAX_BACKSLASHES + 1) in text:
        return f"it has more than {MAX_BACKSLASHES} backslashes in a row, as no path has"
    lines = text.split(b"\n") if len(text) > MAX_LINE else ()
    if any(len(line) > MAX_LINE and not line.startswith(b"#") for line in lines):
        return f"it has a line of more than {MAX_LINE:,} bytes: no trainer writes such"
    return None


def without(state: State, names: Collection[str]) -> bytes | None:
    """The text of a state that no longer lists some checkpoints.

    Paths stay as they are written, and timestamps and `last_preserved_timestamp` stay with them: without
    those a CheckpointManager would adopt none of the entries.

    Args:
        state: A state that could be read.
        names: The names to drop. The latest stays listed, and so does what is foreign.

    Returns:
        The new text, or None if nothing is to be dropped, or if nothing can be: a state whose timestamps do
        not match its paths one to one.
    """
    latest = state.latest
    if latest is None or not state.editable:
        return None
    keep = tuple(
        entry
        for entry in state.entries
        if entry.foreign or entry.name == latest.name or entry.name not in names
    )
    return None if len(keep) == len(state.entries) else text(replace(state, entries=keep))


def text(state: State) -> bytes:
    """A state with a latest, as TensorFlow writes it."""
    fields: dict[str, object] = {
        "model_checkpoint_path": "" if state.latest is None else naming.to_text(state.latest.path),
        "all_model_checkpoint_paths": [naming.to_text(entry.path) for entry in state.entries],
        "all_model_checkpoint_timestamps": [e.timestamp for e in state.entries if e.timestamp is not None],
    }
    if state.last_preserved is not None:
        fields["last_preserved_timestamp"] = state.last_preserved
    return tensorflow.checkpoint_state(**fields).encode()


def refuse_misspelt(directory: OpenDirectory, name: str, state: State) -> None:
    """Refuses a state file that is absent beside one of the usual name; any other absence is none.

    Raises:
        RefusedError: It may be misspelt, and the trainer's last word would go unheard.
    """
    if state.status is not StateStatus.ABSENT or name == naming.STATE_FILE:
        return
    with contextlib.suppress(FileNotFoundError):
        os.stat(naming.STATE_FILE, dir_fd=directory.fd, follow_symlinks=False)
        raise RefusedError(
            f"{directory.path}: no state file {name}, but one called {naming.STATE_FILE}: "
            "leave out --latest-filename if the trainer writes that one; if not, wait until it has saved"
        )


class _Locator:
    """Tells which paths of a state lead into its directory."""

    def __init__(self, directory: OpenDirectory) -> None:
        self._directory = os.fstat(directory.fd)
        self._parents: dict[str, bool] = {}

    def __call__(self, path: str, timestamp: float | None = None) -> StateEntry:
        prefix = naming.listed_prefix(path)
        if "\0" in prefix:
            return StateEntry(path, "", foreign=True, timestamp=timestamp)
        if "/" not in prefix and prefix not in {"", ".", ".."}:
            return StateEntry(path, prefix, timestamp=timestamp)  # as nearly all are
        parent, base = posixpath.split(posixpath.normpath(prefix) if prefix else "")
        if base and base != ".." and self._is_here(parent):
            return StateEntry(path, base, timestamp=timestamp)
        # Windows writes backslashes, and none of its paths leads here.
        return StateEntry(path, re.split(r"[\\/]", prefix)[-1], foreign=True, timestamp=timestamp)

    def _is_here(self, parent: str) -> bool:
        if not posixpath.isabs(parent):
            return parent == ""
        if parent not in self._parents:
            if len(self._parents) >= _MAX_PARENTS:
                return False
            try:
                # The same directory may be known by another path: a link, a mount.
                found = os.stat(parent)
                self._parents[parent] = os.path.samestat(found, self._directory)
            except (OSError, ValueError):
                self._parents[parent] = False
        return self._parents[parent]
