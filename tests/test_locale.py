"""A locale whose encoding is not UTF-8: TensorFlow and TOML write names in UTF-8 there too."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import fabricate
import pytest
from bundle_writer import BundleWriter
from conftest import ckptctl

if TYPE_CHECKING:
    from pathlib import Path

NAMES = [f"modèle-{step}" for step in range(1, 6)]
FLOAT = 1


@pytest.fixture(scope="module")
def latin(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment of that kind."""
    home = tmp_path_factory.mktemp("locale")
    compiler = shutil.which("localedef")
    if compiler is None:
        pytest.skip("localedef makes the locale")
    made = subprocess.run(
        [compiler, "-i", "fr_FR", "-f", "ISO-8859-1", str(home / "fr_FR.ISO-8859-1")],
        capture_output=True,
        check=False,
    )
    if made.returncode != 0:
        pytest.skip("the sources of the locale are not installed")
    environment = {
        "LOCPATH": str(home),
        "LC_ALL": "fr_FR.ISO-8859-1",
        "PYTHONUTF8": "0",
        "PYTHONIOENCODING": "",
        "CKPTCTL_STATE_READER": "protobuf",
    }
    program = "import sys; print(sys.getfilesystemencoding())"
    asked = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    if asked.stdout.strip() not in {"iso8859-1", "iso-8859-1"}:
        pytest.skip("the locale is not to be had")
    return environment


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Five checkpoints, whose trainer went back to the third."""
    for at, name in enumerate(NAMES):
        fabricate.checkpoint(tmp_path, name, at=fabricate.EPOCH + 60.5 * at)
    (tmp_path / "checkpoint").write_text(fabricate.state_text(NAMES, latest=NAMES[2]), encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize("reader", ["protobuf", "tensorflow"])
def test_latest_is_heard(run: Path, latin: dict[str, str], reader: str) -> None:
    """The state's names are those on the disk, whatever reads it; what goes leaves the state, too."""
    environment = latin | {"CKPTCTL_STATE_READER": reader}
    done = ckptctl("prune", str(run), "--keep", "1", "--order", "step", **environment)
    assert done.returncode == 0, done.stderr
    assert fabricate.names(run) == {NAMES[2], NAMES[4]}
    with_state = ckptctl("ls", str(run), "--json")
    (found,) = json.loads(with_state.stdout)["directories"]
    assert found["state"]["latest"] == NAMES[2]
    assert [one["name"] for one in found["checkpoints"] if one["listed"]] == [NAMES[2], NAMES[4]]


def test_nothing_is_to_be_mended(run: Path, latin: dict[str, str]) -> None:
    """What is listed is there."""
    done = ckptctl("repair", str(run), "-n", **latin)
    assert "nothing to mend" in done.stdout


@pytest.mark.parametrize("reader", ["protobuf", "tensorflow"])
def test_rebuilt_state_names_what_is_there(run: Path, latin: dict[str, str], reader: str) -> None:
    """In UTF-8; what is called in another encoding no state can name."""
    fabricate.checkpoint(run, os.fsdecode("modèle-6".encode("latin-1")), at=fabricate.EPOCH + 999)
    (run / "checkpoint").unlink()
    done = ckptctl("repair", str(run), **latin | {"CKPTCTL_STATE_READER": reader})
    assert done.returncode == 0, done.stderr
    (found,) = json.loads(ckptctl("ls", str(run), "--json").stdout)["directories"]
    assert found["state"]["latest"] == NAMES[4]
    assert [one["name"] for one in found["checkpoints"] if one["listed"]] == NAMES


def test_configuration_is_heard(run: Path, latin: dict[str, str]) -> None:
    """A directory's own file protects by name, and tables of one that is named mean directories."""
    (run / "ckptctl.toml").write_text('keep = 1\nprotect = ["modèle-2"]\n', encoding="utf-8")
    done = ckptctl("prune", str(run), **latin)
    assert done.returncode == 0, done.stderr
    assert NAMES[1] in fabricate.names(run)
    other = run / "été"
    fabricate.run(other, 3)
    (run / "all.toml").write_text(
        'keep = 3\n[directories."été"]\nkeep = 1\nevents = "été"\n', encoding="utf-8"
    )
    done = ckptctl("prune", str(other), "--config", str(run / "all.toml"), **latin)
    assert done.returncode == 0, done.stderr
    assert fabricate.names(other) == {"ckpt-3"}


def test_pins_are_heard(run: Path, latin: dict[str, str]) -> None:
    """Whether they were set in this locale or in another."""
    assert ckptctl("pin", str(run / NAMES[0])).returncode == 0
    assert ckptctl("pin", str(run / NAMES[1]), **latin).returncode == 0
    done = ckptctl("prune", str(run), "--keep", "1", **latin)
    assert done.returncode == 0, done.stderr
    assert fabricate.names(run) == {*NAMES[:3], NAMES[4]}


def test_path_to_restore_from_is_the_very_name(run: Path, latin: dict[str, str]) -> None:
    """As bytes, for `--restore "$(ckptctl latest)"`."""
    done = subprocess.run(
        [sys.executable, "-m", "ckptctl", "latest", str(run)],
        env={**os.environ, **latin},
        capture_output=True,
        check=True,
    )
    assert done.stdout == os.fsencode(run / NAMES[2]) + b"\n"


def test_names_are_shown(run: Path, latin: dict[str, str]) -> None:
    """Bytes as they are, unless the locale takes them for control characters: `É` ends with one."""
    fabricate.checkpoint(run, "É-9", at=fabricate.EPOCH)
    writer = BundleWriter()
    writer.add("größe/€".encode(), FLOAT, (1,), bytes(4), 0)
    (run / "tensors-1.index").write_bytes(writer.index())
    (run / "tensors-1.data-00000-of-00001").write_bytes(bytes(4))

    def shown(*arguments: str) -> bytes:
        done = subprocess.run(
            [sys.executable, "-m", "ckptctl", *arguments],
            env={**os.environ, **latin},
            capture_output=True,
            check=False,
        )
        assert b"Traceback" not in done.stderr, done.stderr
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert NAMES[2].encode() in shown("ls", str(run))
    assert rb"\x89-9" in shown("ls", str(run))
    assert r"größe/\u20ac".encode("latin-1") in shown("show", str(run / "tensors-1"))


def test_tensorflow_restores_it(tmp_path: Path, latin: dict[str, str]) -> None:
    """TensorFlow is handed the name as it is."""
    program = (
        "import sys, tensorflow as tf\n"
        "tf.train.Checkpoint(v=tf.Variable(1.0)).write(sys.argv[1] + '/modèle-1')\n"
        "tf.compat.v1.disable_eager_execution()\n"
        "v = tf.compat.v1.get_variable('v', [])\n"
        "with tf.compat.v1.Session() as session:\n"
        "    session.run(v.initializer)\n"
        "    tf.compat.v1.train.Saver().save(session, sys.argv[1] + '/modèle-2')\n"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True, capture_output=True)
    done = ckptctl("verify", "--restore", "--json", str(tmp_path), **latin)
    found = json.loads(done.stdout)["checkpoints"]
    assert [one["status"] for one in found] == ["ok", "ok"], found
