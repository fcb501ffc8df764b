"""A picture as the bytes of a file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ckptctl.plotting import page
from ckptctl.plotting.draw import draw
from ckptctl.plotting.output import Kind

if TYPE_CHECKING:
    from ckptctl.plotting.movement import Movement
    from ckptctl.plotting.picture import Picture


def rendered(picture: Picture, moved: Movement | None, kind: Kind) -> bytes:
    """Draws a picture.

    Args:
        picture: What is shown.
        moved: How far layers moved, if that is shown.
        kind: What it is written as.
    """
    drawing = draw(picture, moved, vector=kind is not Kind.PNG)
    if kind is Kind.PNG:
        return drawing.png
    told = [mark.told(picture.metric) for mark in picture.marks]
    text = page.svg(drawing, told) if kind is Kind.SVG else page.page(drawing, told, picture.title)
    return text.encode()
