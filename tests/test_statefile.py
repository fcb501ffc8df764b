"""What is read of a state file a second time, and what is not."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from ckptctl import posix, statefile, tensorflow
from ckptctl.model import State, StateEntry, StateStatus

if TYPE_CHECKING:
    from pathlib import Path


def state_text(*names: str) -> str:
    """A state that lists some checkpoints."""
    lines = [f'model_checkpoint_path: "{names[-1]}"', *(f'all_model_checkpoint_paths: "{n}"' for n in names)]
    return "\n".join(lines) + "\n"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What TensorFlow was asked for; it answers as ever."""
    calls: list[str] = []
    answer = tensorflow.get_checkpoint_state

    def note(directory: str, latest_filename: str) -> Any | None:
        calls.append(latest_filename)
        return answer(directory, latest_filename)

    monkeypatch.setattr(tensorflow, "get_checkpoint_state", note)
    return calls


def read(path: Path, memory: statefile.Memory, name: str = "checkpoint") -> State:
    """Reads the state of a directory."""
    with posix.open_directory(os.fspath(path)) as directory:
        state, snapshot = statefile.read(directory, name, memory)
        if snapshot is not None:
            snapshot.close()
        return state


def test_state_is_parsed_again_only_when_its_text_changed(tmp_path: Path, asked: list[str]) -> None:
    """By a rename over it, or in place with the same length and time; each directory has its own."""
    memory = statefile.Memory()
    run, other = tmp_path / "run", tmp_path / "other"
    for directory in (run, other):
        directory.mkdir()
        (directory / "checkpoint").write_text(state_text("a-1", "a-2"))
    first = read(run, memory)
    assert first.latest is not None
    assert first.latest.name == "a-2"
    assert read(run, memory) == first
    assert len(asked) == 1
    read(other, memory)
    assert len(asked) == 2
    before = (run / "checkpoint").stat()
    (run / "checkpoint").write_text(state_text("a-1", "a-3"))
    os.utime(run / "checkpoint", ns=(before.st_atime_ns, before.st_mtime_ns))
    second = read(run, memory)
    assert second.latest is not None
    assert second.latest.name == "a-3"
    (run / "new").write_text(state_text("a-1"))
    (run / "new").rename(run / "checkpoint")
    assert [entry.name for entry in read(run, memory).entries] == ["a-1"]
    assert len(asked) == 4


def test_what_cannot_be_parsed_is_remembered_too(tmp_path: Path, asked: list[str]) -> None:
    """Nobody mends it by asking again."""
    memory = statefile.Memory()
    (tmp_path / "checkpoint").write_bytes(b"\xff\xfe{{{")
    assert read(tmp_path, memory).status is StateStatus.UNREADABLE
    assert read(tmp_path, memory).status is StateStatus.UNREADABLE
    assert len(asked) == 1
    (tmp_path / "checkpoint").unlink()
    assert read(tmp_path, memory).status is StateStatus.ABSENT


PATHS = 'model_checkpoint_path: "a-1"\nall_model_checkpoint_paths: '


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (PATHS + "[" + ",\n".join(['"a"'] * 400_000) + "]\n", "1,500,000 quotes"),
        (PATHS + '"a"\n[' + "a." * 1_600_000 + "a]: 1\n", "1,500,000 quotes"),
        (PATHS + '"' + "\\" * 100_000 + '"\n', "16 backslashes in a row"),
        (PATHS + '"a"\n' + " " * 20_000_000 + "\n", "a line of more than 262,144 bytes"),
    ],
    ids=["a list", "a name", "backslashes", "spaces"],
)
def test_text_that_would_take_the_reader_minutes_or_gigabytes(
    tmp_path: Path, asked: list[str], text: str, problem: str
) -> None:
    """It is told what is wrong with it, and TensorFlow is not asked."""
    (tmp_path / "checkpoint").write_text(text)
    state = read(tmp_path, statefile.Memory())
    assert (state.status, asked) == (StateStatus.UNREADABLE, [])
    assert problem in (state.problem or "")


@pytest.mark.parametrize(
    "text",
    [
        PATHS + '"a-1"\n#' + " " * 1_000_000 + "\n",
        PATHS + '"' + "\\\\" * 8 + 'server"\n',
        PATHS + '"/' + "\\303\\251" * 2_000 + '/a-1"\n',
    ],
    ids=["padded", "of Windows", "not ASCII"],
)
def test_text_that_a_trainer_or_a_prune_may_write_is_read(
    tmp_path: Path, asked: list[str], text: str
) -> None:
    """Padding has no end, a path of Windows begins with backslashes, and one in another script is escaped."""
    (tmp_path / "checkpoint").write_text(text)
    assert read(tmp_path, statefile.Memory()).status is StateStatus.OK
    assert len(asked) == 1


def test_state_of_a_hundred_thousand_checkpoints_is_no_matter() -> None:
    """The README says that so many are listed; each has a timestamp, and dots in its path."""
    entries = [
        StateEntry(f"/data/v1.2/run.3/model.ckpt-{at}", "", timestamp=at + 0.5) for at in range(100_000)
    ]
    text = statefile.text(State(StateStatus.OK, latest=entries[-1], entries=tuple(entries)))
    assert statefile._why_too_much(text) is None


def test_where_a_path_leads_is_looked_at_each_time(tmp_path: Path, asked: list[str]) -> None:
    """An absolute path is the directory's own for as long as it leads here."""
    memory = statefile.Memory()
    run, link = tmp_path / "run", tmp_path / "link"
    run.mkdir()
    link.symlink_to(run)
    (run / "checkpoint").write_text(state_text(f"{link}/a-1"))
    (entry,) = read(run, memory).entries
    assert not entry.foreign
    link.unlink()
    (entry,) = read(run, memory).entries
    assert entry.foreign
    assert len(asked) == 1


def test_each_state_file_of_a_directory_is_remembered(tmp_path: Path, asked: list[str]) -> None:
    """Two savers in one directory, looked at in turn, are not parsed again either."""
    memory = statefile.Memory()
    (tmp_path / "checkpoint").write_text(state_text("a-1"))
    (tmp_path / "second").write_text(state_text("b-1"))
    for _ in range(2):
        assert [entry.name for entry in read(tmp_path, memory).entries] == ["a-1"]
        assert [entry.name for entry in read(tmp_path, memory, "second").entries] == ["b-1"]
    assert len(asked) == 2


def test_what_was_written_while_tensorflow_read_is_not_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TensorFlow may have read more than we did: where our text stands again, that is not what it said."""
    memory = statefile.Memory()
    state = tmp_path / "checkpoint"
    ours, longer = state_text("a-1"), state_text("a-1", "a-2")
    state.write_text(ours)
    answer = tensorflow.get_checkpoint_state

    def written_first(directory: str, latest_filename: str) -> Any | None:
        state.write_text(longer)  # in place
        return answer(directory, latest_filename)

    with monkeypatch.context() as patch:
        patch.setattr(tensorflow, "get_checkpoint_state", written_first)
        assert [entry.name for entry in read(tmp_path, memory).entries] == ["a-1", "a-2"]
    state.write_text(ours)
    assert [entry.name for entry in read(tmp_path, memory).entries] == ["a-1"]
