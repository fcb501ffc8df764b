"""`ckptctl verify`."""

from __future__ import annotations

import json
import os
import shlex
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import click

from ckptctl import chronology, model, naming, posix, render_verify, statefile, tensorflow
from ckptctl.bundle.findings import Finding, FindingKind
from ckptctl.cli import options
from ckptctl.cli.exits import Exit, Outcome, complain, none_here
from ckptctl.cli.progress import Progress
from ckptctl.errors import UnreadableError
from ckptctl.model import Format
from ckptctl.opened import OpenCheckpoint, find, place
from ckptctl.scan import scan_open
from ckptctl.verify import Level, Verdict, VerdictStatus, open_scanned, verify

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ckptctl.model import Checkpoint, Directory
    from ckptctl.posix import OpenDirectory
    from ckptctl.restore import Restorer

_EXITS = {
    VerdictStatus.OK: Exit.FINE,
    VerdictStatus.CORRUPT: Exit.FOUND,
    VerdictStatus.INCOMPLETE: Exit.FOUND,
    VerdictStatus.READABLE: Exit.FINE,
    VerdictStatus.UNRESTORABLE: Exit.FOUND,
    VerdictStatus.MISSING: Exit.UNREADABLE,
    VerdictStatus.UNREADABLE: Exit.UNREADABLE,
}
_LOST = frozenset({VerdictStatus.CORRUPT, VerdictStatus.INCOMPLETE, VerdictStatus.UNRESTORABLE})


@click.command(name="verify")
@options.paths
@click.option("--quick", is_flag=True, help="Look at the index and the lengths of the shards; read no data.")
@click.option("--finite", is_flag=True, help="Look for NaN and Inf in every floating tensor too.")
@click.option(
    "--restore",
    is_flag=True,
    help="Have TensorFlow restore what passes, in a process of its own, and compare every value.",
)
@click.option("-r", "--recursive", is_flag=True, help="Look below each DIR too; links are not followed.")
@options.workers
@options.table_format
@options.as_json
def command(
    *,
    paths: tuple[str, ...],
    quick: bool,
    finite: bool,
    restore: bool,
    recursive: bool,
    workers: int,
    form: str,
    as_json: bool,
) -> None:
    """Verifies checkpoints: those named, and all in each DIR (default: the current one), oldest first.

    Every tensor's checksum is compared, and whatever is wrong is listed: nothing stops at the first finding.
    A checkpoint is named by its prefix or by any of its files. TensorFlow is not loaded but for --restore,
    and a trainer may be at work.

    With --restore a checkpoint may be "readable": TensorFlow reads every tensor, but an object that holds
    some cannot be rebuilt without the program that saved it, so the restore is not proven. That is no fault.

    \b
    Exit codes: 0 all pass, or are readable; 1 something is wrong with one;
    2 usage; 3 one is not there, or cannot be read, or TensorFlow does not start;
    130 interrupted.

    \b
    Examples:  ckptctl verify --finite runs/a runs/b/ckpt-7
               ckptctl verify --restore runs/b/ckpt-7
    """  # noqa: D301 - \b is Click's mark for a paragraph that is left as it is
    if quick and (finite or restore):
        other = "--finite" if finite else "--restore"
        raise click.UsageError(f"--quick reads no data, {other} all of it: give one of them")
    level = Level.INDEX if quick else Level.FINITE if finite else Level.DATA
    outcome = Outcome()
    targets = list(_targets(paths or (".",), outcome, recursive=recursive))
    verdicts = []
    with (
        options.restorer(wanted=restore) as restorer,
        Progress([target.bytes for target in targets]) as progress,
    ):
        for target in targets:
            progress.begin(target.path)
            verdicts.append(target.verify(level, workers, restorer, progress))
            outcome.add(_EXITS[verdicts[-1].status])
    if as_json:
        made = [render_verify.verdict_json(verdict) for verdict in verdicts]
        click.echo(json.dumps({"checkpoints": made}, indent=2))
    elif verdicts:
        _show(verdicts, level, form, restored=restore)
    outcome.exit()


@dataclass(frozen=True, slots=True)
class _Target:
    """A checkpoint that is to be verified.

    Attributes:
        directory: The path of its directory.
        name: Its prefix.
        scanned: It, where it was found in a directory and not named.
    """

    directory: str
    name: str
    scanned: Checkpoint | None = None

    @property
    def path(self) -> str:
        """Its path."""
        return self.name if self.directory == "." else os.path.join(self.directory, self.name)

    @property
    def bytes(self) -> int:
        """How much there is to read, as far as that is known."""
        return 0 if self.scanned is None else self.scanned.bytes

    def verify(self, level: Level, workers: int, restorer: Restorer | None, progress: Progress) -> Verdict:
        """Opens and verifies it."""
        try:
            with posix.open_directory(self.directory) as directory:
                if self.scanned is not None:
                    checkpoint = open_scanned(directory, self.scanned, follow=True)
                else:
                    checkpoint = _find(directory, self.name)
                return verify(checkpoint, level, workers=workers, restorer=restorer, progress=progress.update)
        except UnreadableError as error:
            barred = os.path.isdir(self.directory) and not os.access(self.directory, os.R_OK | os.X_OK)
            status = VerdictStatus.UNREADABLE if barred else VerdictStatus.MISSING
            kind = FindingKind.UNREADABLE if barred else FindingKind.INDEX
            return Verdict(self.path, status, level, findings=(Finding(kind, str(error)),))


def _find(directory: OpenDirectory, name: str) -> OpenCheckpoint:
    """Finds a checkpoint that was named, or the V1 files of that name, damaged as they may be."""
    try:
        return find(directory, name, follow=True)
    except UnreadableError:
        if name == naming.STATE_FILE:
            raise
        entries = os.listdir(directory.fd)
        data = [name] if name in entries else sorted(entry for entry in entries if _is_v1_shard(entry, name))
        if not data:
            raise
        return OpenCheckpoint(directory, name, Format.V1, tuple(data), follow=True)


def _is_v1_shard(entry: str, name: str) -> bool:
    parsed = naming.parse(entry)
    return parsed is not None and parsed.role is naming.Role.V1_SHARD and parsed.prefix == name


def _targets(paths: tuple[str, ...], outcome: Outcome, *, recursive: bool) -> Iterator[_Target]:
    for path in paths:
        # A checkpoint may be called as a directory is; a slash behind the name says which is meant.
        if not os.path.isdir(path) or os.path.lexists(f"{path}.index"):
            yield _Target(*place(path))
            continue
        empty, here = True, Outcome()
        for found in _directories(path, here, recursive=recursive):
            for one in found.checkpoints:
                empty = False
                yield _Target(found.path, one.name, one)
        if empty and here.code is Exit.FINE:  # else it has been said what is the matter
            complain(none_here(path, "ckptctl verify -r {}", recursive=recursive))
            here.add(Exit.UNREADABLE)
        outcome.add(here.code)


def _directories(path: str, outcome: Outcome, *, recursive: bool) -> Iterator[Directory]:
    """Scans as if there were no state file: what is on the disk is verified, whatever a state says."""
    waiting = [path]
    while waiting:
        here = waiting.pop()
        with outcome.directory():
            with posix.open_directory(here) as directory:
                found = scan_open(directory, model.ABSENT)
                steps = [one.step for one in found.checkpoints if one.step is not None]
                if steps != sorted(steps):
                    found = replace(found, checkpoints=_as_listed(directory, found.checkpoints))
            yield found
            if recursive:
                waiting.extend(
                    os.path.join(here, name) for name in sorted(found.subdirectories, reverse=True)
                )


def _as_listed(directory: OpenDirectory, checkpoints: Sequence[Checkpoint]) -> tuple[Checkpoint, ...]:
    """Checkpoints in the order in which `ls` has them: in a copy that lost the times the state file knows it.

    The order is all that it is asked for, so protobuf's parser will do, which is there in no time.
    """
    tensorflow.use(tensorflow.Reader.PROTOBUF)
    state, snapshot = statefile.read(directory, naming.STATE_FILE)
    if snapshot is not None:
        snapshot.close()
    return tuple(chronology.oldest_first(checkpoints, state))


def _show(verdicts: list[Verdict], level: Level, form: str, *, restored: bool) -> None:
    click.echo(render_verify.verdicts(verdicts, form))
    if click.get_current_context().get_parameter_source("form") is click.core.ParameterSource.DEFAULT:
        for line in render_verify.findings(verdicts):
            click.echo(line)
        click.echo(("\n" if any(one.findings for one in verdicts) else "") + render_verify.summary(verdicts))
    if any(one.level not in {level, Level.RESTORE} for one in verdicts):
        complain("the numbers in a V1 checkpoint are not looked at, only their checksums")
    if any(one.status is VerdictStatus.READABLE for one in verdicts):
        complain("readable: TensorFlow reads every tensor; that it restores is not proven, see the findings")
    bad = next((one for one in verdicts if one.status in _LOST), None)
    if bad is not None and not (restored and level is Level.FINITE):  # latest asks for one of the two
        directory = shlex.quote(os.path.dirname(bad.checkpoint))
        asked = (
            "--verify=restore" if restored else "--verify=finite" if level is Level.FINITE else "--verified"
        )
        complain(f"`ckptctl latest {asked} {directory}` finds the newest that passes")
