"""Tests of `ckptctl prune -r`: every run below a directory, and nothing else."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import fabricate
import pytest

from ckptctl.cli.ahead import look_ahead
from ckptctl.prune import prune_open
from ckptctl.roots import MAX_DEPTH

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Invoke

NEWEST = {"ckpt-4", "ckpt-5", "ckpt-6"}
ALL = {f"ckpt-{step}" for step in range(1, 7)}


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Three runs, one in another; logs, a SavedModel, and a link that leads out of there."""
    above = tmp_path / "runs"
    for name in ("a", "b/train", "b/train/eval"):
        fabricate.run(above / name, 6)
    (above / "logs").mkdir()
    (above / "logs" / "events.out").touch()
    (above / "export" / "variables").mkdir(parents=True)
    (above / "export" / "saved_model.pb").touch()
    fabricate.checkpoint(above / "export" / "variables", "variables")
    fabricate.run(tmp_path / "elsewhere", 6)
    (above / "link").symlink_to("../elsewhere")
    return above


def test_every_run_below(runs: Path, invoke: Invoke) -> None:
    """Each is pruned, at whatever depth, with a line for all in the end; nothing else is told or touched."""
    exported = fabricate.contents(runs / "export")
    result = invoke("prune", "-r", str(runs), "--keep=3")
    assert (result.exit_code, result.stderr) == (0, "")
    for name in ("a", "b/train", "b/train/eval"):
        assert fabricate.names(runs / name) == NEWEST
        assert f"{runs / name}: keep the 3 newest\n" in result.stdout
    *_, last = result.stdout.splitlines()
    size = 9 * (100 + len(fabricate.index()))
    assert last == f"in all: deleted 9 checkpoints, freed {size / 1000:.1f} kB; 9 stay"
    assert result.stdout.count("keep the 3 newest") == 3
    assert fabricate.contents(runs / "export") == exported
    assert fabricate.names(runs.parent / "elsewhere") == ALL


def test_dry_run(runs: Path, invoke: Invoke) -> None:
    """`-n` shows what would go, and leaves every byte as it is."""
    before = fabricate.contents(runs)
    result = invoke("prune", "-r", "-n", str(runs), "--keep=3")
    assert result.exit_code == 0
    assert result.stdout.splitlines()[-1].startswith("in all: would delete 9 checkpoints, ")
    assert result.stdout.endswith("; 9 would stay\n")
    assert fabricate.contents(runs) == before


def test_json(runs: Path, invoke: Invoke) -> None:
    """One entry a run, even of one that is reached twice."""
    result = invoke("prune", "-r", str(runs), str(runs / "b"), "--keep=3", "--json")
    found: list[dict[str, Any]] = json.loads(result.stdout)["directories"]
    assert {one["directory"]: one["deleted"] for one in found} == {
        str(runs / name): ["ckpt-1", "ckpt-2", "ckpt-3"] for name in ("a", "b/train", "b/train/eval")
    }
    assert len(found) == 3


def test_one_that_refuses_does_not_stop_the_others(runs: Path, invoke: Invoke) -> None:
    """The exit code is the gravest."""
    (runs / "a" / "checkpoint").write_text("garbled {")
    result = invoke("prune", "-r", str(runs), str(runs.parent / "nowhere"), "--keep=3")
    assert result.exit_code == 4
    first, second = result.stderr.splitlines()
    assert first.startswith(f"ckptctl: {runs}/a: the state file cannot be read: ")
    assert second == f"ckptctl: {runs.parent}/nowhere: no such directory"
    assert fabricate.names(runs / "a") == ALL
    assert fabricate.names(runs / "b" / "train") == fabricate.names(runs / "b" / "train" / "eval") == NEWEST


def test_system_that_fails_in_one_does_not_stop_the_others(
    runs: Path, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What no one foresaw in one directory says nothing of the next."""

    def failing(directory: Any, *arguments: Any, **options: Any) -> Any:
        if directory.path == str(runs / "a"):
            raise OSError(5, "Input/output error", str(runs / "a" / "ckpt-1.index"))
        return prune_open(directory, *arguments, **options)

    monkeypatch.setattr("ckptctl.cli.prune.prune_open", failing)
    result = invoke("prune", "-r", str(runs), "--keep=3")
    assert (result.exit_code, result.stderr) == (3, f"ckptctl: {runs}/a/ckpt-1.index: Input/output error\n")
    assert fabricate.names(runs / "b" / "train") == NEWEST


@pytest.mark.parametrize("swapped", ["a", "b"])
def test_link_in_a_directory_s_place(
    runs: Path, invoke: Invoke, monkeypatch: pytest.MonkeyPatch, swapped: str
) -> None:
    """A link that takes the place of a directory after it was found leads nowhere."""
    fabricate.run(runs.parent / "elsewhere" / "train", 6)

    def swap(*arguments: Any, **options: Any) -> None:
        look_ahead(*arguments, **options)
        (runs / swapped).rename(runs.parent / "moved")
        (runs / swapped).symlink_to("../elsewhere")

    monkeypatch.setattr("ckptctl.cli.prune.look_ahead", swap)
    before = fabricate.contents(runs.parent / "elsewhere")
    result = invoke("prune", "-r", str(runs), "--keep=3")
    assert fabricate.contents(runs.parent / "elsewhere") == before
    assert result.stdout.count("keep the 3 newest") == (2 if swapped == "a" else 1)


def test_what_lies_too_deep(tmp_path: Path, invoke: Invoke) -> None:
    """It is left out and said so, and what does not is pruned."""
    deep = tmp_path.joinpath("runs", *["d"] * MAX_DEPTH)
    fabricate.run(deep, 6)
    fabricate.run(deep / "e", 6)
    result = invoke("prune", "-r", str(tmp_path / "runs"), "--keep=3")
    assert result.exit_code == 1
    assert result.stderr.startswith(f"ckptctl: {deep}: too deep: what is below it is not pruned")
    assert fabricate.names(deep) == NEWEST
    assert fabricate.names(deep / "e") == ALL


def test_runs_with_rules_of_their_own(runs: Path, invoke: Invoke) -> None:
    """What lies between runs needs no rule; a run that has none stops all before anything is done."""
    for name in ("a", "b/train"):
        (runs / name / "ckptctl.toml").write_text("keep = 3\n")
    result = invoke("prune", "-r", str(runs))
    assert result.exit_code == 2
    assert result.stderr.startswith(f"ckptctl: {runs}/b/train/eval: the policy has no rule")
    assert fabricate.names(runs / "a") == ALL
    (runs / "b/train/eval/ckptctl.toml").write_text("keep = 2\n")
    assert invoke("prune", "-r", str(runs)).exit_code == 0
    assert fabricate.names(runs / "a") == fabricate.names(runs / "b" / "train") == NEWEST
    assert fabricate.names(runs / "b" / "train" / "eval") == {"ckpt-5", "ckpt-6"}


def test_data_and_graphs_need_no_rule(runs: Path, invoke: Invoke) -> None:
    """A directory of what is called like parts of a checkpoint, and of no checkpoint, is no run."""
    (runs / "data").mkdir()
    for name in ("train.data-00000-of-00003", "mnist.meta", "ckpt-1.tempstate123"):
        (runs / "data" / name).touch()
    for name in ("a", "b/train", "b/train/eval"):
        (runs / name / "ckptctl.toml").write_text("keep = 3\n")
    result = invoke("prune", "-r", str(runs))
    assert (result.exit_code, result.stderr) == (0, "")
    assert fabricate.names(runs / "a") == NEWEST


def test_no_rule_at_all(runs: Path, invoke: Invoke) -> None:
    """That is a usage error even where there is no run."""
    assert invoke("prune", "-r", str(runs / "logs")).exit_code == 2


@pytest.mark.parametrize("protected", ["--protect=ckpt-1", "--keep-step=1"])
def test_what_is_to_stay_may_be_in_any_run(runs: Path, invoke: Invoke, protected: str) -> None:
    """A name or a step has to be that of a checkpoint in one of them."""
    fabricate.checkpoint(runs / "a", "best-9")
    result = invoke("prune", "-r", str(runs), "--keep=3", "--protect=best-*", protected)
    assert result.exit_code == 0
    assert fabricate.names(runs / "a") == {"ckpt-1", "best-9", *NEWEST}
    assert fabricate.names(runs / "b" / "train") == {"ckpt-1", *NEWEST}
    result = invoke("prune", "-r", str(runs), "--keep=1", "--protect=bets-*")
    assert result.exit_code == 2
    assert f"--protect bets-* names no checkpoint in {runs}: " in result.stderr
    assert fabricate.names(runs / "b" / "train") == {"ckpt-1", *NEWEST}


@pytest.mark.parametrize(("options", "more"), [((), 1), (("logs",), 0)], ids=["one", "among others"])
def test_no_checkpoints_below(runs: Path, invoke: Invoke, options: tuple[str, ...], more: int) -> None:
    """That is said of the only directory, and not of one among several."""
    paths = [str(runs / name) for name in ("export", *options)]
    result = invoke("prune", "-r", *paths, "--keep=3")
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == f"ckptctl: {runs}/export: no checkpoints here or below\n" * more


def test_parent_without_recursive(runs: Path, invoke: Invoke) -> None:
    """The option is named to whoever prunes a directory of runs without it."""
    result = invoke("prune", str(runs), "--keep=3")
    assert result.exit_code == 0
    assert (
        result.stderr
        == f"ckptctl: {runs}: no checkpoints here; `ckptctl prune -r {runs} ...` looks below too\n"
    )
    assert fabricate.names(runs / "a") == ALL
