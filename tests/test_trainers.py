"""What real TensorFlow trainers write, through the command line: `ls`, `prune --keep 3` and `watch`.

Each trainer's story is told once, and the tests look at its chapters: it trains; `ls`; `prune --keep 3`; a
new process restores what is left and goes on training. The stories run side by side in threads that wait for
subprocesses, since to import TensorFlow is nearly all that they cost.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from conftest import ckptctl
from trainers import (
    BACKUP_DIRECTORY,
    LATEST_FILENAME,
    Found,
    finish_trainer,
    restore_and_train,
    run_trainer,
    start_trainer,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

DEADLINE = 60.0
"""Seconds after which something that a test waits for will not happen any more."""

NOT_A_CHECKPOINT = re.compile(r"checkpoint|my_state|graph\.pbtxt|events\.out\.tfevents\..*")
SUFFIX = re.compile(r"\.index|\.meta|\.data-\d{5}-of-\d{5}|-\d{5}-of-\d{5}")


@dataclass(frozen=True, kw_only=True)
class Case:
    """A trainer, and what is expected of it; checkpoints are given by their number, oldest first.

    Attributes:
        trainer: Its name.
        id: The test's name, if there is more than one of this trainer.
        name: How a checkpoint is called, to be formatted with its number.
        saves: How many the first run makes.
        max_to_keep: What it is told to keep; the second run gets the trainer's own default.
        trained: On disk when the first run has ended.
        listed: Of these, in the state file; None if there is no state file.
        preserved: Of these, preserved for ever.
        kept: On disk after `prune --keep 3`.
        final: On disk after a second run with two saves more.
        second_max_to_keep: What the second run is told to keep.
        scale: The step that each save says it was made at, for each number of it.
        step_from: What says so.
        writer: Who wrote it, as `ls -l` tells.
        step: The training step of the newest checkpoint of the first run.
        format: `v1` or `v2`.
        shards: Data files of a checkpoint.
        pattern: What the state's paths have behind the name.
        latest_filename: What the state file is called.
        below: The subdirectory that holds the checkpoints.
    """

    trainer: str
    trained: tuple[int, ...]
    kept: tuple[int, ...]
    final: tuple[int, ...]
    listed: tuple[int, ...] | None
    id: str = ""
    name: str = "ckpt-{0}"
    saves: int = 6
    max_to_keep: int | None = None
    second_max_to_keep: int | None = None
    preserved: tuple[int, ...] = ()
    scale: int = 1
    step_from: str = "optimizer/_iterations"
    writer: str = "CheckpointManager"
    step: int = 6
    format: str = "v2"
    shards: int = 1
    pattern: str = ""
    latest_filename: str = "checkpoint"
    below: str = ""

    @property
    def victims(self) -> tuple[int, ...]:
        """What `prune --keep 3` deletes."""
        return tuple(number for number in self.trained if number not in self.kept)

    def names(self, numbers: Iterable[int]) -> list[str]:
        """The names of checkpoints."""
        return [self.name.format(number) for number in numbers]

    def options(self) -> tuple[str, ...]:
        """What every command has to be told about this directory."""
        return () if self.latest_filename == "checkpoint" else ("--latest-filename", self.latest_filename)


SAVER = "model.ckpt-{0}"

CASES = [
    Case(trainer="manager", trained=(4, 5, 6), listed=(4, 5, 6), kept=(4, 5, 6), final=(6, 7, 8)),
    Case(
        trainer="manager",
        id="manager-keeping-5",
        max_to_keep=5,
        trained=(2, 3, 4, 5, 6),
        listed=(2, 3, 4, 5, 6),
        kept=(4, 5, 6),
        final=(6, 7, 8),  # it has adopted the three that were left, or it would not have deleted two of them
    ),
    Case(
        trainer="manager-step",
        max_to_keep=5,
        trained=(2, 3, 4, 5, 6),
        listed=(2, 3, 4, 5, 6),
        kept=(4, 5, 6),
        final=(6, 7, 8),
        scale=10,
        step=60,
        step_from="step",
    ),
    Case(
        trainer="own-names",
        name="checkpoint_step_{0}0-{0}",
        trained=(1, 2, 3, 4, 5, 6),
        listed=(6,),
        kept=(4, 5, 6),
        final=(4, 5, 6, 7, 8),
        scale=10,
        step=60,
        writer="Checkpoint.save",
    ),
    Case(
        trainer="manager-own-name",
        name="weights-{0}0",
        trained=(1, 2, 3, 4, 5, 6),
        listed=(1, 2, 3, 4, 5, 6),
        kept=(4, 5, 6),
        final=(4, 5, 6, 7, 8),
        scale=10,
        step=60,
    ),
    Case(
        trainer="preserved",
        saves=8,
        max_to_keep=5,
        trained=(1, 2, 3, 4, 5, 6, 7, 8),
        listed=(4, 5, 6, 7, 8),
        preserved=(1, 2, 3),
        kept=(1, 2, 3, 6, 7, 8),
        final=(1, 2, 3, 6, 7, 8, 9, 10),
        step=8,
    ),
    Case(
        trainer="write",
        name="model-{0}",
        trained=(1, 2, 3, 4, 5, 6),
        listed=None,
        kept=(4, 5, 6),
        final=(4, 5, 6, 7, 8),
        writer="Checkpoint.write",
    ),
    Case(
        trainer="sharded",
        trained=(1, 2, 3, 4, 5, 6),
        listed=(1, 2, 3, 4, 5, 6),
        kept=(4, 5, 6),
        final=(4, 5, 6, 7, 8),
        shards=3,
    ),
    Case(
        trainer="async",
        trained=(1, 2, 3, 4, 5, 6),
        listed=(1, 2, 3, 4, 5, 6),
        kept=(4, 5, 6),
        final=(4, 5, 6, 1, 2),  # the second run counts from 1 again
    ),
    Case(
        trainer="saver",
        name=SAVER,
        trained=(2, 3, 4, 5, 6),
        listed=(2, 3, 4, 5, 6),
        kept=(4, 5, 6),
        final=(4, 5, 6, 7, 8),
        step_from="global_step",
        writer="Saver",
    ),
    Case(
        trainer="saver",
        id="saver-keeping-20",
        name=SAVER,
        saves=8,
        max_to_keep=20,
        trained=(1, 2, 3, 4, 5, 6, 7, 8),
        listed=(1, 2, 3, 4, 5, 6, 7, 8),
        kept=(6, 7, 8),
        final=(6, 7, 8, 9, 10),
        step=8,
        step_from="global_step",
        writer="Saver",
    ),
    Case(
        trainer="saver-unlimited",
        name=SAVER,
        trained=(1, 2, 3, 4, 5, 6),
        listed=(6,),
        kept=(4, 5, 6),
        final=(4, 5, 6, 7, 8),
        step_from="global_step",
        writer="Saver",
    ),
    Case(
        trainer="saver-sharded",
        name=SAVER,
        trained=(2, 3, 4, 5, 6),
        listed=(2, 3, 4, 5, 6),
        kept=(4, 5, 6),
        final=(4, 5, 6, 7, 8),
        shards=3,
        step_from="global_step",
        writer="Saver",
    ),
    Case(
        trainer="saver-v1",
        name=SAVER,
        trained=(2, 3, 4, 5, 6),
        listed=(2, 3, 4, 5, 6),
        kept=(4, 5, 6),
        final=(4, 5, 6, 7, 8),
        format="v1",
        step_from="global_step",
        writer="Saver",
    ),
    Case(
        trainer="saver-v1-sharded",
        name=SAVER,
        trained=(2, 3, 4, 5, 6),
        listed=(2, 3, 4, 5, 6),
        kept=(4, 5, 6),
        final=(4, 5, 6, 7, 8),
        format="v1",
        shards=2,
        pattern="-?????-of-00002",
        step_from="global_step",
        writer="Saver",
    ),
    Case(
        trainer="saver-latest-filename",
        name=SAVER,
        trained=(2, 3, 4, 5, 6),
        listed=(2, 3, 4, 5, 6),
        kept=(4, 5, 6),
        final=(4, 5, 6, 7, 8),
        latest_filename=LATEST_FILENAME,
        step_from="global_step",
        writer="Saver",
    ),
    Case(
        trainer="monitored",
        name=SAVER,
        trained=(2, 3, 4, 5, 6),
        listed=(2, 3, 4, 5, 6),
        kept=(4, 5, 6),
        second_max_to_keep=3,
        final=(6, 7, 8),
        step_from="global_step",
        writer="Saver",
    ),
    Case(
        trainer="keras2-model-checkpoint",
        name="cp-{0:04d}.ckpt",
        trained=(1, 2, 3, 4, 5, 6),
        listed=(6,),
        kept=(4, 5, 6),
        final=(4, 5, 6, 7, 8),
        writer="Keras",
    ),
    Case(
        trainer="keras2-backup",
        below=BACKUP_DIRECTORY,
        trained=(6,),
        listed=(6,),
        kept=(6,),
        final=(8,),
        step_from="model/optimizer/_iterations",
    ),
]

Files = dict[str, bytes]
"""The files of a directory by name, with their contents."""


@dataclass(frozen=True)
class Story:
    """What happened to a trainer's directory.

    Attributes:
        directory: Where the checkpoints are.
        trained: Its files after the first run.
        listing: What `ls --json` said of it then.
        report: What `prune --keep 3 --json` said.
        pruned: Its files after that.
        latest: What `latest` printed then.
        found: What TensorFlow found then, and restored.
        final: Its files after the second run.
    """

    directory: Path
    trained: Files
    listing: dict[str, Any]
    report: dict[str, Any]
    pruned: Files
    latest: str
    found: Found
    final: Files


def ask(*arguments: str | Path) -> dict[str, Any]:
    """Runs a command with `--json` on one directory, which must succeed; returns what it says of it."""
    done = ckptctl(*map(str, arguments), "--json")
    assert done.returncode == 0, f"{done.args}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    (directory,) = json.loads(done.stdout)["directories"]
    assert isinstance(directory, dict)
    return directory


def files(directory: Path) -> Files:
    """Reads a directory's files."""
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def prefix(file: str) -> str | None:
    """The checkpoint that a file belongs to, by this module's own reading of names."""
    return None if NOT_A_CHECKPOINT.fullmatch(file) else re.sub(f"({SUFFIX.pattern})$", "", file)


def prefixes(directory: Path | Files) -> set[str]:
    """The checkpoints of which a directory holds at least one file."""
    names = os.listdir(directory) if isinstance(directory, Path) else directory
    return {name for file in names if (name := prefix(file)) is not None}


def complete(directory: Path) -> set[str]:
    """The checkpoints of which a directory, if it is there, holds an index."""
    names = os.listdir(directory) if directory.exists() else []
    return {name.removesuffix(".index") for name in names if name.endswith(".index")}


def tell(case: Case, directory: Path) -> Story:
    """Lets it all happen."""
    run_trainer(case.trainer, directory, saves=case.saves, max_to_keep=case.max_to_keep)
    place = directory / case.below
    trained = files(place)
    listing = ask("ls", "-l", place, *case.options())
    report = ask("prune", place, "--keep", "3", *case.options())
    pruned = files(place)
    latest = ckptctl("latest", str(place), *case.options()).stdout.strip()
    found = restore_and_train(case.trainer, directory, saves=2, max_to_keep=case.second_max_to_keep)
    return Story(place, trained, listing, report, pruned, latest, found, files(place))


@pytest.fixture(scope="module")
def stories(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[Case, Future[Story]]]:
    """The stories that the selected tests need, on their way."""
    called = [item.callspec for item in request.session.items if hasattr(item, "callspec")]
    asked = {id(value) for spec in called for value in spec.params.values()}
    wanted = [case for case in CASES if id(case) in asked]
    with ThreadPoolExecutor(min(os.cpu_count() or 1, 4)) as pool:
        base = tmp_path_factory.mktemp("trainers")
        yield {case: pool.submit(tell, case, base / (case.id or case.trainer)) for case in wanted}
        pool.shutdown(cancel_futures=True)


@pytest.fixture
def story(case: Case, stories: dict[Case, Future[Story]]) -> Story:
    """The story of a trainer."""
    return stories[case].result()


each_trainer = pytest.mark.parametrize("case", CASES, ids=lambda case: case.id or case.trainer)


def only(trainer: str) -> pytest.MarkDecorator:
    """The one case of a trainer."""
    return pytest.mark.parametrize("case", [case for case in CASES if case.trainer == trainer], ids=[trainer])


@each_trainer
def test_trainer_writes_what_the_case_says(case: Case, story: Story) -> None:
    """The trainer leaves the checkpoints that its case names, each with its data files."""
    assert prefixes(story.trained) == set(case.names(case.trained))
    for name in case.names(case.trained):
        own = {file.removeprefix(name) for file in story.trained if prefix(file) == name}
        assert len(own - {".index", ".meta"}) == case.shards
        assert (".index" in own) == (case.format == "v2")


@each_trainer
def test_ls_lists_every_checkpoint(case: Case, story: Story) -> None:
    """`ls` lists every checkpoint on disk, oldest first: step, writer, and which one is the latest."""
    newest = case.names(case.trained)[-1]
    listed = case.listed or ()
    assert [
        {
            key: checkpoint[key]
            for key in (
                "name",
                "step",
                "step_from",
                "writer",
                "status",
                "format",
                "shards",
                "latest",
                "listed",
                "preserved",
                "bytes",
            )
        }
        for checkpoint in story.listing["checkpoints"]
    ] == [
        {
            "name": name,
            "step": number * case.scale,
            "step_from": case.step_from,
            "writer": case.writer,
            "status": "complete",
            "format": case.format,
            "shards": case.shards,
            "latest": case.listed is not None and name == newest,
            "listed": number in listed,
            "preserved": number in case.preserved,
            "bytes": sum(len(data) for file, data in story.trained.items() if prefix(file) == name),
        }
        for number, name in zip(case.trained, case.names(case.trained), strict=True)
    ]
    assert story.listing["leftovers"] == []


@each_trainer
def test_ls_reads_the_state(case: Case, story: Story) -> None:
    """`ls` tells what the state names as the latest, and that there is no state where none is written."""
    state = story.listing["state"]
    if case.listed is None:
        assert (state["status"], state["latest"]) == ("absent", None)
    else:
        newest = case.names(case.trained)[-1] + case.pattern
        assert (state["status"], os.path.basename(state["latest"])) == ("ok", newest)


@each_trainer
def test_prune_leaves_the_newest(case: Case, story: Story) -> None:
    """`prune --keep 3` deletes every file of all but the three newest, and edits the state file alone."""
    victims = set(case.names(case.victims))
    expected = {file: data for file, data in story.trained.items() if prefix(file) not in victims}
    pruned = dict(story.pruned)
    assert pruned.pop(case.latest_filename, None) is not None or case.listed is None
    expected.pop(case.latest_filename, None)
    assert sorted(pruned) == sorted(expected)
    assert pruned == expected
    assert prefixes(story.pruned) == set(case.names(case.kept))


@each_trainer
def test_state_keeps_its_words(case: Case, story: Story) -> None:
    """The state loses the victims' paths and timestamps, no other word, and never becomes shorter."""
    if case.listed is None:
        assert case.latest_filename not in story.pruned
        return
    before, after = story.trained[case.latest_filename], story.pruned[case.latest_filename]
    stays = [number in case.kept for number in case.listed]
    expected: list[str] = []
    for _, lines in itertools.groupby(before.decode().splitlines(), lambda line: line.partition(":")[0]):
        field = list(lines)
        repeated = field[0].startswith("all_")
        expected += itertools.compress(field, stays) if repeated else field
    words = [line for line in after.decode().splitlines() if line and not line.startswith("#")]
    assert words == expected
    assert len(after) >= len(before)


@each_trainer
def test_prune_reports_what_it_did(case: Case, story: Story) -> None:
    """`prune --json` names what is kept and what was deleted, oldest first, and what that has freed."""
    assert [entry["name"] for entry in story.report["keep"]] == case.names(case.kept)
    assert [entry["name"] for entry in story.report["delete"]] == case.names(case.victims)
    assert story.report["deleted"] == case.names(case.victims)
    assert story.report["failed"] == []
    assert all(entry["reasons"] for entry in (*story.report["keep"], *story.report["delete"]))
    victims = set(case.names(case.victims))
    freed = sum(len(data) for file, data in story.trained.items() if prefix(file) in victims)
    assert story.report["freed_bytes"] == freed


@each_trainer
def test_tensorflow_agrees(case: Case, story: Story) -> None:
    """After the prune TensorFlow finds the same latest and restores it; the state names what is there."""
    newest = f"{story.directory / case.names(case.trained)[-1]}{case.pattern}"
    listed = [number for number in case.listed or () if number in case.kept]
    assert story.found == Found(
        latest=None if case.listed is None else newest,
        listed=tuple(f"{story.directory / name}{case.pattern}" for name in case.names(listed)),
        missing=(),
        restored=newest,
        step=case.step,
    )


@each_trainer
def test_latest_is_what_tensorflow_restores(case: Case, story: Story) -> None:
    """`latest` prints what TensorFlow calls the latest, or has restored where no state file tells."""
    assert story.latest == (story.found.latest or story.found.restored), case


@each_trainer
def test_trainer_goes_on(case: Case, story: Story) -> None:
    """A second run on the pruned directory saves two checkpoints more, and keeps what it always keeps."""
    assert prefixes(story.final) == set(case.names(case.final))


@only("preserved")
def test_preserved_ones_go_when_told_so(case: Case, story: Story) -> None:
    """Preserved checkpoints stay through any number of prunes, until `--include-preserved` gives them up."""
    report = ask("prune", story.directory, "--keep", "3")
    assert report["deleted"] == []
    assert prefixes(story.directory) == set(case.names(case.final))
    report = ask("prune", story.directory, "--keep", "3", "--include-preserved")
    assert report["deleted"] == case.names((1, 2, 3, 6, 7))
    assert prefixes(story.directory) == set(case.names((8, 9, 10)))


@only("async")
def test_numbers_that_began_again(case: Case, story: Story) -> None:
    """Where the numbers of the names have begun again, the checkpoints themselves tell what is newest."""
    listing = ask("ls", story.directory)
    assert [checkpoint["name"] for checkpoint in listing["checkpoints"]] == case.names(case.final)
    assert [checkpoint["step"] for checkpoint in listing["checkpoints"]] == [4, 5, 6, 7, 8]
    report = ask("prune", story.directory, "--keep", "3")
    assert report["deleted"] == case.names((4, 5))
    assert not [note for note in report["notes"] if "disagree" in note]
    found = restore_and_train(case.trainer, story.directory)
    assert (found.restored, found.step) == (str(story.directory / "ckpt-2"), 8)


@only("keras2-backup")
def test_backup_directory_is_not_touched(case: Case, story: Story) -> None:
    """The directory given to BackupAndRestore is left as it is: its checkpoint lies in a directory below."""
    before = files(story.directory)
    assert "Traceback" not in ckptctl("prune", str(story.directory.parent), "--keep", "1").stderr
    assert files(story.directory) == before
    assert os.listdir(story.directory.parent) == [case.below]


def test_copied_directory(tmp_path: Path) -> None:
    """In a copy whose state names the original's absolute paths, the copy alone is pruned."""
    original, copy = tmp_path / "original", tmp_path / "copy"
    run_trainer("saver", original, max_to_keep=20)
    shutil.copytree(original, copy)
    before = files(original)
    report = ask("prune", copy, "--keep", "3")
    assert report["deleted"] == ["model.ckpt-1", "model.ckpt-2", "model.ckpt-3"]
    assert files(original) == before
    assert prefixes(copy) == {"model.ckpt-4", "model.ckpt-5", "model.ckpt-6"}
    own = {file: data for file, data in files(copy).items() if file != "checkpoint"}
    assert own == {file: data for file, data in before.items() if prefix(file) in prefixes(copy)}


def test_keras3_backup_is_not_touched(tmp_path: Path) -> None:
    """A directory with Keras 3's backup alone is left as it is, and training resumes from it."""
    run_trainer("keras3-backup", tmp_path)
    before = files(tmp_path)
    assert sorted(before) == ["latest.weights.h5", "training_metadata.json"]
    assert "Traceback" not in ckptctl("prune", str(tmp_path), "--keep", "1").stderr
    assert files(tmp_path) == before
    assert restore_and_train("keras3-backup", tmp_path, saves=2).step == 6


def wait_until(condition: Callable[[], bool], what: Callable[[], str]) -> None:
    """Waits for a condition, and fails with `what` if it does not come true before the deadline."""
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end, what()
        time.sleep(0.02)


@contextlib.contextmanager
def stopped_at_last(process: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
    """Kills a process if it is still there at the end, whatever has happened."""
    with process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize(
    ("trainer", "name", "step"),
    [
        ("manager", "ckpt-{0}", 12),
        ("manager-step", "ckpt-{0}", 120),
        ("own-names", "checkpoint_step_{0}0-{0}", 120),
    ],
    ids=["manager", "manager-step", "own-names"],
)
def test_watch_beside_a_trainer(tmp_path: Path, trainer: str, name: str, step: int) -> None:
    """`watch` waits for the directory, prunes it while the trainer saves, and has left three in the end."""
    directory, log = tmp_path / "run", tmp_path / "log"
    newest = {name.format(number) for number in (10, 11, 12)}
    command = [sys.executable, "-m", "ckptctl", "watch", str(directory), "--keep=3", "--settle=0.1s"]
    with log.open("w") as output:
        watching = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, text=True)
    # The trainer itself would keep all of them: whatever is deleted is deleted by the watch.
    training = start_trainer(trainer, directory, saves=12, delay=0.4, max_to_keep=20)
    with stopped_at_last(watching) as watch, stopped_at_last(training) as process:
        seen: set[str] = set()
        deleted_meanwhile: set[str] = set()

        def ended() -> bool:
            assert watch.poll() is None, log.read_text()
            there = complete(directory)
            if process.poll() is not None:
                return True
            deleted_meanwhile.update(seen - there)
            seen.update(there)
            return False

        wait_until(ended, lambda: f"{trainer} goes on and on, with {seen}")
        finish_trainer(process)
        assert deleted_meanwhile, log.read_text()
        wait_until(lambda: prefixes(directory) == newest, log.read_text)
        watch.send_signal(signal.SIGTERM)
        wait_until(lambda: watch.poll() is not None, log.read_text)
    assert watch.returncode == 0, log.read_text()
    assert prefixes(directory) == newest
    found = restore_and_train(trainer, directory)
    assert (found.latest, found.missing, found.step) == (str(directory / name.format(12)), (), step)
