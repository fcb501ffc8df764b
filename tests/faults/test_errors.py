"""Each system call of a command made to fail, with each error that a disk, a server or a kernel gives.

A call fails once, or all fail from then on, as on a disk that has turned read-only. The command line
 runs in a forked process, so that what it prints and its exit code are what a user sees. The short form
is a sample; `pytest --long --timeout 0 tests/faults/test_errors.py` goes through all.
"""

from __future__ import annotations

import errno
import itertools
import os
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

import lives
import pytest
from commands import KINDS, Said, assert_nothing_lost, begin, is_done, tell

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NUMBERS = tuple(
    getattr(errno, name)
    for name in ("EIO", "ENOSPC", "EDQUOT", "EACCES", "EPERM", "EROFS", "ESTALE", "EINTR", "EMFILE", "ENOENT")
)
SEED = 20240229
SAMPLE = 8
"""How many faults the short form tries, for each command."""


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


def told(path: Path, kind: str, fault: Fault | None) -> tuple[int, Said]:
    """Runs a command with a fault; the number of its calls, and what it said."""

    def before(call: int) -> None:
        if fault is not None and (call == fault.call or (fault.forever and call > fault.call)):
            raise OSError(fault.number, os.strerror(fault.number))

    return tell(path, kind, before)


def fail(path: Path, kind: str, fault: Fault) -> None:
    """One fault, and the run after it."""
    begin(path, kind)
    run = path / "run"
    _, said = told(path, kind, fault)
    assert_nothing_lost(run)
    assert "Traceback" not in said.errors, fault
    said.assert_true(run)
    words_of = {
        os.strerror(fault.number),
        "cannot be read",
    }  # what cannot be read stays, and the plan says so
    kept = any(words in said.output + said.errors for words in words_of)
    gone = fault.number == errno.ENOENT  # what the system says is not there is not there
    assert said.code != 0 or kept or gone or is_done(run, kind), "it says that all is done"
    assert said.code == 0 or said.complaints, "it does not say what went wrong"
    _, again = told(path, kind, None)
    assert is_done(run, kind, orphans=True), f"the next run does not finish: {again}"
    assert not lives.private(run), "something of ours is left over"
    assert_nothing_lost(run)


def faults(count: int) -> Iterator[Fault]:
    """Each call with each error, once and from then on."""
    for call, number, forever in itertools.product(range(count), NUMBERS, (False, True)):
        if not (forever and number == errno.ENOENT):  # nobody can see what the system denies to the end
            yield Fault(call, number, forever)


@pytest.mark.parametrize("kind", KINDS)
def test_call_fails(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch, long: bool) -> None:  # noqa: FBT001 - a fixture
    """The deed is done or the exit code says no, nothing is lost or said to be gone, and a rerun finishes."""
    lives.set_clock(monkeypatch)
    begin(tmp_path, kind)
    count, said = told(tmp_path, kind, None)
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
