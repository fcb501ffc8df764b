"""Tests of ckptctl.units."""

from __future__ import annotations

import pytest

from ckptctl import units
from ckptctl.errors import PolicyError


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30s", 30),
        ("10m", 600),
        ("36h", 129600),
        ("7d", 604800),
        ("2w", 1209600),
        ("1h30m", 5400),
        ("100ms", 0.1),
        ("1.5h", 5400),
        ("0", 0),
        ("5", 5),
        (" 0.1 ", 0.1),
        (" 5 M ", 300),
    ],
)
def test_duration_is_read(text: str, seconds: float) -> None:
    """Durations are read as people write them."""
    assert units.parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-5s",
        "-5",
        "5.",
        "5 6",
        "1h30",
        "5 parsecs",
        "1h-30m",
        "nan",
        "inf",
        "infs",
        "1e400",
        "s",
        "1,5h",
        "9" * 400,
    ],
)
def test_other_duration_is_refused(text: str) -> None:
    """What is not a duration is refused, with examples of what is."""
    with pytest.raises(PolicyError, match="write 30s"):
        units.parse_duration(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (0.1, "0.1s"),
        (90, "90s"),
        (120, "2m"),
        (86400, "1d"),
        (129600, "36h"),
        (1234567, "1234567s"),
        (1e30 * 86400, "8.64e+34s"),
        (1e9 * 604800, "1000000000w"),
    ],
)
def test_duration_is_written(seconds: float, text: str) -> None:
    """A duration is written in the largest unit that leaves it whole."""
    assert units.format_duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (999_949, "999.9 kB"),
        (999_960, "1.0 MB"),
        (1_234_567, "1.2 MB"),
        (5 * 10**15, "5.0 PB"),
        (5 * 10**19, "50000.0 PB"),
    ],
)
def test_size_is_written(count: int, text: str) -> None:
    """A size is written with at most three digits before the point, as far as there are units."""
    assert units.format_bytes(count) == text


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("200GB", 200 * 10**9),
        ("1.5TiB", 3 * 2**39),
        ("500 mb", 500 * 10**6),
        ("1000", 1000),
        ("2k", 2000),
        ("1 KiB", 1024),
        ("7B", 7),
    ],
)
def test_sizes(text: str, size: int) -> None:
    """Sizes as people write them."""
    assert units.parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "GB", "-1GB", "1XB", "1e9", "one", "1iB", "9" * 400 + "GB"])
def test_what_is_no_size(text: str) -> None:
    """Anything else is refused."""
    with pytest.raises(PolicyError, match="size"):
        units.parse_bytes(text)
