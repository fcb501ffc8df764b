"""Options and arguments that commands share."""

from __future__ import annotations

import contextlib
import os
import shlex
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.shell_completion import CompletionItem

from ckptctl import naming, units
from ckptctl.cli import completion
from ckptctl.errors import PolicyError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ckptctl.proof import Proofs
    from ckptctl.restore import Restorer

    _Floats = click.ParamType[float]
    _Ints = click.ParamType[int]
    _Strings = click.ParamType[str]
    _Choices = click.Choice[str]
else:
    _Floats = _Ints = _Strings = click.ParamType  # generic from Click 8.4 on
    _Choices = click.Choice  # and this from 8.2 on

_F = TypeVar("_F", bound="Callable[..., Any]")

_MAX_WORKERS = 64
"""More threads than this wait for each other."""


class Duration(_Floats):
    """A duration such as 30s, 10m or 36h; seconds in the program."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Reads it."""
        if isinstance(value, (int, float)):
            return float(value)
        try:
            return units.parse_duration(value)
        except PolicyError as error:
            self.fail(str(error), param, ctx)


class Size(_Ints):
    """A size such as 200GB or 1.5TiB; bytes in the program."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Reads it."""
        if isinstance(value, int):
            return value
        try:
            return units.parse_bytes(value)
        except PolicyError as error:
            self.fail(str(error), param, ctx)


class _Level(_Choices):
    """The word behind --verify, which Click takes what is meant for a DIR to be as well."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Reads it."""
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter as error:
            if not os.path.exists(value):
                raise
            self.fail(f"{error.message} Write --verify=data {shlex.quote(value)}.", param, ctx)


class TableFormat(_Strings):
    """The name of one of tabulate's formats, which is loaded to check any but the default."""

    name = "format"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Checks it."""
        if value != _SIMPLE and value not in self._names():
            self.fail(f"{value!r} is not one of {', '.join(self._names())}", param, ctx)
        return value

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Offers the names that begin so."""
        del ctx, param
        return [CompletionItem(name) for name in self._names() if name.startswith(incomplete)]

    def _names(self) -> list[str]:
        from tabulate import tabulate_formats  # noqa: PLC0415 - see above

        return sorted(tabulate_formats)


_SIMPLE = "simple"


def _file_name(ctx: click.Context, param: click.Parameter, value: str) -> str:
    if not value or "/" in value or value in {".", ".."}:
        raise click.BadParameter("a file's name in the directory is meant, without a path", ctx, param)
    return value


_PATH = click.Path(readable=False)

directory = click.argument(
    "path", metavar="[DIR]", default=".", type=_PATH, shell_complete=completion.directories
)
directories = click.argument(
    "directories", metavar="[DIR]...", nargs=-1, type=_PATH, shell_complete=completion.directories
)


def checkpoint(name: str) -> Callable[[_F], _F]:
    """An argument of that name: a checkpoint's prefix, or the path of any of its files."""
    return click.argument(name, metavar=name.upper(), type=_PATH, shell_complete=completion.checkpoints)


checkpoints = click.argument(
    "checkpoints",
    metavar="CHECKPOINT...",
    nargs=-1,
    required=True,
    type=_PATH,
    shell_complete=completion.checkpoints,
)
paths = click.argument(
    "paths", metavar="[DIR|CHECKPOINT]...", nargs=-1, type=_PATH, shell_complete=completion.checkpoints
)


def long_name(option: click.Option) -> str:
    """What an option is called without its dashes."""
    return next(name[2:] for name in option.opts if name.startswith("--"))


def is_default(name: str) -> bool:
    """Whether the user said nothing of an option of the command that runs."""
    source = click.get_current_context().get_parameter_source(name)
    return source is click.core.ParameterSource.DEFAULT


latest_filename = click.option(
    "--latest-filename",
    metavar="NAME",
    default=naming.STATE_FILE,
    show_default=True,
    callback=_file_name,
    help="The state file's name, where the trainer chose one of its own (TF1's Saver).",
)
as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON, as the README documents it.")
table_format = click.option(
    "--format",
    "form",
    type=TableFormat(),
    default=_SIMPLE,
    show_default=True,
    metavar="NAME",
    help="The table's format, by tabulate's name for it: github, tsv, html ...",
)


def _cores() -> int:
    """How many cores this process may use; macOS tells only how many there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


workers = click.option(
    "-j",
    "--workers",
    type=click.IntRange(1, _MAX_WORKERS),
    default=lambda: min(_cores(), _MAX_WORKERS),
    show_default="one a core",
    metavar="N",
    help="How many threads read.",
)
offline = click.option(
    "--offline",
    is_flag=True,
    help="No trainer is at work: write the state file even where it cannot be exchanged (NFS, FUSE).",
)
dry_run = click.option("-n", "--dry-run", is_flag=True, help="Show what would be deleted, and touch nothing.")


verify = click.option(
    "--verify",
    "level",
    type=_Level(["quick", "data", "finite", "restore"]),
    is_flag=False,
    flag_value="data",
    default="quick",
    show_default=True,
    help="What a checkpoint has to pass to count: its index and the lengths of its shards (quick), every "
    "checksum (data; --verify alone), no NaN or Inf besides (finite), a restore by TensorFlow (restore).",
)
"""Gives the word that `proofs` takes."""


@contextlib.contextmanager
def proofs(level: str, workers: int) -> Iterator[Proofs]:
    """What the options `verify` and `workers` ask for."""
    from ckptctl.proof import Proofs  # noqa: PLC0415 - of no use to whoever asks for no proof
    from ckptctl.verify import Level  # noqa: PLC0415

    asked = Level.INDEX if level == "quick" else Level(level)
    with restorer(wanted=asked is Level.RESTORE) as one:
        yield Proofs(asked, workers, one)


def restorer(*, wanted: bool) -> contextlib.AbstractContextManager[Restorer | None]:
    """What has TensorFlow restore checkpoints, if that is wanted."""
    if not wanted:
        return contextlib.nullcontext()
    from ckptctl.restore import Restorer  # noqa: PLC0415 - what starts processes is loaded for this alone

    return Restorer()


def stack(*options: Callable[[_F], _F]) -> Callable[[_F], _F]:
    """Options that are asked for together, in the order in which help shows them."""

    def decorate(function: _F) -> _F:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


order = click.option(
    "--order",
    type=click.Choice(["time", "step", "name"]),
    help="What makes a checkpoint newer where time, step and name disagree; without it, all are heard.",
)
