"""A metric's values from TensorBoard's events files.

A directory of events is any tree: the files lie right in it, or below (`logs/train` and `logs/validation` of
Keras, `eval` of Estimator). The directory of a file is its *run*, and a metric is a tag in a run.
"""

from __future__ import annotations

import difflib
import itertools
import os
from array import array
from typing import TYPE_CHECKING

from ckptctl import eventfile, posix
from ckptctl.errors import NoMetricError, RefusedError, UnreadableError
from ckptctl.eventfile import EventFile
from ckptctl.matching import Values

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

MAX_DEPTH = 6
"""How deep below the directory events files are looked for."""
MAX_FILES = 2_000
"""The most events files that are read together."""
MAX_DIRECTORIES = 10_000
"""The most directories in which they are looked for."""

_LISTED = 10
_BUFFER = 1 << 20
_KERAS = "epoch_"
"""How the tags begin that Keras's TensorBoard callback writes with the epoch for a step."""


class Events:
    """The scalars in the events files of a directory and below it.

    One object serves a process for as long as it lives: each look reads only what the files have grown by,
    and holds the values of the metric that is asked for and the names of the others. Files may appear at any
    time. What was read of one that has vanished counts; one that was cut or replaced is read anew.

    Only regular files are read, and no link is followed below the directory.

    Args:
        directory: Where to look.
    """

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._metric = ""
        self._files: dict[tuple[str, str], EventFile] = {}
        self._unread: tuple[str, ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        """What the last look came upon that the user should know."""
        files = [(os.path.join(self._directory, *at), file) for at, file in self._files.items()]
        return (
            *self._unread,
            *[f"{path}: {file.problem}" for path, file in files if file.problem],
            *[
                f"{path}: {file.passed:,} of its events are too large, or are none, and were passed over"
                for path, file in files
                if file.passed
            ],
        )

    def values(self, metric: str) -> Values:
        """Reads what is new, and gives all values of a metric.

        Args:
            metric: A tag such as `epoch_loss`. Where several runs have it, with the run or the end of its
                path before it: `validation/epoch_loss`; `./loss` is the tag in the directory itself.

        Raises:
            UnreadableError: The directory cannot be read; no run has the tag, or several have; there is more
                than can be held; or TensorBoard is not installed.
        """
        if metric != self._metric:
            self._metric, self._files = metric, {}
        self._look()
        runs = self._runs()
        if not runs:
            raise self._unknown()
        return self._joined(runs)

    def tags(self) -> tuple[str, ...]:
        """The scalars of the last look: tags, with their runs where several runs have them."""
        runs: dict[str, set[str]] = {}
        for (run, _), file in self._files.items():
            for tag in file.tags:
                runs.setdefault(tag, set()).add(run)
        return tuple(
            sorted(
                tag if len(having) == 1 else _spelled(run, tag)
                for tag, having in runs.items()
                for run in having
            )
        )

    def _look(self) -> None:
        unread: list[str] = []

        def unlisted(error: OSError) -> None:
            where = os.path.normpath(os.path.join(self._directory, os.fsdecode(error.filename or "")))
            unread.append(f"{where} cannot be read: {posix.reason(error)}")

        with posix.open_directory(self._directory) as directory:
            for run, name, fd in _events_files(directory, unlisted):
                if (run, name) not in self._files and len(self._files) >= MAX_FILES:
                    raise UnreadableError(
                        f"{self._directory}: more than {MAX_FILES:,} events files here and below: --events "
                        "names the directory of this run's"
                    )
                try:
                    with os.fdopen(posix.open_regular(fd, name), "rb", _BUFFER) as stream:
                        self._files.setdefault((run, name), EventFile(self._metric)).read(stream)
                except RefusedError as error:
                    unread.append(f"{os.path.join(self._directory, run, '')}{error}, and is not read")
                except OSError as error:
                    path = os.path.join(self._directory, run, name)
                    unread.append(f"{path} cannot be read: {posix.reason(error)}")
        self._unread = tuple(unread)

    def _runs(self) -> dict[tuple[str, str], list[EventFile]]:
        """The files that have values of the metric, by run and tag."""
        runs: dict[tuple[str, str], list[EventFile]] = {}
        for (run, _), file in sorted(self._files.items(), key=lambda item: item[0]):
            for tag in file.columns:
                if tag == self._metric or f"/{_spelled(run, tag)}".endswith(f"/{self._metric}"):
                    runs.setdefault((run, tag), []).append(file)
        exact = {key: files for key, files in runs.items() if _spelled(*key) == self._metric}
        return exact or runs

    def _joined(self, runs: dict[tuple[str, str], list[EventFile]]) -> Values:
        """One row of values; a run that went on in another directory (`logs/DATE/train`) is one run."""
        columns = {key: [file.columns[key[1]] for file in files] for key, files in runs.items()}
        spans = sorted(
            (
                min(min(one.times) for one in column),
                max(max(one.times) for one in column),
                min(min(one.steps) for one in column),
            )
            for column in columns.values()
        )
        kinds = {(os.path.basename(run), tag) for run, tag in runs}
        if len(kinds) > 1 or any(
            later[0] <= earlier[1] or later[2] <= earlier[2] for earlier, later in itertools.pairwise(spans)
        ):
            raise self._ambiguous(sorted(_spelled(*key) for key in runs))
        steps, numbers, times = array("q"), array("d"), array("d")
        for column in itertools.chain.from_iterable(columns.values()):
            steps.extend(column.steps)
            numbers.extend(column.values)
            times.extend(column.times)
            if len(times) > eventfile.MAX_VALUES:
                raise eventfile.too_many(self._metric)
        order = sorted(range(len(times)), key=times.__getitem__)
        # A file that lies there twice says nothing twice.
        again = {
            later
            for earlier, later in itertools.pairwise(order)
            if times[earlier] == times[later] and steps[earlier] == steps[later]
        }
        order = [at for at in order if at not in again]
        return Values(
            steps=array("q", [steps[at] for at in order]),
            values=array("d", [numbers[at] for at in order]),
            times=array("d", [times[at] for at in order]),
            until=max(file.until for files in runs.values() for file in files),
            epochs=all(tag.startswith(_KERAS) for _, tag in runs),
            holes=bool(self.notes),
        )

    def _ambiguous(self, spelled: Sequence[str]) -> NoMetricError:
        choices = " or ".join(f"--metric {name}" for name in spelled[:_LISTED])
        return NoMetricError(f"{self._directory}: several runs have a scalar `{self._metric}`: say {choices}")

    def _unknown(self) -> NoMetricError:
        where = f"{self._directory}: no scalar `{self._metric}` in the events files here and below"
        tags = self.tags()
        if not self._files:
            return NoMetricError(
                f"{self._directory}: no events files here or below: --events DIR says where they are, or "
                "--metrics FILE has the metric"
            )
        if not tags:
            return NoMetricError(f"{where}, nor any other so far")
        near = difflib.get_close_matches(self._metric, tags, n=1)
        meant = f"did you mean `{near[0]}`? T" if near else "t"
        more = f" and {len(tags) - _LISTED:,} more" if len(tags) > _LISTED else ""
        return NoMetricError(f"{where}; {meant}here are: {', '.join(tags[:_LISTED])}{more}")


def _events_files(
    directory: posix.OpenDirectory, unread: Callable[[OSError], object]
) -> Iterator[tuple[str, str, int]]:
    """The run, the name and the open directory of each file that TensorBoard would read.

    `unread` is told of each directory that cannot be listed.
    """
    walk = os.fwalk(".", dir_fd=directory.fd, follow_symlinks=False, onerror=unread)
    for count, (path, below, names, fd) in enumerate(walk):
        if count >= MAX_DIRECTORIES:
            raise UnreadableError(
                f"{directory.path}: more than {MAX_DIRECTORIES:,} directories below: --events names the one "
                "with the events files"
            )
        run = "" if path == "." else path.removeprefix("./")
        depth = len(run.split("/")) if run else 0
        below[:] = sorted(below) if depth < MAX_DEPTH else []
        for name in sorted(names):
            if "tfevents" in name and not name.endswith(".profile-empty"):
                yield run, name, fd


def _spelled(run: str, tag: str) -> str:
    return f"{run or '.'}/{tag}"
