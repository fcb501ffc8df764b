"""Tests of ckptctl.matching: golden tables of checkpoints, values, and which belong together."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ckptctl.matching import Values, match
from ckptctl.model import NAME, Checkpoint, Format, Status
from ckptctl.policy import Best

UPDATES = "optimizer/_iterations"
DOUBT = "?"
"""What stands in a table for a checkpoint whose value cannot be told."""


@dataclass(frozen=True)
class Table:
    """A case.

    Attributes:
        checkpoints: Name, step and time of each, oldest first; `step_from` is `UPDATES` for all.
        values: Step and time of each; the value is the place in the list.
        expected: The step of the value that each checkpoint has, `DOUBT`, or None for none.
        epochs: Whether the tag is known to count epochs.
        step_from: What the checkpoints' steps count.
        tolerance: As for `match`.
        until: Up to when the events have been read; the time of the last value if it is not said.
    """

    checkpoints: list[tuple[str, int | None, float | None]]
    values: list[tuple[int, float]]
    expected: list[int | str | None]
    epochs: bool = True
    step_from: str = UPDATES
    tolerance: int = 0
    until: float | None = None


def every(seconds: float, count: int, *, first: float = 0.0) -> list[float]:
    """Times."""
    return [first + seconds * at for at in range(count)]


def epochs(count: int, seconds: float = 100.0) -> list[tuple[int, float]]:
    """Values of epochs from 0 on; epoch 0 ends at its length."""
    return list(enumerate(every(seconds, count, first=seconds)))


def saves(
    times: list[float], *, name: str = "w-{}", updates: int = 32
) -> list[tuple[str, int | None, float | None]]:
    """Checkpoints with so many updates between two; the names number them as a CheckpointManager does."""
    return [(name.format(at), at * updates, saved) for at, saved in enumerate(times, start=1)]


LETTERS = ["a", "b", "c", "d", "e", "f"]


def unnamed(times: list[float], updates: int = 32) -> list[tuple[str, int | None, float | None]]:
    """Checkpoints whose names tell nothing."""
    return [(letter, at * updates, t) for at, (letter, t) in enumerate(zip(LETTERS, times, strict=False), 1)]


TABLES = {
    "epochs: the save just after the value": Table(
        unnamed(every(100, 4, first=100.5)), epochs(4), [0, 1, 2, 3]
    ),
    "epochs: the save just before the value": Table(
        unnamed(every(100, 4, first=99.8)), epochs(4), [0, 1, 2, 3]
    ),
    "epochs: a save that takes long": Table(unnamed(every(100, 4, first=145)), epochs(4), [0, 1, 2, 3]),
    "epochs: a save that takes longer than the training of the next epoch": Table(
        unnamed(every(100, 4, first=160)), epochs(4), [DOUBT] * 4
    ),
    "epochs: the first save takes very long": Table(
        unnamed([360.0, 420.5, 520.5]), [(0, 100.0), (1, 420.0), (2, 520.0), (3, 620.0)], [DOUBT, 1, 2]
    ),
    "epochs: saves from before there were values, and one that may be the first value's": Table(
        unnamed([10.0, 20.0, 30.0, 200.5]), epochs(2), [None, None, DOUBT, 1]
    ),
    "epochs: such a save, told by its name": Table(
        saves(every(100, 4, first=160), name="cp-{:04d}.ckpt"), epochs(4), [0, 1, 2, 3]
    ),
    "epochs: as many updates in an epoch as there are epochs": Table(
        unnamed(every(100, 4, first=100.5), updates=2), epochs(10), [0, 1, 2, 3]
    ),
    "epochs: a checkpoint in the middle of one has no value": Table(
        [*unnamed([100.5, 200.5, 300.5]), ("middle", 80, 260.0)], epochs(3), [0, 1, 2, None]
    ),
    "epochs: of two near its end the nearer has the value": Table(
        [*unnamed([100.5, 200.5, 300.5]), ("early", 70, 220.0)], epochs(3), [0, 1, 2, None]
    ),
    "epochs: one in two is saved": Table(unnamed([200.1, 400.1]), epochs(4), [1, 3]),
    "epochs: only some are left": Table(unnamed([300.5, 600.5]), epochs(6), [2, 5]),
    "epochs: the last values are not written yet": Table(
        unnamed(every(100, 6, first=100.5)), epochs(3), [0, 1, 2, DOUBT, DOUBT, DOUBT]
    ),
    "epochs: nor when the save comes first, and the last one's checkpoint is gone": Table(
        unnamed([99.8, 399.8, 499.8]), epochs(3), [0, DOUBT, DOUBT]
    ),
    "epochs: a second fit counts from 0 again": Table(
        unnamed(every(100, 6, first=100.5)),
        [*epochs(3), *[(at, 300 + t) for at, t in epochs(3)]],
        [0, 1, 2, 0, 1, 2],
    ),
    "epochs: values that were lost with the trainer": Table(
        unnamed(every(100, 6, first=100.5)),
        [epochs(6)[0], epochs(6)[1], *epochs(6)[4:]],
        [0, 1, None, None, 4, 5],
    ),
    "epochs: a week lies between two": Table(
        unnamed([100.5, 200.5, 604_900.5, 605_000.5]),
        [(0, 100.0), (1, 200.0), (2, 604_900.0), (3, 605_000.0)],
        [0, 1, 2, 3],
    ),
    "a copy without times: names tell": Table(
        saves(every(0.01, 4, first=1e6), name="cp-{:04d}.ckpt"), epochs(4), [0, 1, 2, 3]
    ),
    "a copy without times: a loss in the name besides": Table(
        [("w.01-0.50", 32, 1e6), ("w.02-0.25", 64, 1e6), ("w.03-0.75", 96, 1e6)], epochs(3), [0, 1, 2]
    ),
    "a copy without times: names that count something else": Table(
        saves(every(0.01, 4, first=1e6)), epochs(8), [DOUBT] * 4
    ),
    "a copy without times: names out of proportion": Table(
        [("w-1", 32, 1e6), ("w-2", 128, 1e6), ("w-4", 160, 1e6)], epochs(4), [DOUBT] * 3
    ),
    "a copy without times: no numbers": Table(unnamed(every(0.01, 4, first=1e6)), epochs(4), [DOUBT] * 4),
    "a copy made at once": Table(unnamed(every(0.01, 4, first=401.0)), epochs(4), [DOUBT] * 4),
    "a clock that goes wrong, and names that show it": Table(
        saves(every(100, 4, first=200.5), name="cp-{:04d}.ckpt"), epochs(4), [DOUBT, DOUBT, DOUBT, 3]
    ),
    "no times of checkpoints": Table([("a", 32, None), ("b", 64, 200.5)], epochs(3), [DOUBT, 1]),
    "updates: the same step": Table(
        unnamed([10.0, 20.0, 30.0]), [(32, 9.0), (64, 19.0), (96, 29.0)], [32, 64, 96], epochs=False
    ),
    "updates: an evaluation long after the save": Table(
        unnamed([10.0, 20.0, 30.0]), [(32, 19.0), (64, 29.5), (96, 45.0)], [32, 64, 96], epochs=False
    ),
    "updates: the last one before": Table(
        unnamed([10.0, 20.0, 30.0]),
        [(30, 9.0), (50, 15.0), (95, 31.0)],
        [30, None, 95],
        epochs=False,
        tolerance=5,
    ),
    "updates: a copy without times": Table(
        unnamed([1e6, 1e6, 1e6]), [(32, 9.0), (64, 19.0)], [32, 64, DOUBT], epochs=False
    ),
    "updates: no evaluation of the newest yet": Table(
        unnamed([10.0, 20.0, 30.0]), [(32, 12.0), (64, 22.0)], [32, 64, DOUBT], epochs=False
    ),
    "updates: a step that recurs has the last value": Table(
        unnamed([10.0, 20.0]), [(32, 9.0), (64, 19.0), (32, 29.0)], [32, 64], epochs=False
    ),
    "a loop of one's own that counts epochs": Table(
        unnamed(every(100, 6, first=100.5), updates=4), epochs(6), [0, 1, 2, 3, 4, 5], epochs=False
    ),
    "such a loop, after a copy without times": Table(
        unnamed(every(0.01, 6, first=1e6), updates=4), epochs(6), [DOUBT] * 6, epochs=False
    ),
    "updates: the first evaluation, long after the save": Table(
        unnamed(every(10, 6, first=10)),
        [(32, 45.0)],
        [32, None, None, None, DOUBT, DOUBT],
        epochs=False,
    ),
    "updates: a copy without times that was trained on": Table(
        [*unnamed([500.0, 500.01, 500.02]), ("newest", 128, 510.0)],
        [(32, 9.0), (64, 19.0), (96, 29.0), (128, 509.0)],
        [32, 64, 96, 128],
        epochs=False,
    ),
    "a number of saves is no step": Table(
        unnamed(every(100, 4, first=100.5), updates=1),
        [(at * 10, 10.0 * at) for at in range(1, 41)],
        [100, 200, 300, 400],
        epochs=False,
        step_from="save_counter",
    ),
    "a step that the name tells is one": Table(
        saves([10.0, 20.0]), [(32, 9.0), (64, 19.0)], [32, 64], epochs=False, step_from=NAME
    ),
}


def made(table: Table) -> tuple[Values, list[Checkpoint]]:
    """The values and the checkpoints, newest first."""
    times = [time for _, time in table.values]
    values = Values(
        [step for step, _ in table.values],
        [float(at) for at in range(len(times))],
        times,
        until=max(times) if table.until is None else table.until,
        epochs=table.epochs,
    )
    return values, [
        Checkpoint(name, Format.V2, Status.COMPLETE, step=step, step_from=table.step_from, saved=saved)
        for name, step, saved in reversed(table.checkpoints)
    ]


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_table(table: Table) -> None:
    """Checkpoints and values in, which belong together out."""
    values, newest_first = made(table)
    matches = match(values, newest_first, table.tolerance)
    assert not matches.found.keys() & matches.doubtful.keys()
    assert [
        DOUBT if name in matches.doubtful else matches.found[name].step if name in matches.found else None
        for name, *_ in table.checkpoints
    ] == table.expected
    for found in matches.found.values():  # the step's last value by number, or one of its values
        assert values.steps[int(found.value)] == found.step


def test_how_it_was_matched_is_said() -> None:
    """For people: the value's step, and what speaks for it."""
    cases = {
        "epochs: the save just before the value": "at step 0, written 0.2s after the save",
        "epochs: such a save, told by its name": "at step 0, by the number in its name",
        "updates: the last one before": "at step 30",
        "updates: the same step": "",
    }
    for case, how in cases.items():
        matches = match(*made(TABLES[case]), TABLES[case].tolerance)
        assert min((found.step, found.how) for found in matches.found.values())[1] == how


def test_a_file_without_times_goes_by_steps_alone() -> None:
    """No doubt arises but for what lies beyond the last row, and may be yet to come."""
    _, newest_first = made(TABLES["updates: the same step"])
    matches = match(Values([64, 32], [1.0, 2.0]), newest_first, 0)
    assert {name: found.value for name, found in matches.found.items()} == {"a": 2.0, "b": 1.0}
    assert matches.doubtful.keys() == {"c"}


def test_where_values_may_be_missing_all_without_one_stay() -> None:
    """What could not be read may be the best."""
    _, newest_first = made(TABLES["updates: the same step"])
    values = Values([32], [2.0], [1e12], until=1e12)
    assert not match(values, newest_first, 0).doubtful
    matches = match(replace(values, holes=True), newest_first, 0)
    assert matches.found.keys() | matches.doubtful.keys() == {one.name for one in newest_first}
    assert matches.doubtful


CHECKPOINTS = st.lists(
    st.builds(
        Checkpoint,
        st.from_regex(r"[a-c]{1,2}-?[0-9]{0,3}", fullmatch=True),
        st.just(Format.V2),
        st.just(Status.COMPLETE),
        step=st.none() | st.integers(0, 100),
        step_from=st.sampled_from([UPDATES, NAME, "save_counter"]),
        saved=st.none() | st.floats(0, 1e4),
    ),
    max_size=8,
    unique_by=lambda one: one.name,
)
POINTS = st.lists(st.tuples(st.integers(-5, 100), st.floats(), st.floats(0, 1e4)), max_size=12).map(
    lambda points: sorted(points, key=lambda point: point[2])
)


@given(CHECKPOINTS, POINTS, st.booleans(), st.integers(0, 10))
def test_what_holds_for_all(
    checkpoints: list[Checkpoint],
    points: list[tuple[int, float, float]],
    epochs: bool,  # noqa: FBT001 - drawn
    tolerance: int,
) -> None:
    """Each is found, doubtful or neither, and what is found is one of the values."""
    values = Values(
        [step for step, _, _ in points],
        [value for _, value, _ in points],
        [time for _, _, time in points],
        until=max([time for _, _, time in points], default=-math.inf),
        epochs=epochs,
    )
    matches = match(values, checkpoints, tolerance)
    assert not matches.found.keys() & matches.doubtful.keys()
    assert matches.found.keys() | matches.doubtful.keys() <= {one.name for one in checkpoints}
    known = {(step, repr(value)) for step, value, _ in points}
    assert all((found.step, repr(found.value)) in known for found in matches.found.values())


@st.composite
def trainings(draw: st.DrawFn) -> tuple[Values, list[Checkpoint], dict[str, int]]:
    """A Keras run: its values, what is left of its checkpoints, and the epoch of each by its name."""
    train, save = draw(st.floats(5.0, 300.0)), draw(st.floats(0.0, 600.0))
    save_first, between = draw(st.booleans()), draw(st.floats(0.0, 2.0))
    clock, written, checkpoints = 1e9, [], []
    for epoch in range(draw(st.integers(2, 12))):
        clock += train * draw(st.floats(0.9, 1.1))
        written += [] if save_first else [clock]
        saved = clock + save + draw(st.floats(0.0, 0.05))
        clock = saved + between
        written += [clock] if save_first else []
        checkpoints.append(
            Checkpoint(chr(97 + epoch), Format.V2, Status.COMPLETE, 32 * (epoch + 1), UPDATES, saved)
        )
    on_disk = len(written) - draw(st.integers(0, len(written) - 1))
    values = Values(
        range(on_disk),
        [float(at) for at in range(on_disk)],
        written[:on_disk],
        written[on_disk - 1],
        epochs=draw(st.booleans()),
    )
    left = [one for one in checkpoints if draw(st.booleans())] or checkpoints
    return values, left[::-1], {one.name: epoch for epoch, one in enumerate(checkpoints)}


@given(trainings())
def test_no_checkpoint_has_another_epoch_s_value(
    training: tuple[Values, list[Checkpoint], dict[str, int]],
) -> None:
    """Whatever saving takes, in either order: its own value, or doubt; never none where it has one."""
    values, newest_first, epoch_of = training
    matches = match(values, newest_first, 0)
    for one in newest_first:
        found = matches.found.get(one.name)
        assert found is None or found.step == epoch_of[one.name]
        assert found is not None or one.name in matches.doubtful


@given(trainings(), st.lists(st.floats(0, 1), min_size=12, max_size=12))
def test_a_second_prune_deletes_nothing_more(
    training: tuple[Values, list[Checkpoint], dict[str, int]], losses: list[float]
) -> None:
    """What the first one deleted leaves no value to another checkpoint."""
    values, newest_first, _ = training
    rule = Best(2, "epoch_loss", replace(values, values=losses[: len(values)]))
    left = [one for one in newest_first if one.name in rule.keep(newest_first)]
    assert rule.keep(left).keys() == {one.name for one in left}
