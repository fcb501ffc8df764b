"""The README's unit, container file and crontab: what they start is started, as they have it."""

from __future__ import annotations

import configparser
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import fabricate
import pytest
from watching import DEADLINE, PAUSE, ckpts

README = (Path(__file__).parent.parent / "README.md").read_text()
PROGRAM = "/opt/ckptctl/bin/ckptctl"
RUNS = "/data/runs"


def block(kind: str) -> str:
    """The README's one block of a kind."""
    (found,) = re.findall(rf"^```{kind}\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
    return str(found)


@pytest.fixture
def unit() -> configparser.ConfigParser:
    """The unit."""
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(block("ini"))
    return parser


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """The program, at a path of its own."""
    (tmp_path / "ckptctl").write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m ckptctl "$@"\n')
    (tmp_path / "ckptctl").chmod(0o755)
    return tmp_path / "ckptctl"


def test_unit_is_one(tmp_path: Path, program: Path) -> None:
    """Nothing is wrong with it by systemd's own reading."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    service = tmp_path / "ckptctl-watch.service"
    text = block("ini").replace(PROGRAM, str(program)).replace("User=trainer", "User=root")
    service.write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--recursive-errors=no", service],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert service.stem not in done.stderr  # it may have other units to complain of


def test_unit_starts(tmp_path: Path, program: Path, unit: configparser.ConfigParser) -> None:
    """What it starts is ready by its own word, as the type says, once it has pruned, and ends when told."""
    service = unit["Service"]
    assert service["Type"] == "notify"
    assert service["ReadWritePaths"] == unit["Unit"]["RequiresMountsFor"] == RUNS
    run = fabricate.run(tmp_path / "runs" / "a", 6)
    command = shlex.split(service["ExecStart"])
    assert (command[0], command.count(RUNS)) == (PROGRAM, 1)
    command = [{PROGRAM: str(program), RUNS: str(tmp_path / "runs")}.get(word, word) for word in command]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("")
        manager.settimeout(DEADLINE)
        environment = {**os.environ, "NOTIFY_SOCKET": f"@{manager.getsockname()[1:].decode()}"}
        with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as process:
            try:
                while not manager.recv(1000).startswith(b"READY=1\n"):
                    pass
                assert fabricate.names(run) == ckpts(4, 5, 6)
                process.terminate()
                assert process.wait(DEADLINE) == 0
            finally:
                process.kill()


def test_container_file(tmp_path: Path, program: Path) -> None:
    """What it copies is there and makes the package; what it runs watches the volume until its signal."""
    root = Path(__file__).parent.parent
    instructions = [line.split(maxsplit=1) for line in block("dockerfile").splitlines()]
    names = " ".join(name for name, _ in instructions)
    assert names == "FROM COPY COPY RUN STOPSIGNAL ENTRYPOINT CMD"
    told = {name: rest for name, rest in instructions if name != "COPY"}
    copied = [source for name, rest in instructions if name == "COPY" for source in rest.split()[:-1]]
    assert all((root / source).exists() for source in copied)
    assert "'/src[metrics]'" in told["RUN"]
    entry, (*arguments,) = json.loads(told["ENTRYPOINT"]), json.loads(told["CMD"])
    assert entry == ["ckptctl"]
    run = fabricate.run(tmp_path / "runs" / "a", 6)
    arguments[arguments.index("/runs")] = str(tmp_path / "runs")
    with subprocess.Popen([program, *arguments], stdout=subprocess.DEVNULL) as process:
        try:
            end = time.monotonic() + DEADLINE
            while fabricate.names(run) != ckpts(4, 5, 6):
                assert time.monotonic() < end
                time.sleep(PAUSE)
            process.send_signal(signal.Signals[told["STOPSIGNAL"]])
            assert process.wait(DEADLINE) == 0
        finally:
            process.kill()


def test_crontab(tmp_path: Path, program: Path) -> None:
    """Its line prunes each run and says nothing, with no more than cron gives it; what is wrong it says."""
    *_, line = block("cron").splitlines()
    *times, command = line.split(maxsplit=5)
    assert all(re.fullmatch(r"\d+|\*", one) for one in times)
    assert "%" not in command, "cron would take it for the end of a line"
    runs = [fabricate.run(tmp_path / "runs" / name, 6) for name in ("a", "b")]
    command = command.replace(PROGRAM, str(program)).replace(RUNS, str(tmp_path / "runs"))

    def prune() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["/bin/sh", "-c", command],
            env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            check=False,
        )

    done = prune()
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert all(fabricate.names(run) == ckpts(4, 5, 6) for run in runs)
    (runs[0] / "checkpoint").write_text("no state")
    done = prune()
    assert (done.returncode, done.stdout) == (4, "")
    assert str(runs[0]) in done.stderr
