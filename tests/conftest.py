"""What all tests share: the command line in this process and in one of its own, and no thread left behind."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import threading
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest
from click.testing import CliRunner, Result
from watching import watch  # noqa: F401 - a fixture

from ckptctl import tensorflow
from ckptctl.cli import cli

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds `--long`: tests that go through all cases, and not through a part of them."""
    parser.addoption("--long", action="store_true", help="go through every case, however long it takes")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begins with the trainers, which take longest: the other tests run beside them."""
    items.sort(key=lambda item: item.path.name != "test_trainers.py")


@pytest.fixture
def long(request: pytest.FixtureRequest) -> bool:
    """Whether every case is asked for."""
    return bool(request.config.getoption("--long"))


@pytest.fixture(scope="session", autouse=True)
def _tensorflow() -> None:
    """Loads TensorFlow's reader once for the commands that run in this process."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of TensorFlow's own imports
        tensorflow.load_alone()
        tensorflow.preload()


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    """Fails a test that leaves a thread behind."""
    before = set(threading.enumerate())
    yield
    left = [thread for thread in threading.enumerate() if thread not in before and thread.is_alive()]
    assert not left


@pytest.fixture
def in_memory(tmp_path: Path) -> Iterator[Path]:
    """A directory for what is run hundreds of times: no disk is waited for, if there is one in memory."""
    memory = "/dev/shm"  # noqa: S108 - an own directory is made in it
    if not os.access(memory, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=memory) as path:
        yield Path(path)


class Invoke(Protocol):
    """Runs the command line with these arguments."""

    def __call__(self, *arguments: str) -> Result:
        """Runs it."""
        ...


@pytest.fixture
def invoke() -> Invoke:
    """The command line in this process; nothing but an exit may come out of it."""

    def call(*arguments: str) -> Result:
        result = CliRunner().invoke(cli, arguments)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
        return result

    return call


def ckptctl(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command line in a process of its own, as a user runs it."""
    return subprocess.run(
        [sys.executable, "-m", "ckptctl", *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def unprivileged(directory: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """The command line as a user without rights; skips the test where there can be none.

    Args:
        directory: Where the test works; a copy of the package is put there, since the checkout may lie where
            only its owner can read.
    """
    if os.getuid() != 0:
        pytest.skip("only root can run a command as another user")
    for parent in (directory, *directory.parents[:3]):
        parent.chmod(0o755)
    shutil.copytree(Path(tensorflow.__file__).parent, directory / "ckptctl")

    def as_nobody(*command: str) -> subprocess.CompletedProcess[str]:
        change = "import os; os.setgid(65534); os.setuid(65534)"
        program = f"{change}; os.execv({sys.executable!r}, {list(command)!r})"
        return subprocess.run(
            [sys.executable, "-c", program], cwd=directory, capture_output=True, text=True, check=False
        )

    if as_nobody(sys.executable, "-c", "import click, tensorflow").returncode != 0:
        pytest.skip("Python and what is installed for it cannot be read by another user here")
    return lambda *arguments: as_nobody(sys.executable, "-m", "ckptctl", *arguments)
