"""Tests of `ckptctl repair`."""

from __future__ import annotations

import errno
import json
import os
import pwd
from typing import TYPE_CHECKING

import fabricate
import pytest
from conftest import ckptctl

from ckptctl import posix

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Invoke


def test_diff_and_backup_are_shown(tmp_path: Path, invoke: Invoke) -> None:
    """The reasons, a unified diff, and where the old file stays; then there is nothing to mend."""
    fabricate.run(tmp_path, 2)
    (tmp_path / "checkpoint").write_text(
        fabricate.state_text(["/gone/ckpt-1", "/gone/ckpt-2"], timestamps=False)
    )
    result = invoke("repair", str(tmp_path))
    (backup,) = tmp_path.glob("checkpoint.bak-*")
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        f"{tmp_path}: 2 paths made relative to the directory",
        "--- checkpoint before",
        "+++ checkpoint after",
        "@@ -1,3 +1,3 @@",
        '-model_checkpoint_path: "/gone/ckpt-2"',
        '-all_model_checkpoint_paths: "/gone/ckpt-1"',
        '-all_model_checkpoint_paths: "/gone/ckpt-2"',
        '+model_checkpoint_path: "ckpt-2"',
        '+all_model_checkpoint_paths: "ckpt-1"',
        '+all_model_checkpoint_paths: "ckpt-2"',
        f"{tmp_path}: the state file checkpoint is mended: latest ckpt-2, 2 listed",
        f"the old one is kept as {backup.name}",
    ]
    again = invoke("repair", str(tmp_path))
    assert (again.exit_code, again.stdout) == (
        0,
        f"{tmp_path}: the state file checkpoint is as it should be: nothing to mend\n",
    )
    assert len(list(tmp_path.glob("checkpoint.bak-*"))) == 1


def test_json(tmp_path: Path, invoke: Invoke) -> None:
    """`--json` has the keys that the README documents, in a dry run and after a repair."""
    fabricate.run(tmp_path, 2, listed=0)
    result = invoke("repair", "-n", "--json", str(tmp_path))
    found = json.loads(result.stdout)
    assert result.exit_code == 1
    assert {key: found[key] for key in found if key not in {"diff", "notes"}} == {
        "directory": str(tmp_path),
        "state_file": "checkpoint",
        "dry_run": True,
        "mended": True,
        "reasons": ["there is no state file: rebuilt from 2 checkpoints"],
        "latest": "ckpt-2",
        "listed": ["ckpt-1", "ckpt-2"],
        "backup": None,
    }
    assert found["diff"][3] == '+model_checkpoint_path: "ckpt-2"'
    assert "adopts all 2" in found["notes"][0]
    assert not (tmp_path / "checkpoint").exists()
    assert invoke("repair", "--json", str(tmp_path)).exit_code == 0
    found = json.loads(invoke("repair", "--json", str(tmp_path)).stdout)
    assert (found["mended"], found["reasons"], found["diff"], found["notes"]) == (False, [], [], [])


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("repair", "nowhere"), 3, "no such directory"),
        (("repair", "empty"), 3, "no checkpoints here that a state file could name; `ckptctl ls -r empty`"),
        (("repair", "orbax"), 3, "no checkpoints here that a state file could name; `ckptctl ls -r orbax`"),
        (("repair", "linked"), 4, "is a link to ../run/checkpoint"),
        (("repair", "export/variables"), 4, "SavedModel"),
        (("repair", "run", "--latest-filename", "chekpoint"), 4, "but one called checkpoint"),
        (("repair", "run", "--order", "size"), 2, "Invalid value"),
        (("repair", "run", "--verify=finite"), 0, ""),
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
    fabricate.run(tmp_path / "run", 3)
    fabricate.run(tmp_path / "linked", 3, listed=0)
    (tmp_path / "linked" / "checkpoint").symlink_to("../run/checkpoint")
    (tmp_path / "empty").mkdir()
    (tmp_path / "orbax").mkdir()
    (tmp_path / "orbax" / "checkpoint").write_bytes(b"\x82\xa5epoch\x01\xff\xfe")
    (tmp_path / "export" / "variables").mkdir(parents=True)
    fabricate.checkpoint(tmp_path / "export" / "variables", "variables")
    before = fabricate.contents(tmp_path)
    result = invoke(*arguments)
    assert result.exit_code == code, result.output
    assert message in result.stderr
    assert fabricate.contents(tmp_path) == before


def test_hostile_text_is_escaped_and_cut(tmp_path: Path, invoke: Invoke) -> None:
    """Whatever was in the file, the diff neither moves the cursor nor goes on for ever."""
    fabricate.run(tmp_path, 1, listed=0)
    (tmp_path / "checkpoint").write_bytes(b"\x1b[31m\xff" + b"x" * 100_000)
    result = invoke("repair", "-n", str(tmp_path))
    assert "-\\x1b[31m\\xff" + "x" * 400 in result.stdout
    assert "\x1b" not in result.output
    assert len(result.stdout) < 2000
    (tmp_path / "checkpoint").write_bytes(b"garbled {\n" * 100_000)
    assert (
        "(too long to be compared: 100,000 lines before, 4 after)"
        in invoke("repair", "-n", str(tmp_path)).stdout
    )


def test_prune_names_the_command_that_mends(tmp_path: Path, invoke: Invoke) -> None:
    """What prune refuses, repair mends, and then prune goes on."""
    fabricate.run(tmp_path, 4)
    (tmp_path / "checkpoint").write_bytes(b"")
    assert f"`ckptctl repair {tmp_path}` mends it" in invoke("prune", "--keep", "1", str(tmp_path)).stderr
    assert invoke("repair", str(tmp_path)).exit_code == 0
    assert invoke("prune", "--keep", "1", str(tmp_path)).exit_code == 0
    assert fabricate.names(tmp_path) == {"ckpt-4"}


@pytest.mark.parametrize(
    ("command", "code"),
    [("ls", 0), ("prune --keep=1", 4), ("prune --keep=1 --latest-filename=mine", 4), ("repair", 3)],
)
def test_what_may_not_be_read_is_not_to_be_mended(
    tmp_path: Path, invoke: Invoke, monkeypatch: pytest.MonkeyPatch, command: str, code: int
) -> None:
    """Of a state file that the user may not read it is said whose it is; no repair could read it either."""
    fabricate.run(tmp_path, 3)
    (tmp_path / "mine").write_text(fabricate.state_text(["ckpt-3"]))
    (tmp_path / "checkpoint").chmod(0o640)
    opened = posix.open_regular

    def forbidden(directory: int, name: str, *, follow: bool = False) -> int:
        if name == "checkpoint":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), name)
        return opened(directory, name, follow=follow)

    monkeypatch.setattr(posix, "open_regular", forbidden)
    result = invoke(*command.split(), str(tmp_path))
    assert result.exit_code == code
    owner = pwd.getpwuid(os.getuid()).pw_name
    assert f"Permission denied: checkpoint belongs to {owner}, mode 0640" in result.output
    assert "ckptctl repair" not in result.output
    assert fabricate.names(tmp_path) == {"ckpt-1", "ckpt-2", "ckpt-3"}


def test_process_of_its_own(tmp_path: Path) -> None:
    """As a user runs it, in the current directory, it says what it did and nothing of TensorFlow's."""
    fabricate.run(tmp_path, 2, listed=0)
    before = os.getcwd()
    os.chdir(tmp_path)
    try:
        done = ckptctl("repair")
    finally:
        os.chdir(before)
    assert done.returncode == 0
    assert done.stdout.startswith(".: there is no state file: rebuilt from 2 checkpoints\n")
    assert len(done.stderr.splitlines()) == 1
