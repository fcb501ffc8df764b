"""Tests of ckptctl.contention: what a trainer does against us is told once, and nothing else is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import fabricate

from ckptctl.contention import Contention
from ckptctl.policy import Newest, Policy
from ckptctl.prune import prune

if TYPE_CHECKING:
    from pathlib import Path

    from ckptctl.model import Report

THREE = Policy((Newest(3),))


def pruned(directory: Path, steps: range, **state: float) -> Report:
    """What a prune comes to after a manager has saved the last of these, and listed all of them."""
    fabricate.checkpoint(directory, f"ckpt-{steps[-1]}", at=fabricate.EPOCH + 60.5 * (steps[-1] - 1))
    names = [f"ckpt-{step}" for step in steps]
    (directory / "checkpoint").write_text(fabricate.state_text(names, first=steps[0], **state))  # type: ignore[arg-type]
    return prune(directory, THREE)


def test_list_that_is_not_given_up(tmp_path: Path) -> None:
    """What is listed again after its deletion is told once, and no more however long it goes on."""
    contention = Contention()
    fabricate.run(tmp_path, 6)
    assert contention.warnings(prune(tmp_path, THREE)) == []
    (warning,) = contention.warnings(pruned(tmp_path, range(1, 8)))
    assert warning.startswith("the trainer lists ckpt-1 and 2 more again, deleted here")
    assert contention.warnings(pruned(tmp_path, range(1, 9))) == []


def test_what_was_preserved_too_late(tmp_path: Path) -> None:
    """A preserved checkpoint that had been deleted is told once."""
    contention = Contention()
    fabricate.run(tmp_path, 6)
    assert contention.warnings(prune(tmp_path, THREE)) == []
    at = fabricate.EPOCH + 60.5
    (warning,) = contention.warnings(pruned(tmp_path, range(4, 8), last_preserved=at))
    assert warning.startswith("the trainer has preserved ckpt-2 (keep_checkpoint_every_n_hours)")
    assert contention.warnings(pruned(tmp_path, range(5, 9), last_preserved=at)) == []


def test_trainer_that_is_content(tmp_path: Path) -> None:
    """A trainer that lists what is there, or saves a deleted name again, is no matter."""
    contention = Contention()
    fabricate.run(tmp_path, 6, last_preserved=fabricate.EPOCH - 1.0)
    assert contention.warnings(prune(tmp_path, THREE)) == []
    assert contention.warnings(pruned(tmp_path, range(4, 8), last_preserved=fabricate.EPOCH - 1.0)) == []
    fabricate.checkpoint(tmp_path, "ckpt-2", at=fabricate.EPOCH + 1000)
    names = ["ckpt-5", "ckpt-6", "ckpt-7", "ckpt-2"]
    (tmp_path / "checkpoint").write_text(fabricate.state_text(names, timestamps=False))
    assert contention.warnings(prune(tmp_path, THREE)) == []


def test_state_that_was_left_alone_is_not_the_trainer_s_doing(tmp_path: Path) -> None:
    """Where our own entry could not be taken out, nothing is said before the trainer has spoken again."""
    contention = Contention()
    fabricate.run(tmp_path, 6)
    text = (tmp_path / "checkpoint").read_text()
    report = prune(tmp_path, THREE)
    assert report.deleted
    assert contention.warnings(report) == []
    (tmp_path / "checkpoint").write_text(text)  # as it would stand on NFS
    assert contention.warnings(prune(tmp_path, THREE)) == []
