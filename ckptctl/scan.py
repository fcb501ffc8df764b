"""A directory -> Directory: its checkpoints, its state, its leftovers, in one pass.

The state file is read before the directory: a checkpoint that the trainer adds in between is then unlisted
for once, while the other way round it would look missing.
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
import re
import time
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from ckptctl import chronology, naming, pinfile, posix, roots, statefile
from ckptctl.contents import CannotReadError, Contents, Looker
from ckptctl.errors import UnreadableError
from ckptctl.files import Group, Listing, file_of, list_files
from ckptctl.model import NAME, Checkpoint, Directory, File, FileKind, Format, Pins, State, StateEntry, Status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ckptctl.posix import OpenDirectory

SAVING_SECONDS = 3600.0
"""How long after it was written, or put there, an incomplete checkpoint counts as being saved."""


def scan(
    path: str | os.PathLike[str],
    *,
    latest_filename: str = naming.STATE_FILE,
    now: float | None = None,
    detailed: bool = False,
) -> Directory:
    """Looks at a directory of checkpoints.

    Args:
        path: The directory.
        latest_filename: The state file's name, for a trainer that chose one of its own.
        now: The time by which an incomplete checkpoint is young or old; the clock's by default.
        detailed: Whether `Checkpoint.details` are asked for.

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
        return scan_open(directory, state, now=now, detailed=detailed)


def scan_tree(
    path: str,
    *,
    latest_filename: str = naming.STATE_FILE,
    now: float | None = None,
    detailed: bool = False,
    on_error: Callable[[UnreadableError], None] | None = None,
) -> Iterator[Directory]:
    """Looks at a directory and at all below it, without following links.

    Args:
        path: Where to begin.
        latest_filename: See `scan`.
        now: See `scan`.
        detailed: See `scan`.
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
            found = scan(here, latest_filename=latest_filename, now=now, detailed=detailed)
        except UnreadableError as error:
            if here == path:
                raise
            if on_error is not None:
                on_error(error)
            continue
        if found.is_run and not found.saved_model:
            yield found
        waiting.extend(os.path.join(here, name) for name in sorted(found.subdirectories, reverse=True))


def scan_open(
    directory: OpenDirectory, state: State, *, now: float | None = None, detailed: bool = False
) -> Directory:
    """Looks at a directory that is held open, with its state already read.

    Args:
        directory: The directory.
        state: What its state file said before this call.
        now: See `scan`.
        detailed: See `scan`.

    Returns:
        What is there.

    Raises:
        UnreadableError: It cannot be listed, or its listing lacks what is there.
    """
    found = _list(directory, state)
    state = _resolve(state, found)
    looker = Looker(directory, detailed=detailed)
    moment = time.time() if now is None else now
    pins = pinfile.read(directory, listed=naming.PINS_FILE in found.bare)
    checkpoints, leftovers = _group(directory, looker, found, state, pins, moment)
    return Directory(
        path=directory.path,
        state=state,
        checkpoints=tuple(chronology.oldest_first(checkpoints, state)),
        leftovers=tuple(sorted([*found.leftovers, *leftovers], key=lambda file: file.name)),
        pins=pins,
        subdirectories=tuple(found.subdirectories),
        saved_model=roots.is_saved_model(directory, found.groups),
    )


def _resolve(state: State, found: Listing) -> State:
    """Sees Windows paths for what they are, unless a file really is called so."""

    def settle(entry: StateEntry) -> StateEntry:
        if entry.foreign or "\\" not in entry.name or entry.name in found.groups or entry.name in found.bare:
            return entry
        return replace(entry, name=re.split(r"[\\/]", entry.name)[-1], foreign=True)

    if state.latest is None or not any("\\" in one.name for one in (*state.entries, state.latest)):
        return state
    return replace(
        state, latest=settle(state.latest), entries=tuple(settle(entry) for entry in state.entries)
    )


def _list(directory: OpenDirectory, state: State) -> Listing:
    """Lists a directory, and looks by name for what the state lists and the listing lacks.

    Raises:
        UnreadableError: It cannot be listed, or not all of what is there.
    """
    lacking: str | None = None
    try:
        for _ in range(2):  # in the first, something may have been saved again meanwhile
            found = list_files(directory)
            lacking = next((name for name in _lacking(found, state) if _is_there(directory, name)), None)
            if lacking is None:
                return found
    except OSError as error:
        raise UnreadableError(f"{directory.path} cannot be listed: {posix.reason(error)}") from error
    raise UnreadableError(
        f"{directory.path} cannot be listed: {lacking} is there, and the listing lacks it; is the file "
        "system all right?"
    )


def _lacking(found: Listing, state: State) -> Iterator[str]:
    """The indexes of checkpoints that the state lists and the listing lacks; they are mostly gone indeed."""
    for entry in (*state.entries, state.latest):
        if entry is not None and entry.name:
            group = found.groups.get(entry.name)
            if group is None or group.index is None:
                yield f"{entry.name}.index"


def _is_there(directory: OpenDirectory, name: str) -> bool:
    try:
        os.stat(name, dir_fd=directory.fd, follow_symlinks=False)
    except ValueError:
        return False
    except OSError as error:
        if error.errno in {errno.ENOENT, errno.ENAMETOOLONG}:
            return False
        raise
    return True


def _group(
    directory: OpenDirectory, looker: Looker, found: Listing, state: State, pins: Pins, now: float
) -> tuple[list[Checkpoint], list[File]]:
    """Makes checkpoints of files and of what the state lists; what belongs to none is left over."""
    listed = {entry.name: entry for entry in state.entries}
    if state.latest is not None:
        listed.setdefault(state.latest.name, state.latest)
    checkpoints: list[Checkpoint] = []
    leftovers: list[File] = []
    # What stands alone under a name with a number may be a V1 checkpoint; other names need a witness.
    numbered = [name for name in found.bare if naming.step_of(name) is not None]
    for name in dict.fromkeys([*found.groups, *filter(None, listed), *numbered]):
        group = found.groups.get(name) or Group()
        entry = listed.get(name)
        if group.index is not None:
            made: _Made | None = _v2(looker, name, group, group.index, vouched=entry is not None)
        else:
            made = _v1(directory, looker, found, name, group, vouched=entry is not None)
        if made is None:
            leftovers += [file for _, file in group.shards]
            leftovers += [] if group.meta is None else [group.meta]
            if entry is None:
                continue
            made = _Made(name, Format.V2, Status.FOREIGN if entry.foreign else Status.MISSING)
        checkpoints.append(_described(made, found, state, pins, entry, now))
    return checkpoints, leftovers


class _Made(NamedTuple):
    """A checkpoint, as far as its own files tell."""

    name: str
    format: Format
    status: Status
    index_file: File | None = None
    shards: tuple[File, ...] = ()
    meta: File | None = None
    problem: str | None = None
    seen: Contents = Contents()


def _v2(looker: Looker, name: str, group: Group, index: File, *, vouched: bool) -> _Made:
    """An index with its shards: those of the last save, and any that an older one in other numbers left.

    Other programs have files called `faiss.index`, and data sets `train.data-00000-of-00003` beside one.
    """
    shards = group.shards
    if len(shards) > 1:
        shards.sort(key=lambda shard: (shard[0].shards, shard[0].shard))
    files = tuple([file for _, file in shards])
    odd = [file for file in (index, *files) if file.kind is not FileKind.REGULAR]
    other = next((file for file in odd if file.kind is FileKind.OTHER), None) if odd else None
    seen, status = Contents(), Status.COMPLETE
    if other is not None:
        problem: str | None = f"{other.name} is not a file"
    elif odd:
        problem = _missing_shards([parsed for parsed, _ in shards])
    else:
        try:
            sizes = {(parsed.shard, parsed.shards): file.size for parsed, file in shards}
            seen = looker.look(name, index, sizes)
        except CannotReadError as error:
            seen, status = _unknown(error), Status.UNREADABLE
        problem = seen.problem
        if seen.unlike and not vouched and (not shards or naming.step_of(name) is None):
            seen = seen._replace(doubt=f"a damaged checkpoint, or another program's: {problem}")
    status = Status.BROKEN if seen.corrupt else status
    return _Made(name, Format.V2, status, index, files, group.meta, problem, seen)


def _v1(
    directory: OpenDirectory, looker: Looker, found: Listing, name: str, group: Group, *, vouched: bool
) -> _Made | None:
    """A table with a list of tensors, under the bare prefix or one a shard.

    Any file might be called `model-1`, and data sets are called `train-00000-of-00010`: what is in it counts.
    """
    if group.shards:
        return None
    shards = sorted(group.v1_shards, key=lambda shard: (shard[0].shards, shard[0].shard))
    files = [file for _, file in shards]
    if not files and name in found.bare:
        with contextlib.suppress(FileNotFoundError):  # it went since it was listed
            files = [file_of(directory, found.bare[name])]
    if not files or any(file.kind is not FileKind.REGULAR for file in files):
        return None
    witnessed, status = vouched or group.meta is not None, Status.COMPLETE
    try:
        seen = looker.look_v1(name, tuple([file.name for file in files]), vouched=witnessed)
        if seen is None:
            return None
    except CannotReadError as error:
        if not witnessed:
            return None
        seen, status = _unknown(error), Status.UNREADABLE
    if seen.problem is not None and not vouched:  # other programs have tables and .meta files too
        seen = seen._replace(doubt=f"a damaged V1 checkpoint, or another program's: {seen.problem}")
    problem = seen.problem
    if shards:
        problem = problem or _missing_shards([parsed for parsed, _ in shards])
    return _Made(name, Format.V1, status, None, tuple(files), group.meta, problem, seen)


def _unknown(error: CannotReadError) -> Contents:
    return Contents(str(error), doubt=f"it cannot be told whether it restores: {error}")


def _missing_shards(parsed: list[naming.ParsedName]) -> str | None:
    """Which shard is not there, by the names alone; None if none is missing."""
    if not parsed:
        return "it has no shard"
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
    made: _Made,
    found: Listing,
    state: State,
    pins: Pins,
    entry: StateEntry | None,
    now: float,
) -> Checkpoint:
    """Adds what the state, the links and the clock say."""
    name, form, status, index, shards, meta, problem, seen = made
    first = index or (shards[0] if shards else None)
    saved = None if first is None else first.mtime
    if problem is not None and status is Status.COMPLETE:
        youngest = max(file.came for file in (index, *shards, meta) if file is not None)
        status = Status.SAVING if now - youngest < SAVING_SECONDS else Status.BROKEN
    if entry is not None and entry.timestamp is not None and math.isfinite(entry.timestamp):
        saved = entry.timestamp
    number = naming.step_of(name)
    step, step_from = number, None if number is None else NAME
    if seen.step is not None:
        step, step_from = seen.step.value, seen.step.source
    return Checkpoint(
        name,
        form,
        status,
        step=step,
        step_from=step_from,
        saved=saved,
        index=index,
        shards=shards,
        meta=meta,
        latest=state.latest is not None and state.latest.name == name,
        listed=entry is not None,
        preserved=entry is None and chronology.is_preserved(state, saved, number),
        pinned=name in pins.names,
        linked_from=_links_to(made, found) if found.links else (),
        problem=problem,
        doubt=seen.doubt,
        details=seen.details,
    )


def _links_to(made: _Made, found: Listing) -> tuple[str, ...]:
    """The names of links that lead to a checkpoint or to one of its files, by whatever path."""
    files = [file for file in (made.index_file, *made.shards, made.meta) if file is not None]
    linked = list(found.links.get(made.name, ()))
    for file in files:
        linked += found.links.get(file.name, ())
    for file in files:
        linked += found.targets.get(file.inode, ())
    return tuple(dict.fromkeys(linked))
