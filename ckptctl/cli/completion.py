"""Shell completion: directories, and checkpoints by the names of their files alone. No file is opened."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from click.shell_completion import BashComplete, CompletionItem, FishComplete, add_completion_class

from ckptctl import naming

if TYPE_CHECKING:
    from collections.abc import Iterator

    import click


def directories(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
    """Has the shell offer directories."""
    del ctx, param
    return [CompletionItem(incomplete, type="dir")]


def checkpoints(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
    """Offers the checkpoints that a path may lead to, and the directories below which there may be others."""
    head, slash, begun = incomplete.rpartition("/")
    where = os.path.expanduser(head + slash) or "."
    found = _beginning(begun, _checkpoints(where))
    if not found:
        return directories(ctx, param, incomplete)
    found += [f"{name}/" for name in _beginning(begun, _directories(where))]
    return [CompletionItem(head + slash + name, path=True) for name in found]


def protected(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
    """Offers the names of the checkpoints in the directories that were given, or in the current one."""
    if "/" in incomplete:
        return checkpoints(ctx, param, incomplete)
    # Click takes no arguments from a line whose last option waits for its value: they are left over then.
    given = ctx.params.get("directories") or [word for word in ctx.args if not word.startswith("-")]
    names = {name for where in given or (".",) for name in _checkpoints(os.path.expanduser(where))}
    return [CompletionItem(name, path=True) for name in _beginning(incomplete, names)]


def _checkpoints(where: str) -> set[str]:
    try:
        return naming.checkpoints_among(set(os.listdir(where)))
    except OSError:
        return set()


def _directories(where: str) -> Iterator[str]:
    with os.scandir(where) as entries:
        for entry in entries:
            if naming.may_be_a_run(entry.name) and entry.is_dir():
                yield entry.name


def _beginning(begun: str, names: Any) -> list[str]:
    """Those of the names that begin so and can be shown, lowest step first; hidden ones if asked for."""
    fit = (name for name in names if name.startswith(begun) and name.isprintable())
    return sorted((name for name in fit if begun or not name.startswith(".")), key=_by_step)


def _by_step(name: str) -> tuple[str, int, str]:
    step = naming.step_of(name)
    return (name, -1, "") if step is None else (name.rpartition("-")[0], step, name)


class _Bash(BashComplete):
    """Click's, with names of spaces and brackets: bash is told that they are names, and quotes them."""

    source_template = """\
%(complete_func)s() {
    local IFS=$'\\n' line
    COMPREPLY=()
    while read -r line; do
        case "${line%%%%,*}" in
            dir) compopt -o dirnames ;;
            file) compopt -o default ;;
            path) compopt -o filenames; COMPREPLY+=("${line#*,}") ;;
            plain) COMPREPLY+=("${line#*,}") ;;
        esac
    done < <(env COMP_WORDS="${COMP_WORDS[*]}" COMP_CWORD="$COMP_CWORD" \
%(complete_var)s=bash_complete "$1")
}
complete -o nosort -F %(complete_func)s %(prog_name)s
"""

    def format_completion(self, item: CompletionItem[Any]) -> str:
        """Of a directory bash sees by itself that it is one."""
        return f"path,{item.value.rstrip('/')}" if item.path else super().format_completion(item)


class _Fish(FishComplete):
    """Click's, with names that hold commas."""

    source_template = FishComplete.source_template.replace('split ","', 'split -m 1 ","')


def register() -> None:
    """Has Click know them."""
    add_completion_class(_Bash)
    add_completion_class(_Fish)
