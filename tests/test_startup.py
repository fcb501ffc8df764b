"""Tests of what a command loads before it does its work, and of what it must do without."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import click
import fabricate
import pytest

from ckptctl.chronology import Order
from ckptctl.cli import _COMMANDS, cli
from ckptctl.verify import Level

if TYPE_CHECKING:
    from pathlib import Path

PROGRAM = """
import sys
from ckptctl.cli import main
sys.argv[0] = "ckptctl"
try:
    main()
finally:
    sys.stdout.flush()
    print("\\0".join(sys.modules), file=sys.stderr)
"""
NEVER = (
    "asyncio",
    "crc32c",  # its __init__ looks up its own version, for 25 ms; the native module in it is what counts
    "http",
    "hypothesis",
    "ml_dtypes",
    "multiprocessing",
    "numpy",
    "pkg_resources",
    "pytest",
    "ssl",
    "unittest",
    "xml",
    "yaml",
)
"""What costs much and is needed by no command that reads no values."""
WORK = (*NEVER, "concurrent.futures", "logging", "subprocess", "tensorflow", "watchdog")
"""What is needed by neither a listing nor a look at indexes."""
METADATA = ("email", "importlib.metadata", "importlib.resources", "tempfile", "zipfile")
"""What packages load to look up their own version; tabulate does, which makes all but the default table."""
OURS = tuple(f"ckptctl.{name}" for name in ("clean", "prune", "repair", "restore", "tensors", "watch"))
"""Our own, which belong to other commands."""
PROTOBUF = {"CKPTCTL_STATE_READER": "protobuf"}


def loaded(directory: Path, *arguments: str, **environment: str) -> set[str]:
    """The modules that are there when a command ends."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        env={**os.environ, **environment},
        cwd=directory,
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stderr.splitlines()[-1].split("\0"))


def below(modules: set[str], names: tuple[str, ...]) -> list[str]:
    """Those of the modules that are one of these or below it. TensorFlow's messages need no TensorFlow."""
    return sorted(
        module
        for module in modules
        if not module.endswith("_pb2") and any(f"{module}.".startswith(f"{name}.") for name in names)
    )


@pytest.mark.parametrize("arguments", [("--version",), ("--help",)], ids=" ".join)
def test_version_and_help(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """They need Click and nothing else: no command, and nothing of ours below the command line."""
    modules = loaded(tmp_path, *arguments)
    assert (
        below(modules, (*WORK, *METADATA, "ctypes", "dataclasses", "google", "json", "socket", "tabulate"))
        == []
    )
    assert {module for module in modules if module.startswith("ckptctl")} == {"ckptctl", "ckptctl.cli"}


@pytest.mark.parametrize(
    ("arguments", "without"),
    [
        (
            ("ls",),
            ("ckptctl.plan", "ckptctl.policy", "ckptctl.proof", "ckptctl.verify", "tabulate", *METADATA),
        ),
        (
            ("ls", "--json"),
            ("ckptctl.plan", "ckptctl.policy", "ckptctl.proof", "ckptctl.verify", "tabulate", *METADATA),
        ),
        (("latest",), ("ckptctl.plan", "ckptctl.policy", "ckptctl.proof", "tabulate", *METADATA)),
        (("verify", "--quick"), ("ckptctl.plan", "ckptctl.policy", "ckptctl.proof", "tabulate", *METADATA)),
        (
            ("verify", "--quick", "--json"),
            ("ckptctl.plan", "ckptctl.policy", "ckptctl.proof", "tabulate", *METADATA),
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_reading_commands(tmp_path: Path, arguments: tuple[str, ...], without: tuple[str, ...]) -> None:
    """A command that reads loads nothing that plans, deletes, starts processes or reads values."""
    fabricate.run(tmp_path, 3)
    assert below(loaded(tmp_path, *arguments, **PROTOBUF), (*WORK, *OURS, *without)) == []


def test_prune(tmp_path: Path) -> None:
    """A prune does without watch, and without what starts processes."""
    fabricate.run(tmp_path, 3)
    modules = loaded(tmp_path, "prune", "--keep=2", "--json", **PROTOBUF)
    others = tuple(name for name in OURS if name != "ckptctl.prune")
    assert below(modules, (*NEVER, *METADATA, "subprocess", "tabulate", "watchdog", *others)) == []
    assert fabricate.names(tmp_path) == {"ckpt-2", "ckpt-3"}


@pytest.mark.parametrize("name", [*_COMMANDS, ""])
def test_completion(tmp_path: Path, name: str) -> None:
    """A shell that completes waits for neither TensorFlow nor numpy, nor for any other command."""
    environment = {
        "_CKPTCTL_COMPLETE": "bash_complete",
        "COMP_WORDS": f"ckptctl {name} ",
        "COMP_CWORD": "2" if name else "1",
    }
    modules = loaded(tmp_path, **environment)
    assert below(modules, (*NEVER, "google", "tabulate", "tensorflow")) == []
    others = {f"ckptctl.cli.{one}" for one in _COMMANDS} - {f"ckptctl.cli.{name}"}
    assert not others & (modules - {"ckptctl.cli.pin"}), "unpin is pin the other way round"


@pytest.mark.parametrize(
    ("option", "meant"),
    [
        ("level", ["quick" if level is Level.INDEX else level.value for level in Level]),
        ("order", [order.value for order in Order]),
    ],
)
def test_choices_of_options(option: str, meant: list[str]) -> None:
    """The words of --verify and --order are written down, so as not to load what they stand for."""
    with cli.make_context("ckptctl", [], resilient_parsing=True) as ctx:
        command = cli.get_command(ctx, "prune")
    assert command is not None
    (found,) = (one for one in command.params if one.name == option)
    assert isinstance(found.type, click.Choice)
    assert list(found.type.choices) == meant
