"""Tests of ckptctl.events: real trainers' events, files that grow, and files that nobody should trust."""

from __future__ import annotations

import json
import math
import os
import shutil
import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fabricate
import numpy as np
import pytest
from tensorboard.compat.proto import event_pb2, summary_pb2, tensor_pb2, types_pb2
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c
from watching import ckpts

import ckptctl
from ckptctl import eventfile, events
from ckptctl.errors import UnreadableError
from ckptctl.events import Events
from ckptctl.matching import match
from ckptctl.plan import plan
from ckptctl.policy import Best, Mode, Policy

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from conftest import Invoke
    from watching import Watching

    from ckptctl.model import Directory

RUNS = ("keras2-board-first", "keras2-save-first", "keras3-save-first")
VALIDATED = ("keras2-save-first", "keras3-save-first")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `keras_runs.py` leaves."""
    root = tmp_path_factory.mktemp("runs")
    script = Path(__file__).with_name("keras_runs.py")
    done = subprocess.run([sys.executable, script, root], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return root


# Against numpy and TensorBoard


def kept(directory: Directory, rule: Best) -> set[str]:
    """The names that a plan with this rule alone keeps."""
    return {one.checkpoint.name for one in plan(directory, Policy((rule,))).keep}


@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize("run", RUNS)
def test_the_best_are_numpy_s(runs: Path, run: str, mode: Mode) -> None:
    """`--keep-best 2 --metric epoch_loss` keeps the two best of the history, and the newest."""
    metrics = {"loss": "train/epoch_loss", "val_loss": "validation/epoch_loss"} if run in VALIDATED else {}
    directory = ckptctl.scan(str(runs / run))
    names = [one.name for one in directory.checkpoints]
    for series, metric in (metrics or {"loss": "epoch_loss"}).items():
        losses = np.load(runs / run / "history.npz")[series]
        best = np.argsort(losses if mode is Mode.MIN else -losses)[:2]
        values = Events(str(runs / run)).values(metric)
        assert kept(directory, Best(2, metric, values, mode)) == {names[-1], *[names[at] for at in best]}


@pytest.mark.parametrize("mode", ["min", "max"])
def test_command_line(runs: Path, invoke: Invoke, mode: str) -> None:
    """prune, explain and ls agree with numpy; the events may lie in DIR or where --events says."""
    run = runs / "keras2-board-first"
    losses = np.load(run / "history.npz")["loss"]
    names = [f"cp-{epoch:04d}.ckpt" for epoch in range(1, len(losses) + 1)]
    ranked = [names[at] for at in np.argsort(losses if mode == "min" else -losses)]
    metric = ("--metric=epoch_loss", f"--mode={mode}", "--json")
    for place in ((), (f"--events={run / 'logs'}",)):
        planned = invoke("prune", "-n", "--keep=1", "--keep-best=2", *metric, *place, str(run))
        (found,) = json.loads(planned.stdout)["directories"]
        assert {one["name"] for one in found["keep"]} == {names[-1], *ranked[:2]}
    (found,) = json.loads(invoke("explain", "--keep-best=2", *metric, str(run)).stdout)["directories"]
    assert [one["name"] for one in found["checkpoints"] if one["best"]] == ranked[:1]
    (found,) = json.loads(invoke("ls", *metric, str(run)).stdout)["directories"]
    assert [one["name"] for one in found["checkpoints"] if one["best"]] == ranked[:1]
    np.testing.assert_allclose([one["metric"] for one in found["checkpoints"]], losses, rtol=1e-6)
    unknown = invoke("prune", "-n", "--keep-best=2", "--metric=epoch_los", str(run))
    assert (unknown.exit_code, "did you mean `epoch_loss`?" in unknown.stderr) == (3, True)


@pytest.mark.parametrize("run", RUNS)
def test_times_alone_mislead_nobody(runs: Path, run: str) -> None:
    """Of checkpoints whose names say nothing each has the value of its own epoch, or stays for the doubt."""
    checkpoints = ckptctl.scan(str(runs / run)).checkpoints
    named = [replace(one, name="abcdefgh"[at]) for at, one in enumerate(checkpoints)]
    values = Events(str(runs / run / "logs")).values("train/epoch_loss")
    matches = match(values, named[::-1], 0)
    assert len(matches.found) + len(matches.doubtful) == len(checkpoints)
    assert matches.found
    assert all("abcdefgh"[found.step] == name for name, found in matches.found.items())


def test_a_copy_without_times(runs: Path, tmp_path: Path) -> None:
    """`cp -r` gives all checkpoints the time of the copy: names tell, and where they do not all stay."""
    shutil.copytree(runs / "keras2-board-first", tmp_path / "copy", copy_function=shutil.copyfile)
    directory = ckptctl.scan(str(tmp_path / "copy"))
    rule = Best(2, "epoch_loss", Events(directory.path).values("epoch_loss"))
    assert set(rule.keep(directory.checkpoints)) == {"cp-0002.ckpt", "cp-0006.ckpt"}
    named = [replace(one, name="abcdefgh"[at]) for at, one in enumerate(directory.checkpoints)]
    assert kept(replace(directory, checkpoints=tuple(named)), rule) == set("abcdefgh")


@pytest.mark.parametrize("run", ["pruned-board-first", "pruned-save-first"])
def test_pruned_beside_the_training(runs: Path, run: str) -> None:
    """What has no value yet stays until it has one: in the end the two best of all epochs are there."""
    losses = np.load(runs / run / "history.npz")["loss"]
    left = {one.name for one in ckptctl.scan(str(runs / run)).checkpoints if one.on_disk}
    assert left >= {f"ckpt-{at + 1}" for at in np.argsort(losses)[:2]} | {"ckpt-8"}
    deleted = json.loads((runs / run / "pruned.json").read_text())
    assert left.isdisjoint(deleted)
    assert deleted or run == "pruned-save-first"  # a machine that stalls between the two makes for doubt


def test_iterations_are_matched_by_step(runs: Path) -> None:
    """What Keras writes by iteration goes by the optimizer's count."""
    directory = ckptctl.scan(str(runs / "keras2-save-first"))
    values = Events(directory.path).values("evaluation_loss_vs_iterations")
    losses = np.load(f"{directory.path}/history.npz")["val_loss"]
    rule = Best(1, "evaluation_loss_vs_iterations", values)
    names = [one.name for one in directory.checkpoints]
    assert kept(directory, rule) == {names[np.argmin(losses)], names[-1]}


def test_estimator_s_evaluation(runs: Path) -> None:
    """`eval/loss` is of the checkpoint of its global step, and `./loss` is the training's."""
    directory = ckptctl.scan(str(runs / "estimator"))
    looked = Events(directory.path)
    with pytest.raises(UnreadableError, match=r"say --metric \./loss or --metric eval/loss"):
        looked.values("loss")
    assert list(looked.values("./loss").steps) == [10, 20, 30, 40]
    assert kept(directory, Best(1, "loss", looked.values("./loss"))) == {"model.ckpt-20", "model.ckpt-40"}
    assert kept(directory, Best(1, "loss", looked.values("eval/loss"))) == {"model.ckpt-10", "model.ckpt-40"}
    assert looked.values("as_a_tensor/scalar_summary").values == looked.values("./loss").values


def test_all_scalars_are_tensorboard_s(runs: Path) -> None:
    """Its own loader reads the same steps, times and values, and no other scalars."""
    expected = json.loads((runs / "tensorboard.json").read_text())
    assert len(expected) > 15
    for run, tag, points in expected:
        values = Events(str(runs / run)).values(f"./{tag}")
        assert [list(row) for row in zip(values.steps, values.times, values.values, strict=True)] == points
    for run in {run for run, _, _ in expected if "logs" in run or run == "plain"}:
        looked = Events(str(runs / run))
        looked.values(next(tag for at, tag, _ in expected if at == run))
        assert set(looked.tags()) == {tag for at, tag, _ in expected if at == run}


def test_only_scalars_are_listed(runs: Path) -> None:
    """Images, texts, histograms and other tensors are none."""
    with pytest.raises(UnreadableError, match=r"did you mean `group/loss`\? There are: group/loss, whole"):
        Events(str(runs / "plain")).values("group/los")
    assert Events(str(runs / "plain")).values("group/loss").steps


def test_tensorflow_is_not_loaded(runs: Path) -> None:
    """Neither by TensorBoard nor half, and it loads as ever afterwards; nothing is printed."""
    program = """
import sys
from ckptctl import tensorflow
from ckptctl.events import Events
tensorflow.load_alone()
tensorflow.preload()
before = {name for name in sys.modules if name.split(".")[0] == "tensorflow"}
assert len(Events(sys.argv[1]).values("epoch_loss")) == 8
assert {name for name in sys.modules if name.split(".")[0] == "tensorflow"} == before
assert "tensorflow" not in before
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program, str(runs / "keras2-board-first")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_without_tensorboard(tmp_path: Path) -> None:
    """The error says what to install."""
    program = """
import sys
sys.modules["tensorboard"] = None
from ckptctl.events import Events
Events(sys.argv[1]).values("loss")
"""
    write(tmp_path / NAME, scalar(1, 0.5))
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert "install ckptctl with its extra [events]" in done.stderr.splitlines()[-1]


# Files that grow

NAME = "events.out.tfevents.1.host"


def record(data: bytes) -> bytes:
    """A record, with TensorBoard's own checksums."""
    header = struct.pack("<Q", len(data))
    return header + struct.pack("<I", masked_crc32c(header)) + data + struct.pack("<I", masked_crc32c(data))


def event(step: int, *values: Any, time: float | None = None) -> bytes:
    """A record of an event with these values."""
    made = event_pb2.Event(step=step, wall_time=1000.0 + step if time is None else time)
    made.summary.value.extend(values)
    return record(made.SerializeToString())


def scalar(step: int, value: float, tag: str = "loss", time: float | None = None) -> bytes:
    """A record of a scalar."""
    return event(step, summary_pb2.Summary.Value(tag=tag, simple_value=value), time=time)


def write(path: Path, *records: bytes, mode: str = "wb") -> None:
    """Writes records to a file, whose directory need not be there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open(mode) as file:
        file.write(b"".join(records))


def steps(looked: Events, metric: str = "loss") -> Sequence[int]:
    """The steps of what an object has read by now."""
    return list(looked.values(metric).steps)


def test_only_what_is_new_is_read(tmp_path: Path) -> None:
    """Each look reads on where the last one ended, and in files that have come in the meantime."""
    looked = Events(str(tmp_path))
    write(tmp_path / NAME, scalar(1, 0.5), scalar(2, 0.25))
    assert steps(looked) == [1, 2]
    damaged = bytearray((tmp_path / NAME).read_bytes())
    damaged[20] ^= 1
    (tmp_path / NAME).write_bytes(damaged)  # in place: who read from the start again would notice
    write(tmp_path / NAME, scalar(3, 0.125), mode="ab")
    assert steps(looked) == [1, 2, 3]
    write(tmp_path / f"{NAME}.2", scalar(4, 0.1))
    assert steps(looked) == [1, 2, 3, 4]
    assert not looked.notes


def test_watch_waits_for_the_metric(tmp_path: Path, watch: Callable[..., Watching]) -> None:
    """As long as no value is there nothing goes; then the best stays, and each look reads what is new."""
    fabricate.run(tmp_path / "run", 4)
    log = tmp_path / "logs" / NAME
    log.parent.mkdir()
    watching = watch(tmp_path / "run", "--keep-best=1", "--rescan=0.3", f"--events={log.parent}", "--keep=1")
    assert "no events files" in watching.event("failed", tmp_path / "run")["error"]
    assert fabricate.names(tmp_path / "run") == ckpts(1, 2, 3, 4)
    write(log, *[scalar(step, abs(step - 2), time=1e9 + step) for step in range(1, 5)])
    watching.until(lambda: fabricate.names(tmp_path / "run") == ckpts(2, 4))
    write(log, scalar(4, -1.0, time=1e9 + 5), mode="ab")
    watching.until(lambda: fabricate.names(tmp_path / "run") == ckpts(4))
    watching.stop()


@pytest.fixture
def measured(tmp_path: Path) -> Path:
    """Two runs with a loss of their own each, and a directory without one, in a parent that is no run."""
    for name, best in (("a", 1), ("b", 2)):
        run = fabricate.run(tmp_path / "runs" / name, 4)
        (run / "logs").mkdir()
        rows = [scalar(step, abs(step - best), time=1e9 + step) for step in range(1, 5)]
        write(run / "logs" / NAME, *rows)
    (tmp_path / "runs" / "notes").mkdir()
    return tmp_path / "runs"


def test_what_lies_between_runs_needs_no_metric(measured: Path, invoke: Invoke) -> None:
    """In a parent it is every run's, which concerns nobody; a run that has none is told of."""
    options = ("--keep=1", "--keep-best=1")
    result = invoke("prune", "-r", str(measured), *options)
    assert (result.exit_code, result.stderr) == (0, "")
    assert fabricate.names(measured / "a") == ckpts(1, 4)
    assert fabricate.names(measured / "b") == ckpts(2, 4)
    fabricate.run(measured / "c", 4)
    result = invoke("prune", "-r", str(measured), *options)
    assert result.exit_code == 3
    assert result.stderr.startswith(f"ckptctl: {measured}/c: no events files here or below")
    assert fabricate.names(measured / "c") == ckpts(1, 2, 3, 4)
    fabricate.run(measured, 4)
    result = invoke("prune", "-r", str(measured), *options)
    assert f"ckptctl: {measured}: several runs have a scalar `loss`" in result.stderr
    assert fabricate.names(measured) == ckpts(1, 2, 3, 4)


def test_watch_needs_no_metric_between_runs(measured: Path, watch: Callable[..., Watching]) -> None:
    """A parent is passed over in silence, and a run that is made there later is told of at once."""
    watching = watch("-r", measured, "--keep=1", "--keep-best=1")
    watching.until(lambda: fabricate.names(measured / "a") == ckpts(1, 4))
    watching.until(lambda: fabricate.names(measured / "b") == ckpts(2, 4))
    fabricate.run(measured / "notes", 4)
    assert "no events files" in watching.event("failed", measured / "notes")["error"]
    watching.stop()
    told = {event["directory"] for event in watching.events if event["event"] in {"failed", "refused"}}
    assert told == {str(measured / "notes")}


def test_every_length_of_a_half_written_record(tmp_path: Path) -> None:
    """A record counts once it is whole, and what is not is no damage."""
    looked = Events(str(tmp_path))
    last = scalar(2, 0.25)
    write(tmp_path / NAME, scalar(1, 0.5))
    for at in range(len(last)):
        assert steps(looked) == [1]
        assert not looked.notes
        write(tmp_path / NAME, last[at : at + 1], mode="ab")
    assert steps(looked) == [1, 2]


def test_garbled_records(tmp_path: Path) -> None:
    """What stands before one counts, it is said, and the look after it has been mended goes on."""
    whole = [scalar(1, 0.5), scalar(2, 0.25), scalar(3, 0.125)]
    for at in range(len(whole[0]), len(whole[0] + whole[1])):
        data = bytearray(b"".join(whole))
        data[at] ^= 0x10
        write(tmp_path / NAME, bytes(data))
        looked = Events(str(tmp_path))
        assert steps(looked) == [1]
        assert looked.notes == (
            f"{tmp_path}/{NAME}: garbled from byte {len(whole[0])} on; what stands before that counts",
        )
        assert looked.values("loss").until == 1001.0
        write(tmp_path / NAME, *whole)
        assert steps(looked) == [1, 2, 3]
        assert not looked.notes


@pytest.mark.parametrize("length", [0, 10, 200])
def test_a_file_that_is_written_anew_in_place(tmp_path: Path, length: int) -> None:
    """Cut to any length and written again: what stands there now counts."""
    write(tmp_path / NAME, *[scalar(step, 0.5) for step in range(3)])
    looked = Events(str(tmp_path))
    assert steps(looked) == [0, 1, 2]
    new = [scalar(step, 0.25, "loss", 2000.0 + step) for step in range(10, 12)]
    new += [record(event_pb2.Event(wall_time=1.0, file_version="x" * length).SerializeToString())]
    write(tmp_path / NAME, *new)
    assert steps(looked) == [10, 11]


def test_a_file_that_is_replaced_and_one_that_vanishes(tmp_path: Path) -> None:
    """A sync puts a new file in the old one's place: nothing counts twice. What was read stays read."""
    write(tmp_path / NAME, scalar(1, 0.5))
    looked = Events(str(tmp_path))
    assert steps(looked) == [1]
    write(tmp_path / "new", scalar(1, 0.5), scalar(2, 0.25))
    (tmp_path / "new").rename(tmp_path / NAME)
    assert steps(looked) == [1, 2]
    (tmp_path / NAME).unlink()
    assert steps(looked) == [1, 2]


def test_a_resumed_run(tmp_path: Path) -> None:
    """Several files of a run are one, in order of time; a copy of one of them says nothing twice."""
    write(tmp_path / "b.tfevents", scalar(1, 0.5, time=1.0), scalar(2, 0.4, time=2.0))
    write(tmp_path / "a.tfevents", scalar(2, 0.3, time=3.0), scalar(3, 0.2, time=4.0))
    shutil.copy(tmp_path / "a.tfevents", tmp_path / "c.tfevents")
    values = Events(str(tmp_path)).values("loss")
    rows = zip(values.steps, values.values, strict=True)
    assert [(step, round(value, 5)) for step, value in rows] == [(1, 0.5), (2, 0.4), (2, 0.3), (3, 0.2)]


# Runs and names


def test_a_run_that_goes_on_elsewhere(tmp_path: Path) -> None:
    """`logs/DATE/train` of one fit after the other is one run; of two at a time it is not."""
    write(tmp_path / "logs/1/train" / NAME, scalar(0, 0.5, "epoch_loss", 10.0))
    write(tmp_path / "logs/2/train" / NAME, scalar(1, 0.25, "epoch_loss", 20.0))
    values = Events(str(tmp_path)).values("train/epoch_loss")
    assert (list(values.steps), values.epochs) == ([0, 1], True)
    write(tmp_path / "logs/3/train" / NAME, scalar(1, 0.25, "epoch_loss", 15.0))
    write(tmp_path / "logs/3/train" / NAME, scalar(1, 0.25, "epoch_loss", 30.0), mode="ab")
    with pytest.raises(
        UnreadableError, match="logs/1/train/epoch_loss or --metric logs/2/train/epoch_loss or"
    ):
        Events(str(tmp_path)).values("epoch_loss")


def test_two_experiments_are_not_one_run(tmp_path: Path) -> None:
    """What begins again at the first step did not go on from what was there."""
    write(tmp_path / "exp1" / NAME, scalar(1, 0.5, time=10.0), scalar(2, 0.1, time=20.0))
    write(tmp_path / "exp2" / NAME, scalar(1, 0.4, time=30.0), scalar(2, 0.3, time=40.0))
    with pytest.raises(UnreadableError, match="several runs"):
        Events(str(tmp_path)).values("loss")


def test_what_is_not_read_may_hold_the_best(tmp_path: Path) -> None:
    """A garbled record leaves a hole, and whoever has no value may have had it there."""
    first = scalar(1, 0.5) + scalar(2, 0.1)
    write(tmp_path / NAME, first[:-3] + b"xyz", scalar(3, 0.3))
    write(tmp_path / f"{NAME}.2", scalar(4, 0.2))
    assert Events(str(tmp_path)).values("loss").holes
    write(tmp_path / "whole" / NAME, first)
    assert not Events(str(tmp_path / "whole")).values("loss").holes


def test_how_a_run_is_named(tmp_path: Path) -> None:
    """By the end of its path, whole names only; tags may hold slashes themselves."""
    write(tmp_path / "logs/validation" / NAME, scalar(1, 0.5), scalar(2, 0.5, "a/b"))
    write(tmp_path / "logs/cross-validation" / NAME, scalar(3, 0.5))
    looked = Events(str(tmp_path))
    assert steps(looked, "validation/loss") == steps(looked, "logs/validation/loss") == [1]
    assert steps(looked, "cross-validation/loss") == [3]
    assert steps(looked, "a/b") == steps(looked, "validation/a/b") == [2]
    with pytest.raises(UnreadableError, match="no scalar `idation/loss`"):
        looked.values("idation/loss")
    with pytest.raises(UnreadableError, match="no scalar `b`"):
        looked.values("b")
    assert looked.tags() == ("a/b", "logs/cross-validation/loss", "logs/validation/loss")


def test_nothing_to_read(tmp_path: Path) -> None:
    """No directory, no file, and no scalar yet are told apart."""
    with pytest.raises(UnreadableError, match="no such directory"):
        Events(str(tmp_path / "none")).values("loss")
    with pytest.raises(UnreadableError, match="no events files here or below: --events DIR"):
        Events(str(tmp_path)).values("loss")
    write(tmp_path / NAME, record(event_pb2.Event(file_version="brain.Event:2").SerializeToString()))
    with pytest.raises(UnreadableError, match=r"no scalar `loss` .* nor any other so far"):
        Events(str(tmp_path)).values("loss")
    write(tmp_path / NAME, *[scalar(1, 1.0, f"tag{at:02}") for at in range(30)])
    with pytest.raises(UnreadableError, match=r"there are: tag00, .*, tag09 and 20 more$"):
        Events(str(tmp_path)).values("nothing like it")


# What nobody should trust


def test_only_regular_files_are_read(tmp_path: Path) -> None:
    """A FIFO, a link and a directory of such a name hold nothing up; no link is followed."""
    run = tmp_path / "run"
    write(tmp_path / "outside" / NAME, scalar(9, 0.1))
    write(run / NAME, scalar(1, 0.5))
    os.mkfifo(run / "events.out.tfevents.fifo")
    (run / "events.out.tfevents.link").symlink_to(tmp_path / "outside" / NAME)
    (run / "events.out.tfevents.null").symlink_to("/dev/zero")
    (run / "logs").symlink_to(tmp_path / "outside")
    (run / "events.out.tfevents.directory").mkdir()
    looked = Events(str(run))
    assert steps(looked) == [1]
    assert looked.notes == tuple(
        f"{run}/events.out.tfevents.{kind} is not a regular file, and is not read"
        for kind in ("fifo", "link", "null")
    )


def tensor(dtype: int = types_pb2.DT_FLOAT, shape: Sequence[int] = (), **content: Any) -> Any:
    """A value that says that it is a scalar."""
    made = tensor_pb2.TensorProto(dtype=dtype, **content)
    for size in shape:
        made.tensor_shape.dim.add(size=size)
    value = summary_pb2.Summary.Value(tag="loss", tensor=made)
    value.metadata.plugin_data.plugin_name = "scalars"
    return value


def test_what_is_no_number(tmp_path: Path) -> None:
    """Tensors that are no single number are passed over: a shape alone may ask for terabytes."""
    none = [
        tensor(shape=[1 << 20, 1 << 20], float_val=[1.0]),
        tensor(shape=[-1], float_val=[1.0]),
        tensor(types_pb2.DT_STRING, string_val=[b"1.5"]),
        tensor(types_pb2.DT_COMPLEX64, scomplex_val=[1.0, 2.0]),
        tensor(types_pb2.DT_VARIANT),
        tensor(99),
        tensor(tensor_content=b"123"),
        tensor(tensor_content=b"1" * 4096),
        tensor(),
    ]
    numbers = [
        tensor(float_val=[0.5]),
        tensor(types_pb2.DT_DOUBLE, tensor_content=struct.pack("<d", 0.25)),
        tensor(types_pb2.DT_INT64, int64_val=[7]),
        tensor(shape=[1], float_val=[0.125]),
    ]
    write(tmp_path / NAME, *[event(step, value) for step, value in enumerate([*none, *numbers])])
    values = Events(str(tmp_path)).values("loss")
    assert list(values.values) == [0.5, 0.25, 7.0, 0.125]
    assert list(values.steps) == [9, 10, 11, 12]


def test_not_a_number_is_a_value(tmp_path: Path) -> None:
    """A run that diverged is read as it is; a time that is none is no time."""
    write(
        tmp_path / NAME,
        scalar(1, math.nan),
        scalar(2, math.inf),
        scalar(3, 1.0, time=math.nan),
        scalar(4, 1.0),
    )
    first, second, third = Events(str(tmp_path)).values("loss").values
    assert math.isnan(first)
    assert (second, third) == (math.inf, 1.0)


def test_records_of_any_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Large ones and what is no event are passed over, and told; what is beyond the file is waited for."""
    monkeypatch.setattr(eventfile, "MAX_RECORD", 1000)
    header = struct.pack("<Q", 1 << 62)
    endless = header + struct.pack("<I", masked_crc32c(header))
    write(tmp_path / NAME, record(b"x" * 2000), record(b"\xff" * 20), scalar(1, 0.5), endless, b"x" * 100)
    looked = Events(str(tmp_path))
    assert steps(looked) == [1]
    assert looked.notes == (
        f"{tmp_path}/{NAME}: 2 of its events are too large, or are none, and were passed over",
    )


def test_a_huge_file_of_nothing(tmp_path: Path) -> None:
    """A terabyte of zeros is garbled from its start."""
    with (tmp_path / NAME).open("wb") as file:
        file.truncate(1 << 40)
    write(tmp_path / f"{NAME}.2", scalar(1, 0.5))
    looked = Events(str(tmp_path))
    assert steps(looked) == [1]
    assert "garbled from byte 0 on" in looked.notes[0]


def test_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too many values or files are an error that says what to do; of too many tags the rest is not listed."""
    write(tmp_path / "a" / NAME, *[scalar(step, 0.5) for step in range(4)])
    write(tmp_path / "b" / NAME, *[scalar(step, 0.5, f"tag{step}") for step in range(4)])
    write(tmp_path / "c" / NAME, scalar(1, 0.5, "long" * 200))
    monkeypatch.setattr(eventfile, "MAX_TAGS", 2)
    looked = Events(str(tmp_path))
    assert steps(looked) == [0, 1, 2, 3]
    assert looked.tags() == ("loss", "tag0", "tag1")
    monkeypatch.setattr(eventfile, "MAX_VALUES", 3)
    with pytest.raises(UnreadableError, match="`loss` has more than 3 values: name one"):
        Events(str(tmp_path)).values("loss")
    with pytest.raises(UnreadableError, match="`loss` has more than 3 values: name one"):
        looked.values("loss")
    monkeypatch.setattr(events, "MAX_FILES", 1)
    with pytest.raises(UnreadableError, match="more than 1 events files"):
        Events(str(tmp_path)).values("tag0")
    monkeypatch.setattr(events, "MAX_DIRECTORIES", 2)
    with pytest.raises(UnreadableError, match="more than 2 directories below"):
        Events(str(tmp_path)).values("tag0")
    monkeypatch.setattr(events, "MAX_DEPTH", 0)
    with pytest.raises(UnreadableError, match="no events files here or below"):
        Events(str(tmp_path)).values("tag0")
