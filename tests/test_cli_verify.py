"""`ckptctl verify`: its table, its JSON, its exit codes, on what TensorFlow wrote and what became of that."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import bundle_writer as writer
import fabricate
import pytest
from conftest import ckptctl, unprivileged
from trainers import run_trainer

from ckptctl import naming
from ckptctl.model import Status
from ckptctl.scan import scan

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Invoke

FLOAT = 1


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What CheckpointManager and TF1's V1 Saver left; tests copy what they damage."""
    directory = tmp_path_factory.mktemp("trained")
    for trainer in ("manager", "sharded", "saver-v1", "saver-v1-sharded"):
        run_trainer(trainer, directory / trainer, saves=3)
    return directory


def bundle(directory: Path, name: str, *, at: int = 1_700_000_000, shards: int = 1) -> None:
    """A checkpoint of two tensors."""
    made = writer.BundleWriter(shards)
    made.add(b"a", FLOAT, [2], bytes(8))
    made.add(b"b", FLOAT, [2], bytes(8), shard=shards - 1)
    made.write(directory, name)
    os.utime(directory / f"{name}.index", (at, at))


def flip(path: Path, position: int) -> None:
    """Damages a byte."""
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)


def verdicts(output: str) -> list[dict[str, Any]]:
    """The checkpoints of `--json`."""
    found: list[dict[str, Any]] = json.loads(output)["checkpoints"]
    return found


@pytest.mark.parametrize("level", ["index", "data", "finite"])
@pytest.mark.parametrize("trainer", ["manager", "sharded", "saver-v1", "saver-v1-sharded"])
def test_what_trainers_wrote_passes(trained: Path, invoke: Invoke, trainer: str, level: str) -> None:
    """Every checkpoint of a real trainer passes, at every level, oldest first."""
    options = {"index": ["--quick"], "data": [], "finite": ["--finite"]}[level]
    result = invoke("verify", "--json", *options, str(trained / trainer))
    assert result.exit_code == 0, result.output
    found = verdicts(result.stdout)
    assert len(found) == 3
    v1 = trainer.startswith("saver-v1")
    for one in found:
        assert (one["status"], one["level"]) == ("ok", "data" if v1 and level == "finite" else level)
        assert one["findings"] == []
        assert one["tensors"] > 0
        assert one["bytes"] > 0
    names = [int(one["checkpoint"].rpartition("-")[2]) for one in found]
    assert names == sorted(names)


@pytest.mark.parametrize("options", [(), ("--finite",)], ids=["data", "finite"])
def test_what_trainers_wrote_restores(trained: Path, invoke: Invoke, options: tuple[str, ...]) -> None:
    """TensorFlow restores every checkpoint of real trainers; the numbers may be looked at as well."""
    result = invoke("verify", "--json", "--restore", *options, "-r", str(trained))
    assert result.exit_code == 0, result.output
    found = verdicts(result.stdout)
    assert len(found) == 12
    assert {(one["status"], one["level"], len(one["findings"])) for one in found} == {("ok", "restore", 0)}


@pytest.mark.parametrize("trainer", ["manager", "sharded", "saver-v1", "saver-v1-sharded"])
def test_flipped_byte_of_a_trainer(trained: Path, tmp_path: Path, invoke: Invoke, trainer: str) -> None:
    """A byte that is flipped in the middle of what a trainer wrote is found in that checkpoint alone."""
    run = tmp_path / "run"
    subprocess.run(["cp", "-a", str(trained / trainer), str(run)], check=True)
    data = [
        path for path in run.iterdir() if path.suffix not in {".meta", ".index", ""} or "-of-" in path.name
    ]
    largest = max(data, key=lambda path: path.stat().st_size)
    flip(largest, largest.stat().st_size // 2)
    result = invoke("verify", "--json", str(run))
    assert result.exit_code == 1, result.output
    bad = [one for one in verdicts(result.stdout) if one["status"] != "ok"]
    assert [one["status"] for one in bad] == ["corrupt"]
    assert naming.prefix_of(largest.name) == naming.prefix_of(os.path.basename(bad[0]["checkpoint"]))


def test_table_of_many(tmp_path: Path, invoke: Invoke) -> None:
    """A directory gives a row a checkpoint, whatever its state; below them stands every finding."""
    for number in range(1, 6):
        bundle(tmp_path, f"ckpt-{number}", at=1_700_000_000 + number)
    flip(tmp_path / "ckpt-2.data-00000-of-00001", 0)
    flip(tmp_path / "ckpt-2.data-00000-of-00001", 15)
    (tmp_path / "ckpt-3.data-00000-of-00001").unlink()
    os.truncate(tmp_path / "ckpt-4.index", 50)
    (tmp_path / "ckpt-5.index").unlink()
    os.mkfifo(tmp_path / "ckpt-5.index")
    result = invoke("verify", str(tmp_path))
    assert result.exit_code == 3
    rows = [line.split()[1:] for line in result.stdout.splitlines()[2:7]]
    assert rows == [
        ["ok", "2", "16", "B", "data"],
        ["corrupt", "2", "16", "B", "data", "2"],
        ["incomplete", "2", "16", "B", "data", "1"],
        ["incomplete", "data", "1"],
        ["unreadable", "data", "1"],
    ]
    for line in (
        f"{tmp_path}/ckpt-2: corrupt, 2 findings",
        "  checksum: ckpt-2.data-00000-of-00001: tensor 'a' in bytes 0 to 8: checksum ",
        "  checksum: ckpt-2.data-00000-of-00001: tensor 'b' in bytes 8 to 16: checksum ",
        "  missing shard: ckpt-3.index: shard 0 of 1 is not there",
        "  unreadable: ckpt-5.index cannot be read: ckpt-5.index is not a regular file",
        "5 checkpoints, 48 B: 1 ok, 1 corrupt, 2 incomplete, 1 unreadable",
    ):
        assert f"\n{line}" in result.stdout
    assert f"`ckptctl latest --verified {tmp_path}`" in result.stderr
    assert invoke("verify", "--quick", "--format", "tsv", str(tmp_path)).stdout.count("\n") == 6


def test_json(tmp_path: Path, invoke: Invoke) -> None:
    """`verify --json` has the keys that the README documents; what is named and not there is among them."""
    bundle(tmp_path, "ckpt-1")
    flip(tmp_path / "ckpt-1.data-00000-of-00001", 9)
    result = invoke("verify", "--json", str(tmp_path / "ckpt-1.index"), str(tmp_path / "ckpt-2"))
    assert result.exit_code == 3
    found, missing = verdicts(result.stdout)
    message = found["findings"][0].pop("message")
    assert "checksum" in message
    assert found == {
        "checkpoint": str(tmp_path / "ckpt-1"),
        "status": "corrupt",
        "level": "data",
        "tensors": 2,
        "bytes": 16,
        "findings": [{"kind": "checksum", "tensor": "b", "shard": 0, "offset": 8}],
    }
    assert (missing["checkpoint"], missing["status"]) == (str(tmp_path / "ckpt-2"), "missing")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("good/ckpt-1",), 0, ""),
        (("good/ckpt-1.data-00000-of-00001",), 0, ""),
        (("good",), 0, ""),
        (("good", "bad"), 1, ""),
        (("good", "bad", "nowhere/ckpt-1"), 3, ""),
        (("empty",), 3, "no checkpoints here; `ckptctl verify -r empty` looks below too"),
        (("-r", "empty"), 3, "no checkpoints here or below"),
        (("-r", "."), 1, ""),
        ((".",), 3, "no checkpoints here"),
        (("good/ckpt-7",), 3, ""),
        (("--quick", "--finite", "good"), 2, "give one of them"),
        (("--quick", "--restore", "good"), 2, "give one of them"),
        (("--restore", "good"), 0, "that it restores is not proven"),
        (("--restore", "good", "bad"), 1, "`ckptctl latest --verify=restore bad`"),
        (("--restore", "no-object"), 1, "`ckptctl latest --verify=restore no-object`"),
        (("-j", "0", "good"), 2, "1<=x<=64"),
        (("-j", "65", "good"), 2, "1<=x<=64"),
        (("-j", "64", "good"), 0, ""),
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
    """0 for what passes, 1 for what does not, 2 for usage, 3 for what is not there."""
    monkeypatch.chdir(tmp_path)
    for name in ("good", "bad", "empty", "no-object"):
        (tmp_path / name).mkdir()
    bundle(tmp_path / "good", "ckpt-1")
    bundle(tmp_path / "bad", "ckpt-1")
    flip(tmp_path / "bad" / "ckpt-1.data-00000-of-00001", 0)
    made = writer.BundleWriter()
    made.add_object_graph(b"v/.ATTRIBUTES/VARIABLE_VALUE")  # which is not there
    made.write(tmp_path / "no-object", "ckpt-1")
    result = invoke("verify", *arguments)
    assert result.exit_code == code, result.output
    assert message in result.stderr


def test_what_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, invoke: Invoke) -> None:
    """It is called as the user called it, and what is called nearly so is named."""
    monkeypatch.chdir(tmp_path)
    bundle(tmp_path, "ckpt-1")
    told = invoke("verify", "nosuch").stdout
    assert (
        "\nnosuch: missing, 1 finding\n  index: nosuch: no such directory or checkpoint; `ckptctl ls .`"
        in told
    )
    assert "  index: ckpt-7: no such checkpoint; did you mean ckpt-1?\n" in invoke("verify", "ckpt-7").stdout


def test_checkpoint_called_as_a_directory(tmp_path: Path, invoke: Invoke) -> None:
    """Where a checkpoint and a directory have one name, a slash says that the directory is meant."""
    bundle(tmp_path, "Q2")
    (tmp_path / "Q2").mkdir()
    bundle(tmp_path / "Q2", "ckpt-1")
    for path, meant in (("Q2", "Q2"), ("Q2/", "Q2/ckpt-1")):
        (found,) = verdicts(invoke("verify", "--json", f"{tmp_path}/{path}").stdout)
        assert (found["checkpoint"], found["status"]) == (f"{tmp_path}/{meant}", "ok")


def test_unreadable_directory(tmp_path: Path) -> None:
    """What the system refuses is unreadable, and neither missing nor corrupt."""
    as_nobody = unprivileged(tmp_path)
    run = tmp_path / "run"
    run.mkdir()
    bundle(run, "ckpt-1", shards=2)
    bundle(run, "ckpt-2")
    (run / "ckpt-1.data-00001-of-00002").chmod(0)
    (run / "ckpt-2.index").chmod(0)

    def statuses() -> list[str]:
        done = as_nobody("verify", "--json", f"{run}/ckpt-1", f"{run}/ckpt-2")
        assert (done.returncode, done.stderr.count("\n")) == (3, 0), done.stderr
        return [one["status"] for one in verdicts(done.stdout)]

    assert statuses() == ["unreadable", "unreadable"]
    run.chmod(0o700)
    assert statuses() == ["unreadable", "unreadable"]
    for options in ((), ("-r",)):
        done = as_nobody("verify", *options, str(run))
        assert (done.returncode, done.stdout) == (3, "")
        assert done.stderr == f"ckptctl: {run} cannot be read: Permission denied\n"


def test_names_are_escaped(tmp_path: Path, invoke: Invoke) -> None:
    """No name of a checkpoint or a tensor moves the cursor; JSON carries them as they are."""
    name = "a\n\x1b[31mb" + os.fsdecode(b"\xff") + "-1"
    made = writer.BundleWriter()
    made.add(b"w\n\x1b[2J\xff", FLOAT, [2], bytes(8))
    made.write(tmp_path, name)
    flip(next(tmp_path.glob("*.data*")), 0)
    result = invoke("verify", str(tmp_path))
    assert result.exit_code == 1
    assert "\x1b" not in result.output
    assert "a\\n\\x1b[31mb\\xff-1" in result.stdout
    (found,) = verdicts(invoke("verify", "--json", str(tmp_path)).stdout)
    assert found["checkpoint"] == os.path.join(tmp_path, name)
    assert found["findings"][0]["tensor"] == "w\n\x1b[2J" + os.fsdecode(b"\xff")


def test_links_are_followed(tmp_path: Path, invoke: Invoke) -> None:
    """A checkpoint that is made of links is verified where they lead, named or found."""
    store, run = tmp_path / "store", tmp_path / "run"
    store.mkdir()
    run.mkdir()
    bundle(store, "ckpt-1")
    for path in store.iterdir():
        (run / path.name).symlink_to(path)
    assert invoke("verify", str(run), str(run / "ckpt-1")).exit_code == 0
    flip(store / "ckpt-1.data-00000-of-00001", 0)
    assert invoke("verify", str(run)).exit_code == 1


def test_state_file_does_not_matter(tmp_path: Path, invoke: Invoke) -> None:
    """What is on the disk is verified, listed or not, beside a state file that nobody can read."""
    bundle(tmp_path, "ckpt-1")
    (tmp_path / "checkpoint").write_text("garbled {")
    result = invoke("verify", str(tmp_path))
    assert (result.exit_code, result.stderr) == (0, "")


def test_order_is_that_of_ls(tmp_path: Path, invoke: Invoke) -> None:
    """In a copy that lost the times, what the state file lists stands in its order here too."""
    fabricate.run(tmp_path, 4)
    for step, age in ((1, 0), (2, 30), (3, 10), (4, 20)):
        for path in tmp_path.glob(f"ckpt-{step}.*"):
            os.utime(path, (fabricate.EPOCH - age,) * 2)
    names = [f"ckpt-{step}" for step in (1, 2, 3, 4)]
    (listed,) = json.loads(invoke("ls", "--json", str(tmp_path)).stdout)["directories"]
    assert [one["name"] for one in listed["checkpoints"]] == names
    found = verdicts(invoke("verify", "--json", str(tmp_path)).stdout)
    assert [os.path.basename(one["checkpoint"]) for one in found] == names
    (tmp_path / "checkpoint").write_text("garbled {")
    assert invoke("verify", str(tmp_path)).exit_code == 0


def test_damaged_v1_by_its_name(tmp_path: Path, invoke: Invoke) -> None:
    """A V1 checkpoint that is damaged beyond recognition is found corrupt where it is named, sharded too."""
    data = bytearray(writer.v1_table([(b"w", FLOAT, [2], [((None,), writer.bytes_field(5, bytes(8)))])]))
    data[8] ^= 1
    for name in ("model.ckpt-1", "sharded-00000-of-00001"):
        (tmp_path / name).write_bytes(data)
    for name in ("model.ckpt-1", "sharded", "sharded-00000-of-00001"):
        (found,) = verdicts(invoke("verify", "--json", str(tmp_path / name)).stdout)
        assert found["status"] == "corrupt", name


def test_tensorflow_is_not_loaded(trained: Path) -> None:
    """Neither V2 nor V1, at any level, loads TensorFlow's native library."""
    program = (
        "import sys\nfrom ckptctl.cli import cli\n"
        "try:\n    cli(['verify', '--finite', *sys.argv[1:]])\n"
        "finally:\n    print([m for m in sys.modules if m.startswith('tensorflow')])\n"
        "    mapped = open('/proc/self/maps').read()\n"
        "    print('libtensorflow' in mapped or '_pywrap' in mapped)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(trained / "manager"), str(trained / "saver-v1")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-2:] == ["[]", "False"]


@pytest.mark.parametrize("finite", [False, True], ids=["data", "finite"])
def test_memory_is_bounded(tmp_path: Path, finite: bool) -> None:  # noqa: FBT001
    """A tensor of 200 MiB takes less than 100 MiB, in every thread together."""
    piece = os.urandom(1 << 20).replace(b"\x7f", b"\x00").replace(b"\xff", b"\x00")
    data = piece * 200
    made = writer.BundleWriter()
    made.entries[b"w"] = writer.entry_proto(FLOAT, [len(data) // 4], size=len(data), crc=writer.masked(data))
    made.write(tmp_path, "ckpt-1")
    (tmp_path / "ckpt-1.data-00000-of-00001").write_bytes(data)
    del data, made
    # A child's peak begins at what its parent has: a small parent stands in between.
    program = (
        "import resource, subprocess, sys\n"
        "code = subprocess.run([sys.executable, '-m', 'ckptctl', *sys.argv[1:]]).returncode\n"
        "print(code, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    options = ["--finite"] if finite else []
    done = subprocess.run(
        [sys.executable, "-S", "-E", "-c", program, "verify", *options, "-j4", str(tmp_path / "ckpt-1")],
        capture_output=True,
        text=True,
        check=False,
    )
    code, peak = done.stdout.split()[-2:]
    assert code == "0", done.stdout
    assert int(peak) * 1024 < 100 << 20


def test_progress_and_interruption(tmp_path: Path) -> None:
    """On a terminal there is a line with bytes per second; Ctrl-C ends at once, and wipes it away."""
    size = 1 << 36
    entry = writer.entry_proto(FLOAT, [size // 4], size=size)
    made = writer.BundleWriter(entries={b"w": entry})
    made.write(tmp_path, "ckpt-1")
    os.truncate(tmp_path / "ckpt-1.data-00000-of-00001", size)  # sparse
    terminal, stderr = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "ckptctl", "verify", str(tmp_path)], stdout=subprocess.PIPE, stderr=stderr
    ) as process:
        os.close(stderr)
        shown = b""
        while b"/s  " not in shown:
            shown += os.read(terminal, 1000)
        assert b"1 of 1 " in shown
        assert b"of 68.7 GB" in shown
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 130
        assert process.stdout is not None
        assert process.stdout.read() == b""
    shown = b""
    while True:
        try:
            shown += os.read(terminal, 1000)
        except OSError:  # the other end is closed
            break
    os.close(terminal)
    assert shown.endswith(b"\r\x1b[K")
    assert b"Traceback" not in shown


WORKERS = """
import sys
import tensorflow as tf

v1, directory = tf.compat.v1, sys.argv[1]
with tf.Graph().as_default(), v1.Session() as session:
    with v1.variable_scope("x", partitioner=v1.fixed_size_partitioner(2, axis=0)):
        weights = v1.get_variable("a", [10, 4], use_resource=False)
    session.run(v1.global_variables_initializer())
    worker = v1.train.Saver([list(weights)[0]])
    worker.save(session, f"{directory}/worker", global_step=1)
    worker.restore(session, f"{directory}/worker-1")
"""
"""A worker that saves the part of a variable that it holds."""


def test_part_of_a_variable_is_whole(tmp_path: Path) -> None:
    """A checkpoint of some slices of a variable, which TensorFlow restores, is neither broken nor corrupt."""
    done = subprocess.run(
        [sys.executable, "-c", WORKERS, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert [one.status for one in scan(tmp_path).checkpoints] == [Status.COMPLETE]
    assert ckptctl("verify", str(tmp_path)).returncode == 0
