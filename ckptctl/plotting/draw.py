"""Draws a picture: one column of panels that share an axis.

With `heat` and `ticks` this is the one door to matplotlib. The figure is made without pyplot, so
that no display is asked for, and with matplotlib's own settings instead of the user's, so that the same
directory gives the same picture everywhere.
"""

from __future__ import annotations

import contextlib
import io
import textwrap
from typing import TYPE_CHECKING, Any, NamedTuple

import matplotlib as mpl
from matplotlib import font_manager
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from ckptctl.plotting.heat import heat
from ckptctl.plotting.picture import Axis, Lane, time_of
from ckptctl.plotting.style import BEST, FAINT, LATEST, LOOKS, PAPER, PINNED, SETTINGS
from ckptctl.plotting.text import drawable, short_paths
from ckptctl.plotting.ticks import DAY, calendar, days_of, limits, number
from ckptctl.units import format_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from matplotlib.axes import Axes

    from ckptctl.plotting.movement import Movement
    from ckptctl.plotting.picture import Mark, Picture
    from ckptctl.plotting.style import Look

_WIDTH = 10.0
_DPI = 150
_GAP = 0.12
"""Inches, as all that follows: between two panels, beside their headings."""
_HEADING = 0.26
_MARGIN = 0.25
_FOOT = 0.55
_LINE = 0.17
_ACROSS = 118
"""How many characters a line of text holds."""

_LABEL = 40
"""The same of the name of a layer."""

_STEMS = 100
"""Up to so many checkpoints stand on stems."""
_MAX_VECTOR = 1_500
"""More marks are drawn as pixels, in SVG too."""
_NO_METADATA: dict[str, Any] = dict.fromkeys(("Creator", "Date", "Format", "Type"))
"""Nothing of when, and by which version, it was drawn: the same directory gives the same file."""


class Drawing(NamedTuple):
    """A figure that is drawn.

    Attributes:
        svg: It, as SVG; empty if it was not asked for.
        png: It, as PNG; the same.
        columns: Where each mark stands, from the left, in parts of the width.
        top: Where the panels begin, from the top, in parts of the height.
        bottom: Where they end.
    """

    svg: str
    png: bytes
    columns: tuple[float, ...]
    top: float
    bottom: float


class _Panel(NamedTuple):
    """A part of the column.

    Attributes:
        height: Inches.
        heading: What it shows.
        paint: Fills it in.
        room: Inches between the heading and the panel.
    """

    height: float
    heading: str
    paint: Callable[[Axes], None]
    room: float = 0.0


@contextlib.contextmanager
def _settings() -> Iterator[None]:
    """Sets what matplotlib goes by: its own settings, whatever a `matplotlibrc` says, with ours on top."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(SETTINGS)
        yield


def draw(picture: Picture, moved: Movement | None = None, *, vector: bool = True) -> Drawing:
    """Draws a picture.

    Args:
        picture: What is shown.
        moved: How far layers moved, for a panel more.
        vector: SVG is asked for; else PNG.
    """
    with _settings():
        painter = _Painter(picture, moved)
        figure = painter.figure()
        left, right = painter.extent()
        columns = tuple(painter.place(mark) * (right - left) + left for mark in picture.marks)
        buffer = io.BytesIO()
        if vector:
            figure.savefig(buffer, format="svg", dpi=_DPI, metadata=_NO_METADATA)
        else:
            figure.savefig(buffer, format="png", dpi=_DPI, metadata={"Software": None})
    found = buffer.getvalue()
    top, bottom = painter.span()
    return Drawing(found.decode() if vector else "", b"" if vector else found, columns, top, bottom)


class _Painter:
    """One figure."""

    def __init__(self, picture: Picture, moved: Movement | None) -> None:
        self._picture = picture
        self._moved = moved
        self._unit = DAY if picture.axis is Axis.TIME else 1.0
        self._font = font_manager.get_font(font_manager.findfont("DejaVu Sans")).get_charmap()
        count = len(picture.marks)
        self._size = next(
            size for most, size in ((60, 7.0), (200, 5.0), (1_500, 3.5), (count, 2.5)) if count <= most
        )
        self._limits = limits([mark.x for mark in picture.marks], picture.axis)
        self._axes: list[Axes] = []
        self._figure = Figure()
        FigureCanvasAgg(self._figure)

    def figure(self) -> Figure:
        """Draws everything."""
        panels = list(self._panels())
        head = self._head()
        notes = [line for note in self._notes() for line in textwrap.wrap(note, _ACROSS + 20)]
        height = _MARGIN + sum(size for size, _ in head) + 0.3 + _GAP + _FOOT + len(notes) * _LINE
        height += sum(panel.height + _HEADING + panel.room + _GAP for panel in panels)
        self._figure.set_size_inches(_WIDTH, height)
        y = height - _MARGIN
        for size, (text, options) in head:
            y -= size
            self._figure.text(_MARGIN / _WIDTH, y / height, text, parse_math=False, **options)
        y -= 0.3
        self._legend(y / height)
        y -= _GAP
        for panel in panels:
            y -= panel.height + _HEADING + panel.room
            self._axes.append(self._panel(panel, y, height))
            y -= _GAP
        self._axis(self._axes[-1])
        for at, line in enumerate(reversed(notes)):
            self._figure.text(
                _MARGIN / _WIDTH,
                (0.12 + at * _LINE) / height,
                line,
                fontsize=7.5,
                alpha=0.75,
                parse_math=False,
            )
        self._fit()
        return self._figure

    def extent(self) -> tuple[float, float]:
        """Where the panels begin and end, from the left, in parts of the width."""
        place = self._axes[0].get_position()
        return float(place.x0), float(place.x1)

    def span(self) -> tuple[float, float]:
        """Where the panels begin and end, from the top, in parts of the height."""
        return 1 - float(self._axes[0].get_position().y1), 1 - float(self._axes[-1].get_position().y0)

    def place(self, mark: Mark) -> float:
        """Where a mark stands, in parts of the panels' width."""
        low, high = self._limits
        return (mark.x / self._unit - low) / (high - low)

    def _write(self, text: str, most: int = 120) -> str:
        return drawable(text, self._font, most)

    def _head(self) -> list[tuple[float, tuple[str, dict[str, Any]]]]:
        """The lines above the panels, each with its height."""
        picture = self._picture
        lines = [(0.16, (self._write(picture.title, 80), {"fontsize": 13, "fontweight": "bold"}))]
        said = picture.summary() if picture.sentence is None else f"{picture.summary()}; {picture.sentence}"
        for line in textwrap.wrap(self._write(said, 3 * _ACROSS), _ACROSS):
            lines.append((0.2 if len(lines) > 1 else 0.24, (line, {"fontsize": 9.5})))
        return lines

    def _notes(self) -> list[str]:
        moved = () if self._moved is None else self._moved.notes
        return [self._write(note, 3 * _ACROSS) for note in (*self._picture.notes, *moved)]

    def _legend(self, y: float) -> None:
        """What the shapes mean: the lanes say it too, but not of the other panels."""
        marks = self._picture.marks
        looks = [(lane.value, LOOKS[lane]) for lane in Lane if any(mark.look is lane for mark in marks)]
        looks += [("latest", LATEST)] if any(mark.checkpoint.latest for mark in marks) else []
        looks += [("pinned", PINNED)] if any(mark.checkpoint.pinned for mark in marks) else []
        looks += [(f"best {self._metric()}", BEST)] if any(mark.best for mark in marks) else []
        handles = [Line2D([], [], label=name, **look.options(6.0)) for name, look in looks]
        self._figure.legend(
            handles=handles,
            loc="lower left",
            bbox_to_anchor=(_MARGIN / _WIDTH, y),
            borderaxespad=0.0,
            borderpad=0.0,
            columnspacing=1.6,
            frameon=False,
            handletextpad=0.3,
            ncols=len(handles),
        )

    def _panel(self, panel: _Panel, y: float, height: float) -> Axes:
        axes = self._figure.add_axes((0.1, y / height, 0.8, panel.height / height))
        axes.set_xlim(*self._limits)
        axes.annotate(
            panel.heading,
            (0, 1),
            xytext=(0, 5 + panel.room * 72),
            xycoords="axes fraction",
            textcoords="offset points",
            fontweight="bold",
            parse_math=False,
            gid="heading",
        )
        panel.paint(axes)
        axes.set_xlim(*self._limits)
        axes.tick_params(axis="x", labelbottom=False, length=0)
        return axes

    def _panels(self) -> Iterator[_Panel]:
        picture = self._picture
        lanes = picture.counts()
        yield _Panel(0.3 * len(lanes) + 0.1, "checkpoints", self._lanes)
        yield _Panel(1.15, "size", self._sizes)
        if picture.metric is not None:
            yield _Panel(1.5, self._metric(), self._values)
        other = [place for mark in picture.marks if (place := self._other(mark)) is not None]
        if len(set(other)) > 1:
            heading = "step" if picture.axis is Axis.TIME else f"saved{days_of(other)}"
            yield _Panel(1.15, heading, self._others)
        if self._moved is not None:
            rows = len(self._moved.layers)
            heading = "movement of each layer, relative to its norm"
            yield _Panel(max(0.5, min(0.24, 8 / rows) * rows), heading, self._movement, 0.1)

    def _lanes(self, axes: Axes) -> None:
        """Which checkpoints are kept and go, or how they stand."""
        counts = self._picture.counts()
        rows = {count.lane: row for row, count in enumerate(counts)}
        labels = [
            f"{count.lane.value}  {count.marks:,}" + (f", {format_bytes(count.bytes)}" if count.bytes else "")
            for count in counts
        ]
        axes.set_yticks(range(len(counts)), labels=labels)
        axes.set_ylim(len(counts) - 0.4, -0.6)
        axes.grid(visible=False, axis="x")
        self._scatter(axes, lambda mark: rows[mark.lane], "lane")
        for mark in self._picture.marks:
            if mark.checkpoint.latest:
                self._plot(axes, [mark], lambda one: rows[one.lane], LATEST, "latest")
        pinned = [mark for mark in self._picture.marks if mark.checkpoint.pinned]
        self._plot(axes, pinned, lambda mark: rows[mark.lane], PINNED, "pinned")

    def _sizes(self, axes: Axes) -> None:
        marks = [mark for mark in self._picture.marks if mark.checkpoint.on_disk]
        largest = max([mark.checkpoint.bytes for mark in marks], default=0)
        axes.set_ylim(0, 1.25 * max(largest, 1))
        axes.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]))
        axes.yaxis.set_major_formatter(
            FuncFormatter(lambda value, _: format_bytes(int(value)).replace(".0 ", " "))
        )
        if len(marks) <= _STEMS:
            axes.vlines(
                [mark.x / self._unit for mark in marks],
                0,
                [mark.checkpoint.bytes for mark in marks],
                colors=FAINT,
                linewidth=1.5,
            )
        self._scatter(axes, lambda mark: mark.checkpoint.bytes if mark.checkpoint.on_disk else None, "size")

    def _values(self, axes: Axes) -> None:
        """The metric, with the best of it."""
        marks = [mark for mark in self._picture.marks if mark.value is not None]
        x, y = [mark.x / self._unit for mark in marks], [mark.value or 0.0 for mark in marks]
        axes.plot(x, y, color=FAINT, linewidth=1.2, zorder=1.5)
        axes.margins(y=0.25)
        self._scatter(axes, lambda mark: mark.value, "value")
        best = [mark for mark in marks if mark.best]
        self._plot(axes, best, lambda mark: mark.value, BEST, "best")
        axes.yaxis.set_major_locator(MaxNLocator(4))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.4g}"))
        if best:
            first = min(best, key=lambda mark: self._picture.best.index(mark.checkpoint.name))
            axes.annotate(
                f"{first.value:.4g}",
                (first.x / self._unit, first.value or 0.0),
                xytext=(0, max(self._size, BEST.least) + 2),
                textcoords="offset points",
                ha="center",
                fontsize=8,
                bbox={"facecolor": PAPER, "edgecolor": "none", "alpha": 0.8, "pad": 1.0},
            )

    def _others(self, axes: Axes) -> None:
        """The axis that the checkpoints do not stand along: pauses and steps back show there."""
        unit = 1.0 if self._picture.axis is Axis.TIME else DAY
        self._scatter(axes, lambda mark: None if (at := self._other(mark)) is None else at / unit, "other")
        axes.margins(y=0.12)
        if self._picture.axis is Axis.TIME:
            number(axes.yaxis, 4)
        else:
            calendar(
                axes.yaxis, [at for mark in self._picture.marks if (at := self._other(mark)) is not None], 4
            )

    def _other(self, mark: Mark) -> float | None:
        one = mark.checkpoint
        if self._picture.axis is Axis.STEP:
            return time_of(one)
        return None if one.step is None else float(one.step)

    def _movement(self, axes: Axes) -> None:
        if self._moved is not None:
            names = [self._write(layer, _LABEL) for layer in short_paths(self._moved.layers, _LABEL)]
            heat(axes, self._moved, [place / self._unit for place in self._moved.places], names)

    def _metric(self) -> str:
        return self._write(self._picture.metric or "", 40)

    def _scatter(self, axes: Axes, height: Callable[[Mark], float | None], panel: str) -> None:
        """The marks, kind by kind: what goes first, so that what stays lies above it."""
        on_top = (Lane.SAVING, Lane.UNREADABLE, Lane.BROKEN)
        for lane in (Lane.ABSENT, Lane.GOES, Lane.COMPLETE, Lane.KEPT, *on_top):
            marks = [mark for mark in self._picture.marks if mark.look is lane]
            self._plot(axes, marks, height, LOOKS[lane], f"{panel}-{lane.name.lower()}")

    def _plot(
        self, axes: Axes, marks: Iterable[Mark], height: Callable[[Mark], float | None], look: Look, gid: str
    ) -> None:
        found = [(mark.x / self._unit, at) for mark in marks if (at := height(mark)) is not None]
        if found:
            x, y = [x for x, _ in found], [y for _, y in found]
            many = len(found) > _MAX_VECTOR
            axes.plot(
                x,
                y,
                gid=gid,
                clip_on=False,
                zorder=3,
                rasterized=many,
                **look.options(max(self._size, look.least)),
            )

    def _axis(self, axes: Axes) -> None:
        """The ticks below the last panel."""
        axes.tick_params(axis="x", labelbottom=True, length=3)
        for one in self._axes:
            if self._picture.axis is Axis.TIME:
                calendar(one.xaxis, [mark.x for mark in self._picture.marks], 7)
            else:
                number(one.xaxis, 9)
        label = (
            "step"
            if self._picture.axis is Axis.STEP
            else f"saved{days_of([m.x for m in self._picture.marks])}"
        )
        axes.set_xlabel(label)

    def _fit(self) -> None:
        """Gives the labels on the left the room that they take."""
        self._figure.draw_without_rendering()
        width = max(
            label.get_window_extent().width for axes in self._axes for label in axes.get_yticklabels()
        )
        left = _MARGIN + width / self._figure.dpi + 0.08
        for axes in self._axes:
            place = axes.get_position()
            axes.set_position((left / _WIDTH, place.y0, 1 - (left + 0.4) / _WIDTH, place.height))
