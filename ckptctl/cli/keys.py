"""The keys of a `ckptctl.toml`: the options that they are, and their values as those take them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from ckptctl import naming
from ckptctl.cli import retention
from ckptctl.cli.options import Duration, Size, long_name
from ckptctl.errors import PolicyError

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_ITEMS = 100
"""The most entries of an array."""


class Layer(NamedTuple):
    """Values of options, by the names that they have in the program, and where they are from."""

    source: str
    values: Mapping[str, Any]


def _parameters() -> dict[str, click.Option]:
    found = click.command("settings")(retention.options(lambda **_: None)).params
    return {long_name(one): one for one in found if isinstance(one, click.Option)}


PARAMETERS = _parameters()
"""The options that are keys, by their long names without dashes."""

NAMES = tuple(str(one.name) for one in PARAMETERS.values())
"""The names that they have in the program."""


def typed(path: str, settings: Mapping[str, Any], table: str = "") -> Layer:
    """What a file says, as the options take it.

    Args:
        path: The file's: the paths that it names begin in its directory.
        settings: Its keys with their values, as TOML has them.
        table: The table that they stand in, for errors.

    Raises:
        PolicyError: It makes no sense, or is no value of such a kind.
    """
    try:
        values = {str(PARAMETERS[key].name): _value(path, key, value) for key, value in settings.items()}
        made = Layer(f"{path} {table}".rstrip(), values)
        check(made)
    except PolicyError as error:
        raise PolicyError(f"{table}: {error}" if table else str(error)) from error
    return made


def check(layer: Layer) -> None:
    """Sees that a layer makes sense by itself, wherever it counts.

    Raises:
        PolicyError: It does not.
    """
    from ckptctl.policy import Policy  # noqa: PLC0415 - of no use for help and completion

    retention.rules_of(layer.values)
    if layer.values.get("max_size") is not None:
        Policy((), layer.values["max_size"])


def _value(path: str, key: str, value: Any) -> Any:
    """A key's value, made by what makes the option's."""
    parameter = PARAMETERS[key]
    if not parameter.multiple:
        return _item(path, key, parameter, value)
    if not isinstance(value, list):
        raise PolicyError(f"{key} is to be an array, not {_kind(value)}: {key} = [ ... ]")
    if len(value) > MAX_ITEMS:
        raise PolicyError(f"{key} has more than {MAX_ITEMS} entries")
    return tuple(_item(path, key, parameter, item) for item in value)


def _item(path: str, key: str, parameter: click.Option, value: Any) -> Any:
    kinds, words = _meant(parameter)
    if type(value) not in kinds:
        raise PolicyError(f"{key} is to be {words}, not {_kind(value)}")
    if isinstance(value, bool):
        return value
    try:
        text = str(value)
        # What is not ASCII names files; only a metric's name is text.
        made = parameter.type.convert(text if key == "metric" else naming.from_text(text), parameter, None)
    except click.BadParameter as error:
        raise PolicyError(f"{key}: {error.message.rstrip('.')}") from error
    except ValueError as error:  # a path with a NUL
        raise PolicyError(f"{key}: {error}") from error
    if isinstance(parameter.type, click.Path):
        return os.path.join(os.path.dirname(path), str(made))
    return made


def _meant(parameter: click.Option) -> tuple[tuple[type, ...], str]:
    """The types of TOML that an option's value may have, and what they are called."""
    kind = parameter.type
    if parameter.is_flag:
        return (bool,), "true or false"
    if isinstance(kind, click.types.IntParamType):
        return (int,), "a whole number"
    if isinstance(kind, Duration | Size):
        return (str, int, float), f"a {kind.name}"
    return (str,), "a string"


def _kind(value: Any) -> str:
    return _KINDS.get(type(value), "a date or time")


_KINDS: dict[type, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a string",
    list: "an array",
    dict: "a table",
}
