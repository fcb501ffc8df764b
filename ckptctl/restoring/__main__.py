"""Takes requests on stdin and answers on stdout, each a JSON object in a line; the first says "ready".

    request   directory, name, format, data, follow: the checkpoint
              memory: how many bytes of address space it may take beside what its values need
    reply     findings: a list of objects with kind, message, tensor

Whatever TensorFlow, or a library below it, prints goes to stderr.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import os
import resource
import signal
import sys
from typing import TYPE_CHECKING, Any

from ckptctl import posix
from ckptctl.errors import UnreadableError
from ckptctl.model import Format
from ckptctl.opened import OpenCheckpoint
from ckptctl.restoring.outcome import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TextIO

    from ckptctl.bundle.findings import Finding

_PR_SET_PDEATHSIG = 1

_FILE_BYTES = 1 << 20
"""How long a file may become that this process writes: it has none to write but its log."""

_THREADS = 2
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
    gc.freeze()  # what TensorFlow itself is made of is no garbage, and there is much of it
    taken = _address_space()
    _say(replies, {"ready": True})
    for line in sys.stdin:
        request = json.loads(line)
        outcome = Outcome()

        def need(values: int, allowance: int = request["memory"]) -> None:
            if taken is not None:
                _limit_memory(taken + allowance + values)

        _serve(request, prove, outcome, need)
        _say(replies, {"findings": [_json(finding) for finding in outcome.all()]})


def _serve(
    request: dict[str, Any],
    prove: Callable[[OpenCheckpoint, Outcome, Callable[[int], None]], None],
    outcome: Outcome,
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
            prove(checkpoint, outcome, need)
    except UnreadableError as error:
        outcome.lose(str(error))
    except MemoryError:
        outcome.lose("restoring it takes more memory than is allowed")
    finally:
        os.chdir("/")
        gc.collect()  # objects that refer to each other hold the values


def _say(replies: TextIO, said: dict[str, Any]) -> None:
    replies.write(json.dumps(said) + "\n")
    replies.flush()


def _json(finding: Finding) -> dict[str, Any]:
    message = finding.message
    if len(message) > _MESSAGE_LENGTH:
        message = message[:_MESSAGE_LENGTH] + "…"
    return {"kind": finding.kind.value, "message": message, "tensor": finding.tensor}


def _die_with_parent() -> None:
    """Has the kernel end this process when its parent is gone, and before any other if memory lacks.

    If the parent was gone before, stdin ends.
    """
    with contextlib.suppress(AttributeError, OSError):  # no Linux
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        with open("/proc/self/oom_score_adj", "w", encoding="ascii") as score:
            score.write("1000")


def _address_space() -> int | None:
    """How many bytes of address space this process has; None where the system does not say."""
    with contextlib.suppress(OSError), open("/proc/self/statm", encoding="ascii") as statm:
        return int(statm.read().split()[0]) * resource.getpagesize()
    return None


def _limit_memory(size: int) -> None:
    """Limits the address space; a limit that the user has set stays."""
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(
        resource.RLIMIT_AS, (size if most == resource.RLIM_INFINITY else min(size, most), most)
    )


if __name__ == "__main__":
    main()
