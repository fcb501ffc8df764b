"""Tests of `ckptctl explain`."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import fabricate
import pytest

from ckptctl import locks, posix

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Invoke


def explained(invoke: Invoke, *arguments: str) -> dict[str, Any]:
    """The one directory that `explain --json` tells of."""
    result = invoke("explain", "--json", *arguments)
    (found,) = json.loads(result.stdout)["directories"]
    assert isinstance(found, dict)
    return found


def test_table(tmp_path: Path, invoke: Invoke) -> None:
    """What speaks for each checkpoint, what each rule does, where each option is from, and the sum."""
    run = fabricate.run(tmp_path / "run", 8)
    (tmp_path / "m.csv").write_text("step,loss\n1,5\n3,1\n8,3\n")
    (run / "ckptctl.toml").write_text('keep-daily = 2\nprotect = ["ckpt-2"]\n')
    (run / "ckptctl.toml").chmod(0o644)
    metrics = f"--metrics={tmp_path / 'm.csv'}"
    result = invoke("explain", str(run), "--keep=3", "--keep-best=2", metrics)
    assert (result.exit_code, result.stderr) == (0, "")
    told = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "WHEN", result.stdout.replace(str(tmp_path), "TMP"))
    assert [re.sub(r"  +", " | ", line).strip() for line in told.splitlines() if "---" not in line] == [
        "TMP/run: keep the 3 newest, the newest of the last 2 days and the 2 with the lowest loss",
        "| name | step | saved | size | loss | rules | protections",
        "delete | ckpt-1 | 1 | WHEN | 238 B | 5 | no rule keeps it",
        "keep | ckpt-2 | 2 | WHEN | 238 B | protected by --protect ckpt-2",
        "keep | ckpt-3 | 3 | WHEN | 238 B | 1 | number 1 by loss: 1",
        "delete | ckpt-4 | 4 | WHEN | 238 B | no rule keeps it",
        "delete | ckpt-5 | 5 | WHEN | 238 B | no rule keeps it",
        "keep | ckpt-6 | 6 | WHEN | 238 B | among the 3 newest",
        "keep | ckpt-7 | 7 | WHEN | 238 B | among the 3 newest",
        (
            "keep | ckpt-8 | 8 | WHEN | 238 B | 3 | among the 3 newest; the newest of its day; "
            "number 2 by loss: 3 | the latest in the state file; the newest complete one"
        ),
        "",
        "rule | speaks for | keeps alone",
        "the 3 newest | 3 | 2",
        "the newest of the last 2 days | 1 | 0",
        "the 2 with the lowest loss | 2 | 1",
        "",
        "setting | from",
        "--keep 3 | the command line",
        "--keep-daily 2 | TMP/run/ckptctl.toml",
        "--keep-best 2 | the command line",
        "--metrics TMP/m.csv | the command line",
        "--protect ckpt-2 | TMP/run/ckptctl.toml",
        "",
        "5 checkpoints, 1.2 kB, would stay; 3 checkpoints would go and free 714 B",
    ]


def test_hears_what_prune_hears(tmp_path: Path, invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment of a prune holds for what explains it, but for what is set for explain alone."""
    run = fabricate.run(tmp_path, 5)
    monkeypatch.setenv("CKPTCTL_PRUNE_KEEP", "2")
    monkeypatch.setenv("CKPTCTL_PRUNE_PROTECT", "ckpt-1")
    found = explained(invoke, str(run), "--protect=ckpt-2")
    assert [one["name"] for one in found["checkpoints"] if one["keep"]] == [
        "ckpt-1",
        "ckpt-2",
        "ckpt-4",
        "ckpt-5",
    ]
    assert {"option": "keep", "value": 2, "source": "the environment"} in found["settings"]
    monkeypatch.setenv("CKPTCTL_PRUNE_VERIFY", "data")
    arguments = (str(run), "--latest-filename=checkpoint")
    assert explained(invoke, *arguments)["settings"][-2:] == [
        {"option": "verify", "value": "data", "source": "the environment"},
        {"option": "latest-filename", "value": "checkpoint", "source": "the command line"},
    ]
    assert re.search(r"^--verify data +the environment$", invoke("explain", *arguments).stdout, re.MULTILINE)
    monkeypatch.delenv("CKPTCTL_PRUNE_VERIFY")
    monkeypatch.setenv("CKPTCTL_EXPLAIN_KEEP", "1")
    assert explained(invoke, str(run))["policy"] == "keep the newest one"


def test_json(tmp_path: Path, invoke: Invoke) -> None:
    """`explain --json` has the keys that the README documents."""
    run = fabricate.run(tmp_path / "run", 3)
    (tmp_path / "m.csv").write_text("step,acc\n1,0.5\n3,nan\n")
    arguments = ("--keep=1", "--keep-best=1", f"--metrics={tmp_path / 'm.csv'}", "--metric=acc")
    found = explained(invoke, str(run), *arguments)
    first, second, third = found.pop("checkpoints")
    assert first == {
        "name": "ckpt-1",
        "step": 1,
        "saved": "2023-11-14T22:13:20+00:00",
        "bytes": 238,
        "keep": True,
        "rules": ["number 1 by acc: 0.5"],
        "protections": [],
        "reasons": ["number 1 by acc: 0.5"],
        "metric": 0.5,
        "best": True,
    }
    assert (second["keep"], second["rules"], second["metric"]) == (False, [], None)
    assert second["reasons"] == ["no rule keeps it"]
    assert third["protections"] == ["the latest in the state file", "the newest complete one"]
    assert found == {
        "directory": str(run),
        "policy": "keep the newest one and the one with the lowest acc",
        "rules": [
            {"rule": "the newest one", "speaks_for": 1, "keeps_alone": 0},
            {"rule": "the one with the lowest acc", "speaks_for": 1, "keeps_alone": 1},
        ],
        "metric": "acc",
        "kept_bytes": 476,
        "freed_bytes": 238,
        "over_bytes": 0,
        "settings": [
            {"option": "keep", "value": 1, "source": "the command line"},
            {"option": "keep-best", "value": 1, "source": "the command line"},
            {"option": "metrics", "value": str(tmp_path / "m.csv"), "source": "the command line"},
            {"option": "metric", "value": "acc", "source": "the command line"},
        ],
        "notes": [],
    }


def test_what_goes_though_a_rule_speaks_for_it(tmp_path: Path, invoke: Invoke) -> None:
    """Where the size lets it go, both are said."""
    run = fabricate.run(tmp_path / "run", 4)
    result = invoke("explain", str(run), "--keep=3", "--max-size=500B", "--format=tsv")
    rows = [[cell.strip() for cell in row.split("\t")] for row in result.stdout.splitlines()]
    assert rows[3][5] == "over 500 B, and the oldest go first, though among the 3 newest"
    result = invoke("explain", str(run), "--max-size=1B")
    assert result.exit_code == 1
    assert f"{run}: what has to stay is 237 B more than --max-size allows" in result.stderr


def test_it_is_what_prune_does(tmp_path: Path, invoke: Invoke) -> None:
    """Each checkpoint's fate is that of a prune with the same options, broken ones too."""
    run = fabricate.run(tmp_path / "run", 60)
    (run / "ckpt-59.data-00000-of-00001").write_bytes(b"\1" * 100)  # its checksum fails
    (run / "ckpt-7.data-00000-of-00001").unlink()
    options = (str(run), "--keep=2", "--keep-every-steps=20", "--verify", "--min-age=1ms")
    before = fabricate.contents(run)
    found = explained(invoke, *options)
    assert fabricate.contents(run) == before
    (pruned,) = json.loads(invoke("prune", "--json", *options).stdout)["directories"]
    assert found["policy"] == pruned["policy"]
    stays = {one["name"]: one["reasons"] for one in found["checkpoints"] if one["keep"]}
    goes = {one["name"]: one["reasons"] for one in found["checkpoints"] if not one["keep"]}
    assert stays == {one["name"]: one["reasons"] for one in pruned["keep"]}
    assert goes == {one["name"]: one["reasons"] for one in pruned["delete"]}
    assert {"ckpt-58", "ckpt-60"} < stays.keys()
    assert found["freed_bytes"] == pruned["freed_bytes"]


def test_it_needs_no_rights_and_no_lock(tmp_path: Path, invoke: Invoke) -> None:
    """It goes on beside another ckptctl, and where nothing may be written."""
    run = fabricate.run(tmp_path / "run", 3)
    run.chmod(0o555)
    with posix.open_directory(str(run)) as directory, locks.lock(directory):
        assert invoke("prune", "--keep=1", str(run)).exit_code == 4
        assert explained(invoke, "--keep=1", str(run))["freed_bytes"] == 476


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("run",), 2, "say --keep 3"),
        (("run", "--keep", "0"), 2, "at least 1"),
        (("run", "--keep", "3", "--protect", "best"), 2, "--protect best names no checkpoint in run"),
        (("nowhere", "--keep", "3"), 3, "no such directory"),
        (("orbax", "--keep", "3"), 4, "another program's file"),
        (("empty", "--keep", "3"), 0, ""),
        (("run", "--config", "c.toml"), 2, "c.toml: there is no key 'kep'; the nearest is keep"),
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
    """What prune would refuse it refuses, with the same words."""
    fabricate.run(tmp_path / "run", 3)
    (tmp_path / "empty").mkdir()
    fabricate.run(tmp_path / "orbax", 3, listed=0)
    (tmp_path / "orbax" / "checkpoint").write_bytes(b"\x82\xa5epoch")
    (tmp_path / "c.toml").write_text("kep = 3")
    monkeypatch.chdir(tmp_path)
    result = invoke("explain", *arguments)
    assert (result.exit_code, message in result.stderr) == (code, True), result.output
