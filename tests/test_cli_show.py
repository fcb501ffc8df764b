"""Tests of `ckptctl show`: what TensorFlow saved is shown as TensorFlow reads it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import bundle_writer as writer
import fabricate
import ml_dtypes
import numpy as np
import pytest
from conftest import ckptctl
from crc32c import crc32c
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ckptctl.bundle.dtypes import DTYPES, NumberKind

if TYPE_CHECKING:
    from conftest import Invoke

VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"
BUNDLES = ["dtypes", "partitioned", "sharded", "merged", "keras3-1", "keras2", "saver-42"]
BY_NAME = {dtype.name: dtype for dtype in DTYPES.values()}

Said = dict[str, Any]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoints that TensorFlow has written, with `said.json`: what it reads in them."""
    path = tmp_path_factory.mktemp("saved")
    program = Path(__file__).with_name("test_bundle_tensorflow.py")
    subprocess.run([sys.executable, program, path], check=True, capture_output=True, timeout=200)
    return path


@pytest.fixture(scope="module")
def said(saved: Path) -> Said:
    """What TensorFlow reads, by checkpoint and tensor."""
    said: Said = json.loads((saved / "said.json").read_text())
    return said


def elements(said: Said) -> np.ndarray[Any, Any]:
    """The values of a tensor as TensorFlow reads them."""
    raw = bytes.fromhex(said["values"])
    dtype = np.dtype(getattr(ml_dtypes, said["numpy"], None) or said["numpy"])
    values: np.ndarray[Any, Any] = np.frombuffer(raw, dtype).reshape(said["shape"])
    return values


def shown(invoke: Invoke, *arguments: str) -> Any:
    """What `show --json` prints."""
    result = invoke("show", "--json", *arguments)
    assert result.exit_code == 0, result.stderr

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    return json.loads(result.stdout, parse_constant=refuse)


# --- tables ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BUNDLES)
def test_tensors(invoke: Invoke, saved: Path, said: Said, name: str) -> None:
    """Names, dtypes and shapes are those that TensorFlow reads; sizes are those of the elements."""
    document = shown(invoke, str(saved / name))
    tensors = {tensor["name"]: tensor for tensor in document["tensors"]}
    assert tensors.keys() == said[name].keys()
    for key, expected in said[name].items():
        tensor = tensors[key]
        assert (tensor["dtype"], tensor["shape"]) == (expected["dtype"], expected["shape"])
        if "numpy" in expected:
            assert tensor["bytes"] == len(expected["values"]) // 2
            assert tensor["parameters"] == int(np.prod(expected["shape"]))
        else:
            assert tensor["parameters"] == 0
    assert document["count"] == len(tensors)
    assert document["bytes"] == sum(tensor["bytes"] for tensor in tensors.values())
    assert document["parameters"] == sum(tensor["parameters"] for tensor in tensors.values())


def test_table(invoke: Invoke, saved: Path) -> None:
    """The table has a row a tensor, in the order of names, below a line with the totals."""
    result = invoke("show", str(saved / "saver-42"))
    assert result.exit_code == 0
    assert [line.rstrip() for line in result.stdout.splitlines()] == [
        f"{saved}/saver-42: 4 tensors, 601,531 parameters, 2.4 MB in 1 shard",
        "name         dtype    shape          parameters      bytes  shard",
        "-----------  -------  -----------  ------------  ---------  -------",
        "global_step  int64    []                      1          8  0",
        "large        float32  [500, 1200]       600,000  2,400,000  0",
        "table        float32  [10, 3]                30        120  0",
        "weights      float32  [30, 50]            1,500      6,000  0",
    ]


def test_slots_are_counted_where_keys_tell(invoke: Invoke, saved: Path) -> None:
    """Optimizer slots have their part of the total, and names come without the common suffix."""
    result = invoke("show", str(saved / "slots-1"))
    first, *rest = result.stdout.splitlines()
    assert "9 parameters (2 in optimizer slots)" in first
    assert any(line.startswith("variable/.OPTIMIZER_SLOT/optimizer/momentum  float32") for line in rest)
    assert VALUE not in result.stdout


def test_slots_of_tf1_are_counted(invoke: Invoke, tmp_path: Path) -> None:
    """A tensor whose name goes on from another tensor's is its slot."""
    bundle = writer.BundleWriter()
    for name in (b"layer/kernel", b"layer/kernel/Adam", b"layer/kernel/Adam_1", b"layer/other"):
        bundle.add(name, 1, [2], bytes(8))
    bundle.write(tmp_path, "P")
    assert shown(invoke, str(tmp_path / "P"))["slot_parameters"] == 4


@pytest.mark.parametrize("suffix", ["", ".index", ".data-00000-of-00001"])
def test_any_of_its_files_names_a_checkpoint(invoke: Invoke, saved: Path, suffix: str) -> None:
    """The prefix, the index and the data file mean the same checkpoint."""
    assert shown(invoke, f"{saved}/dtypes{suffix}")["checkpoint"] == f"{saved}/dtypes"


def test_partitioned_tensor(invoke: Invoke, saved: Path) -> None:
    """A partitioned tensor is one row, and its slices are told in JSON."""
    tensors = {one["name"]: one for one in shown(invoke, str(saved / "partitioned"))["tensors"]}
    table = tensors["table"]
    assert (table["shard"], table["offset"], table["crc32c"], table["bytes"]) == (None, None, None, 120)
    assert [(one["slice"], one["shape"], one["bytes"]) for one in table["slices"]] == [
        ("0,4:-", [4, 3], 48),
        ("4,6:-", [6, 3], 72),
    ]
    assert "slices" not in tensors["whole"]


@pytest.mark.parametrize(
    ("key", "names"),
    [
        ("name", ["a", "b", "c"]),
        ("size", ["b", "c", "a"]),
        ("parameters", ["b", "a", "c"]),
        ("offset", ["c", "a", "b"]),
        ("dtype", ["b", "a", "c"]),
    ],
)
def test_sort(invoke: Invoke, tmp_path: Path, key: str, names: list[str]) -> None:
    """Tensors are sorted by what was asked for, lowest first."""
    bundle = writer.BundleWriter()
    bundle.add(b"c", 4, [3], bytes(3))
    bundle.add(b"a", 2, [2], bytes(16))
    bundle.add(b"b", 10, [1], bytes(1))
    bundle.write(tmp_path, "P")
    tensors = shown(invoke, str(tmp_path / "P"), "--sort", key)["tensors"]
    assert [tensor["name"] for tensor in tensors] == names


@pytest.mark.parametrize("pattern", ["*/kernel", f"*/kernel{VALUE}", "*ke[r]ne?"])
def test_match(invoke: Invoke, saved: Path, pattern: str) -> None:
    """A pattern is held against names in full, and against names as the table has them."""
    document = shown(invoke, str(saved / "keras2"), "--match", pattern)
    assert [one["name"] for one in document["tensors"]] == [f"layer_with_weights-0/kernel{VALUE}"]
    assert document["count"] == 1
    result = invoke("show", str(saved / "keras2"), "--match", pattern)
    assert "1 of 9 tensors, 6 parameters" in result.stdout.splitlines()[0]


def test_match_what_variables_are_called(invoke: Invoke, saved: Path) -> None:
    """Where keys tell no layer, as in Keras 3, a pattern fits what variables are called, which is shown."""
    path = str(saved / "keras3-1")
    result = invoke("show", path, "--match", "*kernel*")
    rows = [re.split(r" {2,}", line) for line in result.stdout.splitlines()[1:]]
    assert [(row[0], row[-1]) for row in (rows[0], *rows[2:])] == [
        ("name", "variable"),
        ("optimizer/_trainable_variables/0", "sequential/dense/kernel"),
        ("optimizer/_variables/2", "adam/sequential_dense_kernel_momentum"),
        ("optimizer/_variables/3", "adam/sequential_dense_kernel_velocity"),
    ]
    stats = invoke("show", path, "--match", "*kernel*", "--stats").stdout.splitlines()
    assert [line.split()[-1] for line in stats[3:]] == [row[-1] for row in rows[2:]]
    assert "  variable" not in invoke("show", path, "--match", "optimizer/*").stdout
    assert "  variable" not in invoke("show", path, "--match", "step").stdout


def test_tensor_by_what_its_variable_is_called(invoke: Invoke, saved: Path) -> None:
    """The variable's own name will do for --tensor, and is among those that are nearly what was meant."""
    path = str(saved / "keras3-1")
    result = invoke("show", path, "--tensor", "sequential/dense/kernel")
    key = f"optimizer/_trainable_variables/0{VALUE}"
    assert result.stdout.startswith(f"{key}: float32 [2, 3]\n")
    assert "did you mean sequential/dense/kernel?" in invoke("show", path, "--tensor", "dense/kernel").stderr


def test_short_name_that_is_taken(invoke: Invoke, tmp_path: Path) -> None:
    """Where a name without the suffix is another tensor's, both stand in full and are found by it."""
    bundle = writer.BundleWriter()
    bundle.add(b"a", 4, [1], b"\x01")
    bundle.add(f"a{VALUE}".encode(), 4, [1], b"\x02")
    bundle.write(tmp_path, "P")
    lines = invoke("show", str(tmp_path / "P")).stdout.splitlines()
    assert [line.split()[0] for line in lines[3:]] == ["a", f"a{VALUE}"]
    for name, value in (("a", 1), (f"a{VALUE}", 2)):
        assert shown(invoke, str(tmp_path / "P"), "--tensor", name)["tensor"]["values"] == [value]


def test_names_are_escaped(invoke: Invoke, tmp_path: Path) -> None:
    """A name cannot start a line or move the cursor, in a table, a tree or a message; JSON has it whole."""
    bundle = writer.BundleWriter()
    name = b"a\x1b[2J\n\xffb"
    bundle.add(name, 1, [1], bytes(4))
    bundle.write(tmp_path, "P")
    path = str(tmp_path / "P")
    for option in ((), ("--stats",), ("--tree",), ("--tensor", name.decode("utf-8", "surrogateescape"))):
        result = invoke("show", path, *option)
        assert "a\\x1b[2J\\n\\xffb" in result.stdout
        assert "\x1b" not in result.stdout
    assert shown(invoke, path)["tensors"][0]["name"] == name.decode("utf-8", "surrogateescape")
    assert "\x1b" not in invoke("show", path, "--tensor", "a\x1b[2J").stderr


def test_format(invoke: Invoke, saved: Path) -> None:
    """A format of tabulate's is for programs: nothing stands above the table."""
    first = invoke("show", str(saved / "slots-1"), "--format", "tsv").stdout.splitlines()[0]
    assert [cell.strip() for cell in first.split("\t")] == [
        "name", "dtype", "shape", "parameters", "bytes", "shard",
    ]  # fmt: skip


# --- the tree --------------------------------------------------------------------------------------------


def tree_of(invoke: Invoke, *arguments: str) -> list[str]:
    """The first column of `show --tree`, below the line of dashes."""
    lines = invoke("show", "--tree", *arguments).stdout.splitlines()
    (dashes,) = (line for line in lines if line.startswith("---"))
    width = len(dashes.split("  ")[0])
    return [line[:width].rstrip() for line in lines[lines.index(dashes) + 1 :]]


def test_tree_of_keras_3(invoke: Invoke, saved: Path) -> None:
    """Variables stand under their layers and Adam's slots under them, though all keys name the optimizer."""
    lines = tree_of(invoke, str(saved / "keras3-1"))
    at = lines.index("        _kernel")
    assert lines[at : at + 6] == [
        "        _kernel",
        "          slot momentum",
        "          slot velocity",
        "        bias",
        "          slot momentum",
        "          slot velocity",
    ]
    assert lines[:3] == ["model", "  _functional", "    _operations"]
    assert "  optimizer -> optimizer" in lines
    assert {"optimizer", "step", "save_counter", "_CHECKPOINTABLE_OBJECT_GRAPH"} <= set(lines)


@pytest.mark.parametrize("name", ["keras3-1", "keras2", "slots-1", "sharded"])
def test_tree_holds_every_tensor_once(invoke: Invoke, saved: Path, name: str) -> None:
    """Each tensor stands in the tree, and in one place."""
    document = shown(invoke, str(saved / name), "--tree")
    assert document["object_graph"] is True
    keys = [line["tensor"] for line in document["tree"] if line["tensor"] is not None]
    assert sorted(keys) == sorted(tensor["name"] for tensor in document["tensors"])


def test_tree_of_keras_2(invoke: Invoke, saved: Path) -> None:
    """Adam's slots stand under the variables, which are told by what they are called themselves."""
    lines = tree_of(invoke, str(saved / "keras2"))
    at = lines.index("  kernel")
    assert lines[at - 1 : at + 6] == [
        "layer_with_weights-0",
        "  kernel",
        "    slot m",
        "    slot v",
        "  bias",
        "    slot m",
        "    slot v",
    ]


def test_tree_of_slots(invoke: Invoke, saved: Path) -> None:
    """Slots that an optimizer's node names stand under the variable that they belong to."""
    document = shown(invoke, str(saved / "slots-1"), "--tree")
    lines = [(line["depth"], line["name"], line["slot"]) for line in document["tree"]]
    assert lines[lines.index((0, "variable", False)) + 1] == (1, "momentum", True)


def test_tree_of_names(invoke: Invoke, saved: Path) -> None:
    """A checkpoint without objects says so, and shows its names as a tree; V1 too."""
    for name in ("saver-42", "v1-42"):
        result = invoke("show", "--tree", str(saved / name))
        assert result.exit_code == 0
        assert "no object graph" in result.stdout.splitlines()[1]
    assert shown(invoke, "--tree", str(saved / "saver-42"))["object_graph"] is False
    assert tree_of(invoke, str(saved / "saver-42")) == ["global_step", "large", "table", "weights"]


# --- values ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BUNDLES)
def test_values(invoke: Invoke, saved: Path, said: Said, name: str) -> None:
    """The values of every tensor are those that TensorFlow reads, in every dtype."""
    for key, expected in said[name].items():
        if "values" not in expected:
            continue  # a variant
        document = shown(invoke, str(saved / name), "--tensor", key, "--full")["tensor"]
        values = document["values"]
        if expected["dtype"] == "string":
            flat = np.array(values, dtype=object).ravel()
            assert [str(one).encode("utf-8", "surrogateescape").hex() for one in flat] == expected["values"]
        else:
            plain = elements(expected)
            if plain.dtype.kind == "c":
                halves = np.array(values)
                assert np.array_equal(halves[..., 0] + 1j * halves[..., 1], plain)
            else:
                assert np.array_equal(np.array(values, dtype=float).reshape(plain.shape), plain.astype(float))


def test_values_are_summarised_as_numpy_does(invoke: Invoke, saved: Path, said: Said) -> None:
    """A large tensor is summarised, in JSON left out; `--full` prints all of it."""
    plain = elements(said["saver-42"]["weights"])
    result = invoke("show", str(saved / "saver-42"), "--tensor", "weights")
    assert result.stdout == f"weights: float32 [30, 50]\n{np.array2string(plain, threshold=1000)}\n"
    result = invoke("show", str(saved / "saver-42"), "--tensor", "weights", "--full")
    assert result.stdout.partition("\n")[2] == np.array2string(plain, threshold=sys.maxsize) + "\n"
    assert shown(invoke, str(saved / "saver-42"), "--tensor", "weights")["tensor"]["values"] is None
    full = shown(invoke, str(saved / "saver-42"), "--tensor", "weights", "--full")["tensor"]["values"]
    assert np.array_equal(np.array(full, np.float32), plain)


def test_strings_are_escaped_and_cut(invoke: Invoke, tmp_path: Path) -> None:
    """Strings are printed as Python's bytes; of a long one the beginning and the length, unless `--full`."""
    bundle = writer.BundleWriter()
    bundle.add_strings(b"s", [2], [b"\x1b[2J\xff", b"x" * 500])
    bundle.add_strings(b"one", [], [b"y" * 81])
    bundle.write(tmp_path, "P")
    path = str(tmp_path / "P")
    text = invoke("show", path, "--tensor", "s").stdout
    assert r"b'\x1b[2J\xff'" in text
    assert f"b'{'x' * 80}'… (500 bytes)" in text
    assert "x" * 500 in invoke("show", path, "--tensor", "s", "--full").stdout
    assert invoke("show", path, "--tensor", "one").stdout == f"one: string []\nb'{'y' * 80}'… (81 bytes)\n"


def test_values_that_json_has_no_word_for(invoke: Invoke, tmp_path: Path) -> None:
    """NaN and infinities are strings in JSON, and complex numbers are pairs."""
    bundle = writer.BundleWriter()
    bundle.add(b"f", 1, [3], np.array([np.nan, np.inf, -np.inf], "<f4").tobytes())
    bundle.add(b"c", 18, [1], np.array([complex(1, -np.inf)], "<c16").tobytes())
    bundle.write(tmp_path, "P")
    path = str(tmp_path / "P")
    assert shown(invoke, path, "--tensor", "f")["tensor"]["values"] == ["NaN", "Infinity", "-Infinity"]
    assert shown(invoke, path, "--tensor", "c")["tensor"]["values"] == [[1.0, "-Infinity"]]


def test_one_tensor_only_is_read(invoke: Invoke, saved: Path, tmp_path: Path) -> None:
    """`--tensor` needs the shard of that tensor and no other."""
    for file in saved.glob("merged.*"):
        shutil.copy(file, tmp_path)
    (tmp_path / "merged.data-00001-of-00002").unlink()
    assert invoke("show", str(tmp_path / "merged"), "--tensor", "a").exit_code == 0
    result = invoke("show", str(tmp_path / "merged"), "--tensor", "b")
    assert result.exit_code == 3
    assert "merged.data-00001-of-00002" in result.stderr
    assert f"ckptctl verify {tmp_path}/merged" in result.stderr


# --- statistics ------------------------------------------------------------------------------------------


def expected_statistics(plain: np.ndarray[Any, Any]) -> dict[str, Any]:
    """What numpy says of a tensor's finite elements, in float64."""
    wide = plain.astype(np.float64).ravel()
    finite = wide[np.isfinite(wide)]
    counts = {
        "zeros": int((finite == 0).sum()),
        "nan": int(np.isnan(wide).sum()),
        "inf": int(np.isinf(wide).sum()),
    }
    if not len(finite):
        return dict.fromkeys(("min", "max", "mean", "std")) | counts
    numbers = {"min": finite.min(), "max": finite.max(), "mean": finite.mean(), "std": finite.std()}
    return {name: float(number) for name, number in numbers.items()} | counts


@pytest.mark.parametrize("name", BUNDLES)
def test_statistics(invoke: Invoke, saved: Path, said: Said, name: str) -> None:
    """Every floating tensor has the statistics that numpy computes of it; others have none."""
    floating = 0
    for tensor in shown(invoke, str(saved / name), "--stats")["tensors"]:
        if tensor["dtype"] in BY_NAME and BY_NAME[tensor["dtype"]].kind is NumberKind.FLOAT:
            floating += 1
            expected = expected_statistics(elements(said[name][tensor["name"]]))
            if expected["min"] is None:
                assert tensor["statistics"] == expected
            else:
                assert tensor["statistics"] == pytest.approx(expected, rel=1e-9, abs=1e-12)
        else:
            assert tensor["statistics"] is None
    rows = invoke("show", str(saved / name), "--stats", "--format", "tsv").stdout.splitlines()
    assert len(rows) == 1 + floating


def test_statistics_over_many_pieces(invoke: Invoke, tmp_path: Path) -> None:
    """A tensor of several pieces, not all of them finite, has the statistics of all of it."""
    rng = np.random.default_rng(7)
    values = rng.normal(1000, 0.5, 700_001).astype("<f4")
    values[[3, 300_000, 600_000]] = np.nan
    values[[5, 262_144]] = np.inf, -np.inf
    values[:100:2] = 0
    bundle = writer.BundleWriter()
    bundle.add(b"x", 1, [len(values)], values.tobytes())
    bundle.add(b"nothing", 1, [0, 3], b"")
    bundle.add(b"nan", 19, [2], np.array([np.nan, np.inf], "<f2").tobytes())
    bundle.add(b"huge", 2, [2], np.array([1e308, -1e308], "<f8").tobytes())
    bundle.write(tmp_path, "P")
    document = shown(invoke, str(tmp_path / "P"), "--stats")
    found = {tensor["name"]: tensor["statistics"] for tensor in document["tensors"]}
    assert found["x"] == pytest.approx(expected_statistics(values), rel=1e-9)
    none = dict.fromkeys(("min", "max", "mean", "std"))
    assert found["nothing"] == {**none, "zeros": 0, "nan": 0, "inf": 0}
    assert found["nan"] == {**none, "zeros": 0, "nan": 1, "inf": 1}
    assert (found["huge"]["mean"], found["huge"]["std"]) == (0.0, "Infinity")


def test_statistics_of_a_damaged_tensor(invoke: Invoke, tmp_path: Path) -> None:
    """Bytes that fail their checksum give no numbers, but an error that says what to run."""
    bundle = writer.BundleWriter()
    bundle.add(b"x", 1, [4], np.ones(4, "<f4").tobytes())
    bundle.shards[0][5] ^= 1
    bundle.write(tmp_path, "P")
    result = invoke("show", str(tmp_path / "P"), "--stats")
    assert (result.exit_code, result.stdout) == (3, "")
    assert "checksum" in result.stderr
    assert f"see `ckptctl verify {tmp_path}/P`" in result.stderr


def peak_mib(*arguments: str) -> float:
    """The memory that a command of its own process takes at most; its exit code may be 1."""
    program = (
        "import resource, subprocess, sys\n"
        "program = [sys.executable, '-m', 'ckptctl', *sys.argv[1:]]\n"
        "code = subprocess.call(program, stdout=subprocess.DEVNULL)\n"
        "print(code, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=True
    )
    code, kib = map(int, done.stdout.split())
    assert code in {0, 1}, done.stderr
    return kib / 1024


def large_bundle(directory: Path, name: str, fill: int) -> None:
    """Writes a checkpoint with one tensor of 200 MiB, without ever holding it."""
    size = 200 << 20
    piece = np.full(1 << 18, fill, "<f4").tobytes()
    crc = 0
    with open(directory / f"{name}.data-00000-of-00001", "wb") as shard:
        for _ in range(200):
            shard.write(piece)
            crc = crc32c(piece, crc)
    bundle = writer.BundleWriter()
    bundle.entries[b"x"] = writer.entry_proto(1, [size // 4], size=size, crc=writer.rotated(crc))
    (directory / f"{name}.index").write_bytes(bundle.index())


def test_statistics_take_bounded_memory(tmp_path: Path) -> None:
    """The statistics of 200 MiB take less than 150 MiB, numpy and all."""
    large_bundle(tmp_path, "P", 3)
    assert peak_mib("show", "--stats", str(tmp_path / "P")) < 150


@pytest.mark.parametrize("option", [("--tensor", "x"), ("--tensor", "x", "--json")], ids=["text", "json"])
def test_summary_takes_bounded_memory(tmp_path: Path, option: tuple[str, ...]) -> None:
    """The summary of a tensor of 200 MiB takes less than 100 MiB, numpy and all."""
    large_bundle(tmp_path, "P", 3)
    assert peak_mib("show", str(tmp_path / "P"), *option) < 100


def test_summary_of_many_strings_takes_bounded_memory(tmp_path: Path) -> None:
    """Twenty million strings of the right checksum are summarised in less than 100 MiB, a long one too."""
    count, length = 20_000_000, 150_000_000
    lengths = bytes(count - 1) + writer.varint(length)
    fixed = bytes(4 * (count - 1)) + length.to_bytes(4, "little")
    checksum = writer.masked(fixed).to_bytes(4, "little")
    data = lengths + checksum + b"y" * length
    bundle = writer.BundleWriter()
    crc = crc32c(b"y" * length, crc32c(fixed + checksum))
    bundle.entries[b"x"] = writer.entry_proto(7, [count], size=len(data), crc=writer.rotated(crc))
    bundle.write(tmp_path, "P")
    (tmp_path / "P.data-00000-of-00001").write_bytes(data)
    assert peak_mib("show", str(tmp_path / "P"), "--tensor", "x") < 100
    lines = ckptctl("show", str(tmp_path / "P"), "--tensor", "x").stdout.splitlines()
    assert lines[1:] == ["[b'' b'' b'' ... b'' b''", f" b'{'y' * 80}'… (150,000,000 bytes)]"]


# --- V1 --------------------------------------------------------------------------------------------------


def test_v1(invoke: Invoke, saved: Path, said: Said) -> None:
    """A V1 checkpoint lists its tensors; their place is nobody's business."""
    document = shown(invoke, str(saved / "v1-42"))
    assert {one["name"]: one["shape"] for one in document["tensors"]} == said["v1"]
    assert document["format"] == "v1"
    assert document["header"] is None
    assert document["bytes"] is None
    assert {one["shard"] for one in document["tensors"]} == {None}
    assert "601,531 parameters, V1 format" in invoke("show", str(saved / "v1-42")).stdout


@pytest.mark.parametrize("option", [("--stats",), ("--tensor", "weights")])
def test_values_of_v1(invoke: Invoke, saved: Path, option: tuple[str, ...]) -> None:
    """Values of V1 are not decoded, and the message says what works instead."""
    result = invoke("show", str(saved / "v1-42"), *option)
    assert (result.exit_code, result.stdout) == (3, "")
    assert "V1 checkpoint are not decoded" in result.stderr
    assert "tf.train.load_checkpoint" in result.stderr


# --- what goes wrong -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        ("--tree", "--match", "*"),
        ("--tree", "--stats"),
        ("--tree", "--sort", "size"),
        ("--tree", "--tensor", "x"),
        ("--tensor", "x", "--match", "*"),
        ("--tensor", "x", "--stats"),
        ("--full",),
        ("--sort", "nonsense"),
        ("--tensor", ""),
        ("--match", ""),
    ],
    ids=" ".join,
)
def test_usage(invoke: Invoke, saved: Path, arguments: tuple[str, ...]) -> None:
    """Options that make no sense together are a usage error."""
    assert invoke("show", str(saved / "dtypes"), *arguments).exit_code == 2


def test_no_such_checkpoint(invoke: Invoke, tmp_path: Path) -> None:
    """Exit code 3, with what shows what there is."""
    result = invoke("show", str(tmp_path / "P"))
    assert result.exit_code == 3
    assert result.stderr == f"ckptctl: {tmp_path}/P: no such directory or checkpoint\n"
    writer.BundleWriter().write(tmp_path, "Q")
    told = f"{tmp_path}/P: no such directory or checkpoint; `ckptctl ls {tmp_path}` shows what there is"
    assert told in invoke("show", str(tmp_path / "P")).stderr
    writer.BundleWriter().write(tmp_path, "ckpt-1")
    told = f"{tmp_path}/ckpt-2: no such checkpoint; did you mean ckpt-1?"
    assert told in invoke("show", str(tmp_path / "ckpt-2")).stderr


def test_state_file(invoke: Invoke, tmp_path: Path) -> None:
    """It is no checkpoint, and belongs to the directory that is to be named."""
    fabricate.run(tmp_path, 1)
    state, one = str(tmp_path / "checkpoint"), str(tmp_path / "ckpt-1")
    for arguments in (("show", state), ("diff", state, one), ("diff", one, state), ("verify", state)):
        result = invoke(*arguments)
        told = f"{state} is the state file: name the directory, {tmp_path}"
        assert (result.exit_code, told in result.output) == (3, True)


def test_slash_behind_a_checkpoint(invoke: Invoke, tmp_path: Path) -> None:
    """It says nothing where there is no directory of the checkpoint's name."""
    fabricate.run(tmp_path, 1)
    path = f"{tmp_path}/ckpt-1/"
    for arguments in (("show", path), ("diff", path, path), ("verify", path)):
        assert invoke(*arguments).exit_code == 0


def test_file_that_cannot_be_read_is_named_by_its_path(invoke: Invoke, tmp_path: Path) -> None:
    """A name without its directory would not say which of many runs it is in."""
    bundle = writer.BundleWriter()
    bundle.add(b"x", 1, (1,), bytes(4))
    bundle.write(tmp_path, "P")
    (tmp_path / "P.data-00000-of-00001").unlink()
    result = invoke("show", str(tmp_path / "P"), "--tensor", "x")
    assert result.exit_code == 3
    assert result.stderr.startswith(f"ckptctl: {tmp_path}/P.data-00000-of-00001: No such file or directory")


@pytest.mark.parametrize("ending", ["", "/", "/."])
def test_directory(invoke: Invoke, saved: Path, ending: str) -> None:
    """A directory is not taken for a checkpoint that is missing; the hint leads into it."""
    for arguments in (("show",), ("diff", str(saved / "dtypes"))):
        result = invoke(*arguments, f"{saved}{ending}")
        assert (result.exit_code, result.stdout) == (3, "")
        assert result.stderr == (
            f"ckptctl: {saved}{ending}: a directory, expected a checkpoint's prefix or one of its files; "
            f"`ckptctl ls {saved}{ending}` shows what there is\n"
        )


def test_directory_of_a_checkpoint_s_name(invoke: Invoke, tmp_path: Path) -> None:
    """A directory does not hide the checkpoint that is called like it."""
    writer.BundleWriter().write(tmp_path, "P")
    (tmp_path / "P").mkdir()
    assert shown(invoke, str(tmp_path / "P"))["checkpoint"] == str(tmp_path / "P")


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("kernel", "did you mean layer_with_weights-0/kernel?"),
        ("layer_with_weights0/bias", "did you mean layer_with_weights-0/bias"),
        ("#" * 10_000, "lists them"),
    ],
)
def test_no_such_tensor(invoke: Invoke, saved: Path, name: str, hint: str) -> None:
    """Exit code 3, with the names that are nearest."""
    result = invoke("show", str(saved / "keras2"), "--tensor", name)
    assert (result.exit_code, result.stdout) == (3, "")
    assert hint in result.stderr


def test_no_match(invoke: Invoke, saved: Path) -> None:
    """A pattern that nothing fits is exit code 3, in JSON too."""
    for option in ((), ("--json",)):
        result = invoke("show", str(saved / "keras2"), "--match", "nothing*", *option)
        assert (result.exit_code, result.stdout) == (3, "")
        told = f"fits nothing*, and no variable's; `ckptctl show --tree {saved}/keras2` lists both\n"
        assert result.stderr.endswith(told)


def test_missing_slice(invoke: Invoke, tmp_path: Path) -> None:
    """A partitioned tensor without one of its slices is an error of ours."""
    bundle = writer.BundleWriter()
    parts = [(((0, 1), None), bytes(8), 0), (((1, 1), None), bytes(8), 0)]
    bundle.add_partitioned(b"t", 1, [2, 2], parts)
    del bundle.entries[writer.slice_key(b"t", ((1, 1), None))]
    bundle.write(tmp_path, "P")
    result = invoke("show", str(tmp_path / "P"))
    assert result.exit_code == 3
    assert "slice 1,1:- has no entry" in result.stderr


@pytest.mark.parametrize(
    "parts",
    [
        [(((0, 2), None), bytes(16), 0), (((1, 1), None), bytes(8), 0)],
        [(((0, 1), None), bytes(8), 0)],
        [(((0, 9), None), bytes(72), 0)],
    ],
    ids=["overlap", "gap", "beyond"],
)
def test_slices_that_are_not_the_tensor(invoke: Invoke, tmp_path: Path, parts: Any) -> None:
    """Slices that overlap, leave a gap or reach beyond are listed, and no values are made of them."""
    bundle = writer.BundleWriter()
    bundle.add_partitioned(b"t", 1, [2, 2], parts)
    bundle.write(tmp_path, "P")
    assert invoke("show", str(tmp_path / "P")).exit_code == 0
    for option in (("--stats",), ("--tensor", "t")):
        result = invoke("show", str(tmp_path / "P"), *option)
        assert (result.exit_code, result.stdout) == (3, "")
        assert "tensor 't'" in result.stderr


def test_absurd_sizes(invoke: Invoke, tmp_path: Path) -> None:
    """Numbers beyond 63 bits in sum are added up, not wrapped; nothing is allocated for what is not there."""
    bundle = writer.BundleWriter()
    for name in (b"a", b"b", b"c"):
        bundle.entries[name] = writer.entry_proto(4, [(1 << 63) - 1], size=(1 << 63) - 1)
    bundle.write(tmp_path, "P")
    document = shown(invoke, str(tmp_path / "P"))
    assert document["parameters"] == document["bytes"] == 3 * ((1 << 63) - 1)
    assert "27,670,116,110,564,327,421 parameters" in invoke("show", str(tmp_path / "P")).stdout
    result = invoke("show", str(tmp_path / "P"), "--tensor", "a")
    assert (result.exit_code, result.stdout) == (3, "")
    assert "the file has 0 bytes" in result.stderr
    result = invoke("show", str(tmp_path / "P"), "--stats", "--match", "a")
    assert (result.exit_code, result.stderr) == (0, "")
    assert "9,223,372,036,854,775,807 parameters" in result.stdout, "no floating tensor: none is read"


@pytest.mark.parametrize("shape", [[0, 1 << 62], [1] * 200], ids=["empty", "dimensions"])
def test_shape_that_numpy_does_not_know(invoke: Invoke, tmp_path: Path, shape: list[int]) -> None:
    """A tensor may be of a shape that no array has: it is listed, streamed, and not printed whole."""
    bundle = writer.BundleWriter()
    bundle.add(b"a", 1, shape, bytes(4 * int(np.prod(shape, dtype=object))))
    bundle.write(tmp_path, "P")
    assert invoke("show", str(tmp_path / "P"), "--stats").exit_code == 0
    for option in ("--full", "--json"):
        result = invoke("show", str(tmp_path / "P"), "--tensor", "a", option)
        assert (result.exit_code, result.stdout) == (3, "")
        assert "tensor 'a' of shape" in result.stderr


def test_shapes_in_summary(invoke: Invoke, tmp_path: Path) -> None:
    """What is empty is printed as such, however long its other axes; 200 dimensions are not to be printed."""
    bundle = writer.BundleWriter()
    bundle.add(b"empty", 1, [0, 1 << 62], b"")
    bundle.add(b"dimensions", 1, [1] * 200, bytes(4))
    bundle.write(tmp_path, "P")
    assert invoke("show", str(tmp_path / "P"), "--tensor", "empty").stdout.splitlines()[1:] == ["[]"]
    result = invoke("show", str(tmp_path / "P"), "--tensor", "dimensions")
    assert (result.exit_code, result.stdout) == (3, "")
    assert "tensor 'dimensions' of shape" in result.stderr


@pytest.mark.parametrize("option", [("--full",), ("--full", "--json")], ids=" ".join)
@pytest.mark.parametrize(
    ("dtype", "shape", "size"), [(4, [1 << 40], 1 << 40), (7, [2], 1 << 40)], ids=["elements", "bytes"]
)
def test_more_than_is_shown_whole(
    invoke: Invoke, tmp_path: Path, dtype: int, shape: list[int], size: int, option: tuple[str, ...]
) -> None:
    """Of a tensor that is too large, not all elements are shown: an error says what works instead."""
    bundle = writer.BundleWriter()
    bundle.entries[b"a"] = writer.entry_proto(dtype, shape, size=size)
    bundle.write(tmp_path, "P")
    os.truncate(tmp_path / "P.data-00000-of-00001", size)  # a hole: it takes no room
    result = invoke("show", str(tmp_path / "P"), "--tensor", "a", *option)
    assert (result.exit_code, result.stdout) == (3, "")
    assert (
        "; --full prints at most 2,000,000 in 134.2 MB. Leave out --full for a summary, or: " in result.stderr
    )
    assert f"`ckptctl show --stats {tmp_path}/P`" in result.stderr


@pytest.mark.parametrize("dtype", [7, 21], ids=["strings", "variants"])
def test_more_strings_than_are_read(invoke: Invoke, tmp_path: Path, dtype: int) -> None:
    """A tensor that claims a million million strings is refused before any is read."""
    bundle = writer.BundleWriter()
    bundle.entries[b"a"] = writer.entry_proto(dtype, [1 << 40], size=(1 << 42) + 4)
    bundle.write(tmp_path, "P")
    os.truncate(tmp_path / "P.data-00000-of-00001", (1 << 42) + 4)
    result = invoke("show", str(tmp_path / "P"), "--tensor", "a")
    assert (result.exit_code, result.stdout) == (3, "")
    assert "has 1,099,511,627,776 elements, expected at most 67,108,864" in result.stderr
    assert f"`ckptctl show {tmp_path}/P` tells its dtype and shape" in result.stderr


def test_more_corners_than_are_shown(invoke: Invoke, tmp_path: Path) -> None:
    """A tensor of so many dimensions that its summary is as good as endless is refused."""
    bundle = writer.BundleWriter()
    bundle.entries[b"a"] = writer.entry_proto(4, [6] * 8, size=6**8)
    bundle.write(tmp_path, "P")
    os.truncate(tmp_path / "P.data-00000-of-00001", 6**8)
    result = invoke("show", str(tmp_path / "P"), "--tensor", "a")
    assert (result.exit_code, result.stdout) == (3, "")
    assert "too many dimensions to be summarised" in result.stderr


EXTENT = st.none() | st.tuples(st.integers(0, 4), st.integers(0, 4))
LIE = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from([0, 1, 4, 7, 10, 14, 18, 20, 21, 24, 99, 1 << 30]),
        "shape": st.lists(st.sampled_from([0, 1, 2, 4, -1, 1 << 31, 1 << 62]), max_size=3),
        "shard": st.integers(-1, 2),
        "offset": st.sampled_from([0, 1, 40, 1 << 62, -1]),
        "size": st.sampled_from([0, 1, 4, 8, 16, 64, (1 << 63) - 1, -1]),
        "crc": st.integers(0, (1 << 32) - 1),
        "slices": st.lists(st.lists(EXTENT, max_size=3).map(tuple), max_size=3),
    }
)
NAME = st.sampled_from([b"a", b"b", b"a/b", b"_CHECKPOINTABLE_OBJECT_GRAPH", b"\xff\n", b"/"]) | st.builds(
    writer.slice_key, st.sampled_from([b"a", b"b"]), st.lists(EXTENT, max_size=2).map(tuple)
)


@given(entries=st.dictionaries(NAME, LIE, max_size=4), others=st.dictionaries(NAME, LIE, max_size=4))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_lies(invoke: Invoke, tmp_path: Path, entries: dict[bytes, Any], others: dict[bytes, Any]) -> None:
    """Whatever an index says, there is a result or an error of ours, and never both."""
    for name, lies in (("a", entries), ("b", others)):
        bundle = writer.BundleWriter(num_shards=2)
        bundle.shards[0] += bytes(64)
        for key, lie in lies.items():
            bundle.entries[key] = writer.entry_proto(**lie)
        bundle.write(tmp_path, name)
    a, b = str(tmp_path / "a"), str(tmp_path / "b")
    for arguments in (
        ("show", a),
        ("show", a, "--json", "--stats"),
        ("show", a, "--tree"),
        ("show", a, "--tensor", "a"),
        ("show", a, "--tensor", "a", "--json", "--full"),
        ("diff", a, b),
        ("diff", a, b, "--numeric", "--json"),
    ):
        result = invoke(*arguments)
        assert result.exit_code in {0, 1, 3}
        assert bool(result.stderr) == (result.exit_code == 3)
        assert not (result.stdout and result.stderr)


# --- what is loaded --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "numpy"),
    [((), False), (("--json",), False), (("--tree",), False), (("--stats",), True)],
    ids=["plain", "json", "tree", "stats"],
)
def test_what_is_loaded(saved: Path, arguments: tuple[str, ...], numpy: bool) -> None:  # noqa: FBT001
    """Nothing of TensorFlow's Python or native library; numpy only where values are computed with."""
    program = (
        "import sys; from ckptctl.cli import cli\n"
        "try:\n    cli(sys.argv[1:])\n"
        "finally:\n"
        "    maps = open('/proc/self/maps').read()\n"
        "    print('numpy' in sys.modules, 'libtensorflow' in maps or '_pywrap' in maps,\n"
        "          [m for m in sys.modules if m.startswith('tensorflow.python')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "show", str(saved / "keras3-1"), *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.splitlines()[-1] == f"{numpy} False []"


def test_reader_that_goes_away(saved: Path) -> None:
    """A pipe that is closed early, as `| head -1` does, ends the command without a word."""
    with subprocess.Popen(
        [sys.executable, "-m", "ckptctl", "show", str(saved / "saver-42"), "--tensor", "large", "--full"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        running.stdout.readline()
        running.stdout.close()
        assert running.stderr.read() == b""


def endless_bundle(directory: Path, name: str, crc: int = 0) -> None:
    """Writes a checkpoint whose one tensor takes minutes to read, and no room."""
    bundle = writer.BundleWriter()
    bundle.entries[b"x"] = writer.entry_proto(1, [1 << 40], size=1 << 42, crc=crc)
    bundle.write(directory, name)
    os.truncate(directory / f"{name}.data-00000-of-00001", 1 << 42)


def reads_data(pid: int) -> bool:
    """Whether a process has a shard open."""
    for one in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed since it was listed
            if ".data-" in os.readlink(one):
                return True
    return False


def interrupted(*arguments: str) -> tuple[int, str, str]:
    """Presses Ctrl-C once a command reads data; its exit code, and what it printed on either side."""
    with subprocess.Popen(
        [sys.executable, "-m", "ckptctl", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        deadline = time.monotonic() + 30
        while not reads_data(process.pid):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
        return process.returncode, out, err


@pytest.mark.parametrize("option", [("--tensor", "x"), ("--stats",)], ids=" ".join)
def test_interruption(tmp_path: Path, option: tuple[str, ...]) -> None:
    """Ctrl-C ends the command with the exit code that a shell has for it, and without a word."""
    endless_bundle(tmp_path, "P")
    assert interrupted("show", str(tmp_path / "P"), *option) == (130, "", "")


def test_process_of_its_own(saved: Path) -> None:
    """A user sees the table and nothing of TensorFlow's."""
    done = ckptctl("show", str(saved / "keras3-1"))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{saved}/keras3-1: ")
