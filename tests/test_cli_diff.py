"""Tests of `ckptctl diff`: what differs is what TensorFlow reads as different."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import bundle_writer as writer
import ml_dtypes
import numpy as np
import pytest
from conftest import ckptctl
from test_cli_show import endless_bundle, interrupted, large_bundle, peak_mib

from ckptctl.bundle.dtypes import DTYPES, NumberKind

if TYPE_CHECKING:
    from collections.abc import Callable

    from click.testing import Result
    from conftest import Invoke

    Parts = list[tuple[writer.Extents, bytes, int]]

VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"
GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"

Said = dict[str, Any]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoints that TensorFlow has written, with `said.json`: what it reads in them."""
    path = tmp_path_factory.mktemp("saved")
    subprocess.run([sys.executable, __file__, path], check=True, capture_output=True, timeout=200)
    return path


@pytest.fixture(scope="module")
def said(saved: Path) -> Said:
    """What TensorFlow reads, by checkpoint and tensor."""
    said: Said = json.loads((saved / "said.json").read_text())
    return said


def compared(invoke: Invoke, a: Path, b: Path, *options: str) -> Any:
    """What `diff --json` prints; the exit code says whether all is the same."""
    result = invoke("diff", str(a), str(b), "--json", *options)
    document = json.loads(result.stdout)
    same = not any(document[key] for key in ("added", "removed", "changed", "unknown"))
    assert (result.exit_code, result.stderr) == (0 if same else 1, "")
    return document


def kinds(document: Any) -> dict[str, str]:
    """What became of each tensor that is not the same."""
    return {change["name"]: change["kind"] for change in document["changes"]}


def plain(result: Result) -> list[str]:
    """The lines of an output without the spaces behind them."""
    return [line.rstrip() for line in result.stdout.splitlines()]


def bundle(directory: Path, name: str, fill: Callable[[writer.BundleWriter], None], **options: Any) -> Path:
    """Writes a checkpoint of our own."""
    made = writer.BundleWriter(**options)
    fill(made)
    made.write(directory, name)
    return directory / name


def of(directory: Path, name: str, dtype: int, values: np.ndarray[Any, Any]) -> Path:
    """Writes a checkpoint of one tensor."""
    return bundle(directory, name, lambda made: made.add(b"x", dtype, values.shape, values.tobytes()))


# --- real ones -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("a", "b"),
    [("keras-1", "keras-2"), ("keras-2", "keras-3"), ("keras-1", "other-1"), ("saver-1", "saver-2")],
)
def test_what_differs(invoke: Invoke, saved: Path, said: Said, a: str, b: str) -> None:
    """Added, removed, changed and the same: as TensorFlow reads the two."""
    document = compared(invoke, saved / a, saved / b)
    ours, others = said[a], said[b]
    both = ours.keys() & others.keys()
    assert set(document["added"]) == others.keys() - ours.keys()
    assert set(document["removed"]) == ours.keys() - others.keys()
    assert set(document["changed"]) == {name for name in both if ours[name] != others[name]}
    assert set(document["same"]) == {name for name in both if ours[name] == others[name]}
    assert document["unknown"] == []
    for name, kind in kinds(document).items():
        if kind in {"dtype", "shape"}:
            assert ours[name][kind] != others[name][kind]


@pytest.mark.parametrize("name", ["keras-1", "other-1", "saver-1", "v2-1"])
def test_the_same(invoke: Invoke, saved: Path, name: str) -> None:
    """A checkpoint is the same as itself: exit code 0, and a line that says so."""
    result = invoke("diff", str(saved / name), str(saved / name))
    assert result.exit_code == 0
    (line,) = result.stdout.splitlines()
    assert line.startswith("0 of ")
    assert compared(invoke, saved / name, saved / name)["changes"] == []
    assert invoke("diff", str(saved / name), str(saved / name), "--format", "tsv").stdout == ""


def test_saved_again(invoke: Invoke, saved: Path) -> None:
    """The same values under another name, in more shards and in another order of data, are the same."""
    assert compared(invoke, saved / "v2-1", saved / "v2s-1")["changes"] == []


def test_table(invoke: Invoke, saved: Path) -> None:
    """What differs is listed by kind, then summed up by layer and in all."""
    result = invoke("diff", str(saved / "saver-1"), str(saved / "saver-2"))
    assert result.exit_code == 1
    assert plain(result) == [
        "         name         dtype               shape               parameters",
        "-------  -----------  ------------------  ----------------  ------------",
        "added    new/bias     float32             [2]                          2",
        "removed  old/bias     float32             [2]                          2",
        "dtype    head/kernel  float32 -> float64  [3, 1]                       3",
        "shape    wide/kernel  float32             [3, 2] -> [3, 5]            15",
        "values   body/table   float32             [6, 2]                      12",
        "values   global_step  int64               []                           1",
        "",
        "layer      tensors    parameters    changed",
        "-------  ---------  ------------  ---------",
        "(none)      1 of 1        1 of 1    100.0 %",
        "body        1 of 2      12 of 15     80.0 %",
        "head        1 of 1        3 of 3    100.0 %",
        "new         1 of 1        2 of 2    100.0 %",
        "old         1 of 1        2 of 2    100.0 %",
        "wide        1 of 1      15 of 15    100.0 %",
        "",
        f"6 of 7 tensors and 35 of 38 parameters (92.1 %) differ between {saved}/saver-1 and {saved}/saver-2",
    ]


def test_layers_of_keras_3(invoke: Invoke, saved: Path) -> None:
    """Where all keys name the optimizer, the object graph tells the layers; the frozen one did not change."""
    layers = {one["layer"]: one for one in compared(invoke, saved / "keras-1", saved / "keras-2")["layers"]}
    trained = "model/_functional/_operations/2"
    assert layers[trained] == {
        "layer": trained,
        "tensors": 2,
        "changed_tensors": 2,
        "parameters": 4,
        "changed_parameters": 4,
    }
    assert layers["model/_functional/_operations/1"]["changed_parameters"] == 0
    assert layers[f"{trained} (slots)"]["changed_parameters"] == 8


def test_object_graph_that_differs(invoke: Invoke, saved: Path) -> None:
    """Other objects are a change like any other, and are pointed out."""
    result = invoke("diff", str(saved / "keras-1"), str(saved / "other-1"))
    assert GRAPH in compared(invoke, saved / "keras-1", saved / "other-1")["changed"]
    assert "the object graph differs" in result.stdout
    assert "object graph" not in invoke("diff", str(saved / "keras-1"), str(saved / "keras-2")).stdout


def test_no_data_are_read(invoke: Invoke, saved: Path, tmp_path: Path) -> None:
    """The indexes suffice, wherever the data are."""
    for name in ("keras-1", "keras-2"):
        (tmp_path / f"{name}.index").write_bytes((saved / f"{name}.index").read_bytes())
    whole = compared(invoke, saved / "keras-1", saved / "keras-2")
    alone = compared(invoke, tmp_path / "keras-1", tmp_path / "keras-2")
    assert kinds(alone) == kinds(whole)


def test_any_file_names_a_checkpoint(invoke: Invoke, saved: Path) -> None:
    """The index and the data file mean the checkpoint."""
    document = compared(invoke, saved / "keras-1.index", saved / "keras-1.data-00000-of-00001")
    assert document["a"] == document["b"] == str(saved / "keras-1")


# --- V1 --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("a", "b"), [("v1-1", "v2-1"), ("v2-1", "v1-1"), ("v1-1", "v1-1")])
def test_v1(invoke: Invoke, saved: Path, said: Said, a: str, b: str) -> None:
    """Names, dtypes and shapes compare; values do not, which is said, and taken for no sameness."""
    document = compared(invoke, saved / a, saved / b)
    assert set(document["unknown"]) == said["v2-1"].keys()
    assert document["changed"] == document["same"] == []
    result = invoke("diff", str(saved / a), str(saved / b))
    assert result.exit_code == 1
    all_of_them = f"{len(said['v2-1'])} of {len(said['v2-1'])} tensors of {saved / a} and {saved / b}"
    assert f"\n{all_of_them} cannot be compared: V1 stores no checksums\n" in result.stdout
    assert " differ" not in result.stdout, "that none does would not be true"


def test_v1_numerically(invoke: Invoke, saved: Path) -> None:
    """The values of V1 are not decoded, and the message says what works instead."""
    result = invoke("diff", "--numeric", str(saved / "v1-1"), str(saved / "v2-1"))
    assert (result.exit_code, result.stdout) == (3, "")
    assert "tf.train.load_checkpoint" in result.stderr


# --- numbers ---------------------------------------------------------------------------------------------


def numbers_of(said: Said) -> np.ndarray[Any, Any]:
    """The values of a tensor as TensorFlow reads them."""
    values: np.ndarray[Any, Any] = np.frombuffer(bytes.fromhex(said["values"]), said["dtype"])
    return values


def test_numeric(invoke: Invoke, saved: Path, said: Said) -> None:
    """The norms are those that numpy computes of what TensorFlow reads."""
    document = compared(invoke, saved / "keras-1", saved / "keras-2", "--numeric")
    assert len(document["changes"]) == 8
    for change in document["changes"]:
        a = numbers_of(said["keras-1"][change["name"]]).astype(np.float64)
        b = numbers_of(said["keras-2"][change["name"]]).astype(np.float64)
        norm = np.linalg.norm(b - a)
        assert change["difference"]["norm"] == pytest.approx(norm, rel=1e-12)
        assert change["difference"]["max_abs"] == pytest.approx(np.abs(b - a).max(), rel=1e-12)
        assert change["difference"]["differing"] == np.count_nonzero(a != b)
        if a.any():
            assert change["difference"]["relative"] == pytest.approx(norm / np.linalg.norm(a), rel=1e-12)
        else:
            assert change["difference"]["relative"] is None


@pytest.mark.parametrize("dtype", sorted(DTYPES), ids=lambda number: DTYPES[number].name)
def test_numeric_in_every_dtype(invoke: Invoke, tmp_path: Path, dtype: int) -> None:
    """Every type of numbers has its norm."""
    known = DTYPES[dtype]
    kind = np.dtype(getattr(ml_dtypes, known.numpy, None) or known.numpy)
    a, b = (np.array(values, np.int8).astype(kind) for values in ([1, 0, 1, 1], [0, 1, 1, 0]))
    document = compared(invoke, of(tmp_path, "a", dtype, a), of(tmp_path, "b", dtype, b), "--numeric")
    (change,) = document["changes"]
    assert change["difference"] == {
        "norm": pytest.approx(3**0.5),
        "relative": pytest.approx(1.0),
        "max_abs": 1.0,
        "differing": 3,
        "non_finite": 0,
    }
    if known.kind is NumberKind.COMPLEX:
        other = of(tmp_path, "c", dtype, np.array([1 + 2j, 0, 1, 1], kind))
        (change,) = compared(invoke, tmp_path / "a", other, "--numeric")["changes"]
        assert change["difference"]["norm"] == 2.0


@pytest.mark.parametrize(
    ("dtype", "kind", "pair", "norm"),
    [
        (9, "<i8", ([-(1 << 63), 5], [(1 << 63) - 1, 5]), float((1 << 64) - 1)),
        (9, "<i8", ([(1 << 62) + 1, 0], [1 << 62, 0]), 1.0),
        (23, "<u8", ([(1 << 64) - 1, 0], [(1 << 64) - 2, 0]), 1.0),
        (6, "<i1", ([-128, 0], [127, 0]), 255.0),
    ],
)
def test_integers_are_exact(
    invoke: Invoke, tmp_path: Path, dtype: int, kind: str, pair: tuple[list[int], list[int]], norm: float
) -> None:
    """Integers that float64 cannot tell apart differ by what they differ by, however far they are apart."""
    first, second = (
        of(tmp_path, name, dtype, np.array(values, kind)) for name, values in zip("ab", pair, strict=True)
    )
    (change,) = compared(invoke, first, second, "--numeric")["changes"]
    assert (change["difference"]["norm"], change["difference"]["differing"]) == (norm, 1)


def test_not_finite(invoke: Invoke, tmp_path: Path) -> None:
    """Elements that are not finite are counted where they differ, and do not spoil the norms."""
    a = np.array([np.nan, np.nan, np.inf, np.inf, 1, 3], "<f4")
    b = np.array([np.nan, 1, np.inf, -np.inf, np.nan, 4], "<f4")
    first, second = of(tmp_path, "a", 1, a), of(tmp_path, "b", 1, b)
    (change,) = compared(invoke, first, second, "--numeric")["changes"]
    assert change["difference"] == {
        "norm": 1.0,
        "relative": pytest.approx(1 / 3),
        "max_abs": 1.0,
        "differing": 4,
        "non_finite": 3,
    }
    row = invoke("diff", "--numeric", "--format", "tsv", str(first), str(second)).stdout.splitlines()[1]
    assert [cell.strip() for cell in row.split("\t")][-4:] == ["1", "0.333333", "1", "4"]


def test_strings(invoke: Invoke, tmp_path: Path) -> None:
    """Strings are different or not; there is no number for how much."""
    a, b = (
        bundle(tmp_path, name, lambda made, text=text: made.add_strings(b"s", [1], [text]))  # type: ignore[misc]
        for name, text in (("a", b"one"), ("b", b"two"))
    )
    (change,) = compared(invoke, a, b, "--numeric")["changes"]
    assert (change["kind"], change["difference"]) == ("values", None)


def test_numeric_takes_bounded_memory(tmp_path: Path) -> None:
    """Two times 200 MiB side by side take less than 150 MiB, numpy and all."""
    large_bundle(tmp_path, "a", 3)
    large_bundle(tmp_path, "b", 4)
    assert peak_mib("diff", "--numeric", str(tmp_path / "a"), str(tmp_path / "b")) < 150


# --- parts and byte orders -------------------------------------------------------------------------------

ROWS = np.arange(24, dtype="<f4").reshape(6, 4)


def rows_in(values: np.ndarray[Any, Any], cuts: list[int]) -> Parts:
    """A tensor of six rows in slices of rows."""
    return [
        (((begin, end - begin), None), values[begin:end].tobytes(), 0)
        for begin, end in zip([0, *cuts], [*cuts, 6], strict=True)
    ]


def columns_in(values: np.ndarray[Any, Any], cut: int) -> Parts:
    """The same in two slices of columns."""
    return [
        ((None, (begin, end - begin)), values[:, begin:end].tobytes(), 0)
        for begin, end in ((0, cut), (cut, 4))
    ]


def partitioned(directory: Path, name: str, parts: Parts) -> Path:
    """Writes a checkpoint of one tensor in parts."""
    return bundle(directory, name, lambda made: made.add_partitioned(b"x", 1, [6, 4], parts))


CHANGED = ROWS + np.array([0, 0, 0, 0.5], "<f4")


@pytest.mark.parametrize(
    ("first", "second", "kind", "numeric", "norm"),
    [
        (rows_in(ROWS, [2]), rows_in(ROWS, [2])[::-1], None, None, None),
        (rows_in(ROWS, [2]), rows_in(CHANGED, [2]), "values", "values", 1.5**0.5),
        (columns_in(ROWS, 1), columns_in(CHANGED, 1), "values", "values", 1.5**0.5),
        (columns_in(ROWS, 1), columns_in(CHANGED, 1)[::-1], "values", "values", 1.5**0.5),
        (rows_in(ROWS, [2]), rows_in(ROWS, [3, 5]), "unknown", None, None),
        (rows_in(ROWS, [2]), rows_in(CHANGED, [3, 5])[::-1], "unknown", "values", 1.5**0.5),
        (rows_in(ROWS, [2]), columns_in(ROWS, 2), "unknown", "unknown", None),
    ],
    ids=["reordered", "rows", "columns", "columns-reordered", "cut-anew", "cut-anew-changed", "across"],
)
def test_partitioned(  # noqa: PLR0917 - one argument a column of the table
    invoke: Invoke,
    tmp_path: Path,
    first: Parts,
    second: Parts,
    kind: str | None,
    numeric: str | None,
    norm: float | None,
) -> None:
    """Slices compare by their checksums; where they are cut anew only the values tell."""
    a, b = partitioned(tmp_path, "a", first), partitioned(tmp_path, "b", second)
    assert kinds(compared(invoke, a, b)).get("x") == kind
    document = compared(invoke, a, b, "--numeric")
    assert kinds(document).get("x") == numeric
    if norm is not None:
        assert document["changes"][0]["difference"]["norm"] == pytest.approx(norm)


def test_whole_beside_partitioned(invoke: Invoke, tmp_path: Path) -> None:
    """A tensor that was partitioned in one checkpoint only is looked into by `--numeric`."""
    a = partitioned(tmp_path, "a", rows_in(ROWS, [1, 4]))
    b = of(tmp_path, "b", 1, ROWS)
    assert kinds(compared(invoke, a, b)) == {"x": "unknown"}
    assert kinds(compared(invoke, a, b, "--numeric")) == {}


def test_byte_order(invoke: Invoke, tmp_path: Path) -> None:
    """Checksums of another byte order do not compare, but for single bytes; values do."""

    def fill(order: str) -> Callable[[writer.BundleWriter], None]:
        def add(made: writer.BundleWriter) -> None:
            made.add(b"wide", 1, [6, 4], ROWS.astype(f"{order}f4").tobytes())
            made.add(b"byte", 4, [2], b"ab")

        return add

    little = bundle(tmp_path, "little", fill("<"))
    big = bundle(tmp_path, "big", fill(">"), big_endian=True)
    assert kinds(compared(invoke, little, big)) == {"wide": "unknown"}
    assert kinds(compared(invoke, little, big, "--numeric")) == {}


def test_missing_data_numerically(invoke: Invoke, tmp_path: Path) -> None:
    """`--numeric` needs the data, and says which file it misses and what to run."""
    a, b = of(tmp_path, "a", 1, ROWS), of(tmp_path, "b", 1, CHANGED)
    (tmp_path / "b.data-00000-of-00001").unlink()
    result = invoke("diff", "--numeric", str(a), str(b))
    assert (result.exit_code, result.stdout) == (3, "")
    assert "b.data-00000-of-00001" in result.stderr
    assert f"see `ckptctl verify {b}`" in result.stderr


def test_damaged_data_numerically(invoke: Invoke, tmp_path: Path) -> None:
    """Bytes that fail their checksum give no numbers, even in the last piece of the second checkpoint."""
    a, b = of(tmp_path, "a", 1, ROWS), of(tmp_path, "b", 1, CHANGED)
    shard = tmp_path / "b.data-00000-of-00001"
    shard.write_bytes(shard.read_bytes()[:-1] + b"\x00")
    result = invoke("diff", "--numeric", str(a), str(b))
    assert (result.exit_code, result.stdout) == (3, "")
    assert "checksum" in result.stderr


# --- the command -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [(), ("a",), ("a", "b", "c"), ("a", "b", "--nonsense")], ids=str)
def test_usage(invoke: Invoke, arguments: tuple[str, ...]) -> None:
    """Two checkpoints are asked for."""
    assert invoke("diff", *arguments).exit_code == 2


@pytest.mark.parametrize("at", [0, 1])
def test_no_such_checkpoint(invoke: Invoke, saved: Path, at: int) -> None:
    """Exit code 3, not 1: nothing was compared."""
    paths = [str(saved / "keras-1")] * 2
    paths[at] = str(saved / "keras-9")
    result = invoke("diff", *paths)
    assert (result.exit_code, result.stdout) == (3, "")
    assert "keras-9: no such checkpoint; did you mean " in result.stderr


def test_names_are_escaped(invoke: Invoke, tmp_path: Path) -> None:
    """A name cannot start a line or move the cursor."""
    a = bundle(tmp_path, "a", lambda made: made.add(b"q\x1b[2J\n/\xff", 1, [1], bytes(4)))
    b = of(tmp_path, "b", 1, ROWS)
    result = invoke("diff", str(a), str(b))
    assert r"q\x1b[2J\n/\xff" in result.stdout
    assert "\x1b" not in result.stdout


@pytest.mark.parametrize(
    ("options", "numpy"), [((), False), (("--numeric",), True)], ids=["plain", "numeric"]
)
def test_what_is_loaded(saved: Path, options: tuple[str, ...], numpy: bool) -> None:  # noqa: FBT001
    """Nothing of TensorFlow's Python or native library; numpy only where values are computed with."""
    program = (
        "import sys; from ckptctl.cli import cli\n"
        "try:\n    cli(sys.argv[1:])\n"
        "finally:\n"
        "    maps = open('/proc/self/maps').read()\n"
        "    print('numpy' in sys.modules, 'libtensorflow' in maps or '_pywrap' in maps,\n"
        "          [m for m in sys.modules if m.startswith('tensorflow.python')])"
    )
    arguments = ["diff", str(saved / "keras-1"), str(saved / "keras-2"), *options]
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False
    )
    assert done.stdout.splitlines()[-1] == f"{numpy} False []"


def test_process_of_its_own(saved: Path) -> None:
    """A user sees the tables and nothing of TensorFlow's."""
    done = ckptctl("diff", str(saved / "keras-1"), str(saved / "keras-2"))
    assert (done.returncode, done.stderr) == (1, "")


# --- what runs with TensorFlow --------------------------------------------------------------------------


def _write(path: Path) -> None:
    """Writes the checkpoints, and what TensorFlow reads in them."""
    import tensorflow as tf  # noqa: PLC0415 - in a process of its own

    keras = tf.keras
    model = keras.Sequential(
        [
            keras.layers.Input((2,)),
            keras.layers.Dense(3, name="frozen"),
            keras.layers.Dense(1, name="trained"),
        ]
    )
    model.layers[0].trainable = False
    model.compile("adam", "mse")
    checkpoint = tf.train.Checkpoint(model=model, optimizer=model.optimizer)
    for _ in range(3):
        model.fit(np.ones((4, 2)), np.ones((4, 1)), verbose=0)
        checkpoint.save(str(path / "keras"))
    other = keras.Sequential([keras.layers.Input((2,)), keras.layers.Dense(5)])
    tf.train.Checkpoint(model=other).save(str(path / "other"))
    for number, kind, width in ((1, tf.float32, 2), (2, tf.float64, 5)):
        with tf.Graph().as_default():
            _write_names(tf.compat.v1, path, number, kind, width)
    names = ["keras-1", "keras-2", "keras-3", "other-1", "saver-1", "saver-2", "v2-1"]
    said = {name: _read(tf, str(path / name)) for name in names}
    (path / "said.json").write_text(json.dumps(said))


def _read(tf: Any, prefix: str) -> Said:
    reader = tf.train.load_checkpoint(prefix)
    dtypes = reader.get_variable_to_dtype_map()
    said: Said = {}
    for name, shape in reader.get_variable_to_shape_map().items():
        values = reader.get_tensor(name)
        raw = values if isinstance(values, bytes) else values.tobytes()
        said[name] = {"dtype": dtypes[name].name, "shape": shape, "values": raw.hex()}
    return said


def _write_names(tf1: Any, path: Path, number: int, kind: Any, width: int) -> None:
    """What TF1 writes: by name; partitioned, sharded, and in the old format."""
    ones = tf1.ones_initializer()
    with tf1.Session() as session:
        step = tf1.train.get_or_create_global_step()
        tf1.get_variable("head/kernel", [3, 1], dtype=kind, initializer=ones)
        tf1.get_variable("wide/kernel", [3, width], initializer=ones)
        tf1.get_variable("old/bias" if number == 1 else "new/bias", [2], initializer=ones)
        tf1.get_variable("body/bias", [3], initializer=ones)
        tf1.get_variable(
            "body/table",
            [6, 2],
            partitioner=tf1.fixed_size_partitioner(3),
            initializer=tf1.constant_initializer(number),
        )
        session.run(tf1.global_variables_initializer())
        session.run(step.assign(number))
        tf1.train.Saver().save(session, str(path / "saver"), global_step=number)
        if number == 1:
            tf1.train.Saver(write_version=1).save(session, str(path / "v1"), global_step=number)
            tf1.train.Saver().save(session, str(path / "v2"), global_step=number)
            tf1.train.Saver(sharded=True).save(session, str(path / "v2s"), global_step=number)


if __name__ == "__main__":
    _write(Path(sys.argv[1]))


def test_interruption(tmp_path: Path) -> None:
    """Ctrl-C does not say that the two differ."""
    endless_bundle(tmp_path, "a", crc=1)
    endless_bundle(tmp_path, "b", crc=2)
    assert interrupted("diff", "--numeric", str(tmp_path / "a"), str(tmp_path / "b")) == (130, "", "")
