"""The axes: where they begin and end, and what their ticks say."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from dateutil import tz
from matplotlib.dates import AutoDateLocator, DateFormatter
from matplotlib.ticker import FuncFormatter, MaxNLocator

from ckptctl.plotting.picture import Axis

if TYPE_CHECKING:
    from collections.abc import Sequence

DAY = 86_400.0
"""Seconds in what matplotlib counts times in, from the epoch on."""

_LARGE = 1e7
"""From here on numbers are written as millions and so on."""


def limits(places: Sequence[float], axis: Axis) -> tuple[float, float]:
    """Where the shared axis begins and ends; never of no width, however large the numbers are."""
    unit, least = (DAY, 10.0) if axis is Axis.TIME else (1.0, 2.0)
    low, high = min(places), max(places)
    pad = max((high - low) * 0.03, (least - high + low) / 2, max(abs(low), abs(high)) * 1e-9)
    return (low - pad) / unit, (high + pad) / unit


def number(axis: Any, ticks: int) -> None:
    """Has an axis show whole numbers."""
    low, high = axis.get_view_interval()
    largest = max(abs(low), abs(high))
    close = largest >= _LARGE and high - low < largest / 1e4  # told apart by their last digits alone
    axis.set_major_locator(MaxNLocator(2 if close else ticks, integer=True))
    axis.set_major_formatter(
        FuncFormatter(lambda value, _: f"{value:,.0f}" if close or largest < _LARGE else _short(value))
    )


def _short(value: float) -> str:
    for factor, unit in ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M")):
        if abs(value) >= factor:
            return f"{value / factor:.6g} {unit}"
    return f"{value:,.0f}"


def calendar(axis: Any, places: Sequence[float], ticks: int) -> None:
    """Has an axis show times as `ls` does, as much of them as tells one from the next."""
    zone = tz.tzlocal()
    axis.set_major_locator(AutoDateLocator(zone, minticks=2, maxticks=ticks))  # type: ignore[no-untyped-call]
    axis.set_major_formatter(DateFormatter(_form(max(places) - min(places)), zone))  # type: ignore[no-untyped-call]


def _form(seconds: float) -> str:
    for least, form in ((4 * DAY, "%Y-%m-%d"), (DAY, "%m-%d %H:%M"), (600, "%H:%M")):
        if seconds >= least:
            return form
    return "%H:%M:%S"


def days_of(places: Sequence[float]) -> str:
    """The days that times belong to which are written without."""
    low, high = min(places), max(places)
    if high - low >= DAY:
        return " (local time)"
    days = [f"{datetime.fromtimestamp(at, tz.tzlocal()):%Y-%m-%d}" for at in (low, high)]
    return f" {' to '.join(dict.fromkeys(days))} (local time)"
