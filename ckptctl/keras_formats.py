"""Files in Keras 3's own formats, which are no checkpoints of TensorFlow's: known by their names. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ckptctl.units import format_count

if TYPE_CHECKING:
    from collections.abc import Collection

_ENDINGS = (".weights.h5", ".keras")


def told(entries: Collection[str], here: str = "here") -> str | None:
    """Says that there are such files in the place of checkpoints; None if there are none.

    Args:
        entries: What a directory holds that has no checkpoints.
        here: Where that is.
    """
    counts = {
        # `.keras` alone is the directory where Keras keeps its settings
        ending: sum(name.endswith(ending) and name != ending for name in entries)
        for ending in _ENDINGS
    }
    files = " and ".join(format_count(count, f"{ending} file") for ending, count in counts.items() if count)
    if not files:
        return None
    verb = "is" if sum(counts.values()) == 1 else "are"
    return (
        f"no TensorFlow checkpoints {here}; {files} {verb} in Keras 3's own format, which ckptctl neither "
        "reads nor prunes"
    )
