"""Real TensorFlow trainers that save as fast as they can, with `ckptctl watch --keep 3` beside each.

The short form runs two of them for 30 saves. `pytest --long --timeout 0 tests/faults/test_live.py` runs all
for 3,000 each, and reads the state 100,000 times while we replace it.
"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
import trainers
from trainers import finish_trainer, restore_and_train, start_trainer

from ckptctl import exchange, posix, tensorflow
from ckptctl.scan import scan
from ckptctl.snapshot import Snapshot
from ckptctl.verify import Level, open_scanned, verify

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KEEP = 3
SHORT, LONG = 30, 3000
STEPS_A_SAVE = {
    "manager": 1,
    "saver": 1,
    "own-names": 10,
    "saver-sharded": 1,
    "saver-v1": 1,
    "sharded": 1,
    "async": 1,
}
"""How many steps each trainer goes on from one save to the next; the first two are in the short form."""


def latest_of(run: Path) -> str | None:
    """The name of what TensorFlow takes for the latest; None as long as there is no state."""
    found = scan(run)
    return None if found.state.latest is None else found.state.latest.name


def complaint(run: Path) -> str | None:
    """Why the latest does not pass, if it does not: every checksum of it is read."""
    found = scan(run)
    if found.state.latest is None:
        return None
    latest = [one for one in found.checkpoints if one.latest]
    with posix.open_directory(str(run)) as directory:
        for one in latest:
            verdict = verify(open_scanned(directory, one, follow=False), Level.DATA)
            return None if verdict.ok else str(verdict)
    return f"{found.state.latest.name} is not there"


def assert_latest_passes(run: Path) -> bool:
    """The latest passes; if it does not, the trainer has gone on in the meantime, and the next does.

    Returns:
        Whether there is one yet.
    """
    wrong: str | None = None
    for _ in range(20):
        before = latest_of(run)
        wrong = complaint(run)
        if wrong is None:
            return before is not None
        assert latest_of(run) != before, wrong
    pytest.fail(f"20 times: {wrong}")


@contextlib.contextmanager
def watched(run: Path, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """`ckptctl watch --keep 3`, to be stopped by SIGTERM with no word on stderr."""
    command = [sys.executable, "-m", "ckptctl", "watch", f"--keep={KEEP}", str(run)]
    with (
        log.open("wb") as errors,
        subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors) as process,
    ):
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            code = process.wait(30)
    assert code == 0, log.read_text()
    assert "Traceback" not in log.read_text()


def settled(run: Path) -> set[str]:
    """The checkpoints that are there once there are no more than three, or after 20 seconds."""
    deadline = time.monotonic() + 20
    while True:
        here = {one.name for one in scan(run).checkpoints if one.on_disk}
        if len(here) <= KEEP or time.monotonic() > deadline:
            return here
        time.sleep(0.1)


@pytest.mark.parametrize("name", STEPS_A_SAVE)
def test_watch_beside_a_trainer(
    tmp_path: Path,
    name: str,
    long: bool,  # noqa: FBT001 - a fixture
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No exception in the trainer, its latest passes at every look, three stay, it goes on from the last."""
    if not long and name not in list(STEPS_A_SAVE)[:2]:
        pytest.skip("only with --long")
    monkeypatch.setattr(trainers, "TIMEOUT", 3600.0)
    saves, run, looks = LONG if long else SHORT, tmp_path / "run", 0
    run.mkdir()
    with watched(run, tmp_path / "log"):
        trainer = start_trainer(name, run, saves=saves, max_to_keep=0)
        while trainer.poll() is None:
            looks += assert_latest_passes(run)
            time.sleep(0.002)  # a core is for the trainer, and one for the watch
        finish_trainer(trainer)
        last = latest_of(run)
        assert last is not None
        ended = time.monotonic()
        here = settled(run)
        took = time.monotonic() - ended
    assert last in here
    assert len(here) == KEEP, here
    assert {one.name for one in scan(run).checkpoints if one.complete} == here
    found = restore_and_train(name, run, saves=1, max_to_keep=0)
    assert (found.latest, found.step) == (str(run / last), saves * STEPS_A_SAVE[name])
    assert found.missing == ()
    print(f"{name}: {saves:,} saves, {looks:,} looks; {took:.1f} s until three were left")  # noqa: T201 - for -rP


REPLACED = b'model_checkpoint_path: "ckpt-9"\n' + b"".join(
    b'all_model_checkpoint_paths: "ckpt-%d"\n' % step for step in range(1, 10)
)
VICTIM = b'all_model_checkpoint_paths: "ckpt-1"\n'


def said(text: bytes, _: Snapshot) -> bytes:
    """An edit that gives this text, whatever was there."""
    return text


def replace_for_ever(run: Path) -> None:
    """Takes a path out of the state and puts it back, as fast as that goes."""
    with posix.open_directory(str(run)) as directory:
        while True:
            with contextlib.closing(Snapshot.take(directory.fd, "checkpoint")) as base:
                text = base.text.rstrip(b"# \n") + b"\n"
                new = text.replace(VICTIM, b"") if VICTIM in text else text + VICTIM
                exchange.replace(directory.fd, "checkpoint", base, functools.partial(said, new)).close()


def test_tensorflow_reads_while_we_replace(tmp_path: Path, long: bool) -> None:  # noqa: FBT001 - a fixture
    """`tf.train.get_checkpoint_state` gives a state each time, with all that is to be in it."""
    (tmp_path / "checkpoint").write_bytes(REPLACED)
    writer = os.fork()
    if writer == 0:
        try:
            replace_for_ever(tmp_path)
        finally:
            os._exit(1)
    reads, kinds = 100_000 if long else 500, set()
    try:
        for _ in range(reads):
            state = tensorflow.get_checkpoint_state(str(tmp_path), "checkpoint")
            assert state is not None
            assert state.model_checkpoint_path == str(tmp_path / "ckpt-9")
            listed = sorted(os.path.basename(path) for path in state.all_model_checkpoint_paths)
            assert set(listed) | {"ckpt-1"} == {f"ckpt-{step}" for step in range(1, 10)}
            kinds.add(len(listed))
        assert os.waitpid(writer, os.WNOHANG) == (0, 0), "the writer died"
    finally:
        os.kill(writer, signal.SIGKILL)
        os.waitpid(writer, 0)
    assert kinds == {8, 9}
    print(f"{reads:,} reads")  # noqa: T201 - for -rP
