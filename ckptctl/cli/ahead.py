"""What `prune` and `explain` look at in all directories before they begin with the first."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ckptctl import naming, posix
from ckptctl.cli import retention
from ckptctl.errors import CkptctlError, PolicyError
from ckptctl.plan import matches

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ckptctl.cli.settings import Retention


def look_ahead(paths: Sequence[str], retained: Retention, protect: Sequence[str]) -> None:
    """Stops before anything is done anywhere if a directory has no policy or a protected name is misspelt.

    Names are all that is looked at here: an entry of a name that is written out will do for it, whatever it
    is, and a pattern has to fit what looks like a checkpoint.

    Raises:
        PolicyError: There is such a directory or name.
    """
    entries: set[str] = set()
    for path in paths:
        try:
            with posix.open_directory(path) as directory:
                retained.of(directory)
                entries.update(os.listdir(directory.fd) if protect else ())
        except PolicyError:
            raise
        except (CkptctlError, OSError):
            continue  # said when its turn comes
    numbered = {name for name in entries if naming.parse(name) is None and naming.step_of(name) is not None}
    names = naming.checkpoints_among(entries) | numbered  # a V1 checkpoint may be a lone file with a number
    for pattern in retention.protected_names(protect):
        if pattern not in entries and not any(matches(name, pattern) for name in names):
            raise PolicyError(
                f"--protect {pattern} names no checkpoint in {', '.join(paths)}: nothing was deleted; "
                "`ckptctl ls` shows the names"
            )
