"""What all tests share: the command line in this process and in one of its own, and no thread left behind."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import warnings
from typing import TYPE_CHECKING, Protocol

import pytest
from click.testing import CliRunner, Result

from ckptctl import tensorflow
from ckptctl.cli import cli

if TYPE_CHECKING:
    from collections.abc import Iterator


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds `--long`: tests that go through all cases, and not through a part of them."""
    parser.addoption("--long", action="store_true", help="go through every case, however long it takes")


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


class Invoke(Protocol):
    """Runs the command line with these arguments."""

    def __call__(self, *arguments: str) -> Result:
        """Runs it."""
        ...


@pytest.fixture
def invoke() -> Invoke:
    """The command line in this process; nothing but an exit may come out of it."""

    def call(*arguments: str) -> Result:
        result = CliRunner().invoke(cli, arguments, auto_envvar_prefix="CKPTCTL")
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
