"""What `prune` and `explain` look at in all directories before they begin with the first."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ckptctl import naming, posix
from ckptctl.cli import retention
from ckptctl.errors import CkptctlError, PolicyError
from ckptctl.model import ABSENT
from ckptctl.plan import matches
from ckptctl.scan import scan_open

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ckptctl.cli.settings import Retention


def look_ahead(paths: Sequence[str], retained: Retention, *, deletes: bool = True) -> None:
    """Stops before anything is done anywhere if a directory has no policy, or what is to stay is misspelt.

    Names are all that is looked at for --protect: an entry of a name that is written out will do for it,
    whatever it is, and a pattern has to fit what looks like a checkpoint. Steps stand in the checkpoints.

    Args:
        paths: The directories.
        retained: What the command's options come to.
        deletes: Whether the command deletes, so that it is to be said that nothing was.

    Raises:
        PolicyError: There is such a directory, or a name or a step that no checkpoint has.
    """
    protect, steps = retained.said("protect"), set(retained.said("keep_step"))
    entries: set[str] = set()
    for path in paths:
        try:
            with posix.open_directory(path) as directory:
                retained.of(directory)
                entries.update(os.listdir(directory.fd) if protect else ())
                if steps:
                    steps -= {one.step for one in scan_open(directory, ABSENT).checkpoints}
        except PolicyError:
            raise
        except (CkptctlError, OSError):
            continue  # said when its turn comes
    numbered = {name for name in entries if naming.parse(name) is None and naming.step_of(name) is not None}
    names = naming.checkpoints_among(entries) | numbered  # a V1 checkpoint may be a lone file with a number
    for pattern in retention.protected_names(protect):
        if pattern not in entries and not any(matches(name, pattern) for name in names):
            raise _none_has(f"--protect {pattern} names", paths, "names", deletes=deletes)
    if steps:
        raise _none_has(f"--keep-step {min(steps)} is the step of", paths, "steps", deletes=deletes)


def _none_has(said: str, paths: Sequence[str], shown: str, *, deletes: bool) -> PolicyError:
    done = ": nothing was deleted" if deletes else ""
    return PolicyError(f"{said} no checkpoint in {', '.join(paths)}{done}; `ckptctl ls` shows the {shown}")
