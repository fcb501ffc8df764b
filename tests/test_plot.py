"""Tests of what a picture shows, and of how far layers moved: plain data, nothing is drawn."""

from __future__ import annotations

import json
import math
import os
from typing import TYPE_CHECKING, Any

import fabricate
import numpy as np
import pytest
from bundle_writer import BundleWriter
from trainers import run_trainer

from ckptctl.errors import UnreadableError
from ckptctl.matching import Values
from ckptctl.model import ABSENT, NAME, Checkpoint, Directory, File, Format, Status
from ckptctl.plan import plan
from ckptctl.plotting import movement
from ckptctl.plotting.picture import Axis, Lane, Metric, as_planned, metric_of, picture
from ckptctl.plotting.text import drawable, short_paths
from ckptctl.policy import Best, Mode, Newest, Policy
from ckptctl.scan import scan

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from conftest import Invoke

    from ckptctl.plotting.picture import Picture

ITERATIONS = "optimizer/iter"
VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"
NAN, INF = math.nan, math.inf


def checkpoint(name: str, step: int | None = None, saved: float | None = None, **more: Any) -> Checkpoint:
    """A checkpoint of 10 bytes whose step an optimizer counts."""
    options = {"status": Status.COMPLETE, "step_from": None if step is None else ITERATIONS, **more}
    index = File(f"{name}.index", 10, int(step or 0), 1)
    return Checkpoint(name, Format.V2, step=step, saved=saved, index=index, **options)


def shown(*checkpoints: Checkpoint, keep: int | None = None, **options: Any) -> Picture:
    """The picture of a directory of these."""
    directory = Directory("run", ABSENT, checkpoints)
    made = None if keep is None else plan(directory, Policy((Newest(keep),)), now=1e10)
    return picture(directory, "run", made, **options)


def places(made: Picture) -> dict[str, float]:
    """Where each checkpoint stands."""
    return {mark.checkpoint.name: mark.x for mark in made.marks}


# --- the picture -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "keep", "lane", "look"),
    [
        (Status.COMPLETE, None, Lane.COMPLETE, Lane.COMPLETE),
        (Status.SAVING, None, Lane.SAVING, Lane.SAVING),
        (Status.BROKEN, None, Lane.BROKEN, Lane.BROKEN),
        (Status.UNREADABLE, None, Lane.UNREADABLE, Lane.UNREADABLE),
        (Status.MISSING, None, Lane.ABSENT, Lane.ABSENT),
        (Status.FOREIGN, 1, Lane.ABSENT, Lane.ABSENT),
        (Status.COMPLETE, 2, Lane.KEPT, Lane.KEPT),
        (Status.COMPLETE, 1, Lane.GOES, Lane.GOES),
        (Status.SAVING, 1, Lane.KEPT, Lane.SAVING),
        (Status.BROKEN, 1, Lane.GOES, Lane.BROKEN),
    ],
)
def test_lanes(status: Status, keep: int | None, lane: Lane, look: Lane) -> None:
    """The policy decides on the lane, and what is wrong with a checkpoint on its look."""
    made = shown(
        checkpoint("a-1", 1, 1.0, status=status, problem="cut"), checkpoint("a-2", 2, 2.0), keep=keep
    )
    assert (made.marks[0].lane, made.marks[0].look) == (lane, look)


def test_counts() -> None:
    """Each lane says how much is in it; the policy is there in words."""
    made = shown(*[checkpoint(f"a-{step}", step, float(step)) for step in (1, 2, 3)], keep=2)
    assert made.counts() == [(Lane.KEPT, 2, 20), (Lane.GOES, 1, 10)]
    assert made.sentence == "keep the 2 newest"
    assert made.summary() == "3 checkpoints, 30 B"


@pytest.mark.parametrize(
    ("checkpoints", "axis"),
    [
        ([checkpoint("a", 1, 5.0), checkpoint("b", 2, 6.0)], Axis.STEP),
        ([checkpoint("a", 1, 5.0), checkpoint("b", None, 6.0)], Axis.TIME),
        ([checkpoint("a", 1, 5.0), checkpoint("b-2", 2, 6.0, step_from=NAME)], Axis.TIME),
        (
            [checkpoint("a", 1, 5.0), checkpoint("b-2", 2, 6.0, step_from=NAME, status=Status.BROKEN)],
            Axis.STEP,
        ),
    ],
    ids=["steps", "one without", "other counts", "only what is broken"],
)
def test_axis(checkpoints: list[Checkpoint], axis: Axis) -> None:
    """By default the step, where the complete ones can be compared by it."""
    assert shown(*checkpoints).axis is axis


def test_without_a_place() -> None:
    """What cannot be compared stands between its neighbours in age, and the picture says so."""
    made = shown(
        checkpoint("a", None, 1.0),
        checkpoint("b", 100, 2.0),
        checkpoint("c-3", 3, 3.0, step_from=NAME, status=Status.BROKEN),
        checkpoint("d", 300, 4.0),
        checkpoint("e", None, None, status=Status.MISSING),
        axis=Axis.STEP,
    )
    assert places(made) == {"a": 100, "b": 100, "c-3": 200, "d": 300, "e": 300}
    assert made.notes == (
        "placed between those saved before and after: 3 checkpoints without a comparable step",
    )


@pytest.mark.parametrize("saved", [None, -1e12, 1e12, NAN, INF])
def test_impossible_times(saved: float | None) -> None:
    """A time of no calendar of ours is none."""
    made = shown(checkpoint("a", 1, 10.0), checkpoint("b", 2, saved), axis=Axis.TIME)
    assert places(made) == {"a": 10.0, "b": 10.0}


@pytest.mark.parametrize(("axis", "other"), [(Axis.STEP, "time"), (Axis.TIME, "step")])
def test_no_place_at_all(axis: Axis, other: str) -> None:
    """Where nothing has a place, the other axis is named; where nothing is, that is said."""
    with pytest.raises(UnreadableError, match=f"--by {other}"):
        shown(checkpoint("a"), axis=axis)
    with pytest.raises(UnreadableError, match="no checkpoints"):
        shown()


@pytest.mark.parametrize(("mode", "best"), [(Mode.MIN, ("c", "b")), (Mode.MAX, ("d", "b"))])
def test_metric(mode: Mode, best: tuple[str, ...]) -> None:
    """NaN and what no axis could hold have no value; the best come in their order."""
    checkpoints = [checkpoint(name, step, float(step)) for step, name in enumerate("abcde")]
    rule = Best(2, "loss", Values((0, 1, 2, 3, 4), (NAN, 0.5, 0.25, 0.75, 1e300)), mode)
    found = metric_of(rule, checkpoints[:4])
    made = shown(*checkpoints, metric=found)
    assert [mark.value for mark in made.marks] == [None, 0.5, 0.25, 0.75, None]
    assert (made.metric, made.best) == ("loss", best)
    assert {mark.checkpoint.name for mark in made.marks if mark.best} == set(best)
    assert made.notes == ("loss: 2 complete checkpoints without a value",)
    assert shown(*checkpoints, metric=Metric("loss", {"a": -1e300}, ("a",))).metric is None


def test_what_is_told() -> None:
    """Whoever points at a checkpoint is told its name, step, time, size, how it stands, and why it goes."""
    odd = checkpoint("a\x1b[2J\n", 1200, 1e9, status=Status.BROKEN, problem="cut", latest=True, pinned=True)
    (name, step, when, *rest) = shown(odd, keep=1).marks[0].told().split("\n")
    assert (name, step) == (r"a\x1b[2J\n", "step 1,200")
    assert when.startswith("saved 2001-09-0")
    assert rest[:2] == ["10 B", "broken, latest, pinned: cut"]
    assert rest[2].startswith("kept: the latest in the state file; pinned;")
    valued = shown(checkpoint("b", 1), metric=Metric("loss", {"b": 0.5}))
    assert valued.marks[0].told("loss").split("\n")[-2:] == ["complete", "loss 0.5"]


def test_proof_counts() -> None:
    """How a checkpoint stands is what the plan has found out, if it has read it."""
    directory = Directory("run", ABSENT, (checkpoint("a", 1, 1.0), checkpoint("b", 2, 2.0)))
    proven = (directory.checkpoints[0], checkpoint("b", 2, 2.0, status=Status.BROKEN))
    made = plan(Directory("run", ABSENT, proven), Policy((Newest(1),)))
    assert as_planned(directory, made).checkpoints == proven


# --- what is written -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "drawn"),
    [
        ("run1", "run1"),
        ("a\x07b\n", r"a\x07b\n"),
        ("\u5b9e\u9a8c-1", r"\u5b9e\u9a8c-1"),
        ("x\udcff", r"x\xff"),
        ("a" * 30, "aaaaa\N{HORIZONTAL ELLIPSIS}aaaa"),
        ("$x_1$", "$x_1$"),
    ],
)
def test_drawable(text: str, drawn: str) -> None:
    """Control characters and what the font lacks are escaped; what is too long loses its middle."""
    assert drawable(text, {*range(32, 127), 0x2026}, 10) == drawn


def test_short_paths() -> None:
    """What all have in common goes, if one of them is too long; the last part never does."""
    assert short_paths(["m/a/x", "m/a/y"], 10) == ["m/a/x", "m/a/y"]
    assert short_paths(["m/a/x", "m/a/y"], 4) == ["\N{HORIZONTAL ELLIPSIS}/x", "\N{HORIZONTAL ELLIPSIS}/y"]
    assert short_paths(["model", "model/a"], 4) == ["model", "model/a"]
    assert short_paths([], 4) == []


# --- how far layers moved --------------------------------------------------------------------------------


def marks(steps: Iterable[int]) -> Picture:
    """Complete checkpoints at these steps."""
    return shown(*[checkpoint(f"a-{at}", step, float(at)) for at, step in enumerate(steps)])


def test_compared() -> None:
    """Of many, an even choice with the first and the last; of those at one place the newest."""
    few = movement.compared(marks([10, 20, 20, 30]).marks)
    assert [mark.checkpoint.name for mark in few] == ["a-0", "a-2", "a-3"]
    many = movement.compared(marks(range(1000)).marks)
    assert len(many) == movement.MAX_COMPARED == len({mark.x for mark in many})
    assert (many[0].x, many[-1].x) == (0, 999)


def test_rows() -> None:
    """Of many layers those that moved most, in a natural order; the notes say what is not there."""
    columns: list[movement.Moved] = [
        {f"dense_{at}": at / 100 for at in range(100)},
        {"dense_99": INF, "new": NAN},
    ]
    made = movement.table([1.0, 2.0, 3.0], columns, 5, ["a: cut", "b: cut"])
    assert made.layers == tuple(f"dense_{at}" for at in range(60, 100))
    assert made.rows[0] == (0.6, None)
    assert made.rows[-1] == (0.99, INF)
    assert made.notes == (
        "layers: 3 of 5 checkpoints compared",
        "layers: of 101 the 40 that moved most",
        "layers: darkest where all was zero before",
        "layers: blank where checkpoints could not be compared: a: cut (and 1 more)",
    )


def test_movement(tmp_path: Path) -> None:
    """Norms of all tensors of a layer together; slots, scalars and whole numbers do not count."""
    values = {
        "model/a/kernel": [[3.0, 4.0], [3.0, 4.5], [3.0, 4.5]],
        "model/a/bias": [[0.0, 12.0], [1.2, 12.0], [1.2, 12.0]],
        "model/born": [[0.0], [1.0], [2.0]],
        "model/bad/kernel": [[1.0, 1.0], [NAN, 1.0], [2.0, 1.0]],
        "model/huge/kernel": [[1e37], [2e37], [4e37]],
        "model/a/kernel/.OPTIMIZER_SLOT/adam/m": [[0.0, 0.0], [1.0, 1.0], [2.0, 2.0]],
    }
    for step in range(3):
        made = BundleWriter()
        for name, saved in values.items():
            row = np.array(saved[step], np.float32)
            made.add((name + VALUE).encode(), 1, row.shape, row.tobytes())
        made.add(b"optimizer/rate" + VALUE.encode(), 1, (), np.float32(step).tobytes())
        made.add(b"ids/table" + VALUE.encode(), 3, (1,), np.int32(step).tobytes())
        if step == 1:
            made.add(b"new/kernel" + VALUE.encode(), 1, (1,), bytes(4))
        made.write(tmp_path, f"ckpt-{step}")
    found = movement.movement(str(tmp_path), picture(scan(tmp_path), "run").marks)
    assert found.places == (0, 1, 2)
    rows = dict(zip(found.layers, found.rows, strict=True))
    assert sorted(rows) == ["model", "model/a", "model/bad", "model/huge", "new"]
    assert rows["model"] == (INF, 1.0)
    assert rows["model/a"] == pytest.approx((0.1, 0.0))
    assert all(map(math.isnan, [one or 0.0 for one in rows["model/bad"]]))
    assert rows["model/huge"] == pytest.approx((1.0, 1.0))
    assert rows["new"] == (None, None)
    assert "layers: blank where a number is NaN or infinite" in found.notes


def test_movement_past_damage(tmp_path: Path) -> None:
    """A checkpoint that cannot be read leaves a blank on both sides; nothing to compare is an error."""
    for step in range(1, 5):
        made = BundleWriter()
        made.add(b"a/kernel", 1, (2,), np.array([step, 1], np.float32).tobytes())
        made.write(tmp_path, f"ckpt-{step}")
    found = picture(scan(tmp_path), "run").marks
    os.remove(tmp_path / "ckpt-2.data-00000-of-00001")
    made_of = movement.movement(str(tmp_path), found)
    assert [one is None for one in made_of.rows[0]] == [True, True, False]
    assert "could not be compared" in made_of.notes[0]
    with pytest.raises(UnreadableError, match="no two checkpoints"):
        movement.movement(str(tmp_path), found[:2])
    with pytest.raises(UnreadableError, match="needs two"):
        movement.movement(str(tmp_path), found[:1])


def test_movement_of_a_trainer(tmp_path: Path, invoke: Invoke) -> None:
    """A real model: the layers that `diff` lists but for slots and counters, as far as `diff` says."""
    run_trainer("manager", tmp_path, saves=3, max_to_keep=0)
    seen = picture(scan(tmp_path), "run")
    found = movement.movement(str(tmp_path), seen.marks)
    prefixes = [str(tmp_path / mark.checkpoint.name) for mark in seen.marks]
    document = json.loads(invoke("diff", prefixes[0], prefixes[1], "--numeric", "--json").stdout)
    layers = {one["layer"] for one in document["layers"] if one["parameters"] > 2}
    assert set(found.layers) == {layer for layer in layers if "slots" not in layer}
    assert len(found.rows[0]) == 2
    assert all(one is not None and 0 < one < INF for row in found.rows for one in row)


def test_fabricated_run(tmp_path: Path) -> None:
    """A scan of a run has its steps from the names, and stands along them."""
    made = picture(scan(fabricate.run(tmp_path, 3)), "run")
    assert (made.axis, places(made)) == (Axis.STEP, {"ckpt-1": 1, "ckpt-2": 2, "ckpt-3": 3})
