"""How things look: colours that differ for everyone and in grey too, and a shape of its own for each kind."""

from __future__ import annotations

from typing import Any, NamedTuple

from ckptctl.plotting.picture import Lane

INK = "#1f2328"
"""Text and axes. `ckptctl.plotting.page` lets these three follow the colours of the page."""
FAINT = "#d0d7de"
PAPER = "#fefefe"
"""Not quite white, so that nothing that matplotlib writes by itself is taken for it."""

_BLUE, _ORANGE, _RED, _GREY, _YELLOW = "#0072b2", "#c75000", "#b00020", "#6e7781", "#f0c000"


class Look(NamedTuple):
    """How a kind of mark is drawn.

    Attributes:
        marker: matplotlib's word for the shape.
        face: The colour inside.
        edge: The colour of the outline.
        scale: How large it is beside a circle.
        least: How small the circle may be, however many there are; in points.
    """

    marker: str
    face: str
    edge: str
    scale: float = 1.0
    least: float = 0.0

    def options(self, size: float) -> dict[str, Any]:
        """What matplotlib's `Line2D` takes.

        Args:
            size: The diameter of a circle, in points.
        """
        return {
            "linestyle": "none",
            "marker": self.marker,
            "markerfacecolor": self.face,
            "markeredgecolor": self.edge,
            "markersize": size * self.scale,
            "markeredgewidth": max(0.7, size / 6),
        }


LOOKS = {
    Lane.KEPT: Look("o", _BLUE, _BLUE),
    Lane.GOES: Look("D", PAPER, _ORANGE, 0.8),
    Lane.COMPLETE: Look("o", _BLUE, _BLUE),
    Lane.SAVING: Look("^", PAPER, _GREY, 1.1, 5.0),
    Lane.BROKEN: Look("X", _RED, PAPER, 1.5, 5.0),
    Lane.UNREADABLE: Look("v", PAPER, _RED, 1.1, 5.0),
    Lane.ABSENT: Look("x", _GREY, _GREY),
}
LATEST = Look("o", "none", INK, 1.9, 5.0)
PINNED = Look("s", "none", INK, 1.7, 5.0)
BEST = Look("*", _YELLOW, INK, 2.0, 5.0)

SETTINGS: dict[Any, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": FAINT,
    "axes.facecolor": PAPER,
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.facecolor": PAPER,
    "font.family": "DejaVu Sans",
    "font.size": 9.0,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "savefig.facecolor": PAPER,
    "svg.fonttype": "path",  # looks the same wherever it is opened
    "svg.hashsalt": "ckptctl",  # the same identifiers each time
    "text.color": INK,
    "text.parse_math": False,  # a name may hold $
    "xtick.color": INK,
    "xtick.major.size": 3.0,
    "ytick.color": INK,
    "ytick.major.size": 0.0,
}
"""Where matplotlib's defaults are not what is wanted."""
