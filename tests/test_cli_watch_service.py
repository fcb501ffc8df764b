"""`ckptctl watch` as a service: what it tells the service manager, and the metrics that it serves."""

from __future__ import annotations

import fcntl
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

import fabricate
import pytest
from conftest import ckptctl
from prometheus_client.parser import text_string_to_metric_families
from watching import DEADLINE, Watching, ckpts, save, write_state

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from conftest import Invoke

RESCAN = "--rescan=0.2s"


@pytest.fixture(autouse=True)
def _starts_quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who reads the state makes no difference here, and TensorFlow takes its time to load."""
    monkeypatch.setenv("CKPTCTL_STATE_READER", "protobuf")


class Manager:
    """What systemd is to a service: it binds a socket, and listens.

    Args:
        bound: The socket.
    """

    def __init__(self, bound: socket.socket) -> None:
        self._bound = bound

    def hears(self, seconds: float = DEADLINE) -> str:
        """The next word; nothing if there is none for so long."""
        if not select.select([self._bound], [], [], seconds)[0]:
            return ""
        return self._bound.recv(1000).decode()

    def until(self, word: str) -> list[str]:
        """All that comes before a word, and the message with that at its beginning."""
        heard: list[str] = []
        end = time.monotonic() + DEADLINE
        while not heard or not heard[-1].startswith(word):
            heard.append(self.hears())
            assert heard[-1], heard
            assert time.monotonic() < end, heard
        return heard


@pytest.fixture
def manager(monkeypatch: pytest.MonkeyPatch) -> Iterator[Manager]:
    """A service manager; what is started from now on finds it, with a watchdog."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bound:
        bound.bind("")  # Linux chooses an abstract name
        bound.settimeout(DEADLINE)
        monkeypatch.setenv("NOTIFY_SOCKET", f"@{bound.getsockname()[1:].decode()}")
        monkeypatch.setenv("WATCHDOG_USEC", "400000")
        yield Manager(bound)


def test_address_without_a_port(tmp_path: Path, invoke: Invoke) -> None:
    """An interface to serve metrics on, and no port, is half a wish: nothing would be served."""
    result = invoke("watch", "--keep=3", "--metrics-address=0.0.0.0", str(tmp_path))
    assert result.exit_code == 2
    assert "--metrics-address is for --metrics-port" in result.stderr


def test_ready_alive_stopping(tmp_path: Path, watch: Callable[..., Watching], manager: Manager) -> None:
    """It is ready when all is pruned for the first time, tells what it does, lives, and has a last word."""
    runs = [fabricate.run(tmp_path / name, 6) for name in ("a", "b")]
    watching = watch(*runs, tmp_path / "later")
    *before, ready = manager.until("READY=1\n")
    assert all(fabricate.names(run) == ckpts(4, 5, 6) for run in runs)
    size = 6 * (100 + len(fabricate.index()))
    stands = f"directories: 2; checkpoints: 6, {size / 1000:.1f} kB; deleted: 6, {size / 1000:.1f} kB"
    assert ready == f"READY=1\nSTATUS={stands}"
    assert {word.partition("=")[0] for word in before} == {"EXTEND_TIMEOUT_USEC"}
    save(runs[0], 7)
    assert "; deleted: 7, " in manager.until("STATUS=")[-1]
    assert manager.until("WATCHDOG=1") == ["WATCHDOG=1"]
    assert manager.until("WATCHDOG=1") == ["WATCHDOG=1"]
    watching.stop()
    assert [word for word in manager.until("STOPPING=1") if word != "WATCHDOG=1"] == ["STOPPING=1"]


def test_signs_of_life_come_from_the_work(
    tmp_path: Path, watch: Callable[..., Watching], manager: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They go on through a long prune, and are missing while the loop is held up."""
    monkeypatch.setenv("WATCHDOG_USEC", "50000")
    run = tmp_path / "run"
    watching = watch(run)
    assert watching.process.stdout is not None
    fcntl.fcntl(watching.process.stdout, fcntl.F_SETPIPE_SZ, 4096)
    manager.until("READY=1\n")
    fabricate.run(tmp_path / "made", 500).rename(run)
    there = []
    while manager.hears(1.0):  # the names of all that it has deleted are more than the pipe takes
        there.append(len(fabricate.names(run)))
        assert len(there) < 2000, there
    assert any(3 < number < 500 for number in there), there
    assert len(fabricate.names(run)) == 3
    assert len(watching.event("pruned", run)["deleted"]) == 497
    manager.until("WATCHDOG=1")
    watching.stop()


def test_signs_of_life_while_tensorflow_restores(
    tmp_path: Path, watch: Callable[..., Watching], manager: Manager
) -> None:
    """A restore that takes long is no hang, can be broken off, and its process knows of no manager."""
    run = tmp_path / "run"
    watching = watch(run, "--verify=restore")
    manager.until("READY=1\n")
    fabricate.run(run, 4)
    watching.until(lambda: children(watching.process) != [])
    (child,) = children(watching.process)
    os.kill(child, signal.SIGSTOP)
    for _ in range(3):
        manager.until("WATCHDOG=1")
    environment = Path(f"/proc/{child}/environ").read_bytes().split(b"\0")
    assert not [one for one in environment if one.startswith((b"NOTIFY_", b"WATCHDOG_"))]
    watching.stop()
    assert fabricate.names(run) == ckpts(1, 2, 3, 4)
    assert not Path(f"/proc/{child}").exists()


def children(process: subprocess.Popen[bytes]) -> list[int]:
    """The processes that a process has started by now, as far as they run a program of their own."""
    found = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    programs = {int(pid): Path(f"/proc/{pid}/cmdline").read_bytes() for pid in found}
    return [pid for pid, program in programs.items() if b"ckptctl.restoring" in program]


@pytest.fixture
def port() -> int:
    """A port that is free on the loopback interface."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])


Metrics = dict[str, dict[str, float]]


def scrape(port: int) -> Metrics:
    """The metrics, by name and directory."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=DEADLINE) as answer:
        families = list(text_string_to_metric_families(answer.read().decode()))
    found: Metrics = {}
    for sample in (sample for family in families for sample in family.samples):
        assert set(sample.labels) == {"directory"}
        found.setdefault(sample.name, {})[sample.labels["directory"]] = sample.value
    return found


def test_metrics(tmp_path: Path, watch: Callable[..., Watching], port: int) -> None:
    """What is scraped is what has happened: deletions, failures, times; what is gone leaves nothing."""
    good, bad = fabricate.run(tmp_path / "good", 6), fabricate.run(tmp_path / "b\udcffd\n", 6)
    write_state(bad, "no state")
    (tmp_path / "logs").mkdir()
    size = 100 + len(fabricate.index())
    root, a, b = str(tmp_path), str(good), f"{tmp_path}/b\\xffd\n"
    began = time.time()
    watching = watch("-r", tmp_path, RESCAN, "--verify=data", f"--metrics-port={port}")
    watching.event("pruned", good)
    watching.until(lambda: scrape(port).get("ckptctl_failures_total", {}).get(b, 0) > 2)
    save(good, 7)
    watching.event("pruned", good)
    found = scrape(port)
    assert found["ckptctl_checkpoints"] == {root: 0, a: 3, b: 0}
    assert found["ckptctl_checkpoint_bytes"] == {root: 0, a: 3 * size, b: 0}
    assert found["ckptctl_deleted_total"] == {root: 0, a: 4, b: 0}
    assert found["ckptctl_freed_bytes_total"] == {root: 0, a: 4 * size, b: 0}
    assert found["ckptctl_failures_total"][a] == 0
    assert found["ckptctl_newest_saved_timestamp_seconds"] == {a: fabricate.EPOCH + 60.5 * 6}
    success_name, verified_name = (f"ckptctl_last_{one}_timestamp_seconds" for one in ("success", "verified"))
    success, verified = found[success_name], found[verified_name]
    assert success.keys() == {root, a}
    assert began < verified[a] == success[a] < time.time()
    # The newest comes out damaged: what was verified before is what was verified last.
    (good / "ckpt-8.data-00000-of-00001").write_bytes(b"x" * 100)
    (good / "ckpt-8.index").write_bytes(fabricate.index())
    watching.until(lambda: scrape(port)["ckptctl_checkpoints"][a] == 4)
    last = scrape(port)
    watching.until(lambda: scrape(port)[success_name][a] > last[success_name][a])
    assert scrape(port)[verified_name][a] == last[verified_name][a]
    shutil.rmtree(good)
    watching.until(lambda: a not in str(scrape(port)))
    watching.stop()
    with pytest.raises(urllib.error.URLError):
        scrape(port)


def test_metrics_of_a_dry_run(tmp_path: Path, watch: Callable[..., Watching], port: int) -> None:
    """What would be deleted is counted as what is there."""
    run = fabricate.run(tmp_path / "run", 6)
    watching = watch("-n", run, f"--metrics-port={port}")
    watching.event("pruned", run)
    found = scrape(port)
    assert found["ckptctl_checkpoints"] == {str(run): 6}
    assert found["ckptctl_deleted_total"] == found["ckptctl_freed_bytes_total"] == {str(run): 0}
    watching.stop()


@pytest.mark.parametrize("address", ["127.0.0.1", "no.such.host.invalid", "a..b"])
def test_metrics_that_cannot_be_served(tmp_path: Path, port: int, address: str) -> None:
    """A port that is taken, or an address that is none, is told of before anything is done."""
    run = fabricate.run(tmp_path / "run", 6)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        arguments = ("--keep=3", f"--metrics-port={port}", f"--metrics-address={address}", str(run))
        done = ckptctl("watch", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    *_, line = done.stderr.splitlines()
    assert line.startswith(f"Error: metrics cannot be served on {address}, port {port}: ")
    assert fabricate.names(run) == ckpts(1, 2, 3, 4, 5, 6)


def test_metrics_without_the_library(tmp_path: Path) -> None:
    """Where Prometheus' library lacks that is said, with what installs it, before anything is done."""
    run = fabricate.run(tmp_path / "run", 6)
    program = "import sys; sys.modules['prometheus_client'] = None; from ckptctl.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program, "watch", "--keep=3", "--metrics-port=9464", str(run)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "install ckptctl with its extra [metrics]" in done.stderr
    assert "Traceback" not in done.stderr
    assert fabricate.names(run) == ckpts(1, 2, 3, 4, 5, 6)
