"""Tests of ckptctl.policy and ckptctl.plan."""

from __future__ import annotations

import importlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ckptctl.chronology import Order
from ckptctl.errors import PolicyError, RefusedError, SavedModelError
from ckptctl.model import (
    ABSENT,
    Checkpoint,
    Directory,
    File,
    FileKind,
    Format,
    Plan,
    State,
    StateEntry,
    StateStatus,
    Status,
)
from ckptctl.plan import DEFAULT_PROTECTIONS, Protections, matches, plan
from ckptctl.policy import AtStep, Newest, Policy

if TYPE_CHECKING:
    from collections.abc import Sequence

NOW = 1_000_000.0
THREE = Policy((Newest(3),))


def made(
    step: int | None,
    *,
    name: str = "",
    status: Status = Status.COMPLETE,
    age: float = 1000.0,
    kind: FileKind = FileKind.REGULAR,
    **more: object,
) -> Checkpoint:
    """A checkpoint with one file."""
    name = name or f"ckpt-{step}"
    file = File(f"{name}.index", 10, int((NOW - age) * 1e9), inode=1, kind=kind)
    problem = None if status is Status.COMPLETE else "shard 0 of 1 is not there"
    return replace(
        Checkpoint(name, Format.V2, status, step=step, saved=NOW - age, index=file, problem=problem),
        **more,  # type: ignore[arg-type]
    )


def directory(checkpoints: Sequence[Checkpoint], state: State = ABSENT) -> Directory:
    """A directory of checkpoints, oldest first."""
    return Directory("run", state, tuple(checkpoints))


def kept(plan: Plan) -> list[str]:
    """The names that stay."""
    return [decision.checkpoint.name for decision in plan.keep]


def reasons(plan: Plan, name: str) -> tuple[str, ...]:
    """Why one is kept or deleted."""
    return next(decision.reasons for decision in plan.decisions if decision.checkpoint.name == name)


def unstepped(name: str, *numbers: int) -> list[Checkpoint]:
    """Checkpoints that say no step, under names with these numbers."""
    return [made(None, name=name.format(number)) for number in numbers]


def again(step: int, *, age: float, status: Status = Status.BROKEN) -> Checkpoint:
    """A checkpoint whose data were written again, and not yet its index."""
    shard = File(f"ckpt-{step}.data-00000-of-00001", 10, int((NOW - age) * 1e9), inode=2)
    return replace(made(step, status=status, age=age + 7000), shards=(shard,))


@dataclass(frozen=True)
class Case:
    """Checkpoints, oldest first, and what is to stay of them, under keep-three if nothing is said."""

    checkpoints: list[Checkpoint]
    kept: list[str]
    protections: Protections = DEFAULT_PROTECTIONS
    state: State = ABSENT
    policy: Policy = THREE


LATEST_GONE = State(StateStatus.OK, latest=StateEntry("ckpt-9", "ckpt-9"))

CASES = {
    "the three newest stay": Case([made(n) for n in range(1, 7)], ["ckpt-4", "ckpt-5", "ckpt-6"]),
    "fewer than three all stay": Case([made(1), made(2)], ["ckpt-1", "ckpt-2"]),
    "an empty directory plans nothing": Case([], []),
    "the latest stays wherever it stands": Case(
        [made(1, latest=True), *(made(n) for n in range(2, 7))], ["ckpt-1", "ckpt-4", "ckpt-5", "ckpt-6"]
    ),
    "only complete ones count, and a broken one that is newer stays": Case(
        [*(made(n) for n in range(1, 6)), made(6, status=Status.BROKEN)],
        ["ckpt-3", "ckpt-4", "ckpt-5", "ckpt-6"],
    ),
    "a broken one goes when a complete one is newer": Case(
        [made(1, status=Status.BROKEN), *(made(n) for n in range(2, 5))], ["ckpt-2", "ckpt-3", "ckpt-4"]
    ),
    "broken ones alone all stay": Case(
        [made(n, status=Status.BROKEN) for n in range(1, 6)], [f"ckpt-{n}" for n in range(1, 6)]
    ),
    "what is being saved stays and does not count": Case(
        [made(0, status=Status.SAVING), *(made(n) for n in range(1, 6))],
        ["ckpt-0", "ckpt-3", "ckpt-4", "ckpt-5"],
    ),
    "a missing one is not planned": Case(
        [made(1, status=Status.MISSING), *(made(n) for n in range(2, 6))], ["ckpt-3", "ckpt-4", "ckpt-5"]
    ),
    "a preserved one stays and does not count": Case(
        [made(1, preserved=True), *(made(n) for n in range(2, 6))], ["ckpt-1", "ckpt-3", "ckpt-4", "ckpt-5"]
    ),
    "a preserved one goes if asked for": Case(
        [made(1, preserved=True), *(made(n) for n in range(2, 6))],
        ["ckpt-3", "ckpt-4", "ckpt-5"],
        Protections(include_preserved=True),
    ),
    "a young one stays": Case(
        [made(1, age=30), *(made(n) for n in range(2, 6))],
        ["ckpt-1", "ckpt-3", "ckpt-4", "ckpt-5"],
        Protections(min_age=60),
    ),
    "what a wrong clock wrote in the far future is not young": Case(
        [made(1, age=-1e6), *(made(n) for n in range(2, 6))],
        ["ckpt-3", "ckpt-4", "ckpt-5"],
        Protections(min_age=60),
    ),
    "without a minimum age a file from the future is no younger than others": Case(
        [made(1, age=-1e6), *(made(n) for n in range(2, 6))], ["ckpt-3", "ckpt-4", "ckpt-5"]
    ),
    "what is saved again under an old name stays": Case(
        [made(1), made(2, age=1), *(made(n) for n in range(3, 7))], ["ckpt-2", "ckpt-4", "ckpt-5", "ckpt-6"]
    ),
    "the last to be written stays, whatever its place": Case(
        [made(1), made(2, age=600), *(made(n, age=7000) for n in range(3, 7))],
        ["ckpt-2", "ckpt-4", "ckpt-5", "ckpt-6"],
    ),
    "a time from the future does not make it the last": Case(
        [made(1, age=-1e6), made(2, age=600), *(made(n, age=7000) for n in range(3, 7))],
        ["ckpt-2", "ckpt-4", "ckpt-5", "ckpt-6"],
    ),
    "what goes itself does not make another look saved again": Case(
        [made(1, age=1), made(2, age=5), made(3, age=1)], ["ckpt-3"], policy=Policy((Newest(1),))
    ),
    "with --order the user has decided": Case(
        [made(1), made(2, age=600), *(made(n, age=7000) for n in range(3, 7))],
        ["ckpt-4", "ckpt-5", "ckpt-6"],
        Protections(order=Order.TIME),
    ),
    "what is being saved again stays, however long the save pauses": Case(
        [made(2, age=7000), again(3, age=500), *(made(n, age=7000) for n in range(4, 8))],
        ["ckpt-3", "ckpt-5", "ckpt-6", "ckpt-7"],
    ),
    "and with --order, though nothing shows as yet that it is broken": Case(
        [again(3, age=500, status=Status.COMPLETE), *(made(n, age=7000) for n in range(4, 8))],
        ["ckpt-3", "ckpt-5", "ckpt-6", "ckpt-7"],
        Protections(order=Order.STEP),
    ),
    "a time from the future hides no save under way": Case(
        [made(1, age=-1e6), again(3, age=500), *(made(n, age=7000) for n in range(4, 8))],
        ["ckpt-3", "ckpt-5", "ckpt-6", "ckpt-7"],
    ),
    "data younger than their index are no save under way where something was written since": Case(
        [again(3, age=500), *(made(n, age=400) for n in range(4, 8))], ["ckpt-5", "ckpt-6", "ckpt-7"]
    ),
    "nor what another kind of name has written since": Case(
        [again(3, age=500), *(made(n, age=7000) for n in range(4, 8)), made(9, name="best-9", age=100)],
        ["ckpt-3", "ckpt-6", "ckpt-7", "best-9"],
    ),
    "data from the future are of no save under way": Case(
        [again(3, age=-1e6), *(made(n, age=7000) for n in range(4, 8))], ["ckpt-5", "ckpt-6", "ckpt-7"]
    ),
    "what is saved again stays with --order too": Case(
        [made(1), made(2, age=1), *(made(n) for n in range(3, 7))],
        ["ckpt-2", "ckpt-4", "ckpt-5", "ckpt-6"],
        Protections(order=Order.TIME),
    ),
    "a run that saves fast is no run that saves again": Case(
        [made(n, age=10 - n) for n in range(1, 7)], ["ckpt-4", "ckpt-5", "ckpt-6"]
    ),
    "a protected name stays": Case(
        [made(n) for n in range(1, 6)],
        ["ckpt-1", "ckpt-3", "ckpt-4", "ckpt-5"],
        Protections(protect=("ckpt-1",)),
    ),
    "a protected pattern stays": Case(
        [made(1, name="best-1"), *(made(n) for n in range(2, 6))],
        ["best-1", "ckpt-3", "ckpt-4", "ckpt-5"],
        Protections(protect=("best*",)),
    ),
    "the target of a link stays": Case(
        [made(1, linked_from=("best.index",)), *(made(n) for n in range(2, 6))],
        ["ckpt-1", "ckpt-3", "ckpt-4", "ckpt-5"],
    ),
    "what is not made of regular files stays and does not count": Case(
        [*(made(n) for n in range(1, 6)), made(6, kind=FileKind.LINK)],
        ["ckpt-3", "ckpt-4", "ckpt-5", "ckpt-6"],
    ),
    "time and step disagree: both sets stay": Case(
        [made(n) for n in (1, 2, 4, 5, 6, 3)], ["ckpt-4", "ckpt-5", "ckpt-6", "ckpt-3"]
    ),
    "--order time decides": Case(
        [made(n) for n in (1, 2, 4, 5, 6, 3)], ["ckpt-5", "ckpt-6", "ckpt-3"], Protections(order=Order.TIME)
    ),
    "--order step decides": Case(
        [made(n) for n in (1, 2, 4, 5, 6, 3)], ["ckpt-4", "ckpt-5", "ckpt-6"], Protections(order=Order.STEP)
    ),
    "one without a step keeps its place in time": Case(
        [made(1), made(2), made(3), made(None, name="best"), made(4)], ["ckpt-3", "best", "ckpt-4"]
    ),
    "steps that count something else are not compared": Case(
        [
            *(made(n, name=f"update-{n}", step_from="optimizer/iter") for n in (100, 200, 300)),
            *(made(n) for n in (4, 5, 6)),
        ],
        ["ckpt-4", "ckpt-5", "ckpt-6"],
    ),
    "a copy without times of names without steps: the numbers in the names are heard": Case(
        unstepped("model_{}", 1, 10, 11, 12, 2, 3, 4, 5, 6, 7, 8, 9),
        ["model_10", "model_11", "model_12", "model_7", "model_8", "model_9"],
    ),
    "names as Keras makes them": Case(
        unstepped("cp-{:04d}.ckpt", 3, 4, 1, 2),
        ["cp-0003.ckpt", "cp-0004.ckpt", "cp-0001.ckpt", "cp-0002.ckpt"],
    ),
    "a loss in the names beside the number": Case(
        [made(None, name=name) for name in ("w.1-0.90", "w.3-0.10", "w.4-0.30", "w.2-0.50")],
        ["w.3-0.10", "w.4-0.30", "w.2-0.50"],
        policy=Policy((Newest(2),)),
    ),
    "a loss in the names alone is no number": Case(
        [made(None, name=f"best_{loss}") for loss in (0.9, 0.7, 0.5, 0.3)],
        ["best_0.7", "best_0.5", "best_0.3"],
    ),
    "numbers that go together": Case(
        [made(None, name=f"epoch{n // 2}_batch{n}") for n in (10, 11, 3, 4)],
        ["epoch5_batch10", "epoch5_batch11", "epoch1_batch3", "epoch2_batch4"],
        policy=Policy((Newest(2),)),
    ),
    "numbers that contradict each other tell nothing": Case(
        [made(None, name=name) for name in ("d1_t230000", "d1_t235900", "d2_t000100", "d2_t003000")],
        ["d1_t235900", "d2_t000100", "d2_t003000"],
    ),
    "a step that never changes leaves the numbers in the names": Case(
        [made(0, name=f"ckpt-{n}", step_from="step") for n in (1, 10, 2, 9)],
        ["ckpt-10", "ckpt-2", "ckpt-9"],
        policy=Policy((Newest(2),)),
    ),
    "of equal steps the newer one stays that is so by time, and that which is so by name": Case(
        [
            made(5, name="ckpt-2", step_from="step"),
            made(5, name="ckpt-1", step_from="step"),
            made(1, name="ckpt-3", step_from="step"),
            made(1, name="ckpt-0", step_from="step"),
        ],
        ["ckpt-1", "ckpt-3", "ckpt-0"],
        policy=Policy((Newest(1),)),
    ),
    "--order step, of equal steps": Case(
        [made(0, name=f"ckpt-{n}", step_from="step") for n in (10, 1, 2, 9)],
        ["ckpt-10", "ckpt-9"],
        Protections(order=Order.STEP),
        policy=Policy((Newest(2),)),
    ),
    "a step within the epoch: time, step and name are heard": Case(
        [made(step, name=f"ckpt-{n}", step_from="step") for n, step in ((1, 5), (10, 0), (2, 9), (9, 3))],
        ["ckpt-10", "ckpt-2", "ckpt-9"],
        policy=Policy((Newest(1),)),
    ),
    "numbers that have begun again tell nothing where all steps bear the times out": Case(
        [
            made(step, name=f"ckpt-{n}", step_from="optimizer/iter")
            for n, step in ((5, 50), (6, 60), (1, 70), (2, 80))
        ],
        ["ckpt-1", "ckpt-2"],
        policy=Policy((Newest(2),)),
    ),
    "--order name decides": Case(
        [made(step, name=f"ckpt-{n}", step_from="step") for n, step in ((1, 5), (10, 0), (2, 9), (9, 3))],
        ["ckpt-10"],
        Protections(order=Order.NAME),
        policy=Policy((Newest(1),)),
    ),
    "--order time decides against the names": Case(
        unstepped("model_{}", 10, 1, 2, 9),
        ["model_9"],
        Protections(order=Order.TIME),
        policy=Policy((Newest(1),)),
    ),
    "--order step knows no names": Case(
        unstepped("model_{}", 10, 1, 2, 9),
        ["model_9"],
        Protections(order=Order.STEP),
        policy=Policy((Newest(1),)),
    ),
    "what is called otherwise keeps its place in time": Case(
        [*unstepped("model_{}", 1, 10, 2), made(None, name="best"), *unstepped("model_{}", 9)],
        ["model_10", "model_2", "best", "model_9"],
    ),
    "a broken one goes only if a complete one has a higher number too": Case(
        [
            made(None, name="model_12", status=Status.BROKEN),
            made(None, name="model_2", status=Status.BROKEN),
            *unstepped("model_{}", 9, 10, 11),
        ],
        ["model_12", "model_9", "model_10", "model_11"],
    ),
    "a broken one of unknown step goes by the number in its name too": Case(
        [
            made(9, status=Status.BROKEN),
            *(made(n, name=f"ckpt-{n // 100}", step_from="optimizer/iter") for n in (600, 700, 800)),
        ],
        ["ckpt-9", "ckpt-6", "ckpt-7", "ckpt-8"],
    ),
    "a broken one whose step counts something else goes by the number in its name": Case(
        [
            made(500, name="ckpt-5", status=Status.BROKEN, step_from="optimizer/iter"),
            *(made(n, step_from="name") for n in (6, 7, 8)),
        ],
        ["ckpt-6", "ckpt-7", "ckpt-8"],
    ),
    "a broken one of a later step stays, whatever its name": Case(
        [
            made(900, name="ckpt-5", status=Status.BROKEN, step_from="optimizer/iter"),
            *(made(n, name=f"ckpt-{n // 100}", step_from="optimizer/iter") for n in (600, 700, 800)),
        ],
        ["ckpt-5", "ckpt-6", "ckpt-7", "ckpt-8"],
    ),
    "names without steps go by time": Case([made(None, name=name) for name in "zyxw"], ["y", "x", "w"]),
    "the latest is gone: the newest that are there stay": Case(
        [made(n) for n in range(1, 5)], ["ckpt-2", "ckpt-3", "ckpt-4"], state=LATEST_GONE
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_case(case: Case) -> None:
    """Checkpoints and protections in, the names that stay out."""
    assert (
        kept(plan(directory(case.checkpoints, case.state), case.policy, case.protections, now=NOW))
        == case.kept
    )


def test_reasons_are_shown() -> None:
    """Every decision says why, in the words of the rule and of each protection."""
    found = plan(
        directory([made(1), made(2, preserved=True), made(3), made(4), made(5, latest=True)]), THREE, now=NOW
    )
    assert found.policy == "keep the 3 newest"
    assert reasons(found, "ckpt-1") == ("no rule keeps it",)
    assert reasons(found, "ckpt-2") == ("may be preserved by keep_checkpoint_every_n_hours",)
    assert reasons(found, "ckpt-4") == ("among the 3 newest",)
    assert reasons(found, "ckpt-5") == (
        "among the 3 newest",
        "the latest in the state file",
        "the newest complete one",
    )
    assert [note.partition(", only")[0] for note in found.notes] == ["kept: 1 checkpoint, 10 B"]


def test_newest_of_another_name_is_not_gone_without_a_word() -> None:
    """Where a second manager keeps its best there, the newest of all are not the newest of each."""
    both = [made(1, name="best-1"), made(2, name="best-2"), *(made(n) for n in (3, 4, 5))]
    (note,) = plan(directory(both), THREE, now=NOW).notes
    assert note.startswith("best-2 goes, the newest that is called so")
    assert "--protect 'best-*'" in note
    assert plan(directory(both), THREE, Protections(protect=("best-*",)), now=NOW).notes == ()
    odd = [made(None, name=name) for name in ("red", "green", "blue", "grey")]
    assert plan(directory([*odd, *(made(n) for n in (3, 4, 5))]), THREE, now=NOW).notes == ()


def test_repair_is_named_where_it_would_do_something() -> None:
    """It puts nothing in the place of a latest of which nobody knows that it fails."""
    lost = made(4, latest=True, doubt="it cannot be told whether it restores: TensorFlow died of signal 9")
    unreadable = replace(lost, status=Status.UNREADABLE, doubt="it cannot be told: Permission denied")
    for one, level, remedy in (
        (replace(lost, status=Status.BROKEN, doubt=None), "data", "`ckptctl repair --verify=data run`"),
        (lost, "restore", "Try again, with more memory or time"),
        (lost, "data", "Make it readable"),
        (unreadable, "restore", "Make it readable"),
    ):
        found = plan(directory([made(3), one]), THREE, now=NOW, level=level)
        (note,) = [note for note in found.notes if note.startswith("ckpt-4, the latest")]
        assert f". {remedy}" in note
        assert ("repair" in note) is (one.status is Status.BROKEN)


def test_the_pattern_that_is_offered_fits_no_other_name() -> None:
    """`*` for names that are numbers alone would keep everything: the very name is offered."""
    both = [made(1, name="100"), made(2, name="200"), *(made(n) for n in (3, 4, 5))]
    (note,) = plan(directory(both), THREE, now=NOW).notes
    assert note.startswith("200 goes")
    assert note.endswith("--protect 200 keeps it")


def test_many_kinds_of_names_are_not_held_against_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where each checkpoint has a name of its own kind, a plan takes no time that grows with their square."""
    calls: list[str] = []

    def counted(name: str, pattern: str) -> bool:
        calls.append(name)
        return matches(name, pattern)

    monkeypatch.setattr(importlib.import_module("ckptctl.plan"), "matches", counted)
    letters = "abcdefghij"
    odd = [made(None, name=f"{one}{other}") for one in letters for other in letters]
    assert len(plan(directory(odd), THREE, now=NOW).delete) == len(odd) - 3
    assert not calls


def test_newest_of_another_name_is_so_by_the_order_in_force() -> None:
    """By its step one may be the newest of its name that is not the last to have been saved."""
    both = [made(2, name="best-2"), made(1, name="best-1"), *(made(n) for n in (3, 4, 5))]
    for order, name in ((Order.TIME, "best-1"), (Order.STEP, "best-2")):
        (note,) = plan(directory(both), THREE, Protections(order=order), now=NOW).notes
        assert note.startswith(f"{name} goes, the newest that is called so")
    found = plan(directory(both), THREE, Protections(order=Order.NAME), now=NOW)
    assert (kept(found)[0], found.notes) == ("best-2", ())


def test_disagreement_is_said() -> None:
    """Where time and step disagree the reasons tell which of them spoke, and a note tells what decides."""
    found = plan(directory([made(n) for n in (1, 2, 4, 5, 6, 3)]), THREE, now=NOW)
    assert reasons(found, "ckpt-3") == ("among the 3 newest by time", "the newest complete one")
    assert reasons(found, "ckpt-4") == ("among the 3 newest by step",)
    assert "--order time or --order step" in found.notes[0]


def test_names_that_disagree_are_said() -> None:
    """The numbers in the names are one more reading; the reasons and the note tell which there are."""
    found = plan(directory(unstepped("model_{}", 1, 10, 2, 9)), Policy((Newest(1),)), now=NOW)
    assert reasons(found, "model_9") == (
        "the newest one by time",
        "the newest complete one",
    )
    assert reasons(found, "model_10") == ("the newest one by name", "the newest complete one")
    (note,) = found.notes
    assert note == (
        "the order of saving and the order of the numbers in the names disagree about which are the newest, "
        "so what any of them would keep is kept; --order time or --order name decides"
    )
    steps = [made(step, name=f"ckpt-{n}", step_from="step") for n, step in ((1, 5), (10, 0), (2, 9), (9, 3))]
    (note,) = plan(directory(steps), Policy((Newest(1),)), now=NOW).notes
    assert note.startswith(
        "the order of saving, the order of steps and the order of the numbers in the names"
    )
    assert note.endswith("--order time, --order step or --order name decides")


def test_names_in_the_order_of_times_change_nothing() -> None:
    """Where the numbers agree with the times there is one reading, and no word of another."""
    found = plan(directory(unstepped("model_{}", *range(1, 13))), THREE, now=NOW)
    assert kept(found) == ["model_10", "model_11", "model_12"]
    assert reasons(found, "model_11") == ("among the 3 newest",)
    assert not found.notes


def test_disagreement_beyond_the_newest_is_silent() -> None:
    """An old disagreement that changes nothing is not mentioned."""
    found = plan(directory([made(n) for n in (2, 1, 3, 4, 5)]), THREE, now=NOW)
    assert kept(found) == ["ckpt-3", "ckpt-4", "ckpt-5"]
    assert not found.notes
    assert reasons(found, "ckpt-3") == ("among the 3 newest",)


def test_missing_latest_is_said() -> None:
    """A state that names a latest which is not there is pointed out."""
    found = plan(directory([made(1)], LATEST_GONE), THREE, now=NOW)
    (note,) = found.notes
    assert note == (
        "the state file names ckpt-9 as the latest, which is not there; "
        "`ckptctl repair run` points it at the newest that is"
    )


@pytest.mark.parametrize("status", [StateStatus.UNREADABLE, StateStatus.INVALID])
def test_unreadable_state_is_refused(status: StateStatus) -> None:
    """Without the trainer's last word nothing is planned."""
    state = State(status, problem="it is garbled")
    with pytest.raises(RefusedError, match="it is garbled"):
        plan(directory([made(n) for n in range(9)], state), THREE, now=NOW)


def test_saved_model_is_refused() -> None:
    """A SavedModel's variables are no target."""
    with pytest.raises(SavedModelError):
        plan(replace(directory([made(1)]), saved_model=True), THREE, now=NOW)


@pytest.mark.parametrize("count", [0, -1])
def test_policy_that_keeps_nothing_is_refused(count: int) -> None:
    """A policy has to keep something."""
    with pytest.raises(PolicyError, match="at least 1"):
        Newest(count)


def test_empty_policy_is_refused() -> None:
    """A policy without a rule is an error, and says what a rule looks like."""
    with pytest.raises(PolicyError, match="--keep 3"):
        Policy(())


@pytest.mark.parametrize("age", [-1.0, float("nan")])
def test_senseless_minimum_age_is_refused(age: float) -> None:
    """A minimum age is a length of time."""
    with pytest.raises(PolicyError):
        Protections(min_age=age)


@pytest.mark.parametrize(
    ("name", "pattern", "matched"),
    [
        ("run[1]", "run[1]", True),
        ("run1", "run[1]", False),
        ("ckpt-10", "ckpt-1", False),
        ("ckpt-10", "ckpt-1?", True),
        ("best-3", "best*", True),
        ("a\nb", "a*b", True),
    ],
)
def test_pattern(name: str, pattern: str, matched: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """A pattern knows * and ?; brackets, which occur in names, stand for themselves."""
    assert matches(name, pattern) is matched


def test_policies_are_or_composed() -> None:
    """What any rule keeps stays, with the reasons of all."""
    found = plan(directory([made(n) for n in range(1, 6)]), Policy((Newest(1), Newest(2))), now=NOW)
    assert found.policy == "keep the newest one and the 2 newest"
    assert kept(found) == ["ckpt-4", "ckpt-5"]
    assert reasons(found, "ckpt-5")[:2] == ("the newest one", "among the 2 newest")


# Invariants

checkpoints_st = st.lists(
    st.builds(
        made,
        step=st.one_of(st.none(), st.integers(0, 30)),
        name=st.uuids().map(str) | st.integers(0, 30).map("model_{}".format),
        status=st.sampled_from(
            [Status.COMPLETE, Status.COMPLETE, Status.SAVING, Status.BROKEN, Status.MISSING]
        ),
        age=st.floats(0, 1e5),
        latest=st.booleans(),
        preserved=st.booleans(),
        kind=st.sampled_from([FileKind.REGULAR, FileKind.REGULAR, FileKind.LINK]),
    ),
    max_size=12,
    unique_by=lambda one: one.name,
)
protections_st = st.builds(
    Protections,
    min_age=st.floats(0, 1e5),
    include_preserved=st.booleans(),
    order=st.sampled_from([None, *Order]),
)


@given(checkpoints_st, st.integers(1, 5), protections_st)
def test_invariants(found: list[Checkpoint], count: int, protections: Protections) -> None:
    """Keep and delete partition what is on disk, each with a reason, and every protection holds."""
    planned = plan(directory(found), Policy((Newest(count),)), protections, now=NOW)
    assert [d.checkpoint for d in planned.decisions] == [one for one in found if one.on_disk]
    assert all(decision.reasons for decision in planned.decisions)
    staying = set(kept(planned))
    complete = [one.name for one in found if one.complete and one.regular]
    assert len(staying & set(complete)) >= min(count, len(complete))
    newest = max(
        (one for one in found if one.complete and one.regular and one.step is not None),
        key=lambda one: one.step or 0,
        default=None,
    )
    if (
        newest is not None
        and protections.order in {None, Order.STEP}
        and not any(o.step is None for o in found)
    ):
        assert newest.step in {one.step for one in found if one.name in staying and one.complete}
    if complete and protections.order in {None, Order.TIME}:
        assert complete[-1] in staying
    if (
        complete
        and protections.order in {None, Order.NAME}
        and all(name[:6] == "model_" for name in complete)
    ):
        assert max(complete, key=lambda name: int(name[6:])) in staying
    for one in found:
        if one.on_disk and (one.latest or one.status is Status.SAVING):
            assert one.name in staying


@given(checkpoints_st, st.integers(1, 5), st.integers(1, 5), protections_st)
def test_more_rules_delete_no_more(
    found: list[Checkpoint], one: int, other: int, protections: Protections
) -> None:
    """Adding a rule never deletes more."""
    fewer = plan(directory(found), Policy((Newest(one),)), protections, now=NOW)
    more = plan(directory(found), Policy((Newest(one), Newest(other))), protections, now=NOW)
    assert set(kept(fewer)) <= set(kept(more))


@given(checkpoints_st, st.integers(1, 5), protections_st)
def test_applied_plan_leaves_nothing_to_do(
    found: list[Checkpoint], count: int, protections: Protections
) -> None:
    """Planning again on what a plan leaves deletes nothing more, and keeps the newest."""
    policy = Policy((Newest(count),))
    left = [d.checkpoint for d in plan(directory(found), policy, protections, now=NOW).keep]
    assert not plan(directory(left), policy, protections, now=NOW).delete


@pytest.mark.parametrize("order", [Order.NAME, Order.STEP])
def test_newest_of_its_kind_stays_however_often_it_is_pruned(order: Order) -> None:
    """What stood before it in the chosen order alone may go, and it does not fall behind what is left."""
    run = [
        made(None if order is Order.NAME else 2, name="model_2"),
        made(None, name="best_a", pinned=True),
        made(None if order is Order.NAME else 1, name="model_1"),
    ]
    left, policy = run, Policy((Newest(1),))
    for _ in range(3):
        found = plan(directory(left), policy, Protections(order=order), now=NOW)
        left = [decision.checkpoint for decision in found.keep]
        assert kept(found) == ["model_2", "best_a"]


def test_besides() -> None:
    """What another policy would keep is kept too, and what either counts on counts."""
    found = directory([made(step) for step in range(1, 6)])
    other = (Policy((AtStep(2), AtStep(3))), Protections(protect=("ckpt-1",)))
    made_plan = plan(found, Policy((Newest(2),), 15), Protections(besides=other), now=NOW)
    assert kept(made_plan) == ["ckpt-1", "ckpt-2", "ckpt-3", "ckpt-5"]
    assert [one.checkpoint.name for one in made_plan.keep if one.counts] == ["ckpt-2", "ckpt-3", "ckpt-5"]
    assert reasons(made_plan, "ckpt-1") == ("protected by --protect ckpt-1",)
    assert made_plan.over_bytes == 25
    assert made_plan.policy == "keep the 2 newest, up to 15 B together"


@given(
    checkpoints_st, st.integers(1, 5), protections_st, st.integers(1, 60), protections_st, st.integers(1, 5)
)
def test_besides_lets_nothing_more_go(
    found: list[Checkpoint], few: int, some: Protections, size: int, others: Protections, many: int
) -> None:
    """What goes beside another policy goes by that policy alone as well."""
    policy, other = Policy((Newest(few),), size), (Policy((Newest(many),), 2 * size), others)
    both = plan(directory(found), policy, replace(some, besides=other), now=NOW)
    for alone in (plan(directory(found), policy, some, now=NOW), plan(directory(found), *other, now=NOW)):
        assert set(kept(alone)) <= set(kept(both))
