"""What the name of a leftover tells: what it is, of which checkpoint, and why it stays. Pure: no disk here.

Other programs give names of the same kind, too: data sets are written as `train.data-00000-of-00003`. So a
name that is not TensorFlow's alone counts only where a trainer has been, and with a prefix that is a save's.

Answers to `save_restore_v2_ops.cc`, `tensor_bundle.cc` and `tensor_slice_writer.cc`, to `Saver`, and to
Keras' `workertemp_`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from ckptctl import naming
from ckptctl.model import FileKind, StateStatus

if TYPE_CHECKING:
    from ckptctl.model import Directory, File

_SHARDS = r"\d{5,9}-of-\d{5,9}"
_TEMPSTATE = r"\.tempstate\d+"
_RANDOM = r"\.tmp[0-9a-f]{32}"
_PART = re.compile(rf"part-{_SHARDS}(?:\.index|\.data-{_SHARDS})(?:{_TEMPSTATE})?", re.ASCII)
_PARTS = re.compile(r"(?P<prefix>.+)_temp(?P<random>_[0-9a-f]{32})?", re.DOTALL)
_WORKER = re.compile(r"workertemp_\d+", re.ASCII)
_UNRENAMED = re.compile(
    rf"(?P<prefix>.+)(?:(?:\.index|\.data-{_SHARDS}){_TEMPSTATE}|\.meta{_RANDOM})", re.ASCII | re.DOTALL
)
_UNRENAMED_V1 = re.compile(rf"(?P<prefix>.+?)(?:-{_SHARDS})?{_TEMPSTATE}", re.ASCII | re.DOTALL)
_NUMBER = re.compile(r"-\d+\Z", re.ASCII)
_DIGITS = re.compile(r"\d+", re.ASCII)

UNSURE = "it may be something else"
"""Why something stays that bears the name of a leftover, and that others may have made."""


class Told(NamedTuple):
    """What a name tells.

    Attributes:
        what: What it is that bears it.
        prefix: The checkpoint that it is a part of; empty if the name does not tell.
        keep: Why it stays; None if its name is no reason.
    """

    what: str
    prefix: str = ""
    keep: str | None = None


@dataclass(frozen=True, slots=True)
class Names:
    """What is known of names in a directory.

    Attributes:
        trained: Whether a trainer has been there: a whole checkpoint, or a state file.
        counted_on: The prefixes of the latest in the state and of all that is pinned.
        known: Those that the state lists, and those of the checkpoints that are there without their numbers.
        shapes: Those of the checkpoints that are there with 0 for every number: Keras' `cp-0001.ckpt`.
        above: What the state's paths lead through: a trainer may save to any directory.
        latest_filename: The state file's name.
    """

    trained: bool
    counted_on: frozenset[str]
    known: frozenset[str]
    shapes: frozenset[str]
    above: frozenset[str]
    latest_filename: str

    @classmethod
    def of(cls, scanned: Directory, latest_filename: str = naming.STATE_FILE) -> Names:
        """Those of a directory that was scanned."""
        state = scanned.state
        latest = set() if state.latest is None else {state.latest.name}
        listed = (*state.entries, *([] if state.latest is None else [state.latest]))
        whole = [one.name for one in scanned.checkpoints if one.complete]
        return cls(
            bool(whole) or state.status is not StateStatus.ABSENT,
            frozenset(latest | set(scanned.pins.names)),
            frozenset(latest | {entry.name for entry in state.entries} | {_stem(name) for name in whole}),
            frozenset(map(_shape, whole)),
            frozenset(part for entry in listed for part in entry.path.split("/")[:-1]),
            latest_filename,
        )

    def may_go(self, file: File) -> bool:
        """Whether nothing that a listing shows keeps a leftover: its content may, when it is looked at."""
        if file.name.startswith(naming.PRIVATE_PREFIX):
            return True  # it does not stay as it is
        if file.kind is FileKind.OTHER:
            return self.of_tree(file.name, empty=not file.size).keep is None
        return file.kind is FileKind.REGULAR and self.of_file(file.name).keep is None

    def of_file(self, name: str) -> Told:
        """What a file's name tells."""
        parsed = naming.parse(name)
        role = naming.Role.LEFTOVER if parsed is None else parsed.role
        prefix = "" if parsed is None else parsed.prefix
        if role is naming.Role.PRIVATE:
            return Told("ckptctl's own", keep="the next run for the same state file puts it right")
        if role is naming.Role.SHARD:
            sure = self._is_a_saves(prefix)
            return self._told("a shard without an index", prefix, None if sure else UNSURE)
        if role is naming.Role.META:
            sure = _NUMBER.search(prefix) is not None
            return self._told("a .meta without a checkpoint", prefix, None if sure else UNSURE)
        match = _UNRENAMED.fullmatch(name)
        sure = match is not None or is_unrenamed_state(name, self.latest_filename)
        if not sure and (match := _UNRENAMED_V1.fullmatch(name)) is not None:
            sure = self._is_a_saves(match["prefix"])
        return self._told(
            "a file before its rename",
            match["prefix"] if match else "",
            None if sure else "no save gives that name",
        )

    def of_tree(self, name: str, *, empty: bool) -> Told:
        """What a directory's name tells.

        Args:
            name: Its name.
            empty: Whether nothing is in it: then there is nothing else to tell it by.
        """
        match = _PARTS.fullmatch(name)
        if name in self.above:
            return Told("a directory", keep="the state file lists what is in it")
        if match is None:
            known = _WORKER.fullmatch(name) is not None
            return self._told("parts of a save", "", None if known else "no save gives a directory that name")
        sure = not empty or match["random"] is not None or self._is_a_saves(match["prefix"])
        return self._told("parts of a save", match["prefix"], None if sure else UNSURE)

    def _is_a_saves(self, prefix: str) -> bool:
        named = _NUMBER.search(prefix) is not None or prefix in self.known
        return named or _shape(prefix) in self.shapes

    def _told(self, what: str, prefix: str, keep: str | None) -> Told:
        if keep is None and prefix and prefix in self.counted_on:
            keep = f"{prefix} is pinned, or the latest in the state file"
        if keep is None and not self.trained:
            keep = f"there is no checkpoint here and no state file: {UNSURE}"
        return Told(what, prefix, keep)


def nests(tree: str, name: str) -> bool:
    """Whether a save puts a directory of that name into one of that name."""
    return _WORKER.fullmatch(tree) is not None and _PARTS.fullmatch(name) is not None


def belongs(tree: str, name: str) -> bool:
    """Whether a save puts a file of that name into a directory of parts of that name."""
    if not _WORKER.fullmatch(tree):
        return _PARTS.fullmatch(tree) is not None and _PART.fullmatch(name) is not None
    # A worker that is not the chief makes whole checkpoints there, to throw them away.
    parsed = naming.parse(name)
    if parsed is not None and parsed.role in {naming.Role.INDEX, naming.Role.SHARD}:
        return True
    unrenamed = _UNRENAMED.fullmatch(name) is not None or is_unrenamed_state(name, naming.STATE_FILE)
    return name == naming.STATE_FILE or unrenamed


def is_unrenamed_state(name: str, latest_filename: str) -> bool:
    """Whether TensorFlow calls a state file so before it is renamed."""
    states = "|".join(re.escape(state) for state in {naming.STATE_FILE, latest_filename})
    return re.fullmatch(rf"(?:{states}){_RANDOM}", name) is not None


def _stem(prefix: str) -> str:
    return _NUMBER.sub("", prefix)


def _shape(prefix: str) -> str:
    return _DIGITS.sub("0", prefix)
