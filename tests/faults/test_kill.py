"""SIGKILL before any system call of a deed, and once more in the run that puts things right.

Meanwhile the trainer saves up to two checkpoints, an operation of its own before any of our calls. The short
form is a sample of all three; `pytest --long --timeout 0 tests/faults/test_kill.py` goes through every kill
with every place of one save, and through 5,000 of the pairs of saves and of the pairs of kills.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import random
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING

import lives
import pytest
import steps
from lives import Trainer

from ckptctl.clean import clean
from ckptctl.errors import RefusedError
from ckptctl.pins import pin, unpin
from ckptctl.policy import Newest, Policy
from ckptctl.prune import prune
from ckptctl.repair import repair
from ckptctl.scan import scan

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

THREE = Policy((Newest(lives.KEPT),))
SEED = 20240229
SHORT, LONG = 4, 5000
"""How many lives are gone through of each kind, for each deed and kind of name."""

NAMES = {"new": ("ckpt-7", "ckpt-8"), "again": ("ckpt-2", "ckpt-2"), "either": ("ckpt-3", "ckpt-7")}
"""What the trainer saves meanwhile: new names, and such as the deed is about to delete."""

DEEDS: dict[str, Callable[[Path], object]] = {
    "prune": lambda run: prune(run, THREE),
    "repair": repair,
    "clean": functools.partial(clean, offline=True),
    "pin": lambda run: pin(str(run), ["ckpt-6"]),
    "unpin": lambda run: unpin(str(run), ["ckpt-1"]),
}

SECOND = {"clean": ["clean"], "unpin": ["repair", "clean", "pin", "unpin"]}
"""What may come next: `clean` has its own clock, and what is unpinned and then pruned is no name any more."""

CASES = [(deed, names) for deed in DEEDS for names in NAMES if deed != "repair" or names == "new"]
"""While a name is saved again it is not clear which is the newest, and a repair says so."""


@dataclass(frozen=True)
class Life:
    """What happens to a directory.

    Attributes:
        deed: What we do there, and are killed in.
        kill: Before which of our calls.
        places: Before which of our calls the trainer does its next three operations, one save.
        split: By how many calls later the second and third of them come.
        second: What is done next, and is killed too.
        second_kill: Before which of its calls; None if it is not begun.
    """

    deed: str
    kill: int
    places: tuple[int, ...] = ()
    split: int = 0
    second: str = "prune"
    second_kill: int | None = None


def tried(deed: str, run: Path) -> None:
    """Does a deed, or hears that it cannot be done while the trainer is in the middle of a save."""
    with contextlib.suppress(RefusedError):
        DEEDS[deed](run)


def live(path: Path, life: Life, names: tuple[str, ...]) -> bool:
    """Goes through one life; false if the first deed was done before the kill came."""
    run = path / "run"
    lives.begin(run, mend=life.deed == "repair")
    trainer = Trainer(run, path / "progress", names, 7200.0 if life.deed == "clean" else 0.0)

    def before(call: int) -> None:
        for place in life.places:
            if call == place:
                trainer.work(1 if life.split else 3)
            if life.split and call == place + life.split:
                trainer.work(2)
        if call == life.kill:
            steps.kill()

    killed = steps.in_child(lambda: tried(life.deed, run), before) == -signal.SIGKILL
    assert_whole(run, life, trainer)
    if life.second_kill is not None:
        second_kill = life.second_kill
        steps.in_child(
            lambda: tried(life.second, run), lambda call: steps.kill() if call == second_kill else None
        )
        assert_whole(run, life, trainer)
    trainer.work(3 * len(life.places) - trainer.done)
    DEEDS[life.deed](run)
    assert not lives.private(run), life
    trainer.assert_heard()
    trainer.assert_kept()
    lives.assert_restorable(run)
    assert_done(run, life, trainer)
    return killed


def assert_whole(run: Path, life: Life, trainer: Trainer) -> None:
    """Whatever has an index passes, and the latest is there, but for what the trainer has in hand.

    And but for a name that it saved again just before we took a file of that name, and were killed before we
    looked at what we had taken: that waits for the next run, see `ckptctl.removal`.
    """
    in_hand = {trainer.names[trainer.done // 3]} if trainer.done % 3 else set()
    in_hand |= lives.taken(run).intersection(trainer.saved)
    lives.assert_whole(run, lives.names(run) - in_hand)
    if life.deed != "repair":
        (latest,) = [one for one in scan(run).checkpoints if one.latest]
        assert latest.complete or latest.name in in_hand


def assert_done(run: Path, life: Life, trainer: Trainer) -> None:
    """The first deed was done, the second may have been, and nothing else has changed."""
    said = trainer.said or [f"ckpt-{step}" for step in range(1, 7)]
    there = lives.names(run)
    assert there >= set(said[-lives.KEPT :])
    if life.deed == "prune":
        assert not prune(run, THREE).deleted
        assert len(there) <= lives.KEPT + 3  # what is young, or pinned, or the newest by its step
    elif life.second_kill is None or life.second != "prune":
        assert there == set(said)
    found = scan(run)
    assert found.pins.problem is None
    assert not (life.deed == "repair" and repair(run).mended.reasons)
    assert not (life.deed == "clean" and found.leftovers and not life.places)
    assert not (life.deed == "pin" and "ckpt-6" not in found.pins.names)
    assert not (life.deed == "unpin" and "ckpt-1" in found.pins.names)


def calls(path: Path, deed: str) -> int:
    """How many system calls of a deed there are to be killed before."""
    run = path / "run"
    lives.begin(run, mend=deed == "repair")
    return steps.in_child(lambda: DEEDS[deed](run), lambda _: None)


def one_save(path: Path, deed: str) -> Iterator[Life]:
    """Every kill with a save before it, whole or with calls of ours between its parts."""
    for kill in range(calls(path, deed) * 3 // 2):  # a conflict adds calls
        yield Life(deed, kill)
        for place, split in itertools.product(range(kill + 1), (0, 1, 3, 9)):
            yield Life(deed, kill, (place,), split)


def two_saves(path: Path, deed: str) -> Iterator[Life]:
    """Every kill with two saves before it."""
    for kill in range(calls(path, deed) * 3 // 2):
        for places in itertools.combinations_with_replacement(range(kill + 1), 2):
            yield Life(deed, kill, places)


def two_kills(path: Path, deed: str) -> Iterator[Life]:
    """Every kill with every kill of what comes next, and a save at that moment, long before, or none."""
    count = calls(path, deed)
    for second in SECOND.get(deed, DEEDS):
        for kill, again in itertools.product(range(count), range(calls(path, second))):
            for places in [(), (kill // 2,), (kill,)]:
                yield Life(deed, kill, places, 0, second, again)


@pytest.mark.parametrize(("deed", "names"), CASES)
@pytest.mark.parametrize("kind", [one_save, two_saves, two_kills], ids=lambda kind: kind.__name__)
def test_killed(
    tmp_path: Path,
    deed: str,
    names: str,
    kind: Callable[[Path, str], Iterator[Life]],
    long: bool,  # noqa: FBT001 - a fixture
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No word of the trainer is lost, the newest restore, and the next run leaves nothing of ours over."""
    lives.set_clock(monkeypatch)
    chosen = list(kind(tmp_path, deed))
    most = len(chosen) if long and kind is one_save else min(LONG if long else SHORT, len(chosen))
    chosen = random.Random(SEED).sample(chosen, most)  # noqa: S311 - it chooses cases
    killed = [live(tmp_path, life, NAMES[names]) for life in chosen]
    print(f"{len(killed):,} lives, {sum(killed):,} of them killed in the first deed")  # noqa: T201 - for -rP
    assert any(killed)
