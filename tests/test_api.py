"""Tests of the package as a program sees it: its names are there when asked for, and cost nothing before."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

import ckptctl


def run(program: str) -> str:
    """What a program prints in a process of its own."""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.mark.parametrize("name", ckptctl.__all__)
def test_every_name_is_there(name: str) -> None:
    """Each documented name is what the module that it is from calls so."""
    home = importlib.import_module(f"ckptctl.{ckptctl._HOME[name]}")
    assert getattr(ckptctl, name) is getattr(home, name)
    assert name in dir(ckptctl)


def test_no_name_is_left_out() -> None:
    """The list of names and the list of their homes hold the same."""
    assert sorted(ckptctl._HOME) == sorted(ckptctl.__all__) == ckptctl.__all__


def test_unknown_name() -> None:
    """Anything else is not there."""
    with pytest.raises(AttributeError, match="no attribute"):
        ckptctl.nothing  # type: ignore[attr-defined]  # noqa: B018


def test_functions_are_not_hidden_by_their_modules() -> None:
    """A module of the same name that is loaded before or after does not take a function's place."""
    program = "import ckptctl.prune, ckptctl; from ckptctl.scan import scan_open; import ckptctl.plan\n"
    program += "print(*(callable(getattr(ckptctl, name)) for name in ('scan', 'plan', 'prune', 'verify')))"
    assert run(program) == "True True True True"


def test_nothing_is_loaded_before_it_is_needed() -> None:
    """Importing the package loads the package alone."""
    program = "import sys, ckptctl; print(*(name for name in sys.modules if name.startswith('ckptctl')))"
    assert run(program) == "ckptctl"
