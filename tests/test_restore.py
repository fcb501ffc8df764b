"""TensorFlow restores checkpoints in a process of its own: what is proven, what is not, and what it dies of.

Run as a program, this file writes the checkpoints of its tests with TensorFlow.
"""
# ruff: noqa: PLC0415  # TensorFlow is imported by what writes, in a process of its own

from __future__ import annotations

import errno
import os
import signal
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import bundle_writer as writer
import numpy as np
import pytest
import trainers

from ckptctl.bundle.findings import Finding, FindingKind
from ckptctl.errors import TensorFlowError
from ckptctl.opened import open_checkpoint
from ckptctl.restore import Limits, ProofStatus, RestoreProof, Restorer
from ckptctl.restoring.stored import same

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PROVEN, READABLE, FAILED = ProofStatus
FLOAT, STRING, QINT16 = 1, 7, 15

OBJECT_TRAINERS = [name for name in trainers.TRAINERS if not name.startswith("keras3")]


@pytest.fixture(scope="module")
def restorer() -> Iterator[Restorer]:
    """One process of TensorFlow for all tests that leave it alive."""
    with Restorer() as one:
        yield one


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of checkpoints that TensorFlow has written; see `KINDS`."""
    path = tmp_path_factory.mktemp("kinds")
    done = subprocess.run(
        [sys.executable, __file__, path], capture_output=True, text=True, timeout=250, check=False
    )
    assert done.returncode == 0, done.stderr
    return path


def prove(restorer: Restorer, path: Path | str) -> RestoreProof:
    """Proves a checkpoint by its path."""
    with open_checkpoint(os.fspath(path)) as checkpoint:
        return restorer.prove(checkpoint)


def messages(proof: RestoreProof) -> str:
    """All that a proof has to say."""
    return "\n".join(finding.message for finding in proof.findings)


# --- What restores -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OBJECT_TRAINERS)
def test_trainers(tmp_path: Path, restorer: Restorer, name: str) -> None:
    """What every kind of trainer saves is restored, every value of it."""
    trainers.run_trainer(name, tmp_path, saves=2)
    v1 = name.startswith("saver-v1")
    suffix = ".meta" if v1 else ".index"
    found = sorted(str(path).removesuffix(suffix) for path in tmp_path.rglob(f"*{suffix}"))
    assert found
    for path in found:
        assert prove(restorer, path) == RestoreProof(), path


PROVEN_KINDS = [
    "empty", "types", "nested", "shared", "tables", "state", "slots-v1", "slots-some", "variable-root",
    "graph-partitioned", "graph-ref", "graph-types", "graph-sharded", "graph-identity", "run[1]/object",
    "run[1]/graph", "counted-1",
]  # fmt: skip

READABLE_KINDS = {
    "custom": "'own' saves 'low', 'high'",
    "table-dense": "'table' saves 'table-keys', 'table-values'",
    "hostile-constant": "a constant that is larger",
    "registered": "'own' was saved by 'Custom.Scaled'",
    "iterator": "'data'",
    "graph-without-meta": "has no .meta",
    "graph-table": "restores with 'LookupTableImportV2'",
    "graph-fewer": "1 of 2 tensors are restored by nothing, 'b' first",
    "hostile-path": "restores from a path of its own ('save/RestoreV2')",
    "hostile-fifo": "restores from a path of its own ('save/RestoreV2')",
    "hostile-remote": "restores from a path of its own ('save/RestoreV2')",
    "hostile-other-placeholder": "restores from a path of its own ('save/RestoreV2')",
    "hostile-cycle": "restores from a path of its own ('save/RestoreV2')",
    "meta-garbage": "none that a Saver wrote",
    "meta-empty": "has no Saver",
    "meta-saver-of-nothing": "has no operation 'save/none'",
}


@pytest.mark.parametrize("name", PROVEN_KINDS)
def test_proven(directory: Path, restorer: Restorer, name: str) -> None:
    """Whatever objects and types a program saves with, they are rebuilt."""
    assert prove(restorer, directory / name) == RestoreProof()


@pytest.mark.parametrize("name", READABLE_KINDS)
def test_not_rebuilt(directory: Path, restorer: Restorer, name: str) -> None:
    """What cannot be rebuilt is said with its name, and the tensors are read: no proof, and no fault."""
    proof = prove(restorer, directory / name)
    assert proof.status is READABLE
    assert READABLE_KINDS[name] in messages(proof)
    assert {finding.kind for finding in proof.findings} == {FindingKind.NOT_REBUILT}


def test_one_process(directory: Path) -> None:
    """One process serves for many checkpoints, and ends with the context."""
    with Restorer() as restorer:
        prove(restorer, directory / "empty")
        first = _pid(restorer)
        prove(restorer, directory / "types")
        assert _pid(restorer) == first
    assert not _alive(first)


@pytest.mark.parametrize("name", ["state", "counted-1"])
def test_directory_of_the_same_name(directory: Path, restorer: Restorer, name: str) -> None:
    """A checkpoint that is called as a directory is, is restored, and not what lies in the directory."""
    inside = directory / name
    inside.mkdir()
    (inside / "saved_model.pb").touch()
    assert prove(restorer, inside) == RestoreProof()


def test_program_is_ours(tmp_path: Path, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python files that lie beside the checkpoints are not imported."""
    for name in ("tensorflow", "json", "numpy", "runpy"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('imported')")
    monkeypatch.chdir(tmp_path)
    with Restorer() as restorer:
        assert prove(restorer, directory / "empty") == RestoreProof()


# --- Hostile graphs ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["hostile-write", "hostile-python", "hostile-function"])
def test_graph_is_not_run(directory: Path, restorer: Restorer, name: str) -> None:
    """A graph that would do anything but restore is not run; that is said, and the tensors are read."""
    proof = prove(restorer, directory / name)
    assert proof.status is READABLE
    assert "is not carried out here" in messages(proof)
    assert not (directory / "written").exists()


def test_graph_that_does_it_elsewhere(directory: Path, restorer: Restorer) -> None:
    """What a graph has beside its restore operation is not even imported."""
    assert prove(restorer, directory / "hostile-beside") == RestoreProof()
    assert not (directory / "written").exists()


def test_memory(tmp_path: Path, directory: Path) -> None:
    """A small checkpoint that takes gigabytes does not get them: that is found, and the next is restored.

    It has one tensor of 4 MB, and a thousand variables that are restored from it.
    """
    made = writer.BundleWriter()
    made.add(KEY.encode(), FLOAT, [1 << 20], bytes(4 << 20))
    made.add_object_graph(KEY.encode(), variables=1000)
    made.write(tmp_path, "ckpt-1")
    with Restorer() as restorer:
        proof = prove(restorer, tmp_path / "ckpt-1")
        assert proof.status is FAILED
        assert [finding.kind for finding in proof.findings] == [FindingKind.LOST]
        assert prove(restorer, directory / "empty") == RestoreProof()


# --- What does not restore -----------------------------------------------------------------------------


KEY = "v/.ATTRIBUTES/VARIABLE_VALUE"
SLOT = "v/.OPTIMIZER_SLOT/optimizer/m/.ATTRIBUTES/VARIABLE_VALUE"
CONFIG = "optimizer/.ATTRIBUTES/OBJECT_CONFIG_JSON"


def object_bundle(
    directory: Path, key: str, *tensors: str, dtype: int = FLOAT, children: int = 1, name: str = "ckpt-1"
) -> None:
    """A checkpoint of one variable, with these tensors."""
    made = writer.BundleWriter()
    for number, tensor in enumerate(sorted(tensors)):
        made.add(tensor.encode(), dtype, [2], struct.pack("<2f" if dtype == FLOAT else "<2h", number, number))
    made.add_object_graph(key.encode(), children=children)
    made.write(directory, name)


def test_another_value(directory: Path, restorer: Restorer) -> None:
    """A graph that leaves another value in a variable than the files hold for it does not restore."""
    proof = prove(restorer, directory / "graph-twice")
    assert proof.status is FAILED
    assert [finding.tensor for finding in proof.findings] == ["a"]
    assert "another value" in messages(proof)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("graph-more", "restores tensor 'c', which is not"),
        ("graph-other-shape", "of shape (3,) is restored with (2,)"),
    ],
)
def test_graph_of_another_model(directory: Path, restorer: Restorer, name: str, said: str) -> None:
    """A graph that is not the checkpoint's does not restore it: nothing is guessed there."""
    proof = prove(restorer, directory / name)
    assert proof.status is FAILED
    assert said in messages(proof)


def test_object_that_hangs_on_nothing(tmp_path: Path, restorer: Restorer) -> None:
    """A variable that no other object refers to is restored by none; its tensor is read."""
    object_bundle(tmp_path, KEY, KEY, children=0)
    proof = prove(restorer, tmp_path / "ckpt-1")
    assert proof.status is READABLE
    assert "did not use all that was saved" in messages(proof)


def graph_bundle(directory: Path, *nodes: bytes) -> Path:
    """A checkpoint of these objects, with floats under `KEY` and `SLOT`, and a string under `CONFIG`."""
    made = writer.BundleWriter()
    made.add_strings(CONFIG.encode(), [], [b"{}"])
    made.add(KEY.encode(), FLOAT, [2], struct.pack("<2f", 1, 2))
    made.add(SLOT.encode(), FLOAT, [2], struct.pack("<2f", 3, 4))
    graph = b"".join(writer.bytes_field(1, node) for node in nodes)
    made.add_strings(b"_CHECKPOINTABLE_OBJECT_GRAPH", [], [graph])
    made.write(directory, "ckpt-1")
    return directory / "ckpt-1"


def child(number: int, name: bytes) -> bytes:
    """A node's reference to another one."""
    return writer.bytes_field(1, writer.number_field(1, number) + writer.bytes_field(2, name))


def attribute(key: str) -> bytes:
    """A node's tensor."""
    name = key.rpartition("/")[2].encode()
    return writer.bytes_field(2, writer.bytes_field(1, name) + writer.bytes_field(3, key.encode()))


def slot(variable: int, number: int) -> bytes:
    """An optimizer's slot variable."""
    fields = writer.number_field(1, variable) + writer.bytes_field(2, b"m") + writer.number_field(3, number)
    return writer.bytes_field(3, fields)


def test_optimizer_with_its_configuration(tmp_path: Path, restorer: Restorer) -> None:
    """Keras of TensorFlow 2.0 saves a string with an optimizer: it has slot variables all the same."""
    root, optimizer = child(1, b"v") + child(2, b"optimizer"), attribute(CONFIG) + slot(1, 3)
    path = graph_bundle(tmp_path, root, attribute(KEY), optimizer, attribute(SLOT))
    assert prove(restorer, path) == RestoreProof()


def test_tensorflow_raises(tmp_path: Path, restorer: Restorer) -> None:
    """Where every object is what was saved, and TensorFlow raises, the checkpoint does not restore."""
    object_bundle(tmp_path, KEY, KEY)
    assert prove(restorer, tmp_path / "ckpt-1") == RestoreProof()
    data = tmp_path / "ckpt-1.data-00000-of-00001"
    data.write_bytes(bytes([data.read_bytes()[0] ^ 1]) + data.read_bytes()[1:])
    first, *_ = prove(restorer, tmp_path / "ckpt-1").findings
    assert first.kind is FindingKind.RESTORE
    assert first.message.startswith("the tree of objects does not restore: DataLossError")


def test_no_objects(tmp_path: Path) -> None:
    """A graph without objects has no root to restore into, as TensorFlow finds too; the process lives on."""
    path = graph_bundle(tmp_path)
    with Restorer() as restorer:
        proof = prove(restorer, path)
        assert proof.status is FAILED
        assert messages(proof) == "its graph has no objects"
        first = _pid(restorer)
        assert prove(restorer, path) == proof
        assert _pid(restorer) == first


def test_names(tmp_path: Path, restorer: Restorer) -> None:
    """Names that are not UTF-8, of tensors and of files, are none that TensorFlow cannot read."""
    made = writer.BundleWriter()
    made.add(b"w\xff", FLOAT, [2], bytes(8))
    name = os.fsdecode(b"a b\xff-1")
    made.write(tmp_path, name)
    object_bundle(tmp_path, KEY, KEY, name=f"object-{name}")
    assert prove(restorer, tmp_path / f"object-{name}") == RestoreProof()
    proof = prove(restorer, tmp_path / name)
    assert [finding.kind for finding in proof.findings] == [FindingKind.NOT_REBUILT]


def test_name_that_is_a_pattern(tmp_path: Path, restorer: Restorer) -> None:
    """TensorFlow takes a checkpoint's own name for a pattern, so that no program restores this one."""
    object_bundle(tmp_path, KEY, KEY, name="ckpt[1]")
    proof = prove(restorer, tmp_path / "ckpt[1]")
    assert proof.status is FAILED
    assert "TensorFlow cannot open it" in messages(proof)


def test_failure_among_many_doubts(tmp_path: Path, restorer: Restorer) -> None:
    """However much cannot be rebuilt, a tensor that cannot be read is found."""
    made = writer.BundleWriter(2)
    for number in range(1100):
        made.add_variants(b"v%04d" % number, [], [b""])
    made.add(b"w", FLOAT, [2], bytes(8), shard=1)
    made.write(tmp_path, "ckpt-1")
    assert prove(restorer, tmp_path / "ckpt-1").status is READABLE
    os.truncate(tmp_path / SHARD, 4)
    assert prove(restorer, tmp_path / "ckpt-1").status is FAILED


def test_variable_of_a_strange_type(tmp_path: Path, restorer: Restorer) -> None:
    """A variable of a type that TensorFlow has no kernel for cannot be made, and is read."""
    object_bundle(tmp_path, KEY, KEY, dtype=QINT16)
    proof = prove(restorer, tmp_path / "ckpt-1")
    assert proof.status is READABLE
    assert "object 'v1' cannot be made here" in messages(proof)


def test_tensor_of_an_object_lacks(tmp_path: Path, restorer: Restorer) -> None:
    """An object whose tensor is not in the checkpoint is no object that restores."""
    object_bundle(tmp_path, KEY, "other")
    proof = prove(restorer, tmp_path / "ckpt-1")
    assert proof.status is FAILED
    assert "object 'v1'" in messages(proof)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A name-based checkpoint in two shards, without a graph."""
    made = writer.BundleWriter(2)
    made.add(b"a", FLOAT, [16], struct.pack("<16f", *range(16)))
    made.add(b"b", FLOAT, [16], struct.pack("<16f", *range(16)), shard=1)
    made.write(tmp_path, "ckpt-1")
    return tmp_path / "ckpt-1"


SHARD = "ckpt-1.data-00001-of-00002"


def _truncate(directory: Path) -> None:
    os.truncate(directory / SHARD, 10)


def _unlink(directory: Path) -> None:
    (directory / SHARD).unlink()


def _flip(directory: Path) -> None:
    data = bytearray((directory / SHARD).read_bytes())
    data[5] ^= 1
    (directory / SHARD).write_bytes(data)


def _cut_index(directory: Path) -> None:
    os.truncate(directory / "ckpt-1.index", 60)


@pytest.mark.parametrize("damage", [_truncate, _unlink, _flip, _cut_index])
def test_damage_that_came_later(bundle: Path, restorer: Restorer, damage: Callable[[Path], None]) -> None:
    """Damage that was done after our own look is found, whether TensorFlow raises of it or dies."""
    assert prove(restorer, bundle).status is READABLE
    damage(bundle.parent)
    proof = prove(restorer, bundle)
    assert proof.status is FAILED
    assert proof.findings


def test_tensorflow_dies(tmp_path: Path, directory: Path) -> None:
    """TensorFlow aborts over a shard of partitioned tensors that is gone; we live on, and go on."""
    made = writer.BundleWriter(2)
    for name in (b"a", b"b"):
        halves = [(((0, 2),), bytes(8), 0), (((2, 2),), bytes(8), 1)]
        made.add_partitioned(name, FLOAT, [4], halves)
    made.write(tmp_path, "ckpt-1")
    with Restorer() as restorer:
        assert prove(restorer, tmp_path / "ckpt-1").status is READABLE
        (tmp_path / SHARD).unlink()
        proof = prove(restorer, tmp_path / "ckpt-1")
        assert proof.status is FAILED
        assert "TensorFlow died of SIGABRT" in messages(proof)
        assert proof.findings[0].kind is FindingKind.LOST
        assert prove(restorer, directory / "empty") == RestoreProof()


@pytest.mark.skipif(sys.platform != "linux", reason="Linux has files in memory")
def test_no_directory_for_temporary_files(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing can be written anywhere it restores all the same; what it says in dying is heard."""

    def unusable(*_: object) -> None:
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found")

    monkeypatch.setattr("tempfile.TemporaryFile", unusable)
    with Restorer() as restorer:
        assert prove(restorer, bundle).status is READABLE


def test_time(bundle: Path) -> None:
    """A restore that takes too long is ended, and that is the finding."""
    (bundle.parent / SHARD).unlink()
    os.mkfifo(bundle.parent / SHARD)  # where TensorFlow waits for a writer
    with Restorer(Limits(seconds=0.5)) as restorer:
        proof = prove(restorer, bundle)
    assert proof.findings == (
        Finding(FindingKind.LOST, "TensorFlow was ended after 0 seconds without a result"),
    )


def test_killed(bundle: Path) -> None:
    """Whoever kills the process, its death is the finding."""
    with Restorer() as restorer:
        assert prove(restorer, bundle).status is READABLE
        os.kill(_pid(restorer), signal.SIGSTOP)
        killer = threading.Thread(target=os.kill, args=(_pid(restorer), signal.SIGKILL))
        killer.start()
        proof = prove(restorer, bundle)
        killer.join()
    assert messages(proof).startswith("TensorFlow died of SIGKILL")
    assert [finding.kind for finding in proof.findings] == [FindingKind.LOST]


def test_does_not_outlive_us(directory: Path) -> None:
    """A command that is killed leaves no process of TensorFlow behind."""
    program = (
        "import sys; from ckptctl.opened import open_checkpoint; from ckptctl.restore import Restorer\n"
        "with Restorer() as restorer, open_checkpoint(sys.argv[1]) as checkpoint:\n"
        "    restorer.prove(checkpoint)\n"
        "    print(restorer._child._process.pid, flush=True)\n"
        "    sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, directory / "empty"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as command:
        assert command.stdout is not None
        pid = int(command.stdout.readline())
        assert _alive(pid)
        command.kill()
    deadline = time.monotonic() + 30
    while _alive(pid):
        assert time.monotonic() < deadline
        os.sched_yield()


def test_does_not_start(bundle: Path) -> None:
    """A TensorFlow that does not start is no finding about a checkpoint."""
    with Restorer(Limits(start=0.0)) as restorer, pytest.raises(TensorFlowError, match="does not start"):
        prove(restorer, bundle)


def _pid(restorer: Restorer) -> int:
    assert restorer._child is not None
    return restorer._child._process.pid


def _alive(pid: int) -> bool:
    """Whether a process is there, and no mere entry in the list of processes."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


# --- Comparing -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        (np.zeros(3), np.zeros(3), True),
        (np.zeros(3), np.array([0, 0, -0.0]), False),
        (np.array(float("nan")), np.array(float("nan")), True),
        (np.zeros(3), np.zeros((3, 1)), False),
        (np.zeros(3, np.float32), np.zeros(3), False),
        (np.zeros((0, 2)), np.zeros((0, 2)), True),
        (np.array([b"a"], object), np.array([b"a"], object), True),
        (np.array([b"a"], object), np.array([b"b"], object), False),
        (np.array([b"a"], object), np.array([b"a"]), False),
        (np.arange(1 << 20), np.append(np.arange((1 << 20) - 1), 0), False),
    ],
    ids=["same", "sign", "nan", "shape", "width", "none", "strings", "other-strings", "kinds", "last"],
)
def test_same(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any], equal: bool) -> None:  # noqa: FBT001
    """Values are compared bit by bit."""
    assert same(one, other) is equal


_ALTERED = """
import os, sys
import numpy as np
from ckptctl.opened import open_checkpoint
from ckptctl.restoring import prove, stored
from ckptctl.restoring.outcome import Outcome

def read_altered(checkpoint):
    true = stored.read_v2(checkpoint)

    def value(name):
        values = true.value(name).copy()
        if values.dtype == object:
            values.reshape(-1)[:1] = b"altered"
        else:
            values.reshape(-1).view(np.uint8)[-1:] ^= 1
        return values

    return stored.Stored(true.specs, value, true.index)

prove.read_v2 = read_altered
os.chdir(sys.argv[1])
for name in sys.argv[2:]:
    outcome = Outcome()
    with open_checkpoint(os.path.join(sys.argv[1], name)) as checkpoint:
        prove.prove(checkpoint, outcome, lambda size: None)
        specs = stored.read_v2(checkpoint).specs
    left = {key for key, spec in specs.items() if spec.elements} - {one.tensor for one in outcome.all()}
    print(name, *left)
"""


def test_no_value_goes_uncompared(directory: Path) -> None:
    """Were one byte of any tensor another in the files, it would be found: all but the graph of objects."""
    objects = ["nested", "shared", "slots-some", "slots-v1", "state", "tables", "types"]
    graphs = ["graph-partitioned", "graph-ref", "graph-types"]
    done = subprocess.run(
        [sys.executable, "-c", _ALTERED, directory, *objects, *graphs],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said = [f"{name} _CHECKPOINTABLE_OBJECT_GRAPH" for name in objects] + graphs
    assert done.stdout.splitlines() == said


# --- What writes the checkpoints -----------------------------------------------------------------------


def main(directory: str) -> None:
    """Writes every kind of checkpoint of the tests."""
    import tensorflow as tf

    os.makedirs(f"{directory}/run[1]")
    _write_objects(tf, directory)
    for name, write in _GRAPHS.items():
        with tf.Graph().as_default():
            write(tf, f"{directory}/{name}")


def _write_objects(tf: Any, directory: str) -> None:
    def write(name: str, **objects: Any) -> None:
        tf.train.Checkpoint(**objects).write(f"{directory}/{name}")

    write("empty")
    write("run[1]/object", v=tf.Variable([1.0]))
    tf.train.Checkpoint(v=tf.Variable([1.0])).save(f"{directory}/counted")
    numbers = (1, 2, 3, 4, 5, 6, 8, 9, 10, 11, 12, 13, 14, 17, 18, 19, 22, 23, 24, 25, 29, 30)
    types = [tf.as_dtype(number) for number in numbers]
    made = {one.name: tf.Variable(tf.constant(np.zeros((2, 3), one.as_numpy_dtype), one)) for one in types}
    made["bool"].assign([[True, False, True], [False, True, False]])
    made["bfloat16"].assign_add(tf.ones((2, 3), tf.bfloat16))
    made["complex64"].assign_add(tf.fill((2, 3), tf.constant(1 + 2j, tf.complex64)))
    write("types", **made, string=tf.Variable([b"one", b"", b"\xff\x00"]), none=tf.Variable(tf.zeros((0, 3))))
    nested = tf.Module()
    nested.layers = [tf.Variable([1.0]), {"a": tf.Variable([2.0]), "b": [tf.Variable(3), ()]}]
    nested.pair = (tf.Variable([4.0]), tf.Module())
    nested.by_name = {"with/slash": tf.Variable(5.0), "with.dot": tf.Variable([[6.0]]), "": tf.Variable(7.0)}
    write("nested", model=nested)
    one, other = tf.Module(), tf.Module()
    one.weight = other.weight = tf.Variable([1.0, 2.0])
    one.other, other.one = other, one
    write("shared", one=one, other=other, again=one)
    _write_tables(tf, write)
    _write_optimizers(tf, write)
    tf.train.Checkpoint(root=tf.Variable(1.0)).write(f"{directory}/variable-root")
    _write_unusual(tf, write)


def _write_tables(tf: Any, write: Callable[..., None]) -> None:
    count = tf.lookup.experimental.MutableHashTable(tf.string, tf.int64, -1)
    count.insert([f"word {number}" for number in range(100)], list(range(100)))
    vectors = tf.lookup.experimental.MutableHashTable(tf.int64, tf.float32, [0.0, 0.0])
    vectors.insert(tf.range(50, dtype=tf.int64), tf.random.normal((50, 2)))
    dense = tf.lookup.experimental.DenseHashTable(tf.int64, tf.float32, 0.0, empty_key=-1, deleted_key=-2)
    dense.insert(tf.constant([3, 1, 2], tf.int64), [3.0, 1.0, 2.0])
    empty = tf.lookup.experimental.MutableHashTable(tf.int64, tf.string, "")
    write("tables", count=count, vectors=vectors, empty=empty)
    write("table-dense", table=dense)


def _write_optimizers(tf: Any, write: Callable[..., None]) -> None:
    import tf_keras

    weights = [tf.Variable([1.0, 2.0]), tf.Variable(3.0)]
    optimizer = tf.compat.v1.train.AdamOptimizer()
    optimizer.apply_gradients([(tf.ones_like(one), one) for one in weights])
    write("slots-v1", optimizer=optimizer, weights=weights)
    optimizer = tf_keras.optimizers.legacy.Adam()
    optimizer.apply_gradients([(tf.ones_like(weights[0]), weights[0])])
    write("slots-some", optimizer=optimizer, weights=weights)


def _write_unusual(tf: Any, write: Callable[..., None]) -> None:
    from tensorflow.python.saved_model import registration

    class State(tf.train.experimental.PythonState):  # type: ignore[misc]
        def serialize(self) -> str:
            return '{"epoch": 3}'

        def deserialize(self, string_value: bytes) -> None:
            raise NotImplementedError

    class Own(tf.__internal__.tracking.Trackable):  # type: ignore[misc]
        def _serialize_to_tensors(self) -> dict[str, Any]:
            return {"low": tf.constant([1.0]), "high": tf.constant(["x"])}

        def _restore_from_tensors(self, restored_tensors: dict[str, Any]) -> None:
            raise NotImplementedError

    class Scaled(tf.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.inner = tf.Variable([1.0])

    def save(trackables: dict[str, Any], file_prefix: Any) -> Any:
        keys, values = [f"{key}/scaled" for key in trackables], [one.inner for one in trackables.values()]
        tf.raw_ops.SaveV2(
            prefix=file_prefix, tensor_names=keys, shape_and_slices=[""] * len(keys), tensors=values
        )
        return file_prefix

    registration.register_checkpoint_saver(
        name="Scaled", predicate=lambda one: isinstance(one, Scaled), save_fn=save, restore_fn=print
    )
    write("state", state=State(), v=tf.Variable(1.0))
    write("custom", own=Own(), v=tf.Variable(1.0))
    write("registered", own=Scaled(), v=tf.Variable(1.0))
    data = iter(tf.data.Dataset.range(5))
    next(data)
    write("iterator", data=data, v=tf.Variable(1.0))


def _variables(tf: Any, *, resource: bool = True) -> list[Any]:
    get = tf.compat.v1.get_variable
    return [get(name, initializer=[1.0, 2.0], use_resource=resource) for name in "ab"]


def _save(tf: Any, path: str, saver: Any = None, **options: Any) -> None:
    with tf.compat.v1.Session() as session:
        session.run([tf.compat.v1.global_variables_initializer(), tf.compat.v1.tables_initializer()])
        (saver or tf.compat.v1.train.Saver()).save(session, path, **options)


def _graph(tf: Any, path: str) -> None:
    _variables(tf)
    _save(tf, path)


def _graph_ref(tf: Any, path: str) -> None:
    _variables(tf, resource=False)
    _save(tf, path)


def _graph_types(tf: Any, path: str) -> None:
    for name, value in {"s": ["a", "b"], "i": 1, "c": [[1j]], "t": True, "none": np.zeros((0, 2))}.items():
        tf.compat.v1.get_variable(name, initializer=tf.constant(value))
    tf.compat.v1.get_variable("half", initializer=tf.ones((2, 2), tf.bfloat16))
    _save(tf, path)


def _graph_partitioned(tf: Any, path: str) -> None:
    parts = tf.compat.v1.fixed_size_partitioner(3)
    uneven = tf.random_normal_initializer()
    tf.compat.v1.get_variable("table", (10, 4), partitioner=parts, initializer=uneven)
    _variables(tf)
    _save(tf, path)


def _graph_without_meta(tf: Any, path: str) -> None:
    _variables(tf)
    _save(tf, path, write_meta_graph=False)


def _graph_table(tf: Any, path: str) -> None:
    _variables(tf)
    tf.lookup.experimental.MutableHashTable(tf.string, tf.int64, -1)
    _save(tf, path)


def _edited(tf: Any, path: str, edit: Callable[[Any], None]) -> None:
    """Saves, and changes what the `.meta` says."""
    saver = tf.compat.v1.train.Saver()
    _save(tf, path, saver)
    meta = tf.compat.v1.get_default_graph()
    exported = tf.compat.v1.train.export_meta_graph(graph=meta, saver_def=saver.saver_def)
    edit(exported)
    Path(f"{path}.meta").write_bytes(exported.SerializeToString())


def _restoring(meta: Any) -> Any:
    return next(node for node in meta.graph_def.node if node.name == meta.saver_def.restore_op_name)


def _hostile(make: Callable[[Any, str], Any]) -> Callable[[Any, str], None]:
    """A graph whose restore operation depends on another one."""

    def write(tf: Any, path: str) -> None:
        _variables(tf)
        operation = make(tf, os.path.join(os.path.dirname(path), "written"))
        _edited(tf, path, lambda meta: _restoring(meta).input.append(f"^{operation.name}"))

    return write


def _write_file(tf: Any, path: str) -> Any:
    return tf.io.write_file(path, "x")


def _run_python(tf: Any, path: str) -> Any:
    return tf.compat.v1.py_func(lambda: Path(path).touch(), [], [])


def _call_function(tf: Any, path: str) -> Any:
    @tf.function  # type: ignore[untyped-decorator]
    def write() -> Any:
        tf.io.write_file(path, "x")
        return tf.constant(1)

    return write().op


def _hostile_beside(tf: Any, path: str) -> None:
    _variables(tf)
    _write_file(tf, os.path.join(os.path.dirname(path), "written"))
    _edited(tf, path, lambda meta: meta.collection_def["variables"].bytes_list.value.append(b"\xff"))


def _hostile_constant(tf: Any, path: str) -> None:
    _variables(tf)

    def edit(meta: Any) -> None:
        huge = meta.graph_def.node.add(name="huge", op="Const")
        huge.attr["dtype"].type = FLOAT
        huge.attr["value"].tensor.dtype = FLOAT
        huge.attr["value"].tensor.float_val.append(1.0)
        huge.attr["value"].tensor.tensor_shape.dim.add(size=1 << 34)
        added = meta.graph_def.node.add(name="uses", op="Identity", input=["huge"])
        added.attr["T"].type = FLOAT
        _restoring(meta).input.append("^uses")

    _edited(tf, path, edit)


def _graph_sharded(tf: Any, path: str) -> None:
    for device in ("/job:localhost/replica:0/task:0/cpu:0", "/job:localhost/replica:0/task:0"):
        with tf.device(device):
            tf.compat.v1.get_variable(device.rpartition("/")[2].replace(":", ""), initializer=[1.0, 2.0])
    _save(tf, path, tf.compat.v1.train.Saver(sharded=True))


def _path(make: Callable[[Any, str, Any], str]) -> Callable[[Any, str], None]:
    """A graph that restores from the path that a node gives, which is made for it."""

    def write(tf: Any, path: str) -> None:
        _variables(tf)

        def edit(meta: Any) -> None:
            source = make(tf, path, meta)
            for node in meta.graph_def.node:
                if node.op == "RestoreV2":
                    node.input[0] = source

        _edited(tf, path, edit)

    return write


def _path_node(meta: Any, name: str, op: str, *inputs: str, **attributes: Any) -> str:
    """Adds a node that gives a string."""
    node = meta.graph_def.node.add(name=name, op=op, input=inputs)
    node.attr["dtype" if op in {"Const", "PlaceholderWithDefault"} else "T"].type = STRING
    for key, value in attributes.items():
        node.attr[key].tensor.CopyFrom(value)
    return name


def _path_of(suffix: str) -> Callable[[Any, str, Any], str]:
    """A constant path: another checkpoint, or whatever else is there."""

    def make(tf: Any, path: str, meta: Any) -> str:
        target = suffix if "://" in suffix else os.path.join(os.path.dirname(path), suffix)
        if suffix == "fifo":
            os.mkfifo(f"{target}.index")
        return _path_node(meta, "own", "Const", value=tf.make_tensor_proto(target))

    return make


def _path_default(tf: Any, path: str, meta: Any) -> str:
    own = _path_of("graph-ref")(tf, path, meta)
    return _path_node(meta, "other", "PlaceholderWithDefault", own)


def _path_identity(tf: Any, path: str, meta: Any) -> str:
    del tf, path
    return _path_node(meta, "same", "Identity", meta.saver_def.filename_tensor_name.removesuffix(":0"))


def _path_cycle(tf: Any, path: str, meta: Any) -> str:
    del tf, path
    _path_node(meta, "one", "Identity", "two")
    return _path_node(meta, "two", "Identity", "one")


def _graph_fewer(tf: Any, path: str) -> None:
    first, _ = _variables(tf)
    few = tf.compat.v1.train.Saver([first])
    _save(tf, path)
    tf.compat.v1.train.export_meta_graph(f"{path}.meta", saver_def=few.saver_def)


def _graph_more(tf: Any, path: str) -> None:
    """The `.meta` is one of a model that has a variable more."""
    _graph(tf, path)
    tf.compat.v1.get_variable("c", initializer=[1.0])
    tf.compat.v1.train.Saver().export_meta_graph(f"{path}.meta")


def _graph_other_shape(tf: Any, path: str) -> None:
    """The `.meta` is one of a model whose variables are larger."""
    _graph(tf, path)
    with tf.Graph().as_default():
        for name in "ab":
            tf.compat.v1.get_variable(name, initializer=[1.0, 2.0, 3.0])
        tf.compat.v1.train.Saver().export_meta_graph(f"{path}.meta")


def _graph_twice(tf: Any, path: str) -> None:
    """The tensor of `b` is restored into `a` as well, after its own."""
    tf.compat.v1.get_variable("a", initializer=[1.0, 2.0])
    tf.compat.v1.get_variable("b", initializer=[3.0, 4.0])

    def edit(meta: Any) -> None:
        nodes = {node.name: node for node in meta.graph_def.node}
        assigns = [nodes[name.removeprefix("^")] for name in _restoring(meta).input]
        into = {nodes[node.input[0]].attr["shared_name"].s: node for node in assigns}
        twice = meta.graph_def.node.add()
        twice.CopyFrom(into[b"a"])
        twice.name = "twice"
        twice.input[:] = [into[b"a"].input[0], into[b"b"].input[1], f"^{into[b'a'].name}"]
        _restoring(meta).input.append("^twice")

    _edited(tf, path, edit)


def _meta(data: bytes) -> Callable[[Any, str], None]:
    def write(tf: Any, path: str) -> None:
        _graph(tf, path)
        Path(f"{path}.meta").write_bytes(data)

    return write


def _meta_saver_of_nothing(tf: Any, path: str) -> None:
    _variables(tf)
    _edited(tf, path, lambda meta: setattr(meta.saver_def, "restore_op_name", "save/none"))


_GRAPHS: dict[str, Callable[[Any, str], None]] = {
    "run[1]/graph": _graph,
    "graph-ref": _graph_ref,
    "graph-types": _graph_types,
    "graph-partitioned": _graph_partitioned,
    "graph-without-meta": _graph_without_meta,
    "graph-table": _graph_table,
    "graph-sharded": _graph_sharded,
    "graph-identity": _path(_path_identity),
    "graph-fewer": _graph_fewer,
    "graph-twice": _graph_twice,
    "graph-more": _graph_more,
    "graph-other-shape": _graph_other_shape,
    "meta-garbage": _meta(b"\xff\xff\xff"),
    "meta-empty": _meta(b""),
    "meta-saver-of-nothing": _meta_saver_of_nothing,
    "hostile-write": _hostile(_write_file),
    "hostile-python": _hostile(_run_python),
    "hostile-function": _hostile(_call_function),
    "hostile-beside": _hostile_beside,
    "hostile-constant": _hostile_constant,
    "hostile-path": _path(_path_of("graph-ref")),
    "hostile-fifo": _path(_path_of("fifo")),
    "hostile-remote": _path(_path_of("gs://bucket/ckpt-1")),
    "hostile-other-placeholder": _path(_path_default),
    "hostile-cycle": _path(_path_cycle),
}


if __name__ == "__main__":
    main(sys.argv[1])
