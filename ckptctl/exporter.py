"""Serves what a watch has come to as metrics, through Prometheus' own client library; the one door to that.

The numbers are read when they are asked for, in a thread of the server's: a watch waits for no scraper.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from prometheus_client import Metric

    from ckptctl.tally import Standing, Tally

_GAUGES: dict[str, tuple[str, Callable[[Standing], float | None]]] = {
    "ckptctl_checkpoints": ("Checkpoints that are there.", lambda one: one.checkpoints),
    "ckptctl_checkpoint_bytes": ("Size of the checkpoints that are there.", lambda one: one.bytes),
    "ckptctl_newest_saved_timestamp_seconds": (
        "When the newest complete checkpoint was saved.",
        lambda one: one.newest_saved,
    ),
    "ckptctl_last_success_timestamp_seconds": (
        "When the last look ended that neither failed nor was refused.",
        lambda one: one.last_success,
    ),
    "ckptctl_last_verified_timestamp_seconds": (
        "When the last look ended at which the newest checkpoint had passed --verify.",
        lambda one: one.last_verified,
    ),
}
_COUNTERS: dict[str, tuple[str, Callable[[Standing], float]]] = {
    "ckptctl_deleted": ("Checkpoints deleted.", lambda one: one.deleted),
    "ckptctl_freed_bytes": ("Bytes freed.", lambda one: one.freed_bytes),
    "ckptctl_failures": ("Looks that failed or were refused.", lambda one: one.failures),
}


class _Standings(Collector):
    """The metrics of a tally as it is at the moment."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally

    def collect(self) -> Iterator[Metric]:
        standings = {_label(path): one for path, one in self._tally.standings().items()}
        for name, (told, gauge) in _GAUGES.items():
            values = GaugeMetricFamily(name, told, labels=["directory"])
            for path, one in standings.items():
                value = gauge(one)
                if value is not None:
                    values.add_metric([path], value)
            yield values
        for name, (told, counter) in _COUNTERS.items():
            counts = CounterMetricFamily(name, told, labels=["directory"])
            for path, one in standings.items():
                counts.add_metric([path], counter(one))
            yield counts


@contextlib.contextmanager
def served(tally: Tally, address: str, port: int) -> Iterator[None]:
    """Serves the metrics of a tally over HTTP.

    Args:
        tally: What has come of a watch so far.
        address: The interface to listen on.
        port: And the port.

    Raises:
        OSError: It cannot be listened there.
    """
    registry = CollectorRegistry()
    registry.register(_Standings(tally))
    server, thread = start_http_server(port, address, registry)
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _label(path: str) -> str:
    """A path as a label, which has to be UTF-8."""
    return os.fsencode(path).decode(errors="backslashreplace")
