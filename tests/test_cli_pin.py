"""Tests of `ckptctl pin` and `ckptctl unpin`."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import fabricate
import pytest

from ckptctl.naming import PINS_FILE
from ckptctl.scan import scan

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Invoke


def test_pin_shows_in_ls_and_prune(tmp_path: Path, invoke: Invoke) -> None:
    """Pinned by any of its files, a checkpoint is shown so in tables, plans and JSON."""
    fabricate.run(tmp_path, 4)
    result = invoke("pin", str(tmp_path / "ckpt-1.data-00000-of-00001"), str(tmp_path / "ckpt-2"))
    assert (result.exit_code, result.stdout) == (
        0,
        f"{tmp_path}: pinned ckpt-1, ckpt-2; pinned now: ckpt-1, ckpt-2\n",
    )
    assert "complete, pinned" in invoke("ls", str(tmp_path)).stdout
    (listed,) = json.loads(invoke("ls", "--json", str(tmp_path)).stdout)["directories"]
    assert [one["pinned"] for one in listed["checkpoints"]] == [True, True, False, False]
    assert listed["pins"] == {"names": ["ckpt-1", "ckpt-2"], "problem": None}
    (found,) = json.loads(invoke("prune", "-n", "--keep", "1", "--json", str(tmp_path)).stdout)["directories"]
    assert [one["name"] for one in found["delete"]] == ["ckpt-3"]
    assert invoke("unpin", str(tmp_path / "ckpt-1"), str(tmp_path / "ckpt-2.index")).stdout == (
        f"{tmp_path}: unpinned ckpt-1, ckpt-2; pinned now: nothing\n"
    )


def test_json(tmp_path: Path, invoke: Invoke) -> None:
    """`--json` has the keys that the README documents; several directories are several objects."""
    runs = fabricate.run(tmp_path / "a", 2), fabricate.run(tmp_path / "b", 2)
    result = invoke("pin", "--json", f"{runs[0]}/ckpt-1", f"{runs[1]}/ckpt-2")
    assert json.loads(result.stdout) == {
        "directories": [
            {"directory": str(runs[0]), "pinned": ["ckpt-1"], "pins": ["ckpt-1"]},
            {"directory": str(runs[1]), "pinned": ["ckpt-2"], "pins": ["ckpt-2"]},
        ]
    }
    result = invoke("unpin", "--json", f"{runs[0]}/ckpt-1")
    assert json.loads(result.stdout)["directories"][0]["unpinned"] == ["ckpt-1"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("pin",), 2, "Missing argument"),
        (("pin", "."), 2, "name a checkpoint in it"),
        (("pin", "run/"), 2, "name a checkpoint in it"),
        (("pin", "run"), 3, "ckptctl: run: a directory, expected a checkpoint's prefix"),
        (("pin", "run/ckpt-7"), 3, "did you mean ckpt-"),
        (("pin", "nowhere/ckpt-1"), 3, "no such directory"),
        (("unpin", "run/best"), 3, "run/best: no such directory or checkpoint; `ckptctl ls run`"),
        (("pin", "run/checkpoint"), 3, "run/checkpoint is the state file: name the directory, run\n"),
        (("unpin", "run/checkpoint"), 3, "run/checkpoint is the state file: name the directory, run\n"),
        (("pin", "nosuch"), 3, "ckptctl: nosuch: no such directory or checkpoint\n"),
        (("pin", "bad/ckpt-1"), 4, "bad/ckptctl.pins: line 1"),
        (("pin", "export/variables/variables"), 4, "SavedModel"),
        (("prune", "bad", "--keep", "1"), 4, "the pins cannot be read: line 1"),
        (("ls", "bad"), 0, ""),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_exit_codes(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    invoke: Invoke,
    arguments: tuple[str, ...],
    code: int,
    message: str,
) -> None:
    """Each kind of trouble has its exit code and a message; nothing is written."""
    monkeypatch.chdir(tmp_path)
    for name in ("run", "bad"):
        fabricate.run(tmp_path / name, 3)
    (tmp_path / "bad" / PINS_FILE).write_text("a/b\n")
    (tmp_path / "export" / "variables").mkdir(parents=True)
    fabricate.checkpoint(tmp_path / "export" / "variables", "variables")
    before = fabricate.contents(tmp_path)
    result = invoke(*arguments)
    assert result.exit_code == code, result.output
    assert message in result.stderr
    assert fabricate.contents(tmp_path) == before


def test_slash_behind_a_checkpoint(tmp_path: Path, invoke: Invoke) -> None:
    """It says nothing where there is no directory of the checkpoint's name."""
    fabricate.run(tmp_path, 2)
    for command, pinned in (("pin", {"ckpt-1"}), ("unpin", set())):
        assert invoke(command, f"{tmp_path}/ckpt-1/").exit_code == 0
        assert {one.name for one in scan(tmp_path).checkpoints if one.pinned} == pinned


def test_one_directory_that_fails_does_not_stop_the_next(tmp_path: Path, invoke: Invoke) -> None:
    """What can be pinned is, and the exit code tells of the rest."""
    fabricate.run(tmp_path / "run", 1)
    result = invoke("pin", f"{tmp_path}/nowhere/ckpt-1", f"{tmp_path}/run/ckpt-1")
    assert result.exit_code == 3
    assert (tmp_path / "run" / PINS_FILE).exists()


@pytest.mark.skipif(os.getuid() != 0, reason="only root may set the immutable flag, or the lack of it")
def test_file_that_cannot_be_written_is_named(tmp_path: Path, invoke: Invoke) -> None:
    """The error names the file that the user knows, and nothing is left over."""
    fabricate.run(tmp_path, 1)
    if os.system(f"chattr +i '{tmp_path}' 2>/dev/null") != 0:  # noqa: S605 - our own path
        pytest.skip("this file system has no immutable flag")
    try:
        result = invoke("pin", str(tmp_path / "ckpt-1"))
    finally:
        os.system(f"chattr -i '{tmp_path}'")  # noqa: S605 - the same
    assert (result.exit_code, result.stderr) == (
        3,
        f"ckptctl: {tmp_path}/ckptctl.pins: Operation not permitted\n",
    )
    assert len(os.listdir(tmp_path)) == 3


def test_unreadable_pins_are_told_and_escaped(tmp_path: Path, invoke: Invoke) -> None:
    """`ls` goes on without the pins and says that they cannot be read."""
    fabricate.run(tmp_path, 1)
    (tmp_path / PINS_FILE).write_bytes(b"\x1b[31m\n")
    result = invoke("ls", str(tmp_path))
    assert "pins unreadable: line 1" in result.stdout
    assert "\x1b" not in result.output
