"""Durations and sizes, as people write and read them. Pure."""

from __future__ import annotations

import math
import re

from ckptctl.errors import PolicyError

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?\s*(?:ms|[smhdw])\s*)+")
_PART = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|[smhdw])")
_STEP = 1000
_SIZE = re.compile(
    r"(?P<number>\d+(?:\.\d+)?)\s*(?:(?P<unit>[kmgtp])(?P<binary>i)?)?(?:b|bytes)?", re.IGNORECASE | re.ASCII
)


def parse_duration(text: str) -> float:
    """Reads a duration such as `30s`, `10m`, `36h`, `7d` or `1h30m`; a bare number is seconds.

    Args:
        text: As a user wrote it.

    Returns:
        Seconds.

    Raises:
        PolicyError: It is not written like that, or longer than a number can say.
    """
    words = text.strip().lower()
    if _NUMBER.fullmatch(words):
        words += "s"
    if not _DURATION.fullmatch(words):
        raise PolicyError(f"{text!r} is not a duration: write 30s, 10m, 36h, 7d, or 1h30m")
    seconds = sum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(words))
    if not math.isfinite(seconds):
        raise PolicyError(
            "that duration is longer than any clock can tell: write 30s, 10m, 36h, 7d, or 1h30m"
        )
    return seconds


def parse_bytes(text: str) -> int:
    """Reads a size such as `200GB`, `1.5TiB`, `500 MB` or `1000`: powers of 1000, with an `i` of 1024.

    Args:
        text: As a user wrote it.

    Returns:
        Bytes.

    Raises:
        PolicyError: It is not written like that.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise PolicyError(f"{text!r} is not a size: write 500MB, 200GB, or 1.5TiB")
    power = 1 + "kmgtp".index(match["unit"].lower()) if match["unit"] else 0
    try:
        return int(float(match["number"]) * (1024 if match["binary"] else _STEP) ** power)
    except OverflowError:
        raise PolicyError("that size is larger than any disk: write 500MB, 200GB, or 1.5TiB") from None


def format_duration(seconds: float) -> str:
    """Writes a duration in the largest unit that gives a whole number."""
    for unit in ("w", "d", "h", "m"):
        if seconds >= _SECONDS[unit] and seconds % _SECONDS[unit] == 0:
            return f"{seconds / _SECONDS[unit]:.10g}{unit}"
    return f"{seconds:.10g}s"


def format_bytes(count: int) -> str:
    """Writes a size with three digits at most before the point, in powers of 1000 as disks are sold."""
    if count < _STEP:
        return f"{count} B"
    size = float(count)
    for unit in ("kB", "MB", "GB", "TB"):
        size /= _STEP
        if round(size, 1) < _STEP:
            return f"{size:.1f} {unit}"
    return f"{size / _STEP:.1f} PB"


def format_count(number: int, noun: str) -> str:
    """Writes a number of things, `1 checkpoint` or `2,000 checkpoints`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
