"""Tests of `ckptctl clean`."""

from __future__ import annotations

import importlib
import json
import os
import signal
import time
import types
from typing import TYPE_CHECKING

import fabricate
import pytest
from conftest import ckptctl

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Invoke

DATA = "data-00000-of-00001"
TREE = f"ckpt-9_temp/part-00000-of-00001.{DATA}"


@pytest.fixture
def _later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two hours from now: change times cannot be set back, so the clock is set forward."""
    ahead = types.SimpleNamespace(time=lambda: time.time() + 7200)
    monkeypatch.setattr(importlib.import_module("ckptctl.clean"), "time", ahead)


def leave(path: Path) -> Path:
    """A run of one, with data without an index, a directory of parts, and one that holds something else."""
    fabricate.run(path, 1)
    (path / f"ckpt-9.{DATA}").write_bytes(b"data")
    for name in (TREE, "my_temp/\x1b[31m.txt"):
        (path / name).parent.mkdir()
        (path / name).write_bytes(b"part")
    return path


@pytest.mark.usefixtures("_later")
def test_plan_then_deletion(tmp_path: Path, invoke: Invoke) -> None:
    """What goes and what stays is shown with its reason, with every name escaped, then what was done."""
    leave(tmp_path)
    planned = invoke("clean", "--offline", "-n", "--format", "tsv", str(tmp_path))
    result = invoke("clean", "--offline", "--format", "tsv", str(tmp_path))
    heading, columns, *rows, outcome = result.stdout.splitlines()
    assert result.exit_code == 0
    assert heading == f"{tmp_path}: delete leftovers, once all is quiet for 1h"
    assert [cell.strip() for cell in columns.split("\t")] == ["", "path", "size", "what", "why"]
    assert [[cell.strip() for cell in row.split("\t")] for row in rows] == [
        ["delete", f"ckpt-9.{DATA}", "4 B", "a shard without an index"],
        ["delete", "ckpt-9_temp", "4 B", "parts of a save"],
        ["keep", "my_temp", "4 B", "parts of a save", "no save puts there what is in it: \\x1b[31m.txt"],
    ]
    assert outcome == "deleted 2 leftovers, freed 8 B; 1 stay"
    assert planned.stdout.splitlines()[:-1] == result.stdout.splitlines()[:-1]
    assert planned.stdout.splitlines()[-1] == "would delete 2 leftovers, 8 B; 1 would stay"
    assert sorted(os.listdir(tmp_path)) == ["checkpoint", f"ckpt-1.{DATA}", "ckpt-1.index", "my_temp"]


@pytest.mark.usefixtures("_later")
def test_json(tmp_path: Path, invoke: Invoke) -> None:
    """`--json` has the keys that the README documents."""
    leave(tmp_path)
    assert json.loads(invoke("clean", "--offline", "--json", "--older-than", "2m", str(tmp_path)).stdout) == {
        "directories": [
            {
                "directory": str(tmp_path),
                "older_than": 120.0,
                "dry_run": False,
                "keep": [
                    {
                        "path": "my_temp",
                        "bytes": 4,
                        "what": "parts of a save",
                        "why": "no save puts there what is in it: \x1b[31m.txt",
                    }
                ],
                "delete": [
                    {"path": f"ckpt-9.{DATA}", "bytes": 4, "what": "a shard without an index"},
                    {"path": "ckpt-9_temp", "bytes": 4, "what": "parts of a save"},
                ],
                "deleted": [f"ckpt-9.{DATA}", "ckpt-9_temp"],
                "spared": [],
                "failed": [],
                "freed_bytes": 8,
                "notes": [],
            }
        ]
    }


@pytest.mark.usefixtures("_later")
def test_save_that_may_be_suspended_stays(tmp_path: Path, invoke: Invoke) -> None:
    """Quiet or not, it is newer than all checkpoints; the plan names the way."""
    result = invoke("clean", str(leave(tmp_path)))
    assert result.exit_code == 0
    assert f"`ckptctl clean --offline {tmp_path}` deletes it" in result.stdout
    assert result.stdout.endswith("deleted 0 leftovers, freed 0 B; 3 stay\n")


def test_young_ones_stay(tmp_path: Path) -> None:
    """As a user runs it just after a save was cut short: nothing goes, and why is said."""
    done = ckptctl("clean", str(leave(tmp_path)))
    assert done.returncode == 0, done.stderr
    assert "a save may be under way" in done.stdout
    assert done.stdout.endswith("deleted 0 leftovers, freed 0 B; 3 stay\n")
    assert (tmp_path / TREE).exists()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("clean", "nowhere"), 3, "no such directory"),
        (("clean", "empty"), 0, ""),
        (("clean", "run", "--older-than", "0"), 2, "a minute at least"),
        (("clean", "run", "--older-than", "soon"), 2, "write 30s"),
        (("clean", "garbled"), 4, "`ckptctl repair garbled` mends it"),
        (("clean", "nowhere", "garbled", "empty"), 4, "no such directory"),
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
    """Each kind of trouble has its exit code and a message; nothing is deleted."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    leave(tmp_path / "run")
    leave(tmp_path / "garbled")
    (tmp_path / "garbled" / "checkpoint").write_bytes(b"garbled {")
    before = fabricate.contents(tmp_path)
    result = invoke(*arguments)
    assert result.exit_code == code, result.output
    assert message in result.stderr
    assert fabricate.contents(tmp_path) == before


@pytest.mark.usefixtures("_later")
@pytest.mark.skipif(os.getuid() != 0, reason="only root may set the immutable flag, or the lack of it")
def test_what_cannot_be_deleted_makes_the_exit_code(tmp_path: Path, invoke: Invoke) -> None:
    """What is left undone is said on stderr, and the exit code is 1."""
    leave(tmp_path)
    stuck = tmp_path / f"ckpt-9.{DATA}"
    if os.system(f"chattr +i '{stuck}' 2>/dev/null") != 0:  # noqa: S605 - our own path
        pytest.skip("this file system has no immutable flag")
    try:
        result = invoke("clean", "--offline", str(tmp_path))
    finally:
        os.system(f"chattr -i '{stuck}'")  # noqa: S605 - the same
    assert result.exit_code == 1
    assert f"{tmp_path}: ckpt-9.{DATA} could not be deleted: " in result.stderr
    assert "deleted 1 leftover, freed 4 B; 2 stay" in result.stdout


@pytest.mark.usefixtures("_later")
def test_ctrl_c_leaves_the_rest(tmp_path: Path, invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    """The deletion in hand is finished, what was done is told, and the exit code is a shell's for Ctrl-C."""
    leave(tmp_path / "one")
    leave(tmp_path / "two")
    unlink = os.unlink

    def interrupted(name: str, *, dir_fd: int | None = None) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        unlink(name, dir_fd=dir_fd)

    monkeypatch.setattr(os, "unlink", interrupted)
    result = invoke("clean", "--offline", "--json", str(tmp_path / "one"), str(tmp_path / "two"))
    assert result.exit_code == 130
    (report,) = json.loads(result.stdout)["directories"]
    assert report["deleted"] == [f"ckpt-9.{DATA}"]
    assert report["notes"] == ["stopped before everything was deleted"]
    assert f"stopped before it came to {tmp_path / 'two'}" in result.stderr
    assert (tmp_path / "one" / TREE).exists()
