"""File name <-> (prefix, role), as TensorFlow's savers name things. Pure: nothing here looks at a disk.

Names are taken apart literally and never globbed: `run[1]` and `ckpt?` are names like any other, and
`ckpt-1` is not a part of `ckpt-10`.

Answers to `tensorflow/core/util/tensor_bundle/naming.cc` (`MetaFilename`, `DataFilename`), to
`save_restore_v2_ops.cc` (parts below `_temp`), and to `Saver` and `meta_graph_filename` of TF1.
"""

from __future__ import annotations

import enum
import os
import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

STATE_FILE = "checkpoint"
"""What a state file is called unless the trainer says otherwise (`latest_filename`)."""

PRIVATE_PREFIX = ".ckptctl-"
"""How the names begin that ckptctl gives to files while it works; none of them outlives a finished run."""

UNFINISHED = PRIVATE_PREFIX + "new-"
"""How the names begin of files that are still being written; whoever finds one may remove it."""

PINS_FILE = "ckptctl.pins"
"""The file beside the checkpoints that names those which are kept until they are unpinned."""

CONFIG_FILE = "ckptctl.toml"
"""The file beside the checkpoints that holds a policy for them."""


def from_text(text: str) -> str:
    """The file name, or the path, that a text in UTF-8 means, as the system's calls and ours spell it.

    A name is bytes. Python reads those by the locale, and TensorFlow and TOML write them in UTF-8: in a
    locale of another encoding the same name is another string.
    """
    return text if text.isascii() else os.fsdecode(text.encode("utf-8", "surrogateescape"))


def to_text(name: str) -> str:
    """What a text in UTF-8 calls a file; bytes that are not UTF-8 are surrogate escapes."""
    return name if name.isascii() else os.fsencode(name).decode("utf-8", "surrogateescape")


class Role(enum.Enum):
    """What a file is to its checkpoint."""

    INDEX = "index"
    SHARD = "shard"
    META = "meta"
    V1_SHARD = "v1 shard"
    """`P-00000-of-00002`. Data sets are named like this too: only its content tells."""
    LEFTOVER = "leftover"
    """Part of a save under way, or of one that was cut short."""
    PRIVATE = "private"
    """Ours: see `PRIVATE_PREFIX`."""


class ParsedName(NamedTuple):
    """A file name taken apart.

    Attributes:
        prefix: The checkpoint's name; empty for leftovers and private files.
        role: What the file is.
        shard: Which one, from 0.
        shards: Of how many.
    """

    prefix: str
    role: Role
    shard: int = 0
    shards: int = 0


# TensorFlow prints both numbers with %05d: five digits, more only where five do not suffice.
_SHARD = re.compile(r"(?P<data>\.data)?-(?P<shard>\d{5,9})-of-(?P<shards>\d{5,9})\Z", re.ASCII)
_ONLY_SHARD = ".data-00000-of-00001"
_V1_PATTERN = re.compile(r"(?P<prefix>.+)-\?{5,9}-of-\d{5,9}", re.DOTALL)
_LEFTOVER_FILE = re.compile(
    r".+\.tempstate\d+"  # a shard that is being written
    r"|.+\.tmp[0-9a-f]{32}",  # a state file or a .meta before its rename
    re.DOTALL,
)
_LEFTOVER_DIRECTORY = re.compile(r".*_temp(?:_[0-9a-f]{32})?|workertemp_.*", re.DOTALL)
_STEP = re.compile(r"-([0-9]{1,19})\Z")  # as many digits as an int64 has
_NUMBER = re.compile(r"([0-9]+(?:\.[0-9]+)*)")


def parse(name: str) -> ParsedName | None:
    """Takes a file's name apart.

    Args:
        name: A directory entry's name.

    Returns:
        Its prefix and role, or None for a name that no saver gives to a part of a checkpoint. A V1 data file
        under the bare prefix is such a name: see `ckptctl.scan` for how it is found.
    """
    if name.startswith(PRIVATE_PREFIX):
        return ParsedName("", Role.PRIVATE)
    if name.endswith(".index") and name != ".index":
        return ParsedName(name[:-6], Role.INDEX)
    if name.endswith(_ONLY_SHARD) and name != _ONLY_SHARD:  # as nearly all are
        return ParsedName(name[: -len(_ONLY_SHARD)], Role.SHARD, 0, 1)
    if name.endswith(".meta") and name != ".meta":
        return ParsedName(name[:-5], Role.META)
    if "-of-" in name:  # spares most names the expressions
        match = _SHARD.search(name)
        if match is not None and match.start():
            shard, shards = int(match[2]), int(match[3])
            role = Role.V1_SHARD if match[1] is None else Role.SHARD
            return ParsedName(name[: match.start()], role, shard, shards) if shard < shards else None
    return ParsedName("", Role.LEFTOVER) if _LEFTOVER_FILE.fullmatch(name) else None


_TELLING = frozenset({Role.INDEX, Role.V1_SHARD})
"""The files that make a checkpoint; beside a .meta, a V1 data file of the bare name does."""


def checkpoints_among(entries: Collection[str]) -> set[str]:
    """The checkpoints that a directory's entries look like, by their names alone.

    Args:
        entries: What a directory holds, in anything that is quickly searched.
    """
    parsed = [found for found in map(parse, entries) if found is not None]
    return {one.prefix for one in parsed if one.role in _TELLING or one.prefix in entries}


def is_leftover_directory(name: str) -> bool:
    """Tells whether a directory is one in which savers put parts before they rename them, or one of ours."""
    return name.startswith(PRIVATE_PREFIX) or _LEFTOVER_DIRECTORY.fullmatch(name) is not None


_TRANSFERS = frozenset({".~tmp~", ".rsync-partial"})
"""Where rsync puts what it will move to its place (`--delay-updates`), or has to finish (`--partial-dir`)."""


def may_be_a_run(name: str) -> bool:
    """Tells whether a directory of that name, and what is below it, may be one that a trainer writes to."""
    return name not in _TRANSFERS and not is_leftover_directory(name)


def step_of(name: str) -> int | None:
    """The number behind the name's last dash: a save counter or a global step, as the writer pleased."""
    match = _STEP.search(name)
    return int(match[1]) if match else None


def split_numbers(name: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What stands between a name's numbers, and the numbers; `0.25` is one."""
    parts = _NUMBER.split(name)
    return tuple(parts[::2]), tuple(parts[1::2])


def counting_columns(rows: Sequence[Sequence[str]]) -> list[list[int]]:
    """The numbers of names that are alike but for these.

    Args:
        rows: The numbers of each name, as `split_numbers` has them.

    Returns:
        A list for each place where a number stands, in the order of the rows. What has a decimal point is a
        loss or a rate, and counts nothing.
    """
    columns = zip(*rows, strict=True)
    return [[*map(int, column)] for column in columns if not any("." in number for number in column)]


def prefix_of(path: str) -> str:
    """The checkpoint that a user means by its prefix or by any of its files.

    Args:
        path: As typed or completed by a shell; only the part behind the last slash is looked at.

    Returns:
        The path with the file's suffix taken off.
    """
    head, slash, tail = path.rpartition("/")
    listed = listed_prefix(tail)
    if listed != tail:
        return head + slash + listed
    parsed = parse(tail)
    return path if parsed is None or not parsed.prefix else head + slash + parsed.prefix


def shard_name(prefix: str, shard: int, shards: int) -> str:
    """The name of a data file, as `DataFilename` gives it."""
    return f"{prefix}.data-{shard:05d}-of-{shards:05d}"


def restorable_name(prefix: str, data: Sequence[str]) -> str:
    """What TensorFlow takes to restore a checkpoint: its prefix, or what a sharded V1 one is listed as.

    Args:
        prefix: The checkpoint's.
        data: The names of its data files.
    """
    first = parse(data[0]) if data else None
    if first is None or first.role is not Role.V1_SHARD:
        return prefix
    return f"{prefix}-?????-of-{first.shards:05d}"


def listed_prefix(path: str) -> str:
    """The prefix of a path in a state file; a sharded V1 checkpoint is listed as `P-?????-of-00002`."""
    match = _V1_PATTERN.fullmatch(path) if "?" in path else None
    return match["prefix"] if match else path
