"""Tests of the command line: exit codes, messages, what is loaded, what is escaped."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

import click
import fabricate
import pytest
import steps
from bundle_writer import BundleWriter
from click.core import ParameterSource
from conftest import ckptctl, unprivileged

from ckptctl import posix, tensorflow
from ckptctl.cli import _COMMANDS, cli
from ckptctl.cli.exits import Outcome

if TYPE_CHECKING:
    from conftest import Invoke


@pytest.mark.parametrize(
    "arguments",
    [
        ("--version",),
        ("--help",),
        ("ls", "--help"),
        ("prune", "--nonsense"),
        ("prune", "--keep", "0"),
        ("nonsense",),
    ],
    ids=" ".join,
)
def test_tensorflow_is_not_loaded(arguments: tuple[str, ...]) -> None:
    """Help, the version and usage errors load nothing of TensorFlow."""
    program = (
        "import sys; from ckptctl.cli import cli, main\n"
        "try:\n    sys.argv = ['ckptctl', *sys.argv[1:]]; main()\n"
        "finally:\n    print([m for m in sys.modules if m.split('.')[0] == 'tensorflow'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_help_lists_every_command() -> None:
    """`--help` has a whole line for each command, and loads none of them."""
    program = (
        "import sys; from ckptctl.cli import cli\n"
        "try:\n    cli(['--help'])\n"
        "finally:\n    print([m for m in sys.modules if m.startswith('ckptctl.cli.')])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    *shown, loaded = done.stdout.splitlines()
    assert loaded == "[]"
    lines = shown[shown.index("Commands:") + 1 :]
    listed = dict(line.split(maxsplit=1) for line in lines[: lines.index("")])
    folder = Path(tensorflow.__file__).parent / "cli"
    commands = [path.stem for path in folder.glob("*.py") if "\n@click.command(" in path.read_text()]
    assert list(listed) == sorted(commands)
    assert all(purpose.endswith(".") and "..." not in purpose for purpose in listed.values())


def word_for(option: click.Option) -> str:
    """A value that an option takes."""
    if isinstance(option.type, click.Choice):
        return str(option.type.choices[-1])
    return "github" if option.name == "form" else "1"


@pytest.mark.parametrize("name", _COMMANDS)
def test_every_option_has_a_variable(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Each is set by the variable of its command and its long name, and by no other spelling."""
    with cli.make_context("ckptctl", [], resilient_parsing=True) as above:
        command = cli.get_command(above, name)
    assert command is not None
    found = [one for one in command.params if isinstance(one, click.Option)]
    arguments = ["x"] * sum(isinstance(one, click.Argument) and one.required for one in command.params)
    for option in found:
        (long,) = (opt for opt in option.opts if opt.startswith("--"))
        monkeypatch.setenv(f"CKPTCTL_{name}{long[1:]}".replace("-", "_").upper(), word_for(option))
    with command.make_context(name, list(arguments), parent=above) as ctx:
        for option in found:
            assert ctx.get_parameter_source(str(option.name)) is ParameterSource.ENVIRONMENT, option.opts
            assert ctx.params[str(option.name)] != option.get_default(ctx) or not option.is_flag, option.opts


def test_variables_are_heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, invoke: Invoke) -> None:
    """They do what their options do; a value that makes no sense is told with its variable."""
    fabricate.run(tmp_path, 3)
    monkeypatch.setenv("CKPTCTL_PRUNE_KEEP", "1")
    monkeypatch.setenv("CKPTCTL_PRUNE_JSON", "1")
    monkeypatch.setenv("CKPTCTL_PRUNE_DRY_RUN", "yes")
    (found,) = json.loads(invoke("prune", str(tmp_path)).stdout)["directories"]
    assert ([one["name"] for one in found["delete"]], found["dry_run"]) == (["ckpt-1", "ckpt-2"], True)
    monkeypatch.setenv("CKPTCTL_PRUNE_VERIFY", "fully")
    monkeypatch.setenv("CKPTCTL_LS_LONG", "1")
    for command in ("prune", "explain"):
        result = invoke(command, str(tmp_path))
        assert result.exit_code == 2
        assert "'--verify': CKPTCTL_PRUNE_VERIFY: 'fully' is not one of" in result.stderr
    assert "CKPTCTL" not in invoke("prune", "--verify=half", str(tmp_path)).stderr
    assert "tensors" in invoke("ls", str(tmp_path)).stdout
    monkeypatch.setenv("CKPTCTL_VERSION", "1")  # says which one is to be installed, in many a container
    assert "tensors" in invoke("ls", str(tmp_path)).stdout


@pytest.mark.parametrize("name", ["", *_COMMANDS])
def test_help_fits_a_terminal(invoke: Invoke, name: str) -> None:
    """No line is wider than 80 columns, the paragraphs that are left as they are among them."""
    lines = invoke(*name.split(), "--help").stdout.splitlines()
    assert [line for line in lines if len(line) > 80] == []


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("prun", "No such command 'prun'. Did you mean 'prune'?"),
        ("list", "No such command 'list'."),
        ("--verfy", "No such option '--verfy'."),
    ],
)
def test_a_command_that_there_is_not(invoke: Invoke, word: str, told: str) -> None:
    """The nearest is named, as it is of an option."""
    result = invoke(word)
    assert (result.exit_code, result.stderr.splitlines()[-1].startswith(f"Error: {told}")) == (2, True)


def test_a_reader_that_there_is_not() -> None:
    """The one option before the commands has a variable too, which is named."""
    done = ckptctl("ls", CKPTCTL_STATE_READER="eyes")
    assert (done.returncode, "CKPTCTL_STATE_READER" in done.stderr) == (2, True)


def test_terminal_shows_nothing_of_tensorflow(tmp_path: Path) -> None:
    """A command that reads a state prints its own lines and no other, garbled state and all."""
    fabricate.run(tmp_path, 3)
    done = ckptctl("ls", str(tmp_path))
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == 6
    (tmp_path / "checkpoint").write_text("garbled {")
    done = ckptctl("prune", "--keep", "1", str(tmp_path))
    assert done.returncode == 4
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("ls", "nowhere"), 3, "no such directory"),
        (("ls", "file"), 3, "is not a directory"),
        (("ls", "empty"), 3, ""),
        (("prune", "empty", "--keep", "3"), 0, ""),
        (("prune", "nowhere", "--keep", "3"), 3, "no such directory"),
        (("ls", "run/ckpt-3"), 3, "run/ckpt-3 belongs to a checkpoint: name its directory, run\n"),
        (("ls", "run/ckpt-3/"), 3, "run/ckpt-3/ belongs to a checkpoint: name its directory, run\n"),
        (("prune", "run/ckpt-3.index", "--keep", "1"), 3, "name its directory, run\n"),
        (("prune", "run"), 2, "say --keep 3"),
        (("prune", "run", "--keep", "0"), 2, "at least 1"),
        (("prune", "run", "--keep", "-1"), 2, "at least 1"),
        (("prune", "run", "--keep", "many"), 2, "not a valid integer"),
        (("prune", "run", "--keep", "3", "--min-age", "soon"), 2, "write 30s"),
        (("prune", "run", "--keep", "3", "--protect", "best"), 2, "names no checkpoint"),
        (("prune", "run", "--keep", "3", "--latest-filename", "../checkpoint"), 2, "without a path"),
        (("prune", "orbax", "--keep", "3"), 4, "another program's file"),
        (("prune", "export/variables", "--keep", "3"), 4, "SavedModel"),
        (("prune", "nowhere", "run", "orbax", "--keep", "3"), 4, "no such directory"),
        (("prune", "run", "--keep", "3", "--latest-filename", "chekpoint"), 4, "but one called checkpoint"),
        (("prune", "run", "-n", "--keep", "3", "--latest-filename", "chekpoint"), 4, "state file chekpoint"),
        (("prune", "empty", "--keep", "3", "--latest-filename", "chekpoint"), 0, ""),
        (("watch", "run"), 2, "say --keep 3"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_exit_codes(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    invoke: Invoke,
    arguments: tuple[str, ...],
    code: int,
    message: str,
) -> None:
    """Each kind of trouble has its exit code and a message that names the remedy; nothing is deleted."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    fabricate.run(tmp_path / "run", 3)
    fabricate.run(tmp_path / "orbax", 3, listed=0)
    (tmp_path / "orbax" / "checkpoint").write_bytes(b"\x82\xa5epoch\x01\xa4step\xcd\x03\xe8\xff\xfe")
    (tmp_path / "export" / "variables").mkdir(parents=True)
    fabricate.checkpoint(tmp_path / "export" / "variables", "variables")
    before = fabricate.contents(tmp_path)
    result = invoke(*arguments)
    assert result.exit_code == code, result.output
    assert message in result.stderr
    assert fabricate.contents(tmp_path) == before


def test_names_are_escaped(tmp_path: Path, invoke: Invoke) -> None:
    """No name moves the cursor or begins a line, in tables and messages; JSON carries it as it is."""
    name = "a\n\x1b[31mb" + os.fsdecode(b"\xff") + "-1"
    fabricate.checkpoint(tmp_path, name)
    result = invoke("ls", str(tmp_path))
    assert "a\\n\\x1b[31mb\\xff-1" in result.stdout
    assert "\x1b" not in result.output
    listed = json.loads(invoke("ls", "--json", str(tmp_path)).stdout)
    assert listed["directories"][0]["checkpoints"][0]["name"] == name
    assert "\x1b" not in invoke("ls", str(tmp_path / "\x1b[31m")).stderr


def test_ls_json(tmp_path: Path, invoke: Invoke) -> None:
    """`ls --json` has the keys that the README documents."""
    fabricate.run(tmp_path, 2)
    (tmp_path / "ckpt-9.meta").write_bytes(b"graph")
    (directory,) = json.loads(invoke("ls", "--json", str(tmp_path)).stdout)["directories"]
    assert directory["state"] == {"status": "ok", "latest": "ckpt-2", "problem": None}
    assert directory["leftovers"] == [{"path": "ckpt-9.meta", "bytes": 5}]
    assert directory["checkpoints"][1] == {
        "name": "ckpt-2",
        "step": 2,
        "step_from": "name",
        "saved": "2023-11-14T22:14:20.500000+00:00",
        "bytes": 238,
        "shards": 1,
        "format": "v2",
        "status": "complete",
        "problem": None,
        "latest": True,
        "listed": True,
        "preserved": False,
        "pinned": False,
        "files": ["ckpt-2.index", "ckpt-2.data-00000-of-00001"],
    }


def test_ls_long(tmp_path: Path, invoke: Invoke) -> None:
    """`ls -l` adds what the checkpoint holds and who wrote it, in the table and in JSON."""
    fabricate.run(tmp_path, 1)
    (tmp_path / "ckpt-2.index").write_bytes(b"")
    _, whole, broken = invoke("ls", "-l", "--format", "tsv", str(tmp_path)).stdout.splitlines()
    assert [cell.strip() for cell in whole.split("\t")[5:]] == [
        "1",
        "100",
        "Saver",
        "name",
        "complete, latest",
    ]
    assert [cell.strip() for cell in broken.split("\t")[5:9]] == ["", "", "", "name"]
    (directory,) = json.loads(invoke("ls", "-l", "--json", str(tmp_path)).stdout)["directories"]
    first, second = directory["checkpoints"]
    assert (first["tensors"], first["parameters"], first["writer"]) == (1, 100, "Saver")
    assert "writer" not in second


@pytest.mark.parametrize(
    ("arguments", "best", "values"),
    [
        ((), "ckpt-3", [0.5, 0.25, 0.25, None]),
        (("--mode=max",), "ckpt-1", [0.5, 0.25, 0.25, None]),
        (("--metric-within=1", "-l"), "ckpt-4", [0.5, 0.25, 0.25, 0.25]),
        (("--metric=lr",), None, [None, None, None, None]),
    ],
)
def test_ls_metric(
    tmp_path: Path, invoke: Invoke, arguments: tuple[str, ...], best: str | None, values: list[float | None]
) -> None:
    """A metric has a column, and the best complete checkpoint is marked, of equals the newest."""
    run = fabricate.run(tmp_path / "run", 5)
    (run / "ckpt-5.data-00000-of-00001").unlink()  # broken: it has the best value, and is none
    (tmp_path / "m.csv").write_text("step,loss,lr\n1,0.5,\n2,0.25,\n3,0.25,\n5,0,\n9,,1\n")
    given = ("ls", f"--metrics={tmp_path / 'm.csv'}", *arguments, str(run))
    (directory,) = json.loads(invoke(*given, "--json").stdout)["directories"]
    metric = "lr" if "--metric=lr" in arguments else "loss"
    assert directory["metric"] == metric
    found = {one["name"]: one for one in directory["checkpoints"]}
    assert [found[f"ckpt-{step}"]["metric"] for step in range(1, 5)] == values
    assert [name for name, one in found.items() if one["best"]] == ([] if best is None else [best])
    rows = [row.split("\t") for row in invoke(*given, "--format=tsv").stdout.splitlines()]
    assert rows[0][-2].strip() == metric
    assert [row[-2].strip() for row in rows[1:5]] == ["" if v is None else f"{v:g}" for v in values]
    assert [row[0].strip() for row in rows[1:] if "best" in row[-1]] == ([] if best is None else [best])


def test_ls_metric_needs_metrics(tmp_path: Path, invoke: Invoke) -> None:
    """A metric that is nowhere is told of, and the list shown without; unasked, there is no such key."""
    run = fabricate.run(tmp_path / "run", 1)
    result = invoke("ls", "--metric=loss", str(run))
    assert (result.exit_code, "no events files here or below: --events DIR" in result.stderr) == (3, True)
    assert "ckpt-1" in result.stdout
    result = invoke("ls", f"--metrics={tmp_path / 'none.csv'}", str(run))
    assert (result.exit_code, "No such file" in result.stderr) == (3, True)
    (directory,) = json.loads(invoke("ls", "--json", str(run)).stdout)["directories"]
    assert not {"metric", "best"} & {*directory, *directory["checkpoints"][0]}


@pytest.mark.parametrize("option", ["--mode=max", "--metric-within=3"])
def test_ls_words_about_no_metric(tmp_path: Path, invoke: Invoke, option: str) -> None:
    """What says how a metric is read needs one, as it does for prune."""
    result = invoke("ls", option, str(fabricate.run(tmp_path, 2)))
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"{option.partition('=')[0]} is for --metric: say which" in result.stderr


@pytest.mark.parametrize("options", [(), ("-r",), ("--json",), ("-r", "--json")], ids=" ".join)
def test_ls_of_nothing_says_so(tmp_path: Path, invoke: Invoke, options: tuple[str, ...]) -> None:
    """Where there are no checkpoints stderr has it, and where else to look."""
    (tmp_path / "a").mkdir()
    result = invoke("ls", *options, str(tmp_path))
    assert result.exit_code == 3
    more = " or below" if "-r" in options else f"; `ckptctl ls -r {tmp_path}` looks below too"
    assert result.stderr == f"ckptctl: {tmp_path}: no checkpoints here{more}\n"


def test_ls_sorts_and_looks_below(tmp_path: Path, invoke: Invoke) -> None:
    """-r finds runs below, --sort orders the rows, --format gives the table alone."""
    fabricate.run(tmp_path / "a", 1)
    fabricate.run(tmp_path / "b", 11)
    assert invoke("ls", str(tmp_path)).exit_code == 3
    rows = invoke("ls", "-r", "--sort", "name", "--format", "tsv", str(tmp_path)).stdout.splitlines()
    names = [row.split("\t")[0].strip() for row in rows]
    assert names == [
        "name",
        "ckpt-1",
        "name",
        "ckpt-1",
        "ckpt-10",
        "ckpt-11",
        *(f"ckpt-{n}" for n in range(2, 10)),
    ]


def _overview(text: str) -> list[list[str]]:
    """The rows of `ls --summary`, cell by cell, without the times."""
    lines = text.splitlines()
    ends = [match.span() for match in re.finditer("-+", lines[1])]
    return [[line[begin:end].strip() for begin, end in ends[:-1]] for line in lines[2:] if line[0] != "3"]


def test_ls_summary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, invoke: Invoke) -> None:
    """A row for each directory, the largest first, with the checkpoint to restore from; and all together."""
    monkeypatch.chdir(tmp_path)
    for name, count, listed in (("a", 3, 2), ("b", 9, 0), ("c", 5, 5)):
        fabricate.run(Path("runs", name), count, listed=listed)
    Path("runs", "a", "checkpoint").write_text(fabricate.state_text(["ckpt-1", "ckpt-2"]))
    result = invoke("ls", "-r", "--summary", "runs")
    assert (result.exit_code, result.stderr) == (0, "")
    a = ["runs/a", "3", "714 B", "ckpt-2", "2"]
    b = ["runs/b", "9", "2.1 kB", "ckpt-9", "9"]
    c = ["runs/c", "5", "1.2 kB", "ckpt-5", "5"]
    headers = ["directory", "checkpoints", "size", "latest", "step", "saved"]
    assert result.stdout.splitlines()[0].split() == headers
    assert _overview(result.stdout) == [b, c, a]
    assert result.stdout.splitlines()[-1] == "3 directories: 17 checkpoints, 4.0 kB"
    for sort, rows in (("name", [a, b, c]), ("size", [a, c, b]), ("step", [a, c, b]), ("time", [a, c, b])):
        assert _overview(invoke("ls", "-r", "--summary", f"--sort={sort}", "runs").stdout) == rows, sort
    Path("runs", "c", "ckpt-9.data-00000-of-00001").write_bytes(bytes(5000))
    result = invoke("ls", "-r", "--summary", "runs")
    assert _overview(result.stdout)[0] == ["runs/c", "5", "1.2 kB", "5.0 kB", "ckpt-5", "5"]
    assert result.stdout.splitlines()[-1] == "3 directories: 17 checkpoints, 4.0 kB; leftovers, 5.0 kB"
    assert invoke("ls", "-r", "--summary", "--format=tsv", "runs").stdout.count("\n") == 4
    assert invoke("ls", "--summary", "runs").exit_code == 3


@pytest.mark.parametrize("option", ["--json", "--long", "--metric=loss"])
def test_ls_summary_is_a_table(tmp_path: Path, invoke: Invoke, option: str) -> None:
    """What tells of checkpoints one by one is refused beside it."""
    fabricate.run(tmp_path, 2)
    result = invoke("ls", "--summary", option, str(tmp_path))
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"--summary and {option.partition('=')[0]} do not go together" in result.stderr


def test_prune_json(tmp_path: Path, invoke: Invoke) -> None:
    """`prune --json` has the keys that the README documents, and options come from the environment too."""
    fabricate.run(tmp_path, 5)
    (found,) = json.loads(
        invoke("prune", "--keep", "3", "--protect", "ckpt-1.index", "--json", str(tmp_path)).stdout
    )["directories"]
    assert [one["name"] for one in found["keep"]] == ["ckpt-1", "ckpt-3", "ckpt-4", "ckpt-5"]
    assert found["delete"] == [{"name": "ckpt-2", "bytes": 238, "reasons": ["no rule keeps it"]}]
    assert (found["deleted"], found["failed"], found["freed_bytes"], found["dry_run"]) == (
        ["ckpt-2"],
        [],
        238,
        False,
    )
    done = ckptctl("prune", "--json", "-n", str(tmp_path), CKPTCTL_PRUNE_KEEP="1")
    assert len(json.loads(done.stdout)["directories"][0]["delete"]) == 3


@pytest.mark.parametrize(
    ("pattern", "known"),
    [
        ("ckpt-1", True),
        ("elsewhere/ckpt-1.data-00000-of-00001", True),
        ("ckpt-?", True),
        ("v1-7", True),
        ("v1-*", True),
        ("model", True),
        ("mod*", True),
        ("listed", True),
        ("ckpt-4", False),
        ("ckpt-?.data*", False),
        ("mod*.h5", False),
        ("notes*", False),
        ("kcpt-1", False),
    ],
)
def test_names_to_protect(tmp_path: Path, invoke: Invoke, pattern: str, known: bool) -> None:  # noqa: FBT001
    """A name that no checkpoint of any directory has stops everything; V1's bare names are known too."""
    run = fabricate.run(tmp_path / "a", 3)
    other = fabricate.run(tmp_path / "b", 3)
    for name in ("v1-7", "model", "listed"):
        (other / name).write_bytes(fabricate.v1())
    (other / "model.meta").write_bytes(b"graph")
    (other / "notes").mkdir()
    before = fabricate.contents(tmp_path)
    result = invoke("prune", "--keep=1", "--protect", pattern, str(run), str(other))
    assert result.exit_code == (0 if known else 2), result.output
    assert ("names no checkpoint" in result.stderr) is not known
    assert (fabricate.contents(tmp_path) == before) is not known
    result = invoke("explain", "--keep=1", "--protect", pattern, str(run), str(other))
    told = (
        f"names no checkpoint in {run}, {other}: it may be misspelt, so nothing was done; `ckptctl ls` shows "
        "the names\n"
    )
    assert (result.exit_code, result.stderr.endswith(told)) == ((0, False) if known else (2, True))


@pytest.mark.parametrize("command", [("prune",), ("prune", "-n"), ("explain",)], ids=" ".join)
def test_steps_that_no_checkpoint_has(
    tmp_path: Path, invoke: Invoke, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    """A step that no checkpoint of any directory has stops everything; a file's may be yet to come."""
    runs = [str(fabricate.run(tmp_path / name, count)) for name, count in (("a", 2), ("b", 4))]
    before = fabricate.contents(tmp_path)
    for arguments in (("--keep-step=999",), ("--keep-step=3", "--keep-step=999", "--keep=1")):
        result = invoke(*command, *arguments, *runs)
        assert (result.exit_code, result.stdout) == (2, "")
        assert f"--keep-step 999 is the step of no checkpoint in {', '.join(runs)}" in result.stderr
    monkeypatch.setenv("CKPTCTL_PRUNE_KEEP_STEP", "999 998")
    for option in ("--keep=3", "--keep-step=3"):
        result = invoke(*command, option, *runs)
        assert (result.exit_code, "--keep-step 998 is" in result.stderr) == (2, True)
    assert fabricate.contents(tmp_path) == before
    monkeypatch.undo()
    (tmp_path / "c.toml").write_text("keep-step = [999]")
    assert invoke(*command, "--keep-step=4", f"--config={tmp_path / 'c.toml'}", *runs).exit_code == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_prune_that_is_stopped_says_what_it_did(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], number: signal.Signals
) -> None:
    """Wherever it comes, what was deleted is reported, the rest is there, and the exit code tells of it."""
    runs = tmp_path / "one", tmp_path / "two"
    deleted: list[int] = []
    stopped = True
    while stopped:
        for run in runs:
            shutil.rmtree(run, ignore_errors=True)
            fabricate.run(run, 6)
        ended = _prune_signalled(runs, number, len(deleted))
        said = capfd.readouterr()
        stopped = not said.err.endswith("exit 0")
        assert not stopped or (said.err.endswith("exit 130") if number == signal.SIGINT else ended == -number)
        reports = json.loads(said.out)["directories"]
        assert stopped or len(reports) == 2
        assert len(reports) == 2 or f"stopped before it came to {runs[1]}\n" in said.err
        assert [_gone(run) for run in runs] == [*(one["deleted"] for one in reports), []][:2]
        whole = [len(one["deleted"]) == 3 for one in reports]
        assert whole == ["stopped before everything was deleted" not in one["notes"] for one in reports]
        assert not [name for run in runs for name in os.listdir(run) if name.startswith(".ckptctl-")]
        deleted.append(sum(len(one["deleted"]) for one in reports))
    assert deleted == sorted(deleted)
    assert set(deleted) == set(range(7))


@pytest.mark.parametrize("number", posix.ENDING, ids=lambda number: number.name)
@pytest.mark.parametrize("paths", [["a", "b"], ["a"]], ids=["before another", "in the last"])
def test_signal_that_does_not_end_the_process(paths: list[str], number: signal.Signals) -> None:
    """In a program with handlers of its own the exit code says all the same that a command was stopped."""
    outcome, signals = Outcome(), list[int]()
    for _ in outcome.each(paths, signals):
        signals.append(number)
    assert signals == [number]
    assert outcome.code == 128 + number


def _prune_signalled(runs: tuple[Path, ...], number: signal.Signals, moment: int) -> int:
    """A prune in a process of its own, which a signal reaches before one of the calls that it makes."""
    calls = 0

    def before(_: int) -> None:
        nonlocal calls
        # What Click does before it calls the command does not count.
        if any(frame.f_globals["__name__"] == "ckptctl.prune" for frame, _ in traceback.walk_stack(None)):
            calls += 1
            if calls == moment + 1:
                os.kill(os.getpid(), number)

    def work() -> None:
        with pytest.raises(SystemExit) as ended:
            cli(["prune", "--keep=3", "--json", *map(str, runs)])
        sys.stderr.write(f"exit {ended.value.code}")

    return steps.in_child(work, before)


def _gone(run: Path) -> list[str]:
    return sorted({f"ckpt-{step}" for step in range(1, 7)} - fabricate.names(run))


def test_unprivileged_user_gets_a_clear_error(tmp_path: Path) -> None:
    """Without permission to read or to delete there is a message, an exit code, and nothing lost."""
    run = fabricate.run(tmp_path / "run", 5)
    as_nobody = unprivileged(tmp_path)
    before = fabricate.contents(run)
    done = as_nobody("prune", "--keep", "3", str(run))
    assert done.returncode == 1, done.stderr
    assert "Permission denied" in done.stderr
    run.chmod(0o700)
    assert as_nobody("ls", str(run)).returncode == 3
    assert fabricate.contents(run) == before


@pytest.mark.parametrize(
    "arguments",
    [
        ("latest", "{}/none"),
        ("verify", "{}/none"),
        ("verify", "{}/bad"),
        ("show", "{}"),
        ("show", "{}/run/other"),
        ("show", "{}/run/ckpt-1", "--match", "x"),
        ("show", "{}/run/ckpt-1", "--tensor", "qqqqqqqqqqq"),
        ("show", "{}/run/v1", "--tensor", "weights"),
        ("show", "{}/bad/ckpt-1", "--stats"),
        ("repair", "{}/bad", "--verify"),
        ("plot", "{}/one", "--weights", "-o", "{}/x.png"),
    ],
    ids=" ".join,
)
def test_commands_can_be_pasted(tmp_path: Path, invoke: Invoke, arguments: tuple[str, ...]) -> None:
    """A path is a word of the command that a message names, whatever is in it."""
    root = tmp_path / "it's; here"
    fabricate.run(root / "run", 2)
    (root / "run" / "v1").write_bytes(fabricate.v1())
    fabricate.run(root / "one", 1)
    (root / "none").mkdir()
    made = BundleWriter()
    made.add(b"w", 1, [2], bytes(8))
    (root / "bad").mkdir()
    made.write(root / "bad", "ckpt-1")
    (root / "bad" / "ckpt-1.data-00000-of-00001").write_bytes(b"12345678")
    result = invoke(*(argument.format(root) for argument in arguments))
    assert result.exit_code in {1, 3}, result.output
    commands = re.findall("`ckptctl (.*?)`", result.stderr)
    assert commands, result.stderr
    for command in commands:
        assert shlex.split(command)[-1].startswith(str(root)), command


@pytest.mark.parametrize(
    ("command", "code"),
    [("ls", 3), ("latest", 3), ("verify", 3), ("prune --keep=1", 0), ("explain --keep=1", 0), ("clean", 0)],
)
def test_the_parent_of_runs(tmp_path: Path, invoke: Invoke, command: str, code: int) -> None:
    """Where there are no checkpoints, each command says so, and how to find those below."""
    fabricate.run(tmp_path / "a run" / "train", 3)
    result = invoke(*command.split(), str(tmp_path / "a run"))
    assert result.exit_code == code
    looks = {"prune --keep=1": "prune -r '{}' ...", "verify": "verify -r '{}'"}
    below = looks.get(command, "ls -r '{}'")
    told = f"no checkpoints here; `ckptctl {below.format(tmp_path / 'a run')}` looks below too"
    assert told in result.stderr
    result = invoke(*command.split(), str(tmp_path / "a run" / "train"))
    assert "no checkpoints here" not in result.output


def test_one_that_is_empty_among_several(tmp_path: Path, invoke: Invoke) -> None:
    """A crontab's line for many directories has nothing to say of one in which nothing was saved yet."""
    fabricate.run(tmp_path / "run", 3)
    (tmp_path / "empty").mkdir()
    result = invoke("prune", "--keep=1", str(tmp_path / "empty"), str(tmp_path / "run"))
    assert (result.exit_code, result.stderr) == (0, "")
    assert "empty: there are no checkpoints here" in result.stdout


@pytest.mark.parametrize(
    ("command", "code"),
    [("ls", 3), ("latest", 3), ("verify", 3), ("prune --keep=1", 0), ("explain --keep=1", 0), ("clean", 0)],
)
def test_files_of_keras_3(tmp_path: Path, invoke: Invoke, command: str, code: int) -> None:
    """What Keras 3 saves in formats of its own is called by its name, and not passed by in silence."""
    for epoch in range(5):
        (tmp_path / f"ckpt-{epoch}.weights.h5").write_bytes(b"HDF")
    result = invoke(*command.split(), str(tmp_path))
    own = "in Keras 3's own format, which ckptctl neither reads nor prunes"
    told = f"ckptctl: {tmp_path}: no TensorFlow checkpoints here; 5 .weights.h5 files are {own}\n"
    assert (result.exit_code, result.stderr.endswith(told)) == (code, True), result.stderr
    (tmp_path / "best.keras").write_bytes(b"PK")
    told = f"5 .weights.h5 files and 1 .keras file are {own}"
    assert told in invoke(*command.split(), str(tmp_path)).stderr
    fabricate.run(tmp_path, 2)
    assert "Keras" not in invoke(*command.split(), str(tmp_path)).stderr


@pytest.mark.parametrize("command", ["ls", "verify"])
def test_files_of_keras_3_below(tmp_path: Path, invoke: Invoke, command: str) -> None:
    """With -r those below are told of too."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "best.keras").write_bytes(b"PK")
    told = "no TensorFlow checkpoints here or below; 1 .keras file is in Keras 3's own format"
    assert told in invoke(command, "-r", str(tmp_path)).stderr


def test_ls_names_the_command_that_mends(
    tmp_path: Path, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each kind of trouble that the listing shows comes with its remedy; a sound directory has none."""
    fabricate.set_clock(monkeypatch, "ckptctl.scan")
    run = fabricate.run(tmp_path / "a run", 3)
    path = f"'{run}'"
    for name in ("train.data-00000-of-00001", "notes.meta", "x.tmp00112233445566778899aabbccddeeff"):
        (run / name).write_bytes(b"no save's: clean deletes none of it")
    (run / "plots_temp").mkdir()
    assert invoke("ls", str(run)).stderr == ""
    (run / "ckpt-9.data-00000-of-00001").write_bytes(b"data")
    remedy = f"`ckptctl clean {path}` deletes leftovers, or says why they stay"
    assert invoke("ls", str(run)).stderr == f"ckptctl: {remedy}\n"
    (run / "ckpt-9.data-00000-of-00001").unlink()
    (run / "ckpt-1.data-00000-of-00001").unlink()
    told = invoke("ls", str(run)).stderr
    assert told.startswith(f"ckptctl: `ckptctl verify {path}` tells why it is broken; prune deletes it if ")
    (run / "ckpt-1.index").unlink()
    (run / "checkpoint").write_text(fabricate.state_text(["ckpt-2", "ckpt-7"]))
    mends = f"ckptctl: `ckptctl repair {path}` mends the state file\n"
    assert invoke("ls", str(run)).stderr == mends
    (run / "checkpoint").write_bytes(b"")
    assert invoke("ls", str(run)).stderr == mends
    assert invoke("repair", str(run)).exit_code == 0
    assert invoke("ls", str(run)).stderr == ""
    assert invoke("ls", "--json", str(run)).stderr == ""


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        (("--keep=1", "--keep-every-steps=5"), {1, 5, 10, 12}),
        (("--keep-every=5m",), {1, 6, 11, 12}),
        (("--keep-hourly=2",), {12}),
        (("--keep-daily=1", "--keep-weekly=1", "--keep-step=3"), {3, 12}),
        (("--keep-within=2m30s",), {10, 11, 12}),
        (("--keep=1", "--keep-best=2", "--metrics={}/m.csv", "--metric=acc", "--mode=max"), {4, 7, 12}),
        (("--max-size=720",), {10, 11, 12}),
    ],
)
def test_rules(tmp_path: Path, invoke: Invoke, options: tuple[str, ...], kept: set[int]) -> None:
    """Each rule can be asked for, and several together keep what any of them keeps."""
    run = fabricate.run(tmp_path / "run", 12)
    (tmp_path / "m.csv").write_text("step,acc\n1,0.1\n4,0.9\n7,0.8\n12,nan\n")
    given = [option.format(tmp_path) for option in options]
    result = invoke("prune", *given, str(run))
    assert result.exit_code == 0, result.output
    assert fabricate.names(run) == {f"ckpt-{step}" for step in kept}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--keep-best=1", "--metrics=m.csv", "--events=logs"), "two places for a metric"),
        (("--metrics=m.csv", "--keep=1"), "--metrics is for --keep-best"),
        (("--events=logs", "--keep=1"), "--events is for --keep-best"),
        (("--max-size=many",), "'many' is not a size"),
        (("--keep-every=0s",), "makes no sense"),
        (("--keep-every-steps=0",), "would keep nothing"),
        (("--keep-daily=-1",), "would keep nothing"),
    ],
)
def test_rules_that_make_no_sense(
    tmp_path: Path, invoke: Invoke, options: tuple[str, ...], message: str
) -> None:
    """What would keep nothing, or cannot be understood, is a usage error."""
    run = fabricate.run(tmp_path / "run", 3)
    result = invoke("prune", *options, str(run))
    assert (result.exit_code, message in result.output + result.stderr) == (2, True), result.output
    assert len(fabricate.names(run)) == 3


def test_size_that_cannot_be_kept(tmp_path: Path, invoke: Invoke) -> None:
    """Where what has to stay is too large the rest goes, and the exit code tells."""
    run = fabricate.run(tmp_path / "run", 3)
    result = invoke("prune", "--max-size=100", "--json", str(run))
    (found,) = json.loads(result.stdout)["directories"]
    assert (result.exit_code, found["over_bytes"], fabricate.names(run)) == (1, 138, {"ckpt-3"})


_DEAF = """
import select, sys
from ckptctl.cli import main
from ckptctl.prune import _Work

def record(self, *, before=_Work._record):
    hung_up = select.poll()
    hung_up.register(1, 0)
    hung_up.poll()  # until the reader has gone
    return before(self)

_Work._record = record
sys.argv[0] = "ckptctl"
main()
"""


def test_help_promises_what_holds(invoke: Invoke) -> None:
    """Without --verify no data are read, so that it is the newest complete one that survives, and no more."""
    words = " ".join(invoke("--help").stdout.split())
    assert "The newest complete checkpoint and the trainer's own last word survive whatever happens." in words
    assert "Complete is what is so by its index and the lengths of its files" in words
    words = " ".join(invoke("prune", "--help").stdout.split())
    assert "by default a whole index, and files as long as that says" in words


@pytest.mark.parametrize(
    "arguments",
    [
        ("--help",),
        ("prune", "--help"),
        ("ls", "run"),
        ("verify", "run"),
        ("verify", "--json", "run"),
        ("latest", "run"),
        ("explain", "--keep=1", "run"),
        ("prune", "--keep=1", "-n", "run"),
        ("repair", "run"),
        ("clean", "run"),
        ("watch", "--keep=9", "run"),
    ],
    ids=" ".join,
)
def test_reader_that_has_gone(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """The exit code is that of SIGPIPE: 1 would say that a checkpoint is corrupt."""
    fabricate.run(tmp_path / "run", 3)
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "ckptctl", *arguments],
            cwd=tmp_path,
            stdout=writing,
            stderr=subprocess.PIPE,
            check=False,
        )
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (141, b"")
    assert fabricate.names(tmp_path / "run") == {"ckpt-1", "ckpt-2", "ckpt-3"}


def test_reader_of_stderr_that_has_gone() -> None:
    """The same, though there is no stdout at all."""
    reading, writing = os.pipe()
    os.close(reading)
    command = f'exec "{sys.executable}" -m ckptctl ls nowhere >&-'
    try:
        done = subprocess.run(["sh", "-c", command], stderr=writing, check=False)
    finally:
        os.close(writing)
    assert done.returncode == 141


@pytest.mark.parametrize(
    "arguments", [("--help",), ("--version",), ("prune", "--help"), ("ls", ".")], ids=" ".join
)
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_full_disk(tmp_path: Path, arguments: tuple[str, ...], unbuffered: str) -> None:
    """That the output cannot be written is said in one line, of help as of anything else."""
    fabricate.run(tmp_path, 1)
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "ckptctl", *arguments],
            cwd=tmp_path,
            env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert (done.returncode, done.stderr) == (3, "ckptctl: the system: No space left on device\n")


def test_reader_that_goes_while_prune_deletes(tmp_path: Path) -> None:
    """What was begun is done, though nobody hears of it any more."""
    fabricate.run(tmp_path, 3)
    with subprocess.Popen(
        [sys.executable, "-c", _DEAF, "prune", "--keep=1", str(tmp_path)], stdout=subprocess.PIPE
    ) as running:
        assert running.stdout is not None
        assert b"keep the newest" in running.stdout.readline()
        running.stdout.close()
    assert running.returncode == 141
    assert fabricate.names(tmp_path) == {"ckpt-3"}
