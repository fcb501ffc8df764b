"""Tests of ckptctl.cli.settings: what holds where options and files say different things."""

from __future__ import annotations

import json
import os
import re
from typing import TYPE_CHECKING, Any

import click
import fabricate
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ckptctl import posix
from ckptctl.chronology import Order
from ckptctl.cli import cli
from ckptctl.cli.keys import PARAMETERS
from ckptctl.cli.prune import command
from ckptctl.cli.settings import _KEEP_MORE, Retention, Terms
from ckptctl.errors import PolicyError, RefusedError
from ckptctl.model import ABSENT, Checkpoint, Directory, File, Format, Status
from ckptctl.plan import plan

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Invoke

OWN = "ckptctl.toml"


def terms(directory: Path, *arguments: str, **environment: str) -> Terms:
    """What holds in a directory with these arguments of prune."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(f"CKPTCTL_PRUNE_{name}", value)
        with cli.make_context("ckptctl", [], resilient_parsing=True) as above:
            assert cli.get_command(above, "prune") is command
        ctx = command.make_context("prune", list(arguments))
    with ctx, posix.open_directory(str(directory)) as opened:
        return Retention(ctx.params).of(opened)


def said(found: Terms) -> dict[str, str]:
    """The settings and where they are from, a name each."""
    return {str(setting): os.path.basename(setting.source) for setting in found.settings}


def write(path: Path, text: str, mode: int = 0o644) -> Path:
    """A file of ours that nobody else may write, unless the mode says so."""
    path.write_text(text)
    path.chmod(mode)
    return path


def test_keys_are_the_options() -> None:
    """Every option of retention is a key, and what any user may ask for is among them."""
    with click.Context(command):
        names = {one.name for one in command.params}
    assert {one.name for one in PARAMETERS.values()} < names
    assert {one.name for one in PARAMETERS.values()} > _KEEP_MORE
    assert {"keep", "keep-every-steps", "max-size", "metrics", "order", "skip-open"} < set(PARAMETERS)


def test_key_by_key(tmp_path: Path) -> None:
    """The command line wins, then the environment, the last table that fits, the top, the own file."""
    run = tmp_path / "run"
    run.mkdir()
    write(run / OWN, 'keep = 1\nkeep-daily = 1\nkeep-hourly = 1\nprotect = ["a", "b"]\nmax-size = 1000\n')
    config = write(
        tmp_path / "c.toml",
        """\
keep = 2
keep-every = "90m"
keep-daily = 2
protect = ["b", "c"]
skip-open = true
[directories."r*"]
keep-every-steps = 3
keep-within = 0.5
[directories.other]
keep-within = "7h"
[directories.run]
keep-every-steps = 4
""",
    )
    arguments = ("--config", str(config), "--keep", "5", "--protect", "d")
    found = terms(run, *arguments, KEEP_HOURLY="6", KEEP="7")
    assert said(found) == {
        "--keep 5": "the command line",
        "--keep-every-steps 4": 'c.toml [directories."run"]',
        "--keep-every 90m": "c.toml",
        "--keep-hourly 6": "the environment",
        "--keep-daily 2": "c.toml",
        "--keep-within 0.5s": 'c.toml [directories."r*"]',
        "--max-size 1.0 kB": OWN,
        "--protect a": OWN,
        "--protect b": "c.toml",
        "--protect c": "c.toml",
        "--protect d": "the command line",
        "--skip-open": "c.toml",
    }
    assert found.policy.sentence() == (
        "keep the 5 newest, the first of every 4 steps, one every 90m, the newest of the last 6 hours, "
        "the newest of the last 2 days and what was saved within 0.5s before the newest, "
        "up to 1.0 kB together"
    )
    assert found.protections.protect == ("a", "b", "c", "d")
    assert found.protections.skip_open
    assert found.notes == ()
    assert "--keep 1" in said(terms(run))
    assert said(terms(run, "--keep=4", "--no-own-config")) == {"--keep 4": "the command line"}


def test_metrics_are_beside_their_file(tmp_path: Path) -> None:
    """A path in a file is relative to that file, and counts only where a best is asked for."""
    run = fabricate.run(tmp_path / "run", 4)
    write(tmp_path / "m.csv", "step,loss\n1,0.1\n2,0.2\n")
    write(tmp_path / "c.toml", 'metrics = "m.csv"\nkeep = 1')
    found = terms(run, "--config", str(tmp_path / "c.toml"))
    assert found.policy.sentence() == "keep the newest one"
    found = terms(run, "--config", str(tmp_path / "c.toml"), "--keep-best=1")
    assert found.policy.sentence() == "keep the newest one and the one with the lowest loss"
    write(run / OWN, 'metrics = "mine.json"\nmetric = "acc"\nmode = "max"')
    write(run / "mine.json", '[{"step": 3, "acc": 9}]')
    found = terms(run, "--keep-best=1")
    assert found.policy.sentence() == "keep the one with the highest acc"


def test_files_are_read_again(tmp_path: Path) -> None:
    """What is asked for days hears of every change, of metrics too, and of a file that is no longer sound."""
    config, own = write(tmp_path / "c.toml", "keep-best = 1"), tmp_path / "run" / OWN
    metrics = write(tmp_path / "m.csv", "step,loss\n1,0.1\n")
    own.parent.mkdir()
    context = command.make_context("prune", ["--config", str(config), "--metrics", str(metrics)])
    with context, posix.open_directory(str(own.parent)) as directory:
        retained = Retention(context.params)
        first = retained.of(directory).policy
        assert retained.of(directory).policy == first
        write(metrics, "step,loss\n1,0.1\n2,0.2\n")
        assert retained.of(directory).policy != first
        write(config, "keep-best = 3")
        write(own, "keep = 2")
        assert retained.of(directory).policy.sentence() == "keep the 2 newest and the 3 with the lowest loss"
        write(own, "keep = 0")
        with pytest.raises(RefusedError, match="would keep nothing"):
            retained.of(directory)
        own.unlink()
        with pytest.raises(RefusedError, match="has just gone"):
            retained.of(directory)
        assert retained.of(directory).policy.sentence() == "keep the 3 with the lowest loss"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "c.toml: it is empty: put a rule into it, or remove it"),
        ("\n", "it is empty"),
        ("keep = 0", "c.toml: --keep 0 would keep nothing"),
        ("keep = -1", "would keep nothing"),
        (
            "[directories.elsewhere]\nkeep-daily = 0",
            r'c.toml: \[directories."elsewhere"\]: --keep-daily 0 would',
        ),
        ("max-size = 0", "would keep nothing"),
        ("max-size = -1", "not a size"),
        (f"max-size = 1{'0' * 900}", "larger than any disk"),
        (f"min-age = 1{'0' * 900}", "longer than any clock"),
        ("min-age = -3", "not a duration"),
        ("min-age = inf", "not a duration"),
        ("keep-every = nan", "not a duration"),
        ("keep-every = 0", "makes no sense"),
        ('keep = "3"', "keep is to be a whole number, not a string"),
        ("keep = true", "keep is to be a whole number, not true or false"),
        ("keep = 3.0", "not a number"),
        ("keep = [3]", "keep is to be a whole number, not an array"),
        ("[keep]\nn = 3", "keep is to be a whole number, not a table"),
        ("keep = 2026-01-01", "keep is to be a whole number, not a date or time"),
        ("skip-open = 1", "skip-open is to be true or false, not a whole number"),
        ('protect = "a"', r"protect is to be an array, not a string: protect = \[ ... \]"),
        ("protect = [3]", "protect is to be a string, not a whole number"),
        (f"keep-step = [{'1, ' * 101}]", "keep-step has more than 100 entries"),
        ('mode = "worst"', "'worst' is not one of 'min', 'max'"),
        ("metric-within = -1", "-1 is not in the range"),
        ("max-size = [1]", "max-size is to be a size, not an array"),
        ("verify = true", "no key 'verify': --verify belongs on the command line"),
        ("config = 'x'", "no key 'config': --config belongs on the command line"),
        ("[directories.elsewhere]\njson = true", "no key 'json': --json belongs on the command line"),
    ],
)
def test_nothing_is_deleted_where_a_file_makes_no_sense(
    tmp_path: Path, invoke: Invoke, text: str, message: str
) -> None:
    """The file that is named is a usage error; a directory's own is refused, whoever wrote it."""
    run, other = fabricate.run(tmp_path / "run", 3), fabricate.run(tmp_path / "other", 3)
    config = write(tmp_path / "c.toml", text)
    result = invoke("prune", "--keep=1", "--config", str(config), str(run))
    assert (result.exit_code, fabricate.names(run)) == (2, {"ckpt-1", "ckpt-2", "ckpt-3"}), result.output
    assert re.search(message, result.stderr), result.stderr
    if "directories" in text:
        return
    write(run / OWN, text, 0o666)
    result = invoke("prune", "--keep=1", str(run), str(other))
    assert (result.exit_code, len(fabricate.names(run)), len(fabricate.names(other))) == (4, 3, 1)
    assert f"{run}/{OWN}: " in result.stderr
    assert "--no-own-config" in result.stderr
    assert invoke("prune", "--keep=1", str(run), "--no-own-config").exit_code == 0
    assert fabricate.names(run) == {"ckpt-3"}


def test_own_file_is_a_policy(tmp_path: Path, invoke: Invoke) -> None:
    """A directory with a file of its own needs no option; beside one without, nothing is deleted at all."""
    run, other = fabricate.run(tmp_path / "run", 4), fabricate.run(tmp_path / "other", 4)
    write(run / OWN, "keep = 2")
    result = invoke("prune", str(run), str(other))
    assert (result.exit_code, len(fabricate.names(run))) == (2, 4)
    assert f"{other}: the policy has no rule" in result.stderr
    assert invoke("prune", str(run)).exit_code == 0
    assert fabricate.names(run) == {"ckpt-3", "ckpt-4"}
    assert (run / OWN).exists()
    assert invoke("clean", str(run)).exit_code == 0
    assert (run / OWN).exists()
    assert json.loads(invoke("ls", "--json", str(run)).stdout)["directories"][0]["leftovers"] == []


def test_a_file_that_changes_meanwhile(
    tmp_path: Path, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is wrong with one directory's own file by the time that its turn comes stops no other."""
    runs = [fabricate.run(tmp_path / name, 3) for name in ("a", "b", "c")]
    for run in runs:
        write(run / OWN, "keep = 1")
    of = Retention.of

    def change(self: Retention, directory: posix.OpenDirectory) -> Terms:
        found = of(self, directory)
        if directory.path == str(runs[2]):  # the last look ahead
            (runs[1] / OWN).unlink(missing_ok=True)
        return found

    monkeypatch.setattr(Retention, "of", change)
    result = invoke("prune", "--json", *map(str, runs))
    assert (result.exit_code, len(json.loads(result.stdout)["directories"])) == (4, 2)
    assert [len(fabricate.names(run)) for run in runs] == [1, 3, 1]


def test_what_may_be_repeated_adds_up(
    tmp_path: Path, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The environment's names are protected beside those of the command line and the file."""
    run = fabricate.run(tmp_path / "run", 6)
    write(run / OWN, 'protect = ["ckpt-2"]')
    monkeypatch.setenv("CKPTCTL_PRUNE_PROTECT", "ckpt-1")
    monkeypatch.setenv("CKPTCTL_PRUNE_KEEP_STEP", "4")
    arguments = ("--keep=1", "--keep-step=5", "--protect=ckpt-3", str(run))
    assert invoke("prune", *arguments).exit_code == 0
    assert fabricate.names(run) == {f"ckpt-{step}" for step in range(1, 7)}
    monkeypatch.undo()
    assert invoke("prune", *arguments).exit_code == 0
    assert fabricate.names(run) == {f"ckpt-{step}" for step in (2, 3, 5, 6)}


@pytest.mark.parametrize("key", ["metrics", "events"])
def test_paths_that_are_none(tmp_path: Path, invoke: Invoke, key: str) -> None:
    """No file system has a name with a NUL: the file is refused, and no other directory is."""
    runs = [fabricate.run(tmp_path / name, 3) for name in "ab"]
    write(runs[0] / OWN, f'{key} = "a\\u0000b"')
    result = invoke("prune", "--keep=1", *map(str, runs))
    assert (result.exit_code, f"{key}: embedded null byte" in result.stderr) == (4, True)
    assert [len(fabricate.names(run)) for run in runs] == [3, 1]


def test_tables_for_directories(tmp_path: Path, invoke: Invoke) -> None:
    """Each directory has what is meant for it, by whatever path it is named."""
    runs = {name: fabricate.run(tmp_path / "runs" / name, 4) for name in ("a", "b-large", "c[1]")}
    config = write(
        tmp_path / "c.toml",
        'keep = 3\n[directories."runs/*-large"]\nkeep = 2\n[directories."runs/c[1]"]\nkeep = 1\n',
    )
    (tmp_path / "link").symlink_to("runs/b-large")
    named = [str(runs["a"]), str(tmp_path / "link"), str(runs["c[1]"])]
    assert invoke("prune", "--config", str(config), *named).exit_code == 0
    assert [len(fabricate.names(run)) for run in runs.values()] == [3, 2, 1]


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a file away")
def test_another_user_s_file(tmp_path: Path, invoke: Invoke) -> None:
    """It makes no policy, is heard for what it keeps, and is told of; named by --config it is like any."""
    run = fabricate.run(tmp_path / "run", 8)
    own = write(
        run / OWN,
        'keep = 3\nprotect = ["ckpt-1"]\nmax-size = "300B"\nmetrics = "/x"\nkeep-best = 1\norder = "step"',
    )
    os.chown(own, 65534, 65534)
    result = invoke("prune", str(run))
    assert (result.exit_code, len(fabricate.names(run))) == (2, 8)
    assert f"{own} belongs to another user (uid 65534), so it makes none" in result.stderr
    result = invoke("prune", "--json", "--keep=1", str(run))
    (found,) = json.loads(result.stdout)["directories"]
    assert fabricate.names(run) == {"ckpt-1", "ckpt-6", "ckpt-7", "ckpt-8"}
    assert found["policy"] == "keep the newest one and the 3 newest"
    (note,) = found["notes"]
    assert note.startswith(
        f"{own} belongs to another user (uid 65534), so it may only keep more; left aside: "
    )
    assert note.endswith(": keep-best, metrics, max-size, order")
    write(own, 'keep = 3\nmax-size = "300B"')
    os.chown(own, 65534, 65534)
    assert invoke("prune", "--config", str(own), str(run)).exit_code == 0
    assert fabricate.names(run) == {"ckpt-8"}


def test_another_s_rules_where_size_is_all(tmp_path: Path) -> None:
    """Where no rule is asked for but a size, a rule would let more go: it counts for nothing."""
    write(tmp_path / OWN, "keep = 1\nmin-age = 60", 0o666)
    found = terms(tmp_path, "--max-size=1TB", "--min-age=5m")
    assert found.policy.sentence() == "keep all, up to 1.0 TB together"
    assert found.protections.min_age == 300
    assert found.notes[0].endswith("left aside: keep")


# Whatever a file says that others may write, what stays without it stays

NUMBERS = st.integers(1, 6)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "keep": NUMBERS,
    "keep-every-steps": NUMBERS,
    "keep-every": st.integers(1, 400),
    "keep-hourly": NUMBERS,
    "keep-daily": NUMBERS,
    "keep-weekly": NUMBERS,
    "keep-within": st.integers(1, 400),
    "keep-step": st.lists(NUMBERS, max_size=3),
    "keep-best": NUMBERS,
    "max-size": st.integers(1, 40),
    "min-age": st.integers(0, 400),
    "protect": st.lists(st.sampled_from(["ckpt-1", "ckpt-*", "*-3"]), max_size=2),
    "include-preserved": st.booleans(),
    "skip-open": st.booleans(),
    "order": st.sampled_from([order.value for order in Order]),
}
SAID = st.dictionaries(st.sampled_from(list(VALUES)), st.none(), max_size=3).flatmap(
    lambda keys: st.fixed_dictionaries({key: VALUES[key] for key in keys})
)
POLICY = st.fixed_dictionaries(
    {"keep-step": st.lists(NUMBERS, min_size=1)}, optional={"max-size": VALUES["max-size"]}
)
NOW = 1_000_000.0
CHECKPOINTS = st.lists(
    st.builds(
        Checkpoint,
        st.integers(1, 40).map(lambda number: f"ckpt-{number}"),
        st.just(Format.V2),
        st.sampled_from([*[Status.COMPLETE] * 8, Status.SAVING, Status.BROKEN]),
        step=st.none() | NUMBERS,
        saved=st.none() | st.floats(NOW - 900, NOW),
        index=st.builds(
            File, st.just("index"), st.integers(1, 9), st.floats(0, 900).map(lambda s: int((NOW - s) * 1e9)),
            st.just(1),
        ),
        preserved=st.booleans(),
        used_by=st.none() | st.just(7),
    ),
    min_size=4,
    max_size=9,
    unique_by=lambda one: one.name,
)  # fmt: skip


def crowd(*sizes: int) -> list[Checkpoint]:
    """Checkpoints of these sizes, oldest first; the last is the newest, whatever is asked for."""
    return [
        Checkpoint(
            f"ckpt-{step}",
            Format.V2,
            Status.COMPLETE,
            step=step,
            saved=NOW - 900 + step,
            index=File("index", size, int((NOW - 900 + step) * 1e9), 1),
        )
        for step, size in enumerate(sizes, start=1)
    ]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with metrics beside it."""
    where = tmp_path_factory.mktemp("place")
    (where / "m.csv").write_text("step,loss\n1,3\n4,2\n7,1\n")
    (where / "run").mkdir()
    return where


@example({"keep-step": [1], "max-size": 10}, {"protect": ["ckpt-2"]}, crowd(4, 4, 4))
@example({"keep-step": [1], "max-size": 10}, {"keep-step": [2]}, crowd(4, 4, 4))
@example({"max-size": 10}, {"keep": 1}, crowd(3, 3, 3))
@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.builds(lambda one, other: {**one, **other}, SAID, POLICY), SAID, CHECKPOINTS)
def test_nothing_more_goes(
    place: Path, mine: dict[str, Any], theirs: dict[str, Any], checkpoints: list[Checkpoint]
) -> None:
    """What is deleted with a file that others may write is deleted without it too."""
    text = "".join(f"{key} = {json.dumps(value)}\n" for key, value in mine.items())
    write(place / "c.toml", f'{text}metrics = "m.csv"\n')
    text = "".join(f"{key} = {json.dumps(value)}\n" for key, value in theirs.items())
    write(place / "run" / OWN, f"# theirs\n{text}", 0o666)
    config = f"--config={place / 'c.toml'}"
    directory = Directory("run", ABSENT, tuple(checkpoints))
    deleted: list[set[str]] = []
    for found in (terms(place / "run", config, "--no-own-config"), terms(place / "run", config)):
        try:
            made = plan(directory, found.policy, found.protections, now=NOW)
        except PolicyError:  # no checkpoint has a value of the metric
            deleted.append(set())
            continue
        deleted.append({decision.checkpoint.name for decision in made.delete})
        size = sum(decision.checkpoint.bytes for decision in made.keep)
        assert made.over_bytes == max(0, size - (found.policy.max_bytes or size))
    without, with_theirs = deleted
    assert with_theirs <= without
