"""What can be written in a picture of what the disk holds: printable, known to the font, and not too long."""

from __future__ import annotations

from itertools import takewhile
from typing import TYPE_CHECKING

from ckptctl.render import escape

if TYPE_CHECKING:
    from collections.abc import Container, Sequence

_ELLIPSIS = "\N{HORIZONTAL ELLIPSIS}"


def drawable(text: str, font: Container[int], most: int = 120) -> str:
    """A text as a picture can show it.

    Args:
        text: Any.
        font: The characters that the font has; the others are shown as escapes.
        most: How many characters are shown; of more, the middle is left out.
    """
    if len(text) > most:
        half = (most - 1) // 2
        text = text[: most - 1 - half] + _ELLIPSIS + text[len(text) - half :]
    return "".join(char if ord(char) in font else _escaped(char) for char in escape(text))


def short_paths(paths: Sequence[str], most: int) -> list[str]:
    """Paths without the directories that all of them share, if one is longer than `most` characters."""
    if max(map(len, paths), default=0) <= most:
        return list(paths)
    split = [path.split("/") for path in paths]
    levels = zip(*[parts[:-1] for parts in split], strict=False)
    common = sum(1 for _ in takewhile(lambda level: len(set(level)) == 1, levels))
    return [f"{_ELLIPSIS}/{'/'.join(parts[common:])}" if common else "/".join(parts) for parts in split]


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")
