"""A drawing as SVG that tells more to whoever points at a checkpoint, and as a page of HTML around it.

Nothing in either is run or fetched. Names come from the disk and are escaped; a browser is told besides to
run no script, should one be in there after all.
"""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING

from ckptctl.plotting.style import FAINT, INK, PAPER
from ckptctl.render import escape

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ckptctl.plotting.draw import Drawing

_NARROWEST = 1 / 500
"""What stands closer, in parts of the width, is pointed at together."""
_WIDEST = 1 / 40
"""How far from a checkpoint it can be pointed at."""
_TOLD = 5
"""So many checkpoints are told of at one place."""

_POINTED = """<style>
.told rect { fill: #808080; fill-opacity: 0 }
.told rect:hover { fill-opacity: 0.15 }
</style>"""
_XML = '<?xml version="1.0" encoding="utf-8"?>\n'
_SIZE = re.compile(r'viewBox="0 0 ([0-9.]+) ([0-9.]+)"')
_COLOUR = re.compile(rf"(?<=[:\"' ])({INK}|{FAINT}|{PAPER})(?=[;\"' ])")
_VARIABLES = {INK: "var(--ink)", FAINT: "var(--faint)", PAPER: "var(--paper)"}

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; --ink: {ink}; --faint: {faint}; --paper: {paper}; }}
@media (prefers-color-scheme: dark) {{ :root {{ --ink: #e6edf3; --faint: #3d444d; --paper: #0d1117; }} }}
body {{ margin: 0; background: var(--paper); }}
svg {{ display: block; width: 100%; max-width: 75rem; height: auto; margin: auto; }}
</style>
</head>
<body>
{svg}
</body>
</html>
"""


def svg(drawing: Drawing, told: Sequence[str]) -> str:
    """The drawing with a strip for each checkpoint that shows what is told of it.

    Args:
        drawing: It.
        told: A text for each of its columns, from left to right.
    """
    return _XML + _with_strips(drawing, told)


def page(drawing: Drawing, told: Sequence[str], title: str) -> str:
    """A page with the drawing, in the colours that the browser is set to, light or dark.

    Args:
        drawing: It.
        told: See `svg`.
        title: What the window is called.
    """
    # matplotlib's part alone is recoloured: what is told is left as it is.
    coloured = _COLOUR.sub(lambda found: _VARIABLES[found[1]], drawing.svg)
    inline = _with_strips(drawing._replace(svg=coloured), told)
    return _PAGE.format(title=html.escape(escape(title)), svg=inline, ink=INK, faint=FAINT, paper=PAPER)


def _with_strips(drawing: Drawing, told: Sequence[str]) -> str:
    """The SVG element. Its prolog, which names a document type to be fetched, is left away."""
    element = drawing.svg[drawing.svg.index("<svg") :]
    size = _SIZE.search(element)
    if size is None:
        raise ValueError(element[:200])
    width, height = float(size[1]), float(size[2])
    top, tall = drawing.top * height, (drawing.bottom - drawing.top) * height
    strips = [
        f'<rect x="{left * width:.2f}" y="{top:.2f}" width="{(right - left) * width:.2f}" '
        f'height="{tall:.2f}"><title>{html.escape(text)}</title></rect>'
        for left, right, text in _strips(drawing.columns, told)
    ]
    body, end, rest = element.rpartition("</svg>")
    return "\n".join([body + _POINTED, '<g class="told">', *strips, "</g>", end + rest])


class _Group:
    """Checkpoints that are pointed at together."""

    def __init__(self, first: float) -> None:
        self.first = self.last = first
        self.told: list[str] = []
        self.count = 0

    def add(self, at: float, text: str) -> None:
        self.last = at
        self.count += 1
        if self.count <= _TOLD:
            self.told.append(text)

    def text(self) -> str:
        more = [f"and {self.count - _TOLD:,} more"] if self.count > _TOLD else []
        return "\n\n".join([*self.told, *more])


def _strips(columns: Sequence[float], told: Sequence[str]) -> Iterator[tuple[float, float, str]]:
    """Strips that meet half way between two checkpoints, each with its text."""
    groups: list[_Group] = []
    for at, text in zip(columns, told, strict=True):
        if not groups or at - groups[-1].first >= _NARROWEST:
            groups.append(_Group(at))
        groups[-1].add(at, text)
    for number, group in enumerate(groups):
        left = max(0.0, group.first - _WIDEST)
        right = min(1.0, group.last + _WIDEST)
        if number:
            left = max(left, (groups[number - 1].last + group.first) / 2)
        if number + 1 < len(groups):
            right = min(right, (group.last + groups[number + 1].first) / 2)
        yield left, right, group.text()
