"""`ckptctl latest`: the path that a restore takes, and what is passed over on the way to it."""

from __future__ import annotations

import json
import math
import os
import re
import shlex
import shutil
import struct
import subprocess
import sys
from typing import TYPE_CHECKING

import bundle_writer
import fabricate
import pytest
from trainers import restore_and_train, run_trainer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Invoke

_RESTORE = """
import sys
import tensorflow as tf
step = tf.Variable(0, dtype=tf.int64)
tf.train.Checkpoint(step=step).restore(sys.argv[1]).expect_partial().assert_existing_objects_matched()
"""


def bundle(directory: Path, number: int) -> None:
    """A checkpoint of one tensor, `ckpt-<number>`, saved a minute after the one before."""
    made = bundle_writer.BundleWriter()
    made.add(b"w", 1, [2], bytes(8))
    made.write(directory, f"ckpt-{number}")
    for path in directory.glob(f"ckpt-{number}.*"):
        os.utime(path, (1_700_000_000 + 60 * number,) * 2)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Three checkpoints, and a state file that names the last."""
    for number in (1, 2, 3):
        bundle(tmp_path, number)
    state = 'model_checkpoint_path: "ckpt-3"\n'
    state += "".join(f'all_model_checkpoint_paths: "ckpt-{number}"\n' for number in (1, 2, 3))
    (tmp_path / "checkpoint").write_text(state)
    return tmp_path


def damage(directory: Path, number: int) -> None:
    """Flips a byte of the data, as a disk does: only a checksum tells."""
    path = directory / f"ckpt-{number}.data-00000-of-00001"
    written = path.stat().st_mtime
    path.write_bytes(b"\x01" + path.read_bytes()[1:])
    os.utime(path, (written, written))


@pytest.mark.parametrize("trainer", ["saver-v1", "write"])
def test_what_trainers_wrote(tmp_path: Path, invoke: Invoke, trainer: str) -> None:
    """Of a real trainer's directory it is the one that the trainer itself goes on from."""
    run_trainer(trainer, tmp_path, saves=2)
    restored = restore_and_train(trainer, tmp_path).restored
    for options in ((), ("--verified",)):
        result = invoke("latest", *options, str(tmp_path))
        assert (result.exit_code, result.stdout) == (0, f"{restored}\n"), result.stderr


def test_restores(tmp_path: Path, invoke: Invoke) -> None:
    """`tf.train.Checkpoint.restore` takes the path as it is printed."""
    run_trainer("manager-step", tmp_path, saves=2)
    path = invoke("latest", "--verified", str(tmp_path)).stdout.removesuffix("\n")
    done = subprocess.run([sys.executable, "-c", _RESTORE, path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def _remove(*names: str) -> Callable[[Path], None]:
    def remove(directory: Path) -> None:
        for name in names:
            (directory / name).unlink()

    return remove


def _state(text: str) -> Callable[[Path], None]:
    def write(directory: Path) -> None:
        (directory / "checkpoint").write_text(text)

    return write


def _damage(*numbers: int) -> Callable[[Path], None]:
    def flip(directory: Path) -> None:
        for number in numbers:
            damage(directory, number)

    return flip


def _empty_index(directory: Path) -> None:
    (directory / "ckpt-3.index").write_bytes(b"")


@pytest.mark.parametrize(
    ("deed", "unverified", "verified", "said"),
    [
        (lambda _: None, 3, 3, ()),
        (_damage(3), 3, 2, ("passed over ckpt-3: corrupt: ckpt-3.data-00000-of-00001: tensor 'w'",)),
        (_damage(2, 3), 3, 1, ("passed over ckpt-3", "passed over ckpt-2")),
        (_damage(1, 2, 3), 3, None, ("passed over ckpt-1", "no checkpoint to restore from")),
        (_empty_index, 2, 2, ("passed over ckpt-3: ",)),
        (
            _remove("ckpt-3.index", "ckpt-3.data-00000-of-00001"),
            2,
            2,
            ("passed over ckpt-3: the state file names it as the latest, and it is not there",),
        ),
        (_remove("checkpoint"), 3, 3, ("no state file checkpoint; going by what is there",)),
        (_state("garbled {"), 3, 3, ("going by what is there",)),
        (_state(""), 3, 3, ("going by what is there",)),
        (_state('model_checkpoint_path: "ckpt-1"\n'), 1, 1, ()),
        (_state('model_checkpoint_path: "/elsewhere/ckpt-2"\n'), 2, 2, ("going by its name in",)),
        (_state('model_checkpoint_path: "/elsewhere/best"\n'), 3, 3, ("passed over best: ",)),
        (_remove("ckpt-3.data-00000-of-00001"), 2, 2, ("passed over ckpt-3: ",)),
    ],
    ids=[
        "fine", "newest-damaged", "two-damaged", "all-damaged", "index-empty", "latest-gone", "no-state",
        "garbled-state", "empty-state", "state-goes-back", "copied", "foreign", "shard-gone",
    ],
)  # fmt: skip
def test_what_is_named(
    run: Path,
    invoke: Invoke,
    deed: Callable[[Path], None],
    unverified: int,
    verified: int | None,
    said: tuple[str, ...],
) -> None:
    """The state's word counts as far as it holds; what is passed over is said on stderr, with the reason."""
    deed(run)
    result = invoke("latest", str(run))
    assert (result.exit_code, result.stdout) == (0, f"{run}/ckpt-{unverified}\n"), result.stderr
    result = invoke("latest", "--verified", str(run))
    if verified is None:
        assert (result.exit_code, result.stdout) == (3, "")
    else:
        assert (result.exit_code, result.stdout) == (0, f"{run}/ckpt-{verified}\n"), result.stderr
    for words in said:
        assert words in result.stderr
    assert bool(said) == bool(result.stderr)


def test_order_that_is_not_clear(run: Path, invoke: Invoke) -> None:
    """In a copy that lost the times nothing is guessed: as with repair, --order decides."""
    (run / "checkpoint").unlink()
    for path in run.glob("ckpt-1.*"):
        os.utime(path)
    result = invoke("latest", str(run))
    assert (result.exit_code, result.stdout) == (4, "")
    assert "the order of saving and the order of steps disagree" in result.stderr
    assert "(ckpt-1 or ckpt-3); --order time or --order step decides" in result.stderr
    assert invoke("latest", "--order=time", str(run)).stdout == f"{run}/ckpt-1\n"
    assert invoke("latest", "--order=step", str(run)).stdout == f"{run}/ckpt-3\n"
    damage(run, 3)
    assert "(ckpt-1 or ckpt-2)" in invoke("latest", "--verified", str(run)).stderr
    assert invoke("latest", "--verified", "--order=step", str(run)).stdout == f"{run}/ckpt-2\n"
    (run / "checkpoint").write_text('model_checkpoint_path: "ckpt-2"\n')
    assert invoke("latest", "--verified", str(run)).stdout == f"{run}/ckpt-2\n"


def test_save_under_way_puts_nothing_in_doubt(run: Path, invoke: Invoke) -> None:
    """What is not whole yet does not make it unclear which of the others is the newest."""
    (run / "checkpoint").unlink()
    for number, step in ((8, 10), (9, 20), (1, 30), (2, 40)):
        made = bundle_writer.BundleWriter()
        made.add(b"global_step", 9, [], struct.pack("<q", step))
        made.write(run, f"ckpt-{number}")
        for path in run.glob(f"ckpt-{number}.*"):
            os.utime(path, (1_700_000_000 + step,) * 2)
    (run / "ckpt-3.data-00000-of-00001").unlink()
    result = invoke("latest", str(run))
    assert (result.exit_code, result.stdout) == (0, f"{run}/ckpt-2\n"), result.stderr
    assert "passed over ckpt-3: " in result.stderr


@pytest.mark.parametrize("named", [True, False], ids=["named", "newest"])
def test_save_cut_off_between_data_and_index(run: Path, invoke: Invoke, *, named: bool) -> None:
    """Data that are younger than their index are read without being asked, as by prune and repair."""
    if not named:
        (run / "checkpoint").unlink()
    late = run / "ckpt-3.data-00000-of-00001"
    os.utime(late)
    assert invoke("latest", str(run)).stdout == f"{run}/ckpt-3\n"
    damage(run, 3)
    result = invoke("latest", str(run))
    assert (result.exit_code, result.stdout) == (0, f"{run}/ckpt-2\n")
    assert "passed over ckpt-3: corrupt: ckpt-3.data-00000-of-00001: tensor 'w'" in result.stderr


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("garbled {", "cannot be read (TensorFlow cannot parse it as a CheckpointState)"),
        ("", "is of no use (it names no latest checkpoint (model_checkpoint_path))"),
    ],
    ids=["garbled", "empty"],
)
def test_state_that_does_not_decide(run: Path, invoke: Invoke, text: str, why: str) -> None:
    """What is wrong is said of the state file, with the command that mends it."""
    (run / "checkpoint").write_text(text)
    told = f"{run}: the state file {why}; going by what is there. `ckptctl repair {run}` mends it"
    assert invoke("latest", str(run)).stderr == f"ckptctl: {told}\n"


def test_levels_that_contradict(run: Path, invoke: Invoke) -> None:
    """--verified reads the data, --verify=quick does not: neither is dropped without a word."""
    result = invoke("latest", "--verified", "--verify=quick", str(run))
    assert (result.exit_code, result.stdout) == (2, "")
    assert "--verified reads the data (--verify=data), --verify=quick none: give one of them" in result.stderr


def test_directory_behind_verify(run: Path, invoke: Invoke) -> None:
    """--verify takes the word behind it: where that is a path, the message says how to write it."""
    result = invoke("latest", "--verify", str(run))
    assert (result.exit_code, f"Write --verify=data {run}." in result.stderr) == (2, True)
    assert "Write" not in invoke("latest", "--verify", "everything", str(run)).stderr


def test_what_verify_condemns_is_passed_over(run: Path, invoke: Invoke) -> None:
    """The command that verify names goes by what verify was asked for: a NaN has the right checksum."""
    made = bundle_writer.BundleWriter()
    made.add(b"w", 1, [2], struct.pack("<2f", 1.0, math.nan))
    made.write(run, "ckpt-3")
    assert invoke("latest", "--verified", str(run)).stdout == f"{run}/ckpt-3\n"
    result = invoke("verify", "--finite", str(run))
    (command,) = re.findall("`ckptctl (.*)` finds the newest", result.stderr)
    result = invoke(*shlex.split(command))
    assert (result.exit_code, result.stdout) == (0, f"{run}/ckpt-2\n")
    assert "passed over ckpt-3: corrupt: " in result.stderr
    assert invoke("latest", "--verify=finite", "--verified", str(run)).stdout == f"{run}/ckpt-2\n"
    assert "finds the newest" not in invoke("verify", "--finite", "--restore", str(run)).stderr


def test_that_restores(tmp_path: Path, invoke: Invoke) -> None:
    """With --verify=restore it is the newest that TensorFlow restores."""
    run_trainer("manager-step", tmp_path, saves=2)
    whole = invoke("latest", str(tmp_path)).stdout
    made = bundle_writer.BundleWriter()
    made.add_object_graph(b"v/.ATTRIBUTES/VARIABLE_VALUE")  # which is not there
    made.write(tmp_path, "ckpt-99")
    (tmp_path / "checkpoint").write_text('model_checkpoint_path: "ckpt-99"\n')
    assert invoke("latest", "--verified", str(tmp_path)).stdout == f"{tmp_path}/ckpt-99\n"
    result = invoke("latest", "--verify=restore", str(tmp_path))
    assert (result.stdout, "passed over ckpt-99: unrestorable: " in result.stderr) == (whole, True)


def test_json(run: Path, invoke: Invoke) -> None:
    """`latest --json` has the keys that the README documents."""
    damage(run, 3)
    found = json.loads(invoke("latest", "--verified", "--json", str(run)).stdout)
    (passed_over,) = found.pop("passed_over")
    assert passed_over["checkpoint"] == f"{run}/ckpt-3"
    assert passed_over["why"].startswith("corrupt: ckpt-3.data-00000-of-00001: tensor 'w' in bytes 0 to 8: ")
    assert found == {"directory": str(run), "checkpoint": f"{run}/ckpt-2"}
    for number in (1, 2):
        damage(run, number)
    assert json.loads(invoke("latest", "--verified", "--json", str(run)).stdout)["checkpoint"] is None


def test_none(tmp_path: Path, invoke: Invoke) -> None:
    """Without a checkpoint, or without a directory, the exit code is 3 and nothing is printed."""
    assert f"no checkpoints here; `ckptctl ls -r {tmp_path}` looks below too" in (
        invoke("latest", str(tmp_path)).stderr
    )
    for path in (tmp_path, tmp_path / "nowhere"):
        result = invoke("latest", str(path))
        assert (result.exit_code, result.stdout) == (3, "")
        assert result.stderr


def test_state_file_of_another_name(run: Path, invoke: Invoke) -> None:
    """--latest-filename says which state file counts."""
    (run / "best").write_text('model_checkpoint_path: "ckpt-1"\n')
    assert invoke("latest", "--latest-filename", "best", str(run)).stdout == f"{run}/ckpt-1\n"


def test_a_program_gets_the_very_path(run: Path) -> None:
    """Whatever bytes a name has, they are printed as they are where a program reads them."""
    name = os.fsdecode(b"caf\xe9 \x1b-1")
    shutil.copy(run / "ckpt-1.index", run / f"{name}.index")
    shutil.copy(run / "ckpt-1.data-00000-of-00001", run / f"{name}.data-00000-of-00001")
    for path in run.glob("ckpt-*"):
        path.unlink()
    (run / "checkpoint").unlink()
    done = subprocess.run(
        [sys.executable, "-m", "ckptctl", "latest", str(run)], capture_output=True, check=True
    )
    assert done.stdout == os.fsencode(f"{run}/{name}\n")
    assert b"\x1b" not in done.stderr


@pytest.mark.parametrize("level", [(), ("--verified",)], ids=["complete", "verified"])
@pytest.mark.parametrize("ending", ["index", "data-00000-of-00001"])
def test_what_cannot_be_read_is_not_passed_over(
    run: Path, invoke: Invoke, monkeypatch: pytest.MonkeyPatch, level: tuple[str, ...], ending: str
) -> None:
    """Whoever trained on from an older one might save over it; what is whole as far as is asked is named."""
    fabricate.deny_reading(monkeypatch, run / f"ckpt-3.{ending}")
    result = invoke("latest", *level, str(run))
    if ending != "index" and not level:
        assert (result.exit_code, result.stdout) == (0, f"{run}/ckpt-3\n")
        return
    assert (result.exit_code, result.stdout) == (3, "")
    assert "cannot be told whether ckpt-3, the latest in the state file, restores: " in result.stderr
    assert "Input/output error" in result.stderr
