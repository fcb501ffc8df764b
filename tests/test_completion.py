"""Tests of shell completion: what the shells are told, and what real shells make of it."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import fabricate
import pytest

from ckptctl.cli import _COMMANDS, cli

if TYPE_CHECKING:
    from collections.abc import Iterator

BIN = str(Path(sys.executable).parent)
ENVIRONMENT = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", "TERM": "dumb"}
CKPTCTL = [sys.executable, "-c", "import sys; sys.argv[0] = 'ckptctl'; from ckptctl.cli import main; main()"]
ODD = ("run[1]-5", "two words-2", "a,b-3", "it's-1", "a&b-4")
"""Names that a shell or a protocol might take apart."""
BEGUN = {"ckpt-7": "ckpt-7", "a&b-4": "a\\&"}
"""What is typed of a name, where it is not its first two letters."""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run with checkpoints, other files, and directories below it; the current directory is above it."""
    where = fabricate.run(tmp_path / "runs" / "a", 11)
    (where / "ckpt-99.data-00000-of-00001").touch()  # no index: no checkpoint
    (where / "logs").mkdir()
    (where / "ckpt-12_temp").mkdir()
    (where / "best").mkdir()
    fabricate.checkpoint(where, ".hidden-1")
    monkeypatch.chdir(tmp_path)
    return where


def ask(shell: str, words: str) -> list[str]:
    """What the command line answers a shell that completes the last of some words."""
    split = words.split(" ")
    cword = split[-1] if shell == "fish" else str(len(split) - 1)
    environment = {"_CKPTCTL_COMPLETE": f"{shell}_complete", "COMP_WORDS": words, "COMP_CWORD": cword}
    done = subprocess.run(
        CKPTCTL, env={**ENVIRONMENT, **environment}, capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    lines = done.stdout.splitlines() if done.stdout.strip() else []
    if shell == "zsh":
        return [f"{kind},{value}" for kind, value in zip(lines[::3], lines[1::3], strict=True)]
    return [line.partition("\t")[0] for line in lines if line]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
class TestAnswers:
    """What each of the shells is told, in a process of its own."""

    def test_commands(self, shell: str) -> None:
        """The names of commands, without loading any of them."""
        assert ask(shell, "ckptctl p") == ["plain,pin", "plain,plot", "plain,prune"]
        assert ask(shell, "ckptctl ") == [f"plain,{name}" for name in _COMMANDS]

    def test_options(self, shell: str) -> None:
        """Options, and what may stand behind one."""
        assert ask(shell, "ckptctl --st") == ["plain,--state-reader"]
        assert ask(shell, "ckptctl ls --js") == ["plain,--json"]
        assert ask(shell, "ckptctl prune --verify=fi") == ["plain,finite"]
        assert "plain,github" in ask(shell, "ckptctl ls --format g")

    @pytest.mark.parametrize(
        "command", ["ls", "latest", "prune", "plot", "explain", "watch", "repair", "clean"]
    )
    def test_directories(self, shell: str, command: str) -> None:
        """The shell itself looks for directories."""
        assert ask(shell, f"ckptctl {command} ru") == ["dir,ru"]

    @pytest.mark.parametrize("option", ["prune --config ", "explain --config=", "ls --metrics "])
    def test_files(self, shell: str, option: str) -> None:
        """The shell itself looks for files too."""
        assert ask(shell, f"ckptctl {option}ru") == ["file,ru"]

    @pytest.mark.parametrize("command", ["show", "diff x", "verify", "pin", "unpin x"])
    @pytest.mark.usefixtures("run")
    def test_checkpoints(self, shell: str, command: str) -> None:
        """Checkpoints, the lowest step first; where there is none, directories."""
        kind = "path" if shell == "bash" else "plain"
        names = [f"{kind},runs/a/ckpt-{step}" for step in range(1, 12)]
        assert ask(shell, f"ckptctl {command} runs/a/ckpt-") == names
        assert ask(shell, f"ckptctl {command} runs/a/ckpt-1") == [names[0], *names[9:]]
        assert ask(shell, f"ckptctl {command} runs/a/lo") == ["dir,runs/a/lo"]
        assert ask(shell, f"ckptctl {command} runs/nowhere/ck") == ["dir,runs/nowhere/ck"]
        assert ask(shell, f"ckptctl {command} runs/a/.h") == [f"{kind},runs/a/.hidden-1"]

    def test_checkpoints_and_directories(self, shell: str, run: Path) -> None:
        """Directories stand behind the checkpoints; those in which a save is under way do not."""
        kind, slash = ("path", "") if shell == "bash" else ("plain", "/")
        found = ask(shell, "ckptctl show runs/a/")
        assert found[:11] == [f"{kind},runs/a/ckpt-{step}" for step in range(1, 12)]
        assert found[11:] == [f"{kind},runs/a/best{slash}", f"{kind},runs/a/logs{slash}"]
        fabricate.checkpoint(run, "best-1")
        assert ask(shell, "ckptctl show runs/a/b") == [f"{kind},runs/a/best-1", f"{kind},runs/a/best{slash}"]

    def test_protected_names(self, shell: str, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """--protect takes names of the directories that stand before it, else of the current one."""
        kind = "path" if shell == "bash" else "plain"
        names = [f"{kind},ckpt-1", f"{kind},ckpt-10", f"{kind},ckpt-11"]
        assert ask(shell, "ckptctl prune runs/a --keep 3 --protect ckpt-1") == names
        assert ask(shell, "ckptctl watch runs/a --protect=ckpt-1") == names
        assert ask(shell, "ckptctl prune --protect runs/a/ckpt-2") == [f"{kind},runs/a/ckpt-2"]
        assert ask(shell, "ckptctl prune --keep 3 --protect ckpt-1") == []
        monkeypatch.chdir(run)
        assert ask(shell, "ckptctl prune --keep 3 --protect ckpt-1") == names

    def test_v1(self, shell: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """V1 checkpoints: sharded, and one of the bare name beside its .meta; a lone .meta is none."""
        monkeypatch.chdir(tmp_path)
        for name in ("s-1-00000-of-00002", "s-1-00001-of-00002", "s-2", "s-2.meta", "s-3.meta"):
            Path(name).touch()
        assert [one.partition(",")[2] for one in ask(shell, "ckptctl show s")] == ["s-1", "s-2"]

    def test_names_that_cannot_be_shown(
        self, shell: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A name with a control character or a byte that is not UTF-8 is left out."""
        monkeypatch.chdir(tmp_path)
        for name in ("ckpt\n-1", "ckpt\x1b-2", os.fsdecode(b"ckpt\xff-3"), "ckpt-4"):
            fabricate.checkpoint(tmp_path, name)
        assert [one.partition(",")[2] for one in ask(shell, "ckptctl show c")] == ["ckpt-4"]


def test_help_of_commands() -> None:
    """The list of commands is that of the modules."""
    with cli.make_context("ckptctl", [], resilient_parsing=True) as ctx:
        for name in _COMMANDS:
            command = cli.get_command(ctx, name)
            assert command is not None
            assert command.name == name


# Real shells


@contextlib.contextmanager
def terminal(*command: str) -> Iterator[int]:
    """A program with a terminal of its own; yields the terminal's other end."""
    pid, fd = pty.fork()
    if pid == 0:
        os.execvpe(command[0], list(command), ENVIRONMENT)  # noqa: S606 - no shell but the one that is tested
    try:
        yield fd
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(fd)


def await_text(fd: int, text: str, seen: str = "") -> str:
    """Reads from a terminal until a text is there; gives all that was read."""
    deadline = time.monotonic() + 30
    while text not in seen:
        ready, _, _ = select.select([fd], [], [], max(0.0, deadline - time.monotonic()))
        assert ready, f"{text!r} never came, but {seen!r}"
        seen += os.read(fd, 4096).decode()
    return seen


SHELLS = {
    "bash": ("bash", "--norc", "--noprofile", "-i"),
    "zsh": ("zsh", "-f", "-i"),
}
SETUP = {
    "bash": 'PS1="> "; bind "set enable-bracketed-paste off"; '
    'eval "$(_CKPTCTL_COMPLETE=bash_source ckptctl)"',
    "zsh": 'PS1="> "; unsetopt zle_bracketed_paste; autoload -U compinit; compinit -D -u; '
    'eval "$(_CKPTCTL_COMPLETE=zsh_source ckptctl)"',
}


@pytest.fixture
def _program() -> None:
    if shutil.which("ckptctl", path=ENVIRONMENT["PATH"]) is None:
        pytest.skip("the console script is not installed")


@pytest.mark.usefixtures("_program", "run")
@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("name", ["ckpt-7", *ODD])
def test_a_shell_completes(shell: str, name: str, run: Path) -> None:
    """A shell completes the name of a checkpoint, quoted as it must be, and hands it over as it is."""
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} here")
    fabricate.checkpoint(run, name)
    with terminal(*SHELLS[shell]) as fd:
        os.write(fd, f"{SETUP[shell]}; echo re''ady\n".encode())
        await_text(fd, "ready\r\n")
        os.write(fd, f"ckptctl show runs/a/{BEGUN.get(name, name[:2])}\t --match nothing-fits\n".encode())
        seen = await_text(fd, "no tensor's name fits")
    assert f"runs/a/{name}: no tensor's name fits" in seen


@pytest.mark.usefixtures("_program")
@pytest.mark.parametrize("name", ["ckpt-7", *ODD])
def test_fish_completes(name: str, run: Path) -> None:
    """So does fish, which can be asked without a terminal."""
    if shutil.which("fish") is None:
        pytest.skip("no fish here")
    fabricate.checkpoint(run, name)
    begun = BEGUN.get(name, name[:2]).replace("\\", "\\\\")
    program = f"_CKPTCTL_COMPLETE=fish_source ckptctl | source; complete -C 'ckptctl show runs/a/{begun}'"
    done = subprocess.run(
        ["fish", "--no-config", "-c", program], env=ENVIRONMENT, capture_output=True, text=True, check=True
    )
    assert f"runs/a/{name}" in [line.partition("\t")[0] for line in done.stdout.splitlines()]
