"""What is looked at in all directories before anything is done in the first."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from ckptctl import naming
from ckptctl.cli import retention
from ckptctl.errors import (
    CkptctlError,
    NoMetricError,
    NoRuleError,
    PolicyError,
    SavedModelError,
    UnreadableError,
)
from ckptctl.model import ABSENT
from ckptctl.plan import matches
from ckptctl.roots import is_directory, is_run
from ckptctl.scan import scan_open

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ckptctl.cli.settings import Retention
    from ckptctl.roots import Place


def look_ahead(places: Sequence[Place], retained: Retention, *, recursive: bool = False) -> None:
    """Stops before anything is done anywhere if a directory has no policy, or what is to stay is misspelt.

    Args:
        places: The directories.
        retained: What the command's options come to.
        recursive: Whether they are all those that lie below some, see `passing_over`.

    Raises:
        PolicyError: There is such a directory, or a name or a step that no checkpoint has.
    """
    for place in places:
        try:
            with passing_over(place, recursive=recursive), place.open() as directory:
                retained.of(directory)
        except PolicyError:
            raise
        except (CkptctlError, OSError):
            continue  # said when its turn comes
    expect_known(places, retained)


@contextlib.contextmanager
def passing_over(place: Place, *, recursive: bool) -> Iterator[None]:
    """Passes over what was not named itself and is no run: what lies between runs and beside them.

    That is what no policy is for, or no metric, and no trainer has written to; a SavedModel; and what is gone
    by now.
    """
    try:
        yield
    except (NoRuleError, NoMetricError):
        if not recursive or is_run(place.path):
            raise
    except SavedModelError:
        if not recursive:
            raise
    except UnreadableError:
        if not place.names or is_directory(place.path):
            raise


def expect_known(places: Sequence[Place], retained: Retention) -> None:
    """Sees that some checkpoint is meant by each --protect and --keep-step.

    Raises:
        PolicyError: None is.
    """
    for said, shown in unknown(places, retained):
        where = ", ".join(dict.fromkeys(place.root for place in places))
        raise PolicyError(
            f"{said} no checkpoint in {where}: it may be misspelt, so nothing was done; `ckptctl ls` shows "
            f"the {shown}"
        )


def unknown(places: Iterable[Place], retained: Retention) -> list[tuple[str, str]]:
    """Which --protect, and which --keep-step, no checkpoint is meant by.

    Names are all that is looked at for --protect: an entry of a name that is written out will do for it,
    whatever it is, and a pattern has to fit what looks like a checkpoint. Steps stand in the checkpoints.

    Returns:
        The beginning of a sentence, which "no checkpoint" goes on with; and what it would have to be one of.
    """
    protect, steps = retained.said("protect"), set(retained.said("keep_step"))
    if not protect and not steps:
        return []
    entries: set[str] = set()
    for place in places:
        try:
            with place.open() as directory:
                entries.update(os.listdir(directory.fd) if protect else ())
                if steps:
                    steps -= {one.step for one in scan_open(directory, ABSENT).checkpoints}
        except (CkptctlError, OSError):
            continue
    numbered = {name for name in entries if naming.parse(name) is None and naming.step_of(name) is not None}
    names = naming.checkpoints_among(entries) | numbered  # a V1 checkpoint may be a lone file with a number
    found = [
        (f"--protect {pattern} names", "names")
        for pattern in retention.protected_names(protect)
        if pattern not in entries and not any(matches(name, pattern) for name in names)
    ]
    return found + [(f"--keep-step {step} is the step of", "steps") for step in sorted(steps)]
