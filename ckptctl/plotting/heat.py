"""A map of how far each layer moved: a row a layer, a column from each checkpoint to the next."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np
from matplotlib.colorbar import Colorbar
from matplotlib.colors import LogNorm
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

from ckptctl.plotting.style import INK

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

    from ckptctl.plotting.movement import Movement

_DECADES = 1e5
"""What moved less than the largest movement divided by this is as light as can be."""

_UNMOVED = "#eceff2"
_MAX_CELLS = 1_000
"""More cells are drawn as pixels, in SVG too."""


def heat(axes: Axes, moved: Movement, places: Sequence[float], names: Sequence[str]) -> None:
    """Draws the map, with a scale above its right end.

    Args:
        axes: Where.
        moved: What is shown.
        places: Its places in the axes' units.
        names: Its layers as they are written.
    """
    cells = np.array([[math.nan if one is None else one for one in row] for row in moved.rows])
    finite = [one for row in moved.rows for one in row if one is not None and 0 < one < math.inf]
    low, high = (min(finite), max(finite)) if finite else (0.01, 1.0)
    low = max(low, high / _DECADES)
    norm = LogNorm(low / 1.05, high * 1.05, clip=False)  # never of no width
    colours = mpl.colormaps["YlGnBu"].with_extremes(under=_UNMOVED, bad="none")
    cells = np.where(np.isinf(cells), high, cells)
    cells = np.where((cells > 0) & (cells < low), low, cells)
    mesh = axes.pcolormesh(
        np.array(places),
        np.arange(len(names) + 1) - 0.5,
        np.ma.masked_invalid(cells),
        norm=norm,
        cmap=colours,
        rasterized=cells.size > _MAX_CELLS,
        gid="movement",
    )
    axes.set_yticks(range(len(names)), labels=names, parse_math=False)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.grid(visible=False)
    height = axes.get_position().height * axes.figure.get_figheight()  # type: ignore[union-attr]
    scale = axes.inset_axes((0.66, 1 + 0.07 / height, 0.34, 0.09 / height))
    bar = Colorbar(scale, mesh, orientation="horizontal", ticklocation="top")
    bar.outline.set_visible(False)
    bar.ax.xaxis.set_major_locator(LogLocator(numticks=5))
    bar.ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.3g} %"))
    bar.ax.xaxis.set_minor_locator(NullLocator())
    bar.ax.xaxis.set_minor_formatter(NullFormatter())
    bar.ax.tick_params(labelsize=7.5, length=2, pad=1, colors=INK)
