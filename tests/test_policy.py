"""Tests of ckptctl.policy: what each rule keeps, alone and together, and what holds for all of them."""

from __future__ import annotations

import datetime as dt
import itertools
import json
import subprocess
import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ckptctl.chronology import Order
from ckptctl.errors import PolicyError
from ckptctl.explanation import explain
from ckptctl.matching import Values
from ckptctl.model import ABSENT, Checkpoint, Directory, File, Format, Status
from ckptctl.plan import Protections, plan
from ckptctl.policy import (
    AtStep,
    Best,
    Calendar,
    Every,
    EverySteps,
    Mode,
    Newest,
    PerCalendar,
    Policy,
    Rule,
    Within,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

HOUR, DAY = 3600.0, 86_400.0
SUNDAY = dt.datetime(2024, 3, 3, 12, tzinfo=dt.timezone.utc).timestamp()
KB = 1000


def made(step: int | None, saved: float, *, size: int = KB) -> Checkpoint:
    """A checkpoint with one file."""
    name = f"ckpt-{step if step is not None else saved:g}"
    file = File(f"{name}.index", size, int(saved * 1e9), inode=1)
    return Checkpoint(name, Format.V2, Status.COMPLETE, step=step, saved=saved, index=file)


def run(*steps: int, every: float = HOUR) -> list[Checkpoint]:
    """Checkpoints of these steps, saved so many seconds apart, oldest first."""
    return [made(step, SUNDAY + every * at) for at, step in enumerate(steps)]


def steps(rule: Rule, checkpoints: Sequence[Checkpoint]) -> list[int | None]:
    """The steps of what a rule keeps, in order."""
    kept = rule.keep(list(reversed(checkpoints)))
    return [one.step for one in checkpoints if one.name in kept]


@dataclass(frozen=True)
class Case:
    """Checkpoints, oldest first, and the steps of those that a rule keeps."""

    rule: Rule
    checkpoints: list[Checkpoint]
    kept: list[int]


METRIC = Values((10, 20, 30, 40, 50), (0.5, 0.3, float("nan"), 0.3, 0.9))

CASES = {
    "exact multiples are themselves": Case(EverySteps(100), run(100, 150, 200, 250, 300), [100, 200, 300]),
    "the first at or after a multiple": Case(
        EverySteps(100), run(90, 110, 190, 205, 330), [90, 110, 205, 330]
    ),
    "a run without a checkpoint has none": Case(EverySteps(10), run(5, 95), [5, 95]),
    "one every two hours, from the oldest on": Case(Every(2 * HOUR), run(1, 2, 3, 4, 5, 6), [1, 3, 5]),
    "one every ninety minutes waits for the next": Case(Every(1.5 * HOUR), run(1, 2, 3, 4, 5), [1, 3, 5]),
    "the newest of each day": Case(
        PerCalendar(Calendar.DAILY, 7), run(*range(1, 9), every=DAY / 4), [2, 6, 8]
    ),
    "of the last two days alone": Case(
        PerCalendar(Calendar.DAILY, 2), run(*range(1, 9), every=DAY / 4), [6, 8]
    ),
    "days without a checkpoint do not count": Case(
        PerCalendar(Calendar.DAILY, 3), run(1, 2, 3, 4, every=10 * DAY), [2, 3, 4]
    ),
    "weeks begin on Monday": Case(PerCalendar(Calendar.WEEKLY, 9), run(1, 2, 3, every=DAY), [1, 3]),
    "the newest of each hour": Case(
        PerCalendar(Calendar.HOURLY, 2), run(1, 2, 3, 4, 5, every=HOUR / 2), [4, 5]
    ),
    "within three hours before the newest": Case(Within(3 * HOUR), run(1, 2, 3, 4, 5, 6), [3, 4, 5, 6]),
    "a step": Case(AtStep(300), run(100, 300, 500), [300]),
    "the two lowest, ties to the newer, NaN never": Case(
        Best(2, "loss", METRIC), run(10, 20, 30, 40, 50), [20, 40]
    ),
    "the highest": Case(Best(1, "accuracy", METRIC, Mode.MAX), run(10, 20, 30, 40, 50), [50]),
    "a tie goes to the newer": Case(Best(1, "loss", METRIC), run(10, 20, 40), [40]),
    "the last value before, within the tolerance": Case(
        Best(1, "loss", METRIC, tolerance=5), run(13, 24, 36), [24]
    ),
    "no value, no place": Case(Best(3, "loss", METRIC), run(11, 20, 41), [20]),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_case(case: Case) -> None:
    """Steps and times in, what is kept out."""
    assert steps(case.rule, case.checkpoints) == case.kept


def test_a_value_that_cannot_be_told() -> None:
    """It may be the best, so its checkpoint stays, whatever the others have."""
    values = Values([0, 1], [0.5, 0.25], [SUNDAY, SUNDAY + HOUR], until=SUNDAY + HOUR, epochs=True)
    kept = Best(1, "epoch_loss", values).keep(run(32, 64, 96)[::-1])
    assert kept == {
        "ckpt-64": "number 1 by epoch_loss: 0.25 at step 1, written just after the save",
        "ckpt-96": "its epoch_loss is not known: "
        "saved after the last value was written, so its own may be yet to come",
    }


def test_a_metric_that_no_checkpoint_has() -> None:
    """Steps that count something else would leave the rule without a word for any, the best among them."""
    values = Values((100, 200, 1300), (0.5, 0.3, 0.4))
    with pytest.raises(
        PolicyError, match=r"its steps are 100 to 1,300, those of the checkpoints 1 to 3\. .*"
    ):
        Best(2, "loss", values).keep(run(1, 2, 3)[::-1])
    unnumbered = [replace(one, step=None) for one in run(1, 2, 3)]
    with pytest.raises(PolicyError, match=r"those of the checkpoints not known\..*--metric-within"):
        Best(2, "loss", values).keep(unnumbered)
    with pytest.raises(PolicyError, match=r"^run: --keep-best 2: .* its steps are 100, "):
        plan(
            Directory("run", ABSENT, tuple(run(1, 2))),
            Policy((Newest(1), Best(2, "loss", Values((100,), (0.5,))))),
        )


def test_a_metric_whose_values_may_be_yet_to_come() -> None:
    """A file that has no row as yet is no mistake, nor is a lone checkpoint from before the first."""
    kept = Best(2, "loss", Values((), ())).keep(run(1, 2))
    assert set(kept) == {"ckpt-1", "ckpt-2"}
    assert not Best(2, "loss", Values((100,), (0.5,))).keep(run(1))


def test_what_has_no_step_is_kept_by_the_rule_about_steps() -> None:
    """Nor is what says no step: it cannot be judged by one."""
    unknown = [replace(one, step=None, name=f"cp-{one.step:04d}.ckpt") for one in run(1, 2, 3)]
    kept = EverySteps(10).keep([*run(10, 11), *unknown])
    assert kept == {
        **{one.name: "it is not known at which step it was saved" for one in unknown},
        "ckpt-10": "the first from step 10 on",
    }


def test_restic_s_example() -> None:
    """Of a year of Sundays `--keep-daily 4` keeps the last four: days without any do not count."""
    sundays = run(*range(52), every=7 * DAY)
    assert steps(PerCalendar(Calendar.DAILY, 4), sundays) == [48, 49, 50, 51]


def test_steps_of_different_origins_have_their_own_runs() -> None:
    """A number of saves is not compared with a number of updates."""
    updates = [replace(one, step_from="optimizer/iter") for one in run(100, 150)]
    assert steps(EverySteps(100), [*updates, *run(110, 120)]) == [100, 110]


def test_what_has_no_time_is_kept_by_rules_about_times() -> None:
    """What cannot be judged is not deleted."""
    unknown = replace(made(1, SUNDAY), saved=None)
    for rule in (Every(HOUR), PerCalendar(Calendar.DAILY, 1), Within(HOUR)):
        assert unknown.name in rule.keep([made(2, SUNDAY), unknown])


@pytest.mark.parametrize(
    "make",
    [
        lambda: Newest(0),
        lambda: EverySteps(0),
        lambda: Every(0.0),
        lambda: Every(float("nan")),
        lambda: PerCalendar(Calendar.DAILY, 0),
        lambda: Within(-1.0),
        lambda: Best(0, "loss", METRIC),
        Policy,
        lambda: Policy(max_bytes=0),
    ],
)
def test_senseless_rules_are_refused(make: object) -> None:
    """A rule that would keep nothing is an error."""
    with pytest.raises(PolicyError):
        make()  # type: ignore[operator]


def test_sentence() -> None:
    """A policy says what it keeps."""
    policy = Policy((Newest(3), EverySteps(10_000), Best(2, "val_loss", METRIC)), 200 * KB**3)
    assert policy.sentence() == (
        "keep the 3 newest, the first of every 10,000 steps and the 2 with the lowest val_loss, "
        "up to 200.0 GB together"
    )


# The size


def planned(checkpoints: Sequence[Checkpoint], policy: Policy) -> list[int | None]:
    """The steps of what a plan keeps."""
    made_plan = plan(Directory("run", ABSENT, tuple(checkpoints)), policy, now=SUNDAY + 1e6)
    return [decision.checkpoint.step for decision in made_plan.keep]


def test_oldest_go_until_it_fits() -> None:
    """After the rules the oldest go, never the newest."""
    checkpoints = run(1, 2, 3, 4, 5)
    assert planned(checkpoints, Policy((Newest(4),), 3 * KB)) == [3, 4, 5]
    assert planned(checkpoints, Policy((), 2 * KB)) == [4, 5]
    assert planned(checkpoints, Policy((), 5 * KB)) == [1, 2, 3, 4, 5]


def test_what_cannot_fit_says_by_how_much() -> None:
    """The newest and the latest stay, however small the size."""
    checkpoints = run(1, 2, 3)
    checkpoints[0] = replace(checkpoints[0], latest=True)
    made_plan = plan(Directory("run", ABSENT, tuple(checkpoints)), Policy((), 500), now=SUNDAY + 1e6)
    assert [decision.checkpoint.step for decision in made_plan.keep] == [1, 3]
    assert made_plan.over_bytes == 1500
    assert any("1.5 kB more than --max-size" in note for note in made_plan.notes)


@pytest.mark.parametrize(
    ("rule", "kept"),
    [
        (Within(2 * DAY), [3, 4, 5, 6]),
        (PerCalendar(Calendar.DAILY, 2), [3, 5, 6]),
        (Every(3 * DAY), [1, 3, 4]),
    ],
)
def test_a_time_from_the_future_is_that_of_no_save(rule: Rule, kept: list[int]) -> None:
    """It neither ends the run nor takes a day's place; the checkpoint stays, as the only one of its kind."""
    found = run(1, 2, 3, 4, 5, 6, every=DAY)
    found[2] = made(3, SUNDAY + 4000 * DAY)
    directory = Directory("run", ABSENT, tuple(found))
    policy, protections = Policy((rule,)), Protections(order=Order.STEP)
    now = found[-1].saved
    planned = plan(directory, policy, protections, now=now)
    stay = [decision for decision in planned.keep if decision.rules]
    assert [decision.checkpoint.step for decision in stay] == kept
    (reason,) = planned.decisions[2].rules
    assert reason.endswith(", of those dated ahead")
    note = "1 checkpoint is dated ahead of this machine's clock; rules by time count them by themselves"
    assert note in planned.notes
    (effect,) = explain(planned, policy, protections, now=now).effects
    assert effect.keeps == len(kept)


@pytest.mark.parametrize(
    ("rule", "kept"),
    [
        (Within(2 * DAY), [4, 5, 6]),
        (PerCalendar(Calendar.DAILY, 2), [5, 6]),
        (Every(3 * DAY), [1, 4]),
    ],
)
def test_a_run_that_is_dated_ahead_is_thinned_out(rule: Rule, kept: list[int]) -> None:
    """Where the trainer's clock is ahead a rule lets go what it would of any run, and a note says so."""
    found = run(1, 2, 3, 4, 5, 6, every=DAY)
    planned = plan(Directory("run", ABSENT, tuple(found)), Policy((rule,)), now=SUNDAY - 400 * DAY)
    assert [decision.checkpoint.step for decision in planned.keep if decision.rules] == kept
    (note,) = planned.notes
    assert note.startswith("6 checkpoints are dated ahead of this machine's clock")
    assert plan(Directory("run", ABSENT, tuple(found)), Policy((Newest(1),)), now=SUNDAY).notes == ()


def test_a_time_from_the_future_counts_beside_values_of_such_times() -> None:
    """Where the trainer's clock is ahead, its events are as well, and tell whose value is whose."""
    values = Values([0, 1], [0.5, 0.25], [SUNDAY, SUNDAY + HOUR], until=SUNDAY + HOUR, epochs=True)
    best = Best(1, "epoch_loss", values)
    found = run(32, 64)
    planned = plan(Directory("run", ABSENT, tuple(found)), Policy((best,)), now=SUNDAY + HOUR / 2)
    assert dict(zip(["ckpt-64"], planned.decisions[1].rules, strict=True)) == best.keep(found[::-1])


def test_a_clock_that_is_a_little_ahead_is_believed() -> None:
    """The clocks of a trainer and of its file server differ by seconds."""
    found = run(1, 2, 3)
    directory = Directory("run", ABSENT, tuple(found))
    planned = plan(directory, Policy((Within(HOUR),)), now=SUNDAY + 2 * HOUR - 30)
    assert [decision.checkpoint.step for decision in planned.keep] == [2, 3]
    assert planned.keep[1].rules == ("within 1h before the newest",)


# What holds for all rules

RULES = st.one_of(
    st.integers(1, 5).map(Newest),
    st.integers(1, 40).map(EverySteps),
    st.floats(1.0, 10 * DAY).map(Every),
    st.builds(PerCalendar, st.sampled_from(Calendar), st.integers(1, 4)),
    st.floats(1.0, 10 * DAY).map(Within),
    st.integers(0, 100).map(AtStep),
    st.builds(
        Best,
        st.integers(1, 3),
        st.just("loss"),
        st.dictionaries(st.integers(0, 100), st.floats(), max_size=20).map(
            lambda values: Values(tuple(values), tuple(values.values()))
        ),
        st.sampled_from(Mode),
        st.integers(0, 10),
    ),
)
CHECKPOINTS = st.lists(
    st.tuples(st.none() | st.integers(0, 100), st.integers(0, 30 * 24)),
    max_size=25,
    unique_by=(lambda pair: pair[1], lambda pair: pair[0] if pair[0] is not None else -1 - pair[1]),
).map(lambda pairs: [made(step, SUNDAY + HOUR * at) for step, at in sorted(pairs, key=lambda pair: pair[1])])
ORDERS = st.sampled_from([None, *Order])


def keep(checkpoints: Sequence[Checkpoint], policy: Policy, order: Order | None) -> set[str]:
    """The names that a plan keeps: all of them, where it is an error and nothing is deleted."""
    directory = Directory("run", ABSENT, tuple(checkpoints))
    best = [rule for rule in policy.rules if isinstance(rule, Best)]
    try:
        made_plan = plan(directory, policy, Protections(order=order), now=SUNDAY + 1e9)
    except PolicyError:
        assert len(checkpoints) > 1
        assert any(not rule.ranked(checkpoints)[0] for rule in best)
        return {one.name for one in checkpoints}
    for rule in best:
        _, matches = rule.ranked(checkpoints)
        assert matches.found or matches.doubtful or len(checkpoints) < 2
    names = [decision.checkpoint.name for decision in made_plan.decisions]
    assert names == [one.name for one in checkpoints], "each is decided about, once, in order"
    assert all(decision.reasons for decision in made_plan.decisions)
    return {decision.checkpoint.name for decision in made_plan.keep}


@given(CHECKPOINTS, st.lists(RULES, min_size=1, max_size=4), ORDERS, st.none() | st.integers(1, 30 * KB))
def test_invariants(
    checkpoints: list[Checkpoint], rules: list[Rule], order: Order | None, size: int | None
) -> None:
    """The same plan each time; nothing more goes in a second run; the newest always stays."""
    policy = Policy(tuple(rules), size)
    kept = keep(checkpoints, policy, order)
    assert kept == keep(checkpoints, policy, order)
    left = [one for one in checkpoints if one.name in kept]
    # `Every` counts from the oldest, which may have gone for the sake of the size.
    if size is None or not any(isinstance(rule, Every) for rule in rules):
        assert keep(left, policy, order) == kept
    if checkpoints and order in {None, Order.TIME}:
        assert checkpoints[-1].name in kept
    numbered = [one for one in checkpoints if one.step is not None]
    if checkpoints == numbered and numbered and order is not Order.TIME:  # the names' numbers are the steps
        assert max(numbered, key=lambda one: one.step or 0).name in kept


@given(CHECKPOINTS, st.lists(RULES, min_size=2, max_size=4), ORDERS)
def test_a_rule_more_never_deletes_more(
    checkpoints: list[Checkpoint], rules: list[Rule], order: Order | None
) -> None:
    """Rules are composed by or."""
    assert keep(checkpoints, Policy(tuple(rules[1:])), order) <= keep(
        checkpoints, Policy(tuple(rules)), order
    )


@given(CHECKPOINTS, RULES, st.randoms())
def test_rules_about_steps_and_times_do_not_see_the_order(
    checkpoints: list[Checkpoint], rule: Rule, random: object
) -> None:
    """But for the newest, and for ties, what is kept does not depend on the order in which it is told."""
    if isinstance(rule, (Newest, Best)):
        return
    shuffled = list(checkpoints)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert set(rule.keep(shuffled)) == set(rule.keep(checkpoints))


# Against TensorFlow

MANAGER = """
import json, os, sys, time
import tensorflow as tf

directory, times = sys.argv[1], json.loads(sys.argv[2])
clock = [times[0] - 3600]
time.time = lambda: clock[0]
checkpoint = tf.train.Checkpoint(x=tf.Variable(0))
manager = tf.train.CheckpointManager(
    checkpoint, directory, max_to_keep=1, keep_checkpoint_every_n_hours=1.0
)
for clock[0] in times:
    manager.save()
indexes = [name for name in os.listdir(directory) if name.endswith(".index")]
print(json.dumps(sorted(int(name[5:-6]) for name in indexes)))
"""
"""A real manager whose clock is ours; it begins an hour before the first save."""


def test_every_is_what_a_checkpoint_manager_preserves(tmp_path: object) -> None:
    """On the same times the rule keeps what `keep_checkpoint_every_n_hours` keeps, and the last with both."""
    gaps = [600, 1200, 3000, 60, 3600, 7200, 100, 3499, 1, 3600, 3601, 3599, 3599, 5000, 900]
    times = list(itertools.accumulate(gaps, initial=1_700_000_000))
    done = subprocess.run(
        [sys.executable, "-c", MANAGER, str(tmp_path), json.dumps(times)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    checkpoints = [made(number, float(saved)) for number, saved in enumerate(times, start=1)]
    kept = {*steps(Every(HOUR), checkpoints), len(times)}
    assert sorted(kept, key=lambda step: step or 0) == json.loads(done.stdout)
