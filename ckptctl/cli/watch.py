"""`ckptctl watch`."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
import time
import warnings
from typing import TYPE_CHECKING, Any

import click

from ckptctl.cli import options, settings
from ckptctl.cli.ahead import unknown
from ckptctl.cli.exits import as_far_as_it_goes, drop_unwritten
from ckptctl.errors import CkptctlError, PolicyError
from ckptctl.lookout import is_listener
from ckptctl.notify import Notifier
from ckptctl.policy import Policy
from ckptctl.posix import open_directory, reason
from ckptctl.render import escape, iso
from ckptctl.roots import Place, run_directories
from ckptctl.units import format_bytes
from ckptctl.voice import Event
from ckptctl.watch import Watcher

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from ckptctl.tally import Tally


@click.command(name="watch")
@options.directories
@settings.options
@options.verify
@options.workers
@options.dry_run
@click.option("-r", "--recursive", is_flag=True, help="Watch every run directory below each DIR too.")
@click.option(
    "--settle",
    type=options.Duration(),
    default="1s",
    show_default=True,
    help="How long a directory has to be quiet before it is looked at; 0.1 is 0.1s.",
)
@click.option(
    "--rescan",
    type=options.Duration(),
    default="1m",
    show_default=True,
    help="How often everything is looked at, whether or not there were events; at 0 as often as --settle "
    "allows, ten times a second at most.",
)
@click.option("--poll", is_flag=True, help="Do without the file system's events (NFS, some containers).")
@click.option(
    "--metrics-port",
    type=click.IntRange(1, 65535),
    metavar="PORT",
    help="Serve Prometheus metrics over HTTP on this port; needs ckptctl's extra [metrics].",
)
@click.option(
    "--metrics-address",
    default="127.0.0.1",
    show_default=True,
    metavar="ADDRESS",
    help="The interface that they are served on; what is not loopback shows them to the network.",
)
@options.latest_filename
@options.as_json
def command(
    *,
    directories: tuple[str, ...],
    level: str,
    workers: int,
    dry_run: bool,
    recursive: bool,
    settle: float,
    rescan: float,
    poll: bool,
    metrics_port: int | None,
    metrics_address: str,
    latest_filename: str,
    as_json: bool,
    **given: Any,
) -> None:
    """Prunes each DIR (default: the current one) whenever its trainer has saved, until it is stopped.

    A DIR need not exist yet, and may go and come back. SIGTERM and SIGINT finish the deletion in hand.
    Under systemd (Type=notify) it tells when it is ready and how things stand, and answers the watchdog.

    \b
    Exit codes: 0 stopped by a signal; 2 usage; 3 a DIR is not a directory or
    cannot be read, or TensorFlow cannot be loaded; 4 another watch was given the
    same DIR; one that was given a DIR above or below it is not noticed.

    \b
    Example:  ckptctl watch --keep 3 -r runs
    """  # noqa: D301 - \b is Click's mark for a paragraph that is left as it is
    if metrics_port is None and not options.is_default("metrics_address"):
        raise click.UsageError("--metrics-address is for --metrics-port: say on which port to serve metrics")
    paths = [_lasting(path) for path in directories or (os.curdir,)]
    retained = settings.Retention(given)
    _expect_policy(retained, paths, recursive=recursive)
    report = _unfailing(_print_json if as_json else _print_line)
    for said, _ in unknown(_places(paths, recursive=recursive), retained):
        report(Event(time.time(), "warning", "", {"warning": f"{said} no checkpoint so far"}))
    with contextlib.ExitStack() as held:
        watcher = Watcher(
            paths,
            retained.of,
            latest_filename=latest_filename,
            proofs=held.enter_context(options.proofs(level, workers)),
            recursive=recursive,
            settle=settle,
            rescan=max(rescan, settle, _SHORTEST_RESCAN),
            poll=poll,
            dry_run=dry_run,
            report=report,
            notifier=Notifier(os.environ),
        )
        if metrics_port is not None:
            held.enter_context(_served(watcher.tally, metrics_address, metrics_port))
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: watcher.stop())
        warnings.filterwarnings("ignore", module="watchdog")  # the rescan mends what it warns of
        threading.excepthook = _untold(threading.excepthook)
        watcher.run()
    drop_unwritten()


def _untold(tell: Callable[[threading.ExceptHookArgs], object]) -> Callable[[threading.ExceptHookArgs], None]:
    """Leaves out how a thread that listens ended: the rescan puts another in its place."""

    def hook(ended: threading.ExceptHookArgs) -> None:
        if not is_listener(ended.thread):
            tell(ended)

    return hook


def _lasting(path: str) -> str:
    """The current directory by its path: a trainer may remove it and make it again."""
    with contextlib.suppress(OSError):  # it has been deleted already, which is told by whoever goes there
        return os.getcwd() if path == os.curdir else path
    return path


def _expect_policy(retained: settings.Retention, paths: Sequence[str], *, recursive: bool) -> None:
    """Sees that there is something to be watched for, as far as the directories are there.

    Raises:
        PolicyError: There is no policy, or it makes no sense.
    """
    if recursive:
        retained.expect_rules(paths)
        return
    for path in paths:
        try:
            with open_directory(path) as directory:
                retained.of(directory)
        except PolicyError:
            raise
        except CkptctlError:  # it is not there yet, or its trouble is told when it is looked at
            if not retained.has_rules:
                Policy()


def _places(paths: Iterable[str], *, recursive: bool) -> Iterator[Place]:
    """What is watched, as far as it is there."""
    for path in paths:
        yield from run_directories(path) if recursive else (Place(path),)


@contextlib.contextmanager
def _served(tally: Tally, address: str, port: int) -> Iterator[None]:
    """Serves metrics meanwhile."""
    with contextlib.ExitStack() as held:
        try:
            from ckptctl import exporter  # noqa: PLC0415 - what it needs may not be installed

            held.enter_context(exporter.served(tally, address, port))
        except ImportError as error:
            raise click.UsageError(
                "--metrics-port needs Prometheus' client library: install ckptctl with its extra [metrics] "
                f"({error})"
            ) from error
        except (OSError, UnicodeError) as error:
            raise click.UsageError(
                f"metrics cannot be served on {address}, port {port}: {reason(error)}; choose another "
                "--metrics-port or --metrics-address"
            ) from error
        yield


_SHORTEST_RESCAN = 0.1
"""Seconds; less would be a busy loop."""


def _unfailing(say: Callable[[Event], None]) -> Callable[[Event], None]:
    """Goes on with the watch whatever becomes of its words."""

    def report(event: Event) -> None:
        with as_far_as_it_goes():
            say(event)

    return report


def _print_json(event: Event) -> None:
    head = {"time": iso(event.time), "event": event.event, "directory": event.directory}
    click.echo(json.dumps({**head, **event.details}))


def _print_line(event: Event) -> None:
    moment = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(event.time))
    where = f"{event.directory}: " if event.directory else ""
    for number, words in enumerate(_words(event)):
        line = f"{where}{'' if number == 0 else '  '}{words.removeprefix(where)}"
        click.echo(f"{moment} {escape(line)}", err=event.event in _WRONG)


_WRONG = frozenset({"refused", "failed", "warning"})


def _words(event: Event) -> list[str]:
    details = event.details
    if event.event == "pruned":
        verb = "would delete" if details.get("dry_run") else "deleted"
        freed = "" if details.get("dry_run") else f", freed {format_bytes(details['freed_bytes'])}"
        names = ", ".join(details["deleted"]) or "nothing"
        return [f"{verb} {names}{freed}; {details['kept']} stay", *details["notes"]]
    if event.event == "failed" and "failed" in details:
        return [f"{one['name']} could not be deleted: {one['error']}" for one in details["failed"]]
    if event.event == "warning":
        return [details["warning"]]
    if event.event in _WRONG:
        return [details["error"]]
    if event.event == "polling":
        return [f"file events cannot be had ({details['reason']}): polling from now on"]
    return [_PLAIN[event.event]]


_PLAIN = {
    "watching": "watching",
    "waiting": "not there yet; waiting for it",
    "gone": "gone; waiting for it to come back",
    "stopped": "stopped",
}
