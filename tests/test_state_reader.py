"""Tests of the two readers of state files: the same answer on every input, error for error."""

from __future__ import annotations

import os
import tempfile
from typing import TYPE_CHECKING

import fabricate
import pytest
from conftest import ckptctl
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ckptctl import tensorflow
from ckptctl.tensorflow import Reader

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PATHS = st.text(max_size=12) | st.sampled_from(
    [
        "ckpt-1",
        "/a/ckpt-1",
        "../x",
        "",
        ".",
        "//",
        "a b",
        "\u00fc\u4e16",
        "C:\\\\ckpt",
        "\\n",
        "\\377",
        "\\x",
        "'",
        "#",
    ]
)
NUMBERS = (
    st.floats().map(repr) | st.integers().map(str) | st.sampled_from(["1.5f", "inf", "-nan", "0x10", "1e999"])
)
FIELDS = st.one_of(
    PATHS.map('model_checkpoint_path: "{}"'.format),
    PATHS.map("model_checkpoint_path: '{}'".format),
    PATHS.map('all_model_checkpoint_paths: "{}"'.format),
    PATHS.map('all_model_checkpoint_paths: ["{}", "b"]'.format),
    NUMBERS.map("all_model_checkpoint_timestamps: {}".format),
    NUMBERS.map("all_model_checkpoint_timestamps: [{}]".format),
    NUMBERS.map("last_preserved_timestamp: {}".format),
    PATHS.map("# {}".format),
    st.sampled_from(['"', "{}", "unknown: 1", "model_checkpoint_path {", "[a.b]: 1", ";", ",", "\0", "\r"]),
    st.text(max_size=20),
)
TEXTS = st.lists(FIELDS, max_size=6).map("\n".join).map(lambda text: text.encode("utf-8", "surrogatepass"))


@pytest.fixture(autouse=True)
def _tensorflow_again() -> Iterator[None]:
    """The next test has the default reader."""
    yield
    tensorflow.use(Reader.TENSORFLOW)


def read(reader: Reader, directory: str) -> object:
    """What a reader gives: the message as bytes, None, or the kind of the error."""
    tensorflow.use(reader)
    try:
        found = tensorflow.get_checkpoint_state(directory, "checkpoint")
    except ValueError as error:
        return type(error)
    return None if found is None else found.SerializeToString(deterministic=True)


@pytest.mark.filterwarnings(
    "ignore:invalid .*escape sequence:DeprecationWarning"
)  # protobuf 4 has Python read it
@settings(max_examples=400, deadline=None)
@given(TEXTS | st.binary(max_size=60))
@example(b"")
@example(b"# nothing\n")
@example(b'model_checkpoint_path: "a"\nmodel_checkpoint_path: "b"')
@example(b'model_checkpoint_path: "\\355\\240\\200"')
@example(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 100\n")
@example(b"\xef\xbb\xbfmodel_checkpoint_path: 'a'")
def test_both_readers_agree(text: bytes) -> None:
    """Valid, odd and broken texts."""
    with tempfile.TemporaryDirectory() as directory:
        with open(os.path.join(directory, "checkpoint"), "wb") as file:
            file.write(text)
        assert read(Reader.PROTOBUF, directory) == read(Reader.TENSORFLOW, directory)


def test_no_file(tmp_path: Path) -> None:
    """A state that is not there is None for both."""
    assert read(Reader.PROTOBUF, str(tmp_path)) is read(Reader.TENSORFLOW, str(tmp_path)) is None


def test_both_write_the_same() -> None:
    """The text of a state is the same whichever writes it."""
    fields = {"model_checkpoint_path": "a\nb", "all_model_checkpoint_timestamps": [1.5, 1e300]}
    texts = []
    for reader in Reader:
        tensorflow.use(reader)
        texts.append(tensorflow.checkpoint_state(**fields))
    assert texts[0] == texts[1]


def test_commands_with_protobuf(tmp_path: Path) -> None:
    """All commands work with it, asked for by option or environment, and TensorFlow's library stays out."""
    fabricate.run(tmp_path, 6)
    listed = ckptctl("ls", "--json", str(tmp_path))
    assert ckptctl("--state-reader=protobuf", "ls", "--json", str(tmp_path)).stdout == listed.stdout
    environment = {"CKPTCTL_STATE_READER": "protobuf", "PYTHONVERBOSE": "1"}
    pruned = ckptctl("prune", "--keep=3", str(tmp_path), **environment)
    assert pruned.returncode == 0
    assert "_pywrap_tensorflow_internal" not in pruned.stderr
    assert "checkpoint_state_pb2" in pruned.stderr
    assert fabricate.names(tmp_path) == {"ckpt-4", "ckpt-5", "ckpt-6"}
    assert ckptctl("latest", str(tmp_path), CKPTCTL_STATE_READER="protobuf").stdout == f"{tmp_path}/ckpt-6\n"
