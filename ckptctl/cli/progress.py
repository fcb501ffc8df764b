"""How far a long command has come: one line on stderr, and only if that is a terminal."""

from __future__ import annotations

import shutil
import sys
import time

import click

from ckptctl.render import escape
from ckptctl.units import format_bytes

_SECONDS_BETWEEN = 0.1


class Progress:
    """The line. As a context it is wiped away in the end, however that comes.

    Args:
        sizes: The bytes of each piece of work in turn; 0 where that is not known yet.
    """

    def __init__(self, sizes: list[int]) -> None:
        self._sizes = sizes
        self._at = -1
        self._label = ""
        self._began = self._shown = time.monotonic()
        self._read = 0
        self._visible = sys.stderr.isatty()

    def __enter__(self) -> Progress:  # noqa: PYI034 - typing.Self needs 3.11
        return self

    def __exit__(self, *_: object) -> None:
        if self._visible:
            self._write("")

    def begin(self, label: str) -> None:
        """Goes on to the next piece of work.

        Args:
            label: What it is.
        """
        if self._at >= 0:
            self._read += self._sizes[self._at]
        self._at += 1
        self._label = label
        self.update(0, self._sizes[self._at])

    def update(self, done: int, total: int) -> None:
        """Takes note of how far the piece of work is, in bytes, and now and then shows it."""
        self._sizes[self._at] = total
        now = time.monotonic()
        if not self._visible or now - self._shown < _SECONDS_BETWEEN:
            return
        self._shown = now
        done += self._read
        total = sum(self._sizes)
        rate = done / (now - self._began)
        size = f"{format_bytes(done)} of {format_bytes(total)}  {format_bytes(int(rate))}/s"
        share = 100 * done // max(total, 1)
        self._write(f"{self._at + 1} of {len(self._sizes)}  {share:3d} %  {size}  {escape(self._label)}")

    def _write(self, line: str) -> None:
        width = shutil.get_terminal_size().columns - 1  # a full line would wrap, and stay
        click.echo(f"\r\x1b[K{line[:width]}", err=True, nl=False)
