"""A metric's values by step, from a file that the user names."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import select
from typing import Any

from ckptctl.errors import UnreadableError
from ckptctl.matching import Values

MAX_BYTES = 1 << 26
"""The largest file that is read; a million steps take a third of it."""
_PATIENCE = 10.0
"""Seconds for which a FIFO may be silent."""


def read_values(path: str, metric: str) -> Values:
    """Reads a metric's values.

    Args:
        path: A JSON file: a list of objects; or a CSV file with a header. Each object or row has a `step` and
            the metric. Where a step occurs more than once, the last value counts.
        metric: What it is called there.

    Raises:
        UnreadableError: The file cannot be read, or holds something else.
    """
    try:
        content = _content(path)
        text = content.decode("utf-8-sig")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise UnreadableError(f"{path}: the metrics cannot be read: {reason}") from error
    if len(content) > MAX_BYTES:
        raise UnreadableError(f"{path}: the metrics have more than {MAX_BYTES:,} bytes")
    rows = _json(path, text) if os.path.splitext(path)[1].lower() == ".json" else _csv(path, text)
    values: dict[int, float] = {}
    for number, row in enumerate(rows, start=1):
        if row.get(metric) in (None, ""):  # a row of another metric
            continue
        try:
            values[_whole(row["step"])] = float(row[metric])
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise UnreadableError(
                f"{path}: row {number}: expected a whole step and a number {metric}, found {row!r:.80}"
            ) from error
    if not values:
        raise UnreadableError(f"{path}: no row has a {metric}; --metric says what it is called there")
    return Values(tuple(values), tuple(values.values()))


def _content(path: str) -> bytes:
    """Somewhat more than `MAX_BYTES` at most. A FIFO, as of `<(...)`, is not waited for without end."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        content = b""
        while len(content) <= MAX_BYTES:
            if not select.select([fd], [], [], _PATIENCE)[0]:
                raise BlockingIOError(errno.EAGAIN, "nothing comes out of it")
            read = os.read(fd, 1 << 20)
            if not read:
                break
            content += read
        return content
    finally:
        os.close(fd)


def _whole(value: Any) -> int:
    number = float(value)
    if not number.is_integer():
        raise ValueError(value)
    return int(number)


def _json(path: str, text: str) -> list[dict[str, Any]]:
    try:
        rows = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UnreadableError(f"{path}: expected JSON: {error}") from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise UnreadableError(f'{path}: expected a list such as [{{"step": 100, "loss": 0.5}}]')
    return rows


def _csv(path: str, text: str) -> list[dict[str, Any]]:
    whole = text if text.endswith(("\n", "\r")) else text[: text.rfind("\n") + 1]  # the rest is being written
    try:
        reader = csv.DictReader(io.StringIO(whole, newline=""))
        rows = list(reader)
    except csv.Error as error:
        raise UnreadableError(f"{path}: expected CSV: {error}") from error
    if "step" not in (reader.fieldnames or ()):
        raise UnreadableError(f"{path}: expected a header with a column `step`: step,loss for example")
    return rows
