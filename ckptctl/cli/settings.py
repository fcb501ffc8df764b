"""What holds in a directory: the options, and under them the files that hold the same keys.

Key by key, what stands further up this list wins; what may be repeated adds up.

1. The command line, then the environment.
2. The file that --config names: of its tables the last that means the directory, ..., then what stands above
   its tables.
3. The directory's own `ckptctl.toml`.

An own file that may be another user's words is no part of the list. It may only keep more: its rules and
protections are added to what the list comes to, and what would stay without it stays
(`Protections.besides`). Whatever else it says counts for nothing, and no file is opened for its sake.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple

import click
from click.core import ParameterSource

from ckptctl import posix, units
from ckptctl.cli import retention
from ckptctl.cli.keys import NAMES, PARAMETERS, Layer, check, typed
from ckptctl.cli.metric import Sources
from ckptctl.cli.options import Duration, Size, long_name, stack
from ckptctl.configuration import DIRECTORIES, ConfigurationFile, Files, is_meant, parse
from ckptctl.errors import PolicyError
from ckptctl.naming import CONFIG_FILE
from ckptctl.roots import run_directories

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from ckptctl.plan import Protections
    from ckptctl.policy import Policy
    from ckptctl.posix import OpenDirectory

options = stack(
    retention.options,
    click.option(
        "--config",
        type=click.Path(dir_okay=False, readable=False),
        metavar="FILE",
        help="Take options from this TOML file too; what the command line says wins.",
    ),
    click.option(
        "--no-own-config",
        is_flag=True,
        help=f"Pay no heed to a DIR's own {CONFIG_FILE}.",
    ),
)
"""The options of `retention.options`, and where else they may come from: see `Retention`."""

_KEEP_MORE = frozenset(
    (
        "keep",
        "keep_every_steps",
        "keep_every",
        "keep_hourly",
        "keep_daily",
        "keep_weekly",
        "keep_within",
        "keep_step",
        "min_age",
        "protect",
        "skip_open",
    )
)
"""What any user may ask for."""

_SOURCES = {
    ParameterSource.ENVIRONMENT: "the environment",
    ParameterSource.COMMANDLINE: "the command line",
}
"""What says that the user said something; the last wins."""


class Setting(NamedTuple):
    """An option that has a say in a directory.

    Attributes:
        option: Its long name without dashes, which is its key.
        value: Its value; durations in seconds, sizes in bytes.
        source: Where it is from: a file's path, and the table in it if it is in one; or in words.
    """

    option: str
    value: Any
    source: str

    def __str__(self) -> str:
        kind = PARAMETERS[self.option].type if self.option in PARAMETERS else None
        if isinstance(self.value, bool):
            return f"--{self.option}" if self.value else f"no --{self.option}"
        if isinstance(kind, Duration):
            return f"--{self.option} {units.format_duration(self.value)}"
        return f"--{self.option} {units.format_bytes(self.value) if isinstance(kind, Size) else self.value}"


def beyond_files(*options: str) -> list[Setting]:
    """What somebody set of options of the command that runs which no file may hold."""
    context = click.get_current_context()
    found = []
    for one in context.command.params:
        source = _SOURCES.get(context.get_parameter_source(str(one.name)) or ParameterSource.DEFAULT)
        if isinstance(one, click.Option) and long_name(one) in options and source is not None:
            found.append(Setting(long_name(one), context.params[str(one.name)], source))
    return found


class Terms(NamedTuple):
    """What holds in one directory.

    Attributes:
        policy: Which checkpoints stay.
        protections: Which stay besides.
        settings: The options that somebody set, in their order, with where they are from.
        notes: What the user should know of the files.
    """

    policy: Policy
    protections: Protections
    settings: tuple[Setting, ...]
    notes: tuple[str, ...] = ()


class _Layers(NamedTuple):
    """What a file says: above its tables, and in them by their patterns."""

    file: ConfigurationFile
    top: Layer
    tables: tuple[tuple[str, Layer], ...]

    def of(self, directory: OpenDirectory) -> list[Layer]:
        """What of it counts for a directory; what comes later wins.

        Raises:
            RefusedError: The directory no longer is at its path, by which its tables know it.
        """
        if not self.tables:
            return [self.top]
        root, path = os.path.realpath(os.path.dirname(self.file.path)), os.path.realpath(directory.path)
        posix.expect_at_path(directory)
        return [self.top, *(layer for pattern, layer in self.tables if is_meant(pattern, path, root))]


class Retention:
    """What the options of the command that runs come to, directory by directory.

    Files are read again when they have changed: it may be asked for days.

    Args:
        given: The command's options.
        shows_metric: Whether the command has use for a metric that no rule asks for.

    Raises:
        PolicyError: One of them, or the file that --config names, makes no sense.
        UnreadableError: That file, or the metrics that the command line names, cannot be read.
    """

    def __init__(self, given: Mapping[str, Any], *, shows_metric: bool = False) -> None:
        self._given = given
        self._shows_metric = shows_metric
        context = click.get_current_context()
        source = context.get_parameter_source
        self._said = [
            Layer(words, {name: given[name] for name in NAMES if source(name) is one})
            for one, words in _SOURCES.items()
        ]
        self._said.insert(0, Layer(_SOURCES[ParameterSource.ENVIRONMENT], _overruled()))
        options = {long_name(one) for one in context.command.params if isinstance(one, click.Option)}
        self._named = Files(lambda file: _understood(file, options, tables=True))
        self._own = Files(lambda file: _understood(file, options, tables=False))
        self._sources = Sources()
        config = self._config()
        for layer in self._said:
            check(layer)
        anywhere, _ = self._merged([*([] if config is None else [config.top]), *self._said])
        if anywhere["keep_best"] is not None and anywhere["metrics"] is not None:
            self._sources.best(anywhere, anywhere["keep_best"], os.curdir)

    def of(self, directory: OpenDirectory) -> Terms:
        """What holds in a directory, now: to be asked again at each look.

        Raises:
            PolicyError: There is no policy for it, or it makes no sense.
            RefusedError: Its own file cannot be read or understood.
            UnreadableError: The metrics, or the file that --config names, cannot be read.
        """
        config = self._config()
        own = None if self._given["no_own_config"] else self._own.own(directory)
        if own is not None and config is not None and own.file.identity == config.file.identity:
            own = None
        trusted = [own.top] if own is not None and own.file.distrust is None else []
        given, settings = self._merged(
            [*trusted, *([] if config is None else config.of(directory)), *self._said]
        )
        try:
            self._expect_best(given)
            policy = retention.policy_of(given, self._sources, directory.path)
            terms = Terms(policy, retention.protections_of(given), settings, self._sources.notes)
        except PolicyError as error:
            doubt = (
                "" if own is None or trusted else f"; {own.file.path} {own.file.distrust}, so it makes none"
            )
            raise type(error)(f"{directory.path}: {error}{doubt}") from error
        return terms if own is None or trusted else _with_wishes(terms, own)

    def said(self, name: str) -> tuple[Any, ...]:
        """What the environment and the command line have of an option that may be repeated."""
        return _distinct(item for layer in self._said for item in layer.values.get(name, ()))

    @property
    def has_rules(self) -> bool:
        """Whether anything but a directory's own file makes a policy, if only for some directories."""
        config = self._config()
        layers = [] if config is None else [config.top, *(layer for _, layer in config.tables)]
        said = [one for layer in (*layers, *self._said) for one in layer.values.items()]
        return any(name.startswith("keep") or name == "max_size" for name, value in said if value)

    def has_own(self, path: str) -> bool:
        """Whether a directory, or one below it, has a file of its own that counts."""
        if self._given["no_own_config"]:
            return False
        return any(os.path.exists(os.path.join(one.path, CONFIG_FILE)) for one in run_directories(path))

    def expect_rules(self, paths: Iterable[str]) -> None:
        """Sees that there is a rule for some directory among these and those below them, whatever is there.

        Raises:
            NoRuleError: There is none.
        """
        if not self.has_rules and not any(map(self.has_own, paths)):
            from ckptctl.policy import Policy  # noqa: PLC0415 - as in `retention`

            Policy()  # says so

    def _expect_best(self, given: Mapping[str, Any]) -> None:
        """Sees that whoever says where a metric is says what for; a file need not."""
        if given["keep_best"] is None and not self._shows_metric:
            for key, parameter in PARAMETERS.items():
                if key.startswith(("metric", "mode", "events")) and any(
                    layer.values.get(str(parameter.name)) is not None for layer in self._said
                ):
                    raise PolicyError(f"--{key} is for --keep-best: say how many of the best are to stay")

    def _config(self) -> _Layers | None:
        path = self._given["config"]
        return None if path is None else self._named.named(path)

    def _merged(self, layers: Sequence[Layer]) -> tuple[dict[str, Any], tuple[Setting, ...]]:
        """The options' values, of which the last in the layers wins; and where they are from."""
        values = dict(self._given)
        settings = []
        for key, parameter in PARAMETERS.items():
            name = str(parameter.name)
            said = [layer for layer in layers if name in layer.values]
            if parameter.multiple:
                values[name] = _distinct(item for layer in said for item in layer.values[name])
                settings += [
                    Setting(key, item, layer.source) for layer in said for item in layer.values[name]
                ]
            elif said:
                values[name] = said[-1].values[name]
                settings.append(Setting(key, values[name], said[-1].source))
        return values, tuple(settings)


def _overruled() -> dict[str, Any]:
    """What the environment says of options that may be repeated, where the command line has some too."""
    context = click.get_current_context()
    found = {}
    for parameter in context.command.params:
        name = str(parameter.name)
        if parameter.multiple and context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            words = parameter.value_from_envvar(context)
            if name in NAMES and words:
                found[name] = parameter.type_cast_value(context, words)
    return found


def _with_wishes(terms: Terms, own: _Layers) -> Terms:
    """What holds where a directory's own file may only keep more."""
    from dataclasses import replace  # noqa: PLC0415 - few ask for it

    from ckptctl.policy import Policy  # noqa: PLC0415

    said = own.top.values
    heard = {name: value for name, value in said.items() if name in _KEEP_MORE}
    protections = replace(
        terms.protections,
        min_age=max(terms.protections.min_age, heard.get("min_age", 0.0)),
        protect=_distinct((*terms.protections.protect, *retention.protected_names(heard.get("protect", ())))),
        skip_open=terms.protections.skip_open or heard.get("skip_open", False),
        besides=(terms.policy, terms.protections),
    )
    policy = terms.policy
    if policy.rules:
        more = [rule for rule in retention.rules_of(heard) if rule not in policy.rules]
        policy = Policy((*policy.rules, *more), policy.max_bytes)
    else:  # all stay that fit: a rule could only take from that
        heard = {name: value for name, value in heard.items() if not name.startswith("keep")}
    settings = [
        Setting(key, item, own.top.source)
        for key, parameter in PARAMETERS.items()
        if str(parameter.name) in heard
        for item in (heard[str(parameter.name)] if parameter.multiple else [heard[str(parameter.name)]])
    ]
    aside = ", ".join(key for key, one in PARAMETERS.items() if one.name in said.keys() - heard.keys())
    note = f"{own.file.path} {own.file.distrust}, so it may only keep more"
    return Terms(
        policy,
        protections,
        (*terms.settings, *settings),
        (*terms.notes, f"{note}; left aside: {aside}" if aside else note),
    )


def _distinct(items: Iterable[Any]) -> tuple[Any, ...]:
    return tuple(dict.fromkeys(items))


def _understood(file: ConfigurationFile, options: Collection[str], *, tables: bool) -> _Layers:
    """What a file says, as the options take it; `options` are all that the command has.

    Raises:
        PolicyError: It cannot be understood, or makes no sense.
    """
    found = parse(file.text, PARAMETERS.keys(), options, tables=tables)
    return _Layers(
        file._replace(text=b""),
        typed(file.path, found.settings),
        tuple(
            (pattern, typed(file.path, table, f'[{DIRECTORIES}."{pattern}"]'))
            for pattern, table in found.tables
        ),
    )
