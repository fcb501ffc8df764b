"""Proves that TensorFlow restores a checkpoint, in a process of its own.

TensorFlow's reader aborts the interpreter, hangs, or takes gigabytes over files that are not as it expects
(CHECK failures are no exceptions). So it runs in `ckptctl.restoring`, with limits to its time, its address
space and what it may write, and without the GPUs, which are the trainer's. Its death is a finding about the
checkpoint, and the next one is given a new process.
"""

from __future__ import annotations

import contextlib
import enum
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, cast

from ckptctl.bundle.findings import Finding, FindingKind
from ckptctl.errors import TensorFlowError

if TYPE_CHECKING:
    from collections.abc import Callable

    from ckptctl.opened import OpenCheckpoint

_PROGRAM = "import sys; sys.path[:] = {path!r}; import runpy; runpy.run_module({module!r}, {{}}, '__main__')"
_MODULE = "ckptctl.restoring"

_ENVIRONMENT = {
    "CUDA_VISIBLE_DEVICES": "-1",
    "MALLOC_ARENA_MAX": "2",  # glibc reserves 64 MiB of address space for each
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "TF_ENABLE_ONEDNN_OPTS": "0",  # its allocator keeps what one checkpoint took when the next one comes
}
"""The GPUs, and their memory, are the trainer's."""

_REPLY_BYTES = 1 << 24
"""The longest reply that is taken; the longest that the program makes is an eighth of it."""

_GRACE = 10.0
"""Seconds that a process has to end after it has closed its output."""

_BREATH = 0.5
"""Seconds that are waited for it without a word to whoever waits for us."""

_TAIL_BYTES = 1 << 13
"""How much of what the program wrote to stderr is looked at."""

_MESSAGE_LENGTH = 300


class ProofStatus(enum.Enum):
    """What is known of a restore."""

    PROVEN = "proven"
    """TensorFlow restored every value, and each is what the files hold."""
    READABLE = "readable"
    """TensorFlow reads every tensor; that the objects which saved them restore is not proven."""
    FAILED = "failed"
    """TensorFlow raised, died, took too long, took too much memory, or restored something else."""


@dataclass(frozen=True, slots=True)
class RestoreProof:
    """What came of it.

    Attributes:
        findings: What failed (`RESTORE`), or that TensorFlow's process was lost (`LOST`), and what could not
            be rebuilt (`NOT_REBUILT`), object by object.
    """

    findings: tuple[Finding, ...] = ()

    @property
    def status(self) -> ProofStatus:
        """What the findings come to."""
        kinds = {finding.kind for finding in self.findings}
        if kinds & {FindingKind.RESTORE, FindingKind.LOST}:
            return ProofStatus.FAILED
        return ProofStatus.READABLE if kinds else ProofStatus.PROVEN


@dataclass(frozen=True, slots=True)
class Limits:
    """What the process is allowed.

    Attributes:
        start: Seconds until TensorFlow is loaded.
        seconds: Seconds for a checkpoint, whatever is in it.
        bytes_per_second: How slowly its files may come beside that.
        tensors_per_second: How slowly its objects may be rebuilt beside that.
        memory: Bytes of address space for a checkpoint, beside several times what its values take.
    """

    start: float = 300.0
    seconds: float = 120.0
    bytes_per_second: float = 5e6
    tensors_per_second: float = 100.0
    memory: int = 1 << 30

    def time(self, size: int, tensors: int) -> float:
        """Seconds for a checkpoint of so many bytes and tensors."""
        return self.seconds + size / self.bytes_per_second + tensors / self.tensors_per_second


class Restorer:
    """Proves checkpoints one after the other; a context manager, which ends the process that it uses.

    The process starts with the first proof. It ends with the thread that asked for that, too, however that
    ends.

    Args:
        limits: What the process is allowed.
    """

    def __init__(self, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        self._child: _Child | None = None

    def __enter__(self) -> Restorer:  # noqa: PYI034 - typing.Self needs 3.11
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def prove(
        self,
        checkpoint: OpenCheckpoint,
        size: int = 0,
        tensors: int = 0,
        waiting: Callable[[], None] = lambda: None,
    ) -> RestoreProof:
        """Has TensorFlow restore a checkpoint, whose files are taken to be verified before.

        Args:
            checkpoint: Which.
            size: How many bytes its files have; it is given time for them,
            tensors: and for these.
            waiting: Called now and then meanwhile; what it raises ends the process.

        Raises:
            TensorFlowError: TensorFlow does not start.
        """
        if self._child is None:
            self._child = self._start(waiting)
        request = {
            "directory": os.path.abspath(checkpoint.directory.path),
            "name": checkpoint.name,
            "format": checkpoint.format.value,
            "data": checkpoint.data,
            "follow": checkpoint.follow,
            "memory": self._limits.memory,
        }
        try:
            reply = self._child.ask(request, self._limits.time(size, tensors), waiting)
            return RestoreProof(tuple(_finding(one) for one in reply["findings"]))
        except _LostError as error:
            lost = f"TensorFlow {error}"
        except (
            KeyError,
            TypeError,
            ValueError,
        ):  # memory that a damaged file was written over may say anything
            lost = "TensorFlow said what is no result"
        except BaseException:
            self._end()
            raise
        self._end()
        return RestoreProof((Finding(FindingKind.LOST, lost),))

    def _start(self, waiting: Callable[[], None]) -> _Child:
        child = _Child()
        try:
            child.receive(self._limits.start, waiting)
        except _LostError as error:
            child.end()
            raise TensorFlowError(
                f"TensorFlow does not start: it {error}; see that `python -c 'import tensorflow'` works"
            ) from error
        except BaseException:
            child.end()
            raise
        return child

    def _end(self) -> None:
        if self._child is not None:
            self._child.end()
            self._child = None


class _LostError(Exception):
    """The process died or had to be ended; the message goes on behind its name."""


class _Child:
    """The process, and what it says."""

    def __init__(self) -> None:
        self._log = _log()
        try:
            # From where we import, the child does too, and not from the directory that it happens to be in.
            path = [os.path.abspath(entry) for entry in sys.path]
            self._process = subprocess.Popen(  # noqa: S603 - our own program
                [sys.executable, "-c", _PROGRAM.format(path=path, module=_MODULE)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                cwd="/",
                env={**os.environ, **_ENVIRONMENT},
                start_new_session=True,
            )
        except BaseException:
            self._log.close()
            raise
        self._requests = cast("IO[bytes]", self._process.stdin)
        self._replies = cast("IO[bytes]", self._process.stdout)
        self._received = b""

    def ask(self, request: dict[str, Any], seconds: float, waiting: Callable[[], None]) -> dict[str, Any]:
        """Sends a request, and waits for the reply.

        Raises:
            _LostError: There is none.
        """
        self._log.seek(0)  # for both of us: what it writes from now on is about this checkpoint
        self._log.truncate()
        with contextlib.suppress(BrokenPipeError):  # how it ended is for `receive` to find out
            self._requests.write(json.dumps(request).encode() + b"\n")
            self._requests.flush()
        return self.receive(seconds, waiting)

    def receive(self, seconds: float, waiting: Callable[[], None]) -> dict[str, Any]:
        """Waits for a line.

        Raises:
            _LostError: The process ended, or took longer than that.
        """
        deadline = time.monotonic() + seconds
        with selectors.DefaultSelector() as selector:
            selector.register(self._replies, selectors.EVENT_READ)
            while b"\n" not in self._received:
                left = deadline - time.monotonic()
                if not selector.select(max(0.0, min(left, _BREATH))):
                    if left <= _BREATH:
                        raise _LostError(f"was ended after {seconds:.0f} seconds without a result")
                    waiting()
                    continue
                data = os.read(self._replies.fileno(), 1 << 16)
                if not data:
                    raise _LostError(self._death())
                self._received += data
                if len(self._received) > _REPLY_BYTES:
                    raise _LostError("said more than any result has")
        line, _, self._received = self._received.partition(b"\n")
        return cast("dict[str, Any]", json.loads(line))

    def end(self) -> None:
        """Ends it, and all that it may have started."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        with contextlib.suppress(BrokenPipeError), self._process:
            pass  # waits, and closes the pipes
        self._log.close()

    def _death(self) -> str:
        """How it ended, with the last that it wrote."""
        try:
            code = self._process.wait(_GRACE)
        except subprocess.TimeoutExpired:
            return "closed its output"
        try:
            how = f"died of {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
            if code == -signal.SIGKILL:
                return f"{how}, as a process does that is ended when memory runs out"
        except ValueError:
            how = f"died of signal {-code}"
        said = self._last_words()
        return f"{how}: {said}" if said else how

    def _last_words(self) -> str:
        size = self._log.seek(0, os.SEEK_END)
        self._log.seek(max(0, size - _TAIL_BYTES))
        lines = self._log.read().decode(errors="replace").split("\n")
        said = [line.strip() for line in lines if line.strip()]
        # A CHECK that fails says where and what; behind it may come a stack trace.
        fatal = [line for line in said if line.startswith("F0") or "Check failed" in line]
        return (fatal or said or [""])[-1][:_MESSAGE_LENGTH]


def _log() -> IO[bytes]:
    """A file for what the process writes to stderr; in memory, for the disk for such files may be full."""
    if sys.platform == "linux":
        with contextlib.suppress(AttributeError, OSError):  # an old C library, or kernel
            return open(os.memfd_create("ckptctl-restoring"), "w+b")
    return tempfile.TemporaryFile()


def _finding(reply: dict[str, Any]) -> Finding:
    return Finding(FindingKind(reply["kind"]), reply["message"], reply["tensor"])
