"""Directories that a watcher is to look at, marked in watchdog's threads and taken in its own."""

from __future__ import annotations

import contextlib
import queue
import threading


class Marks:
    """Holds each directory once, however often it is marked while the watcher is busy with a long look."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._paths: dict[str, None] = {}
        self._calls: queue.SimpleQueue[None] = queue.SimpleQueue()

    def put(self, path: str) -> None:
        """Marks a directory; in any thread, but not in a signal handler."""
        with self._lock:
            first = not self._paths
            self._paths[path] = None
        if first:
            self.wake()

    def wake(self) -> None:
        """Ends the wait of `take`. A signal handler may call it: what it interrupts may hold the lock."""
        self._calls.put(None)

    def take(self, timeout: float) -> list[str]:
        """Waits for a mark, and takes those that there are by then.

        Args:
            timeout: For how many seconds.
        """
        with contextlib.suppress(queue.Empty):
            self._calls.get(timeout=timeout)
        with self._lock:
            paths, self._paths = self._paths, {}
        return list(paths)
