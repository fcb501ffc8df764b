"""What a watch has come to, as the looks at its directories add up."""

from __future__ import annotations

import pytest

from ckptctl.model import Checkpoint, Decision, Failure, File, Format, Plan, Report, Status
from ckptctl.tally import Standing, Tally


def decision(
    number: int, *, keep: bool = True, counts: bool = True, status: Status = Status.COMPLETE
) -> Decision:
    """What becomes of `ckpt-<number>`, of ten bytes, saved at that second."""
    index = File(f"ckpt-{number}.index", 10, number, number)
    checkpoint = Checkpoint(f"ckpt-{number}", Format.V2, status, saved=number, index=index)
    return Decision(checkpoint, keep, ("because",), counts=counts)


def report(
    *decisions: Decision, failed: int = 0, refused: str | None = None, dry_run: bool = False
) -> Report:
    """A look at which all went as planned but for the last so many deletions."""
    plan = Plan("run", "keep some", decisions)
    going = [one.checkpoint.name for one in plan.delete]
    deleted = () if dry_run else tuple(going[: len(going) - failed])
    failures = tuple(Failure(name, "no") for name in going[len(deleted) :] if not dry_run)
    return Report(plan, dry_run, deleted, failed=failures, freed_bytes=10 * len(deleted), refused=refused)


def look(tally: Tally, found: Report, at: float, path: str = "run", *, named: bool = True) -> None:
    """Takes note of a look by a watch that verifies."""
    tally.looked(path, found, at, named=named, verifies=True)


def test_looks_add_up() -> None:
    """What is there is as the last look found it; what was done is counted from the first on."""
    tally = Tally()
    look(tally, report(decision(1, keep=False), decision(2, keep=False), decision(3)), 100.0)
    once = Standing(1, 10, 3, 2, 20, 0, failing=False, last_success=100.0, last_verified=100.0)
    assert tally.standings() == {"run": once}
    look(tally, report(decision(3, keep=False), decision(4, keep=False), decision(5), failed=1), 200.0)
    twice = Standing(2, 20, 5, 3, 30, 1, failing=True, last_success=100.0, last_verified=200.0)
    assert tally.standings() == {"run": twice}
    assert tally.summary() == "directories: 1; checkpoints: 2, 20 B; deleted: 3, 30 B; in trouble: 1"
    tally.failed("run")
    assert tally.standings()["run"].failures == 2
    look(tally, report(decision(4), decision(5)), 300.0)
    assert tally.summary() == "directories: 1; checkpoints: 2, 20 B; deleted: 3, 30 B"


def test_refused_half_way() -> None:
    """A look that was refused after its first deletions is a failure, and these count."""
    tally = Tally()
    look(tally, report(decision(1, keep=False), decision(2), refused="the trainer spoke"), 100.0)
    assert tally.standings()["run"] == Standing(1, 10, 2, 1, 10, 1, failing=True, last_verified=100.0)


def test_dry_run() -> None:
    """What would be deleted is there, and counts as nothing else."""
    tally = Tally()
    look(tally, report(decision(1, keep=False), decision(2), dry_run=True), 100.0)
    assert tally.standings()["run"] == Standing(2, 20, 2, last_success=100.0, last_verified=100.0)


@pytest.mark.parametrize(
    ("decisions", "verified"),
    [
        pytest.param([decision(1), decision(2)], True, id="the newest passed"),
        pytest.param([decision(1), decision(2, counts=False)], False, id="the newest did not"),
        pytest.param(
            [decision(1), decision(2, status=Status.SAVING, counts=False)], True, id="another is being saved"
        ),
        pytest.param([], False, id="there is none"),
    ],
)
def test_last_verified(decisions: list[Decision], *, verified: bool) -> None:
    """It moves only while the newest checkpoint passes, but for one that is being saved."""
    tally = Tally()
    look(tally, report(decision(1)), 100.0)
    look(tally, report(*decisions), 200.0)
    assert tally.standings()["run"].last_verified == (200.0 if verified else 100.0)


def test_without_verify_nothing_is_verified() -> None:
    """Where the index is enough to count, no look verifies."""
    tally = Tally()
    tally.looked("run", report(decision(1)), 100.0, named=True, verifies=False)
    assert tally.standings()["run"].last_verified is None


def test_directories_that_go() -> None:
    """One below a DIR leaves nothing behind; a DIR itself keeps what an alarm may hang on."""
    tally = Tally()
    look(tally, report(), 100.0)
    look(tally, report(), 100.0, "run/logs", named=False)
    look(tally, report(decision(1)), 100.0, "run/a", named=False)
    look(tally, report(decision(7)), 100.0)
    assert set(tally.standings()) == {"run", "run/a"}, "what never had a checkpoint is no run"
    tally.gone("run/a", named=False)
    tally.gone("run", named=True)
    assert tally.standings() == {"run": Standing(0, 0, 7, last_success=100.0, last_verified=100.0)}
    assert tally.summary() == "directories: 1; checkpoints: 0, 0 B; deleted: 0, 0 B"
