"""The commands that change a directory, run in a forked process, and what each has to leave there."""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import resource
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import lives
import steps
from click.testing import CliRunner

import ckptctl
from ckptctl.cli import cli
from ckptctl.scan import scan

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

KINDS = {
    "prune": ("prune", "--keep=3", "--json"),
    "repair": ("repair",),
    "clean": ("clean", "--older-than=1h", "--offline", "--json"),
    "pin": ("pin", "{}/ckpt-6"),
    "unpin": ("unpin", "{}/ckpt-1"),
}
"""The command lines; the directory stands at {}, or comes last."""


@dataclass(frozen=True)
class Said:
    """What a command left for its user.

    Attributes:
        code: Its exit code.
        output: What it wrote to stdout.
        errors: What it wrote to stderr.
    """

    code: int
    output: str
    errors: str

    @property
    def deleted(self) -> list[str]:
        """What it reports as deleted."""
        return self._reported("deleted")

    @property
    def complaints(self) -> list[str]:
        """What it says that went wrong."""
        reported = [self._reported(key) for key in ("failed", "notes", "refused")]
        return [*self.errors.splitlines(), *(str(one) for found in reported for one in found)]

    def assert_true(self, run: Path) -> None:
        """What it reports as deleted is not there."""
        here = set(os.listdir(run))
        for name in self.deleted:
            assert not {name, f"{name}.index", f"{name}.{lives.DATA}"} & here, f"{name} is said to be deleted"

    def _reported(self, key: str) -> list[Any]:
        if not self.output.startswith("{"):
            return []
        found = [one.get(key) or [] for one in json.loads(self.output)["directories"]]
        return [what for one in found for what in ([one] if isinstance(one, str) else one)]


def _load() -> None:
    """Imports what commands import when they are called, which a user without rights may not be able to."""
    for found in pkgutil.walk_packages(ckptctl.__path__, "ckptctl."):
        if found.name.split(".")[1] not in {"__main__", "demo_trainer", "restoring"}:
            importlib.import_module(found.name)


_load()


def command(run: Path, kind: str) -> list[str]:
    """The command line for a directory."""
    words = [word.format(run) for word in KINDS[kind]]
    return words if "pin" in kind else [*words, str(run)]


def tell(
    path: Path,
    kind: str,
    before: Callable[[int], None] = lambda _: None,
    prepare: Callable[[], object] = lambda: None,
) -> tuple[int, Said]:
    """Runs a command in a forked process.

    Args:
        path: Where its directory `run` lies.
        kind: Which command.
        before: Is called before each of its system calls, see `steps.in_child`.
        prepare: Is called there first.

    Returns:
        The number of its calls, and what it said.
    """
    answer = path / "answer"
    answer.write_text("")
    answer.chmod(0o666)

    def work() -> None:
        prepare()
        result = CliRunner().invoke(cli, command(path / "run", kind))
        died = None if isinstance(result.exception, (SystemExit, type(None))) else repr(result.exc_info)
        resource.setrlimit(resource.RLIMIT_FSIZE, resource.getrlimit(resource.RLIMIT_FSIZE)[1:] * 2)
        with open(answer, "w") as file:
            json.dump([result.exit_code, result.stdout, result.stderr, died], file)

    count = steps.in_child(work, before, steps.READING)
    code, output, errors, died = json.loads(answer.read_text())
    assert died is None, died
    return count, Said(code, output, errors)


def begin(path: Path, kind: str) -> None:
    """A directory that has something for each command to do."""
    run = path / "run"
    lives.begin(run, mend=kind == "repair")
    if kind != "clean":
        (run / f"checkpoint.tmp{lives.HEX}").write_bytes(b"")


def is_done(run: Path, kind: str, *, orphans: bool = False) -> bool:
    """Whether the deed is done; `orphans` are data whose index is gone already, which are left to `clean`."""
    found = scan(run)
    if kind == "prune":
        data = {f"{name}.{lives.DATA}" for name in ("ckpt-2", "ckpt-3")}
        gone = orphans or not data & set(os.listdir(run))
        return gone and lives.names(run) == {"ckpt-1", "ckpt-4", "ckpt-5", "ckpt-6"}
    if kind == "repair":
        return found.state.latest is not None and found.state.latest.path == "ckpt-6"
    if kind == "clean":
        return not found.leftovers
    return found.pins.names == ({"ckpt-1", "ckpt-6"} if kind == "pin" else set())


def assert_nothing_lost(run: Path) -> None:
    """What is pinned and the newest three are whole, and the state names one of them, or what it named."""
    lives.assert_whole(run, {"ckpt-1", "ckpt-4", "ckpt-5", "ckpt-6", *lives.names(run)})
    found = scan(run)
    assert found.state.latest is not None
    assert found.state.latest.path in {"ckpt-6", "ckpt-9"}
    assert found.pins.problem is None
