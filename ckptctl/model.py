"""What the rooms hand each other: frozen dataclasses, made by `scan` and `plan`, read by everyone.

Of files a directory may have many thousands: a `File` is a named tuple, which is made in a third of the time.

Times are seconds since the epoch, UTC; sizes are bytes. A *name* is a checkpoint's prefix relative to its
directory. Names come from the disk: they may hold any character, and bytes that are not UTF-8 stand in
them as surrogate escapes, as `os.fsdecode` makes them.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping


class StateStatus(enum.Enum):
    """What came of reading the state file."""

    OK = "ok"
    ABSENT = "absent"
    UNREADABLE = "unreadable"
    """It exists, and TensorFlow cannot parse it or the system does not let us read it."""
    INVALID = "invalid"
    """It parses, but names no latest checkpoint (an empty file, a comment alone)."""


@dataclass(frozen=True, slots=True)
class StateEntry:
    """One path of the state file.

    Attributes:
        path: As it is written there.
        name: The prefix that it stands for in this directory. For a foreign path that is its base name:
            what it would be if the directory was copied or is mounted elsewhere under another path.
        foreign: Whether the path leads outside the directory.
        timestamp: When the trainer says that it saved it, if it says so.
    """

    path: str
    name: str
    foreign: bool = False
    timestamp: float | None = None


@dataclass(frozen=True, slots=True)
class State:
    """The state file (CheckpointState) as TensorFlow reads it.

    Attributes:
        status: Whether there is one, and whether it can be read.
        latest: What `model_checkpoint_path` names.
        entries: `all_model_checkpoint_paths`, oldest first.
        last_preserved: `last_preserved_timestamp`; None where the writer did not set it.
        problem: Why it is unreadable or invalid.
        forbidden: Whether that is the system's doing, which does not let us read it: no repair changes that.
        editable: Whether an entry can be taken out: there is a timestamp for each path, or none at all.
    """

    status: StateStatus
    latest: StateEntry | None = None
    entries: tuple[StateEntry, ...] = ()
    last_preserved: float | None = None
    problem: str | None = None
    forbidden: bool = False
    editable: bool = True


ABSENT = State(StateStatus.ABSENT)


class FileKind(enum.Enum):
    """What a directory entry is; ckptctl deletes regular files only."""

    REGULAR = "regular"
    LINK = "link"
    OTHER = "other"


class File(NamedTuple):
    """A file of the directory, as it was when it was scanned.

    Attributes:
        name: Its name in the directory.
        size: Bytes. Of a link: of what it leads to, 0 if to nothing.
        mtime_ns: Nanoseconds since the epoch.
        inode: Together with size and mtime it tells whether the file was written again since.
        kind: Regular, link, or something else.
        ctime_ns: When it was changed last in any way, renamed or given another time; 0 if nobody asked.
    """

    name: str
    size: int
    mtime_ns: int
    inode: int
    kind: FileKind = FileKind.REGULAR
    ctime_ns: int = 0

    @property
    def mtime(self) -> float:
        """Seconds since the epoch."""
        return self.mtime_ns / 1e9

    @property
    def came(self) -> float:
        """When it was written or put here, by the later of its times: a copy may keep the former."""
        return max(self.mtime_ns, self.ctime_ns) / 1e9


class Format(enum.Enum):
    """The two formats in which TensorFlow has written checkpoints."""

    V2 = "v2"
    """TensorBundle: an index and shards."""
    V1 = "v1"
    """TF1 `write_version=V1`: an SSTable under the bare prefix, or one a shard."""


class Status(enum.Enum):
    """How a checkpoint stands."""

    COMPLETE = "complete"
    SAVING = "saving"
    """Incomplete and young: a trainer may be writing it, or a copy be under way."""
    BROKEN = "broken"
    """Incomplete and old, or proven corrupt."""
    UNREADABLE = "unreadable"
    """Nobody can tell: the system does not let us read it, or it is newer than what is read here."""
    MISSING = "missing"
    """Listed in the state file, not on disk."""
    FOREIGN = "foreign"
    """Listed with a path outside the directory, and nothing of that name inside."""


@dataclass(frozen=True, slots=True)
class Details:
    """What a checkpoint's list of tensors tells at a glance.

    Attributes:
        tensors: How many there are.
        parameters: How many numbers they hold, an optimizer's included.
        object_based: Whether an object graph is saved with them, as `tf.train.Checkpoint` does.
        counted: Whether there is a `save_counter`, as `Checkpoint.save` and a CheckpointManager keep.
        layers: Whether the graph's root is a Keras model.
    """

    tensors: int
    parameters: int
    object_based: bool = False
    counted: bool = False
    layers: bool = False


NAME = "name"
"""What a step is from that only the checkpoint's name tells."""


@dataclass(frozen=True, slots=True)
class Pins:
    """Which checkpoints of a directory are pinned.

    Attributes:
        names: Their names.
        problem: Why the file of pins cannot be read, if there is one.
    """

    names: frozenset[str] = frozenset()
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A prefix with its files.

    Attributes:
        name: The prefix, relative to the directory.
        format: V2 or V1.
        status: See `Status`.
        step: The step at which it was saved, as far as it says.
        step_from: What says so: a tensor, such as `optimizer/iter`, or `NAME`, the number behind the name's
            last dash.
        saved: When it was saved: the state's timestamp if it has one, else when its index was written.
        index: `P.index`. V1 has none.
        shards: The data files.
        meta: `P.meta`, a TF1 MetaGraphDef.
        latest: Whether the state file names it as the latest.
        latest_elsewhere: Whether the usual state file does, where one of another name was asked for.
        listed: Whether the state file names it at all.
        preserved: Unlisted, and no later than `last_preserved_timestamp`: a CheckpointManager with
            `keep_checkpoint_every_n_hours` may have left it to be kept for ever.
        pinned: Whether the user wants it kept until it is unpinned.
        linked_from: Names of links in the directory that lead to one of its files.
        used_by: A process that has one of its files open, if that was asked for.
        problem: Why it is not complete.
        doubt: What speaks against it and does not prove it broken; it then counts for nothing, and stays.
        details: What it holds, if that was asked for.
        dated_ahead: Whether `saved` is in the future, as a plan tells its rules: it is no end of a run.
    """

    name: str
    format: Format
    status: Status
    step: int | None = None
    step_from: str | None = None
    saved: float | None = None
    index: File | None = None
    shards: tuple[File, ...] = ()
    meta: File | None = None
    latest: bool = False
    latest_elsewhere: bool = False
    listed: bool = False
    preserved: bool = False
    pinned: bool = False
    linked_from: tuple[str, ...] = ()
    used_by: int | None = None
    problem: str | None = None
    doubt: str | None = None
    details: Details | None = None
    dated_ahead: bool = False

    @property
    def files(self) -> tuple[File, ...]:
        """Its files in the order in which they are deleted: index, shards, meta.

        Without its index TensorFlow sees no checkpoint: a deletion cut short leaves nothing that looks whole.
        """
        files = self.shards if self.index is None else (self.index, *self.shards)
        return files if self.meta is None else (*files, self.meta)

    @property
    def bytes(self) -> int:
        """The size of its files together."""
        return sum(file.size for file in self.files)

    @property
    def complete(self) -> bool:
        """Whether all its files are there."""
        return self.status is Status.COMPLETE

    @property
    def written(self) -> float:
        """When the youngest of its files was written, seconds since the epoch."""
        return max([file.mtime_ns for file in self.files]) / 1e9

    @property
    def regular(self) -> bool:
        """Whether it is made of regular files alone, and so can be vouched for and deleted."""
        return not [file for file in self.files if file.kind is not FileKind.REGULAR]

    @property
    def on_disk(self) -> bool:
        """Whether it has files in the directory."""
        return self.status is not Status.MISSING and self.status is not Status.FOREIGN


@dataclass(frozen=True, slots=True)
class Directory:
    """Where one trainer writes, as one pass over it found it.

    Attributes:
        path: As the user named it.
        state: Its state file.
        checkpoints: Oldest first: by the state's own order and timestamps where listed, else by the index's
            mtime. Missing and foreign ones are among them.
        leftovers: What an interrupted save or prune left behind, and what a save under way has not yet
            renamed.
        pins: Which of its checkpoints are pinned.
        subdirectories: Names of directories in it that may be run directories themselves.
        saved_model: Whether it is a SavedModel's `variables/`.
    """

    path: str
    state: State
    checkpoints: tuple[Checkpoint, ...] = ()
    leftovers: tuple[File, ...] = ()
    pins: Pins = Pins()
    subdirectories: tuple[str, ...] = ()
    saved_model: bool = False

    @property
    def is_run(self) -> bool:
        """Whether a trainer has written here: there are checkpoints or a state file."""
        return bool(self.checkpoints) or self.state.status is not StateStatus.ABSENT


@dataclass(frozen=True, slots=True)
class Measured:
    """What a metric says of a directory's checkpoints.

    Attributes:
        metric: What it is called.
        values: The value of each checkpoint that has one, by name.
        best: The name of the best complete one; of equals the newest.
    """

    metric: str
    values: Mapping[str, float]
    best: str | None


@dataclass(frozen=True, slots=True)
class Decision:
    """What becomes of one checkpoint, and why.

    Attributes:
        checkpoint: The one it is about.
        keep: Kept or deleted.
        reasons: At least one.
        counts: Whether it is kept as one of the newest, by a rule or a protection: then it has to restore.
        rules: What the rules say for it. It may go even so, where the size does not allow for it.
        protections: What else speaks for it, and stands above every rule.
    """

    checkpoint: Checkpoint
    keep: bool
    reasons: tuple[str, ...]
    counts: bool = False
    rules: tuple[str, ...] = ()
    protections: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """Keep or delete, for each checkpoint that is on disk; nothing is deleted that no plan shows.

    Attributes:
        directory: The path of the directory.
        policy: The policy as a sentence.
        decisions: Oldest first.
        notes: What the user should know before the plan is carried out.
        over_bytes: By how much what has to stay is larger than the policy allows.
    """

    directory: str
    policy: str
    decisions: tuple[Decision, ...]
    notes: tuple[str, ...] = ()
    over_bytes: int = 0

    @property
    def keep(self) -> tuple[Decision, ...]:
        """The checkpoints that stay, oldest first."""
        return tuple(decision for decision in self.decisions if decision.keep)

    @property
    def delete(self) -> tuple[Decision, ...]:
        """The checkpoints that go, oldest first."""
        return tuple(decision for decision in self.decisions if not decision.keep)


@dataclass(frozen=True, slots=True)
class Failure:
    """A checkpoint that was to be deleted and could not be.

    Attributes:
        name: The checkpoint's.
        error: Why.
    """

    name: str
    error: str


@dataclass(frozen=True, slots=True)
class Report:
    """What carrying out a plan came to.

    Attributes:
        plan: The plan that was carried out.
        dry_run: If true, nothing was touched.
        deleted: Names, in the order of deletion.
        spared: Names that the plan would have deleted, and that were kept after all because the trainer
            wrote or named them in the meantime.
        failed: What could not be deleted.
        freed_bytes: What the file system has got back.
        notes: What else the user should know.
        refused: Why it ended before everything was deleted, if going on might have cost data.
        state: The state file as it was before.
    """

    plan: Plan
    dry_run: bool = False
    deleted: tuple[str, ...] = ()
    spared: tuple[str, ...] = ()
    failed: tuple[Failure, ...] = ()
    freed_bytes: int = 0
    notes: tuple[str, ...] = field(default=())
    refused: str | None = None
    state: State = ABSENT
