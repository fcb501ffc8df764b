"""The README's commands, run on a directory that a real trainer wrote; what they print is what it shows."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

from click import Group
from trainers import run_trainer

from ckptctl.cli import cli

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def told(text: str) -> list[str]:
    """The lines of an output without its times; sizes may differ by what TensorFlow's version writes."""
    text = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "WHEN", text)
    text = re.sub(r"\d+(\.\d)? (k?B)", "SIZE", text)
    return [re.sub(r"[\s-]{2,}", " ", line).strip() for line in text.strip().splitlines()]


def test_session(tmp_path: Path) -> None:
    """Each command of the session prints what the README shows; `...` stands for what it leaves out."""
    run_trainer("own-names", tmp_path / "run1", saves=6)
    session = re.findall(r"```console\n\$ ckptctl (.*)\n((?:.*\n)*?)```", README)
    assert len(session) == 3
    for command, output in session:
        done = subprocess.run(
            [sys.executable, "-m", "ckptctl", *shlex.split(command)],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        )
        _, _, shown = output.rpartition("...\n")
        printed = told(done.stdout)
        assert told(shown) == (printed if shown == output else printed[-len(told(shown)) :])
        assert done.stderr == ""


def test_python_example(tmp_path: Path) -> None:
    """The Python example runs, in a process that has nothing of ours loaded before."""
    run_trainer("own-names", tmp_path / "run1", saves=5)
    (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-c", example], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == [
        "checkpoint_step_10-1 ('no rule keeps it',)",
        "checkpoint_step_20-2 ('no rule keeps it',)",
    ]


def test_set_up_is_what_the_gate_runs() -> None:
    """The two commands are those that the gate runs on a clean checkout."""
    gate = (ROOT / ".ci" / "run").read_text().splitlines()
    commands = re.findall(r"^    (\S*python3 -m venv .*|\.venv/bin/pytest)$", README, re.MULTILINE)
    assert len(commands) == 2
    assert set(commands) <= set(gate)


def test_every_command_and_option_is_documented() -> None:
    """No command is missing from the README, and none of its long options from the README or the help."""
    assert isinstance(cli, Group)
    options = list(cli.params)
    with cli.make_context("ckptctl", [], resilient_parsing=True) as context:
        for name in cli.list_commands(context):
            assert re.search(rf"^### `ckptctl .*\b{name}`", README, re.MULTILINE)
            command = cli.get_command(context, name)
            assert command is not None
            assert "Exit codes:" in (command.help or "")
            options += command.params
    assert all(getattr(option, "help", "") for option in options if option.param_type_name == "option")
    names = {name for option in options for name in (*option.opts, *option.secondary_opts)}
    told_of = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*[a-z]", README))
    assert sorted({name for name in names if name.startswith("--")} - told_of) == []
