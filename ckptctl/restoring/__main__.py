"""Takes requests on stdin and answers on stdout, each a JSON object in a line; the first says "ready".

    request   directory, name, format, data, follow: the checkpoint
              memory: how many bytes of address space it may take beside what its values need
    reply     findings: a list of objects with kind, message, tensor

Whatever TensorFlow, or a library below it, prints goes to stderr.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import signal
import sys
from typing import TYPE_CHECKING, Any

from ckptctl import posix
from ckptctl.bundle.findings import Finding, FindingKind, Report
from ckptctl.errors import UnreadableError
from ckptctl.model import Format
from ckptctl.opened import OpenCheckpoint

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TextIO

_PR_SET_PDEATHSIG = 1

_FILE_BYTES = 1 << 20
"""How long a file may become that this process writes: it has none to write but its log."""

_THREADS = 2
_FINDINGS = 1000
_MESSAGE_LENGTH = 1000


def main() -> None:
    """Serves requests until stdin ends."""
    replies = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)
    _die_with_parent()
    import tensorflow as tf  # noqa: PLC0415 - the parent is not kept waiting for what it cannot see

    # Every thread takes address space, and by default there are some for each core.
    tf.config.threading.set_inter_op_parallelism_threads(_THREADS)
    tf.config.threading.set_intra_op_parallelism_threads(_THREADS)
    tf.zeros([])
    from ckptctl.restoring.prove import prove  # noqa: PLC0415 - see above

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (_FILE_BYTES, _FILE_BYTES))
    taken = _address_space()
    _say(replies, {"ready": True})
    for line in sys.stdin:
        request = json.loads(line)
        report = Report(limit=_FINDINGS)

        def need(values: int, allowance: int = request["memory"]) -> None:
            resource.setrlimit(resource.RLIMIT_AS, (taken + allowance + values, resource.RLIM_INFINITY))

        _serve(request, prove, report, need)
        _say(replies, {"findings": [_json(finding) for finding in report.all()]})


def _serve(
    request: dict[str, Any],
    prove: Callable[[OpenCheckpoint, Report, Callable[[int], None]], None],
    report: Report,
    need: Callable[[int], None],
) -> None:
    try:
        with posix.open_directory(request["directory"]) as directory:
            os.fchdir(directory.fd)
            checkpoint = OpenCheckpoint(
                directory,
                request["name"],
                Format(request["format"]),
                tuple(request["data"]),
                follow=request["follow"],
            )
            prove(checkpoint, report, need)
    except UnreadableError as error:
        report.add(Finding(FindingKind.RESTORE, str(error)))
    except MemoryError:
        report.add(Finding(FindingKind.RESTORE, "restoring it takes more memory than is allowed"))
    finally:
        os.chdir("/")


def _say(replies: TextIO, said: dict[str, Any]) -> None:
    replies.write(json.dumps(said) + "\n")
    replies.flush()


def _json(finding: Finding) -> dict[str, Any]:
    message = finding.message
    if len(message) > _MESSAGE_LENGTH:
        message = message[:_MESSAGE_LENGTH] + "…"
    return {"kind": finding.kind.value, "message": message, "tensor": finding.tensor}


def _die_with_parent() -> None:
    """Has the kernel end this process when its parent is gone, and before any other if memory lacks."""
    parent = os.getppid()
    with contextlib.suppress(AttributeError, OSError):  # not Linux
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        with open("/proc/self/oom_score_adj", "w", encoding="ascii") as score:
            score.write("1000")
    if os.getppid() != parent:  # it went before that
        os._exit(1)


def _address_space() -> int:
    """How many bytes of address space this process has."""
    with open("/proc/self/statm", encoding="ascii") as statm:
        return int(statm.read().split()[0]) * resource.getpagesize()


if __name__ == "__main__":
    main()
