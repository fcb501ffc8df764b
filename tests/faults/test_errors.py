"""Each system call of a command made to fail, with each error that a disk, a server or a kernel gives.

A call fails once, or it and all like it fail from then on, as on a disk that has turned read-only. The command
line runs in a forked process, so that what it prints and its exit code are what a user sees. The short form
is a sample; `pytest --long tests/faults/test_errors.py` goes through all.
"""

from __future__ import annotations

import errno
import itertools
import json
import os
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import lives
import pytest
import steps
from click.testing import CliRunner

from ckptctl.cli import cli
from ckptctl.scan import scan

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NUMBERS = tuple(
    getattr(errno, name)
    for name in ("EIO", "ENOSPC", "EDQUOT", "EACCES", "EPERM", "EROFS", "ESTALE", "EINTR", "EMFILE", "ENOENT")
)
SEED = 20240229
SAMPLE = int(os.environ.get("S", "15"))
"""How many faults the short form tries, for each command."""

KINDS = {
    "prune": ("prune", "--keep=3", "--json"),
    "repair": ("repair",),
    "clean": ("clean", "--older-than=1h", "--json"),
    "pin": ("pin", "{}/ckpt-6"),
    "unpin": ("unpin", "{}/ckpt-1"),
}
"""The command lines; the directory stands at {}, or comes last."""


@dataclass(frozen=True)
class Fault:
    """What goes wrong.

    Attributes:
        call: The number of the call that fails.
        number: The error.
        forever: Whether every call fails from there on.
    """

    call: int
    number: int
    forever: bool


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

    def _reported(self, key: str) -> list[Any]:
        if not self.output.startswith("{"):
            return []
        found = [one.get(key) or [] for one in json.loads(self.output)["directories"]]
        return [what for one in found for what in ([one] if isinstance(one, str) else one)]


def command(run: Path, kind: str) -> list[str]:
    """The command line for a directory."""
    words = [word.format(run) for word in KINDS[kind]]
    return words if "pin" in kind else [*words, str(run)]


def tell(path: Path, kind: str, fault: Fault | None) -> tuple[int, Said]:
    """Runs a command with a fault; the number of its calls, and what it said."""
    answer = path / "answer"
    answer.unlink(missing_ok=True)

    def before(call: int) -> None:
        if fault is not None and (call == fault.call or (fault.forever and call > fault.call)):
            raise OSError(fault.number, os.strerror(fault.number))

    def work() -> None:
        result = CliRunner().invoke(cli, command(path / "run", kind), auto_envvar_prefix="CKPTCTL")
        died = None if isinstance(result.exception, (SystemExit, type(None))) else repr(result.exc_info)
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


def is_done(run: Path, kind: str) -> bool:
    """Whether the deed is done."""
    found = scan(run)
    if kind == "prune":
        return lives.names(run) == {"ckpt-1", "ckpt-4", "ckpt-5", "ckpt-6"}
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


def fail(path: Path, kind: str, fault: Fault) -> None:
    """One fault, and the run after it."""
    begin(path, kind)
    run = path / "run"
    _, said = tell(path, kind, fault)
    assert_nothing_lost(run)
    assert "Traceback" not in said.errors, fault
    here = set(os.listdir(run))
    for name in said.deleted:
        assert not {name, f"{name}.index", f"{name}.{lives.DATA}"} & here, f"{name} is said to be deleted"
    told = {os.strerror(fault.number), "cannot be read"}  # what cannot be read stays, and the plan says so
    kept = any(words in said.output + said.errors for words in told)
    gone = fault.number == errno.ENOENT  # what the system says is not there is not there
    assert said.code != 0 or kept or gone or is_done(run, kind), "it says that all is done"
    assert said.code == 0 or said.complaints, "it does not say what went wrong"
    _, again = tell(path, kind, None)
    assert is_done(run, kind), f"the next run does not finish: {again}"
    assert not lives.private(run), "something of ours is left over"
    assert_nothing_lost(run)


def faults(count: int) -> Iterator[Fault]:
    """Each call with each error, once and from then on."""
    for call, number, forever in itertools.product(range(count), NUMBERS, (False, True)):
        if not (forever and number == errno.ENOENT):  # nobody can see what the system denies to the end
            yield Fault(call, number, forever)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.timeout(86400)
def test_call_fails(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch, long: bool) -> None:  # noqa: FBT001 - a fixture
    """The deed is done or the exit code says no, nothing is lost or said to be gone, and a rerun finishes."""
    lives.set_clock(monkeypatch)
    begin(tmp_path, kind)
    count, said = tell(tmp_path, kind, None)
    assert (said.code, is_done(tmp_path / "run", kind)) == (0, True)
    chosen = list(faults(count))
    if not long:
        chosen = random.Random(SEED).sample(chosen, SAMPLE)  # noqa: S311 - it chooses cases
    wrong = []
    for fault in chosen:
        try:
            fail(tmp_path, kind, fault)
        except AssertionError as error:
            how = "ever from" if fault.forever else "once at"
            wrong.append(f"{errno.errorcode[fault.number]} {how} call {fault.call}: {error}")
    print(f"{len(chosen):,} faults in {count} calls")  # noqa: T201 - for -rP
    assert not wrong, "\n".join([f"{len(wrong)} of {len(chosen)}", *wrong])
