"""The command line: the only place that imports Click. A command's module is imported when it is called."""

from __future__ import annotations

import contextlib
import gc
import importlib
import io
import os
import sys
from typing import TYPE_CHECKING, Any

import click

from ckptctl import __version__

if TYPE_CHECKING:
    from collections.abc import Iterator

    from click.shell_completion import CompletionItem

_OURS = object()
"""Says that the process is ours from start to end, and not a notebook's that calls `cli`."""

_COMMANDS = {
    "clean": "Deletes what interrupted saves left, and no checkpoint.",
    "demo": "Shows a watch at work beside a small real trainer.",
    "diff": "Shows what differs between two checkpoints.",
    "explain": "Explains what prune would do: what speaks for each checkpoint.",
    "latest": "Prints the path to restore from.",
    "ls": "Lists the checkpoints of directories.",
    "pin": "Keeps checkpoints whatever a policy says.",
    "plot": "Draws a picture of the checkpoints, and what a policy keeps.",
    "prune": "Deletes the checkpoints that no rule keeps.",
    "repair": "Mends a state file, so that TensorFlow can use it again.",
    "show": "Shows the tensors of a checkpoint, or their values.",
    "unpin": "Lets the policy decide about checkpoints again.",
    "verify": "Proves checkpoints: indexes, data, NaN, or a restore.",
    "watch": "Prunes directories whenever their trainers have saved.",
}
"""What each command is for, as `--help` lists it: asking the commands takes three times as long."""

_HEARD = {"explain": ["EXPLAIN", "PRUNE"]}
"""Whose variables a command hears if not only its own; the first wins."""


class _Commands(click.Group):
    """Finds a command in the module of its name."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - Click's signature
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - the same
        if cmd_name not in _COMMANDS:
            return None
        from ckptctl.cli.options import long_name  # noqa: PLC0415 - `--help` does without

        command: click.Command = importlib.import_module(f"ckptctl.cli.{cmd_name}").command
        for one in command.params:
            if isinstance(one, click.Option):  # Click would go by the names that they have in the program
                variable = long_name(one).replace("-", "_").upper()
                one.envvar = [f"CKPTCTL_{who}_{variable}" for who in _HEARD.get(cmd_name, [cmd_name.upper()])]
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            import difflib  # noqa: PLC0415 - most names are right

            near = difflib.get_close_matches(args[0], _COMMANDS, n=1)
            if not near:
                raise
            raise click.UsageError(f"{error.message} Did you mean {near[0]!r}?", ctx) from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem[str]]:
        from click import shell_completion  # noqa: PLC0415 - no other use of Click needs it

        fit = [name for name in _COMMANDS if name.startswith(incomplete)]
        found = [shell_completion.CompletionItem(name, help=_COMMANDS[name]) for name in fit]
        return found + click.Command.shell_complete(self, ctx, incomplete)

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        with _heard():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        # `--version` does without: it takes as long as Click does.
        from ckptctl import tensorflow  # noqa: PLC0415
        from ckptctl.cli.exits import failed  # noqa: PLC0415

        with _heard(), failed():
            if ctx.obj is _OURS:
                tensorflow.load_alone()
            tensorflow.use(tensorflow.Reader(ctx.params["state_reader"]))
            try:
                return super().invoke(ctx)
            except click.BadParameter as error:
                variable = _variable_of(error)
                if variable is None:
                    raise
                raise click.BadParameter(f"{variable}: {error.message}", error.ctx, error.param) from error


@contextlib.contextmanager
def _heard() -> Iterator[None]:
    """Ends as a program does that dies of SIGPIPE, where the reader of our output has gone.

    Click would say 1, which says of a checkpoint that it is corrupt. Of help for which the disk is
    full it tells, too: what goes wrong in a command has been told before.
    """
    try:
        yield
    except BrokenPipeError as error:
        from ckptctl.cli.exits import Exit, drop_unwritten  # noqa: PLC0415 - help that is heard does without

        drop_unwritten()
        raise click.exceptions.Exit(Exit.UNHEARD) from error
    except OSError:
        from ckptctl.cli.exits import failed  # noqa: PLC0415 - the same

        with failed():
            raise


def _variable_of(error: click.BadParameter) -> str | None:
    """The environment's variable that an option's value is from, if it is from one."""
    option, ctx = error.param, error.ctx
    if option is None or ctx is None or not isinstance(option.envvar, list):
        return None
    if ctx.get_parameter_source(str(option.name)) is not click.core.ParameterSource.ENVIRONMENT:
        return None
    heard: str = next(name for name in option.envvar if os.environ.get(name))
    return heard


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Every option of a command can be set in the environment by its long name: "
    "CKPTCTL_PRUNE_KEEP_DAILY=3 is `ckptctl prune --keep-daily 3`, CKPTCTL_PRUNE_DRY_RUN=1 its --dry-run.",
)
@click.option(
    "--state-reader",
    envvar="CKPTCTL_STATE_READER",
    show_envvar=True,
    type=click.Choice(["tensorflow", "protobuf"]),
    default="tensorflow",
    show_default=True,
    help="What reads state files: TensorFlow's own function, or protobuf's parser alone, which does the same "
    "and starts eight times as fast.",
)
@click.version_option(__version__, prog_name="ckptctl", message="%(prog)s %(version)s")
def cli(*, state_reader: str) -> None:
    """Inspects, proves and prunes TensorFlow checkpoint directories, whichever trainer writes them.

    The newest complete checkpoint and the trainer's own last word survive whatever happens. Complete is what
    is so by its index and the lengths of its files; with --verify, what passes when its data are read.

    \b
      ckptctl ls                    what is here
      ckptctl verify                whether it is whole
      ckptctl prune --keep 3 -n     what would go
      ckptctl explain --keep 3      what speaks for each, and where that is from
      ckptctl prune --keep 3        let it go
      ckptctl watch --keep 3        keep three while the trainer goes on
    """  # noqa: D301 - \b is Click's mark for a paragraph that is left as it is
    del state_reader  # heard before any command is


def main() -> None:
    """Runs the command line, in a process of our own."""
    if "_CKPTCTL_COMPLETE" in os.environ:
        from ckptctl.cli import completion  # noqa: PLC0415 - a shell asks, and no one else

        completion.register()
    if isinstance(sys.stdout, io.TextIOWrapper):  # a tensor's name may hold what the locale has no bytes for
        sys.stdout.reconfigure(errors="backslashreplace")
    gc.set_threshold(100_000)  # what a command reads it keeps to its end: no need to go through it often
    cli(obj=_OURS)


__all__ = ["cli", "main"]
