"""Tests of ckptctl.exchange: no word of the writer is lost, wherever it speaks and wherever we are killed."""

from __future__ import annotations

import contextlib
import errno
import itertools
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import steps

from ckptctl import exchange, posix
from ckptctl.errors import RefusedError
from ckptctl.snapshot import Snapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NAME = "checkpoint"
VICTIM = b"victim\n"


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[int]:
    """The descriptor of a directory with a state of 0 words, which names a victim."""
    (tmp_path / NAME).write_bytes(b"word 0\n" + VICTIM)
    with posix.open_directory(str(tmp_path)) as opened:
        yield opened.fd


def without_victim(words: Snapshot) -> bytes:
    """The edit: the victim goes, everything else stays."""
    return words.text.replace(VICTIM, b"")


def replace(directory: int) -> None:
    """Replaces the state once."""
    with contextlib.closing(Snapshot.take(directory, NAME)) as base:
        exchange.replace(directory, NAME, base, without_victim).close()


def speak(path: Path, number: int) -> None:
    """What a trainer does: a file of its own, renamed over the state."""
    temporary = path / f"trainer{number}"
    temporary.write_bytes(b"word %d\n" % number + VICTIM)
    temporary.rename(path / NAME)


def private(path: Path) -> list[str]:
    """The names of ours that are there."""
    return [name for name in os.listdir(path) if name.startswith(".ckptctl-")]


def test_victim_goes_and_mode_and_owner_stay(tmp_path: Path, directory: int) -> None:
    """The new text takes the old one's place, with its mode and owner and not shorter."""
    state = tmp_path / NAME
    state.chmod(0o640)
    if os.getuid() == 0:
        os.chown(state, 1234, 4321)
    before = state.stat()
    replace(directory)
    after = state.stat()
    assert state.read_bytes().splitlines()[0] == b"word 0"
    assert VICTIM not in state.read_bytes()
    assert after.st_size >= before.st_size
    replace(directory)
    assert state.stat().st_size == after.st_size
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)
    assert not private(tmp_path)


@pytest.mark.parametrize("length", range(5))
def test_padding_is_one_comment(length: int) -> None:
    """The padding has the length that is asked for, and begins a comment."""
    padded = exchange._pad(b"text\n", 5 + length)
    assert len(padded) == 5 + length
    assert padded.removeprefix(b"text\n").lstrip() in {b"", b"#"} or padded[5:6] == b"#"


def calls_of_one_replacement(tmp_path: Path) -> int:
    """How many system calls an undisturbed replacement makes."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    (scratch / NAME).write_bytes(b"word 0\n" + VICTIM)
    with posix.open_directory(str(scratch)) as opened:
        count = steps.in_child(lambda: replace(opened.fd), lambda _: None)
    assert count > 6
    return count


def test_writer_may_speak_at_any_moment(tmp_path: Path, directory: int) -> None:
    """Up to three words of the writer, before any of our calls: what remains is made from the last one."""
    count = calls_of_one_replacement(tmp_path)
    # A conflict adds a round of calls; further words may fall into that round as well.
    moments = range(count * 2)
    for words in [
        *((at,) for at in moments),
        *itertools.combinations_with_replacement(moments, 2),
        *((at, at + 3, at + 6) for at in moments),
    ]:
        _replace_while_writer_speaks(tmp_path, directory, words)


def _replace_while_writer_speaks(path: Path, directory: int, words: tuple[int, ...]) -> None:
    for name in os.listdir(path):
        if name != "scratch":
            (path / name).unlink()
    (path / NAME).write_bytes(b"word 0\n" + VICTIM)
    said = 0

    def before(call: int) -> None:
        nonlocal said
        for at in words:
            if at == call:
                said += 1
                speak(path, said)

    def work() -> None:
        replace(directory)
        text = (path / NAME).read_bytes()
        assert text.startswith(b"word %d\n" % said), (text, said)

    steps.in_child(work, before)
    assert not private(path)


def test_kill_at_any_call_loses_no_word(tmp_path: Path, directory: int, long: bool) -> None:  # noqa: FBT001 - a fixture
    """A kill before any call, up to two words of the writer anywhere, and a kill in the recovery too."""
    count = calls_of_one_replacement(tmp_path)
    kills = 0
    for killed_at in range(count * 2):
        for words in [(), *((a,) for a in range(killed_at + 1)), *((a, a + 2) for a in range(killed_at - 1))]:
            for recovery_killed_at in (None, *range(20)) if long else (None, sum(words) % 20):
                kills += _kill_and_recover(tmp_path, directory, killed_at, words, recovery_killed_at)
    assert kills > 400


def _kill_and_recover(
    path: Path, directory: int, killed_at: int, words: tuple[int, ...], recovery_killed_at: int | None
) -> int:
    for name in os.listdir(path):
        if name != "scratch":
            (path / name).unlink()
    (path / NAME).write_bytes(b"word 0\n" + VICTIM)
    spoken = path / "spoken"  # outlives the process that is killed
    spoken.write_bytes(b"")

    def before(call: int) -> None:
        for at in words:
            if at == call:
                spoken.write_bytes(spoken.read_bytes() + b".")
                speak(path, len(spoken.read_bytes()))
        if call == killed_at:
            steps.kill()

    if steps.in_child(lambda: replace(directory), before) != -signal.SIGKILL:
        return 0
    assert (path / NAME).exists()
    if recovery_killed_at is not None:
        steps.in_child(
            lambda: exchange.recover(directory, NAME, sorted(os.listdir(directory))),
            lambda call: steps.kill() if call == recovery_killed_at else None,
        )
    exchange.recover(directory, NAME, sorted(os.listdir(directory)))
    text = (path / NAME).read_bytes()
    assert text.startswith(b"word %d\n" % len(spoken.read_bytes())), (
        killed_at,
        words,
        recovery_killed_at,
        text,
    )
    assert not private(path)
    return 1


def test_recovery_leaves_another_state_file_alone(tmp_path: Path, directory: int) -> None:
    """What was being done to one state file is no business of a run with another `--latest-filename`."""
    steps.in_child(lambda: replace(directory), lambda call: steps.kill() if call == 7 else None)
    before = sorted(private(tmp_path))
    assert any(name.startswith(".ckptctl-state-") for name in before)
    exchange.recover(directory, "my_state", os.listdir(directory))
    assert sorted(private(tmp_path)) == before


def test_in_place_edit_is_a_word_too(tmp_path: Path, directory: int) -> None:
    """A state that was written over in place is noticed by its text, and stays that very file."""
    state = tmp_path / NAME
    inode = state.stat().st_ino
    with contextlib.closing(Snapshot.take(directory, NAME)) as base:
        state.write_bytes(b"word 1\n" + VICTIM)
        with pytest.raises(RefusedError, match="written in place"):
            exchange.replace(directory, NAME, base, without_victim)
    assert (state.stat().st_ino, state.read_bytes()) == (inode, b"word 1\n" + VICTIM)
    assert not private(tmp_path)


@pytest.mark.parametrize("made", ["cut", "made anew"])
def test_writer_in_place_may_begin_and_end_at_any_moment(tmp_path: Path, directory: int, made: str) -> None:
    """A copy or an editor opens the file that is there, or a new one, and has its text written only later."""
    count = calls_of_one_replacement(tmp_path)
    state = tmp_path / NAME
    refused = tmp_path / "refused"
    for begin, end in itertools.combinations(range(count), 2):
        state.write_bytes(b"word 0\n" + VICTIM)
        writer: list[int] = []

        def before(call: int, begin: int = begin, end: int = end, writer: list[int] = writer) -> None:
            if call == begin:
                if made == "made anew":
                    state.unlink()
                writer.append(os.open(state, os.O_WRONLY | os.O_CREAT | os.O_TRUNC))
            if call == end:
                os.pwrite(writer[0], b"word 1\n" + VICTIM, 0)

        def work(moments: tuple[int, int] = (begin, end), writer: list[int] = writer) -> None:
            try:
                exchange.replace(directory, NAME, base, without_victim).close()
            except RefusedError:
                refused.touch()
            except FileNotFoundError:  # between unlink and open
                assert made == "made anew"
            if writer:
                os.pwrite(writer[0], b"word 1\n" + VICTIM, 0)
                assert state.read_bytes().startswith(b"word 1\n"), moments
            assert not private(tmp_path), moments

        with contextlib.closing(Snapshot.take(directory, NAME)) as base:
            steps.in_child(work, before)
    assert refused.exists()


def test_kill_beside_a_writer_in_place(tmp_path: Path, directory: int) -> None:
    """Wherever we are killed, what is written in place has the state's name after the recovery."""
    count = calls_of_one_replacement(tmp_path)
    state = tmp_path / NAME
    kills = 0
    for begin, killed_at in itertools.combinations_with_replacement(range(count + 2), 2):
        state.write_bytes(b"word 0\n" + VICTIM)
        writer = os.open(state, os.O_WRONLY)

        def before(call: int, begin: int = begin, killed_at: int = killed_at, writer: int = writer) -> None:
            if call == begin and os.path.samestat(state.stat(), os.fstat(writer)):
                os.truncate(writer, 0)
            if call == killed_at:
                steps.kill()

        def work() -> None:
            with contextlib.suppress(RefusedError):
                exchange.replace(directory, NAME, base, without_victim).close()

        with contextlib.closing(Snapshot.take(directory, NAME)) as base:
            kills += steps.in_child(work, before) == -signal.SIGKILL
        cut = os.fstat(writer).st_size == 0
        exchange.recover(directory, NAME, sorted(private(tmp_path)))
        os.pwrite(writer, b"word 1\n", 0)
        os.close(writer)
        assert state.read_bytes().startswith(b"word 1\n" if cut else b"word 0\n"), (begin, killed_at)
        assert not private(tmp_path)
    assert kills > 40


def test_trainer_speaks_while_a_file_that_is_written_in_place_is_put_back(
    tmp_path: Path, directory: int
) -> None:
    """Its word, which replaced that file, stands, though the other goes on writing."""
    state = tmp_path / NAME
    writer = os.open(state, os.O_WRONLY)

    def act(number: int) -> None:
        if number == 0:
            os.truncate(writer, 0)
        if number == 1:
            speak(tmp_path, 2)
        if number == 2:
            os.pwrite(writer, b"word 1\n", 0)

    with before_each_exchange(act), pytest.raises(RefusedError, match="written in place"):
        replace(directory)
    os.close(writer)
    assert state.read_bytes() == b"word 2\n" + VICTIM
    assert not private(tmp_path)


@pytest.mark.parametrize("speaks", [False, True], ids=["alone", "the trainer speaks"])
def test_last_look_before_the_old_file_goes(tmp_path: Path, directory: int, speaks: bool) -> None:  # noqa: FBT001 - a parameter
    """Whoever had the file open before the exchange, and writes while the disk is waited for, is heard."""
    state = tmp_path / NAME
    fsync = os.fsync
    writer: list[int] = []

    def open_it(number: int) -> None:
        if speaks and number == 0:
            speak(tmp_path, 1)
        if not writer:
            writer.append(os.open(state, os.O_WRONLY))

    def waited(fd: int) -> None:
        if writer:
            os.pwrite(writer[0], b"word 2 and more\n", 0)
        fsync(fd)

    with before_each_exchange(open_it), pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", waited)
        with pytest.raises(RefusedError, match="written in place"):
            replace(directory)
    assert state.read_bytes().startswith(b"word 2 and more\n")
    assert os.path.samestat(state.stat(), os.fstat(writer[0]))
    os.close(writer[0])
    assert not private(tmp_path)


def test_same_words_said_again_are_heard(tmp_path: Path, directory: int) -> None:
    """A manager writes its state twice at each save: the second is a word too, though it says the same."""
    state = tmp_path / NAME
    edited: list[Snapshot] = []

    def edit(words: Snapshot) -> bytes:
        edited.append(words)
        return without_victim(words)

    with contextlib.closing(Snapshot.take(directory, NAME)) as base:
        (tmp_path / "trainer").write_bytes(base.text)
        (tmp_path / "trainer").rename(state)
        exchange.replace(directory, NAME, base, edit).close()
        assert [words is base for words in edited] == [True, False]
    assert VICTIM not in state.read_bytes()
    assert not private(tmp_path)


def test_state_that_is_gone_stays_gone(tmp_path: Path, directory: int) -> None:
    """A state that was deleted in between is not made again."""
    with contextlib.closing(Snapshot.take(directory, NAME)) as base:
        (tmp_path / NAME).unlink()
        with pytest.raises(FileNotFoundError):
            exchange.replace(directory, NAME, base, without_victim)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP], ids=errno.errorcode.get)
@pytest.mark.parametrize("call", ["fchown", "fchmod"])
def test_owner_and_mode_that_cannot_be_given(tmp_path: Path, directory: int, call: str, number: int) -> None:
    """An owner that has no number in this container is as forbidden as another's; nothing is changed."""
    state = tmp_path / NAME

    def failing(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    with contextlib.closing(Snapshot.take(directory, NAME)) as base, pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, call, failing)
        known = of_user(base, base.stat.st_uid + (call == "fchown"))
        with pytest.raises(PermissionError, match="cannot be given its") as raised:
            exchange.replace(directory, NAME, known, without_victim)
    assert raised.value.filename == NAME
    assert state.read_bytes() == b"word 0\n" + VICTIM
    assert not private(tmp_path)


def of_user(base: Snapshot, user: int) -> Snapshot:
    """What would have been taken of a file of another user's."""
    fields = list(base.stat)
    fields[stat.ST_UID] = user
    times = {name: getattr(base.stat, name) for name in ("st_atime_ns", "st_mtime_ns", "st_ctime_ns")}
    return Snapshot(base.fd, base.text, os.stat_result(fields, times))


@pytest.mark.parametrize("kind", ["link", "fifo", "directory"])
def test_other_kinds_get_their_place_back(tmp_path: Path, directory: int, kind: str) -> None:
    """What is no file and takes the state's name in between gets it back, and we say so."""
    outside = tmp_path / "outside"
    outside.write_bytes(b"not ours")
    with contextlib.closing(Snapshot.take(directory, NAME)) as base:
        (tmp_path / NAME).unlink()
        if kind == "link":
            (tmp_path / NAME).symlink_to(outside)
        elif kind == "fifo":
            os.mkfifo(tmp_path / NAME)
        else:
            (tmp_path / NAME).mkdir()
        before = os.lstat(tmp_path / NAME)
        with pytest.raises(RefusedError, match="replaced by something"):
            exchange.replace(directory, NAME, base, without_victim)
    after = os.lstat(tmp_path / NAME)
    assert (after.st_ino, after.st_mode) == (before.st_ino, before.st_mode)
    assert outside.read_bytes() == b"not ours"
    assert stat.S_IMODE(outside.stat().st_mode) == stat.S_IMODE((tmp_path / "outside").stat().st_mode)
    assert not private(tmp_path)


@pytest.mark.parametrize("speaks", [False, True], ids=["alone", "the trainer speaks"])
def test_text_that_may_not_be_on_the_disk_is_taken_back(tmp_path: Path, directory: int, speaks: bool) -> None:  # noqa: FBT001 - a parameter
    """Whichever fsync fails, the last words of the writer have their place again; nothing of ours is left."""
    fsync = os.fsync
    failures = 0
    for failing in range(10):
        (tmp_path / NAME).write_bytes(b"word 0\n" + VICTIM)
        calls = 0

        def once(fd: int, failing: int = failing) -> None:
            nonlocal calls
            calls += 1
            if calls == 1 and speaks:
                speak(tmp_path, 1)
            if calls == failing + 1:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            fsync(fd)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "fsync", once)
            try:
                replace(directory)
            except (OSError, RefusedError):
                failures += 1
                words = b"word 1\n" if speaks else b"word 0\n"
                assert (tmp_path / NAME).read_bytes() == words + VICTIM
        assert not private(tmp_path)
    assert failures == 3
    assert VICTIM not in (tmp_path / NAME).read_bytes()


@contextlib.contextmanager
def before_each_exchange(act: Callable[[int], object]) -> Iterator[None]:
    """Has something happen just before each exchange of names; it is told the exchange's number from 0."""
    swap, numbers = posix.exchange, itertools.count()

    def acted(directory: int, one: str, other: str) -> None:
        act(next(numbers))
        swap(directory, one, other)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(posix, "exchange", acted)
        yield


@pytest.mark.parametrize("more", [1, 64, 4000])
def test_reader_is_not_cut_short_by_the_next_word(tmp_path: Path, directory: int, more: int) -> None:
    """A reader that has opened a somewhat longer word than the last finds no shorter file by its name."""
    state = tmp_path / NAME
    opened: list[int] = []

    def speak_at_length(number: int) -> None:
        if number == 0:
            (tmp_path / "trainer").write_bytes(b"word 1\n" + VICTIM + b"x" * more + b"\n")
            (tmp_path / "trainer").rename(state)
        else:
            assert state.stat().st_size >= opened[-1]
        opened.append(state.stat().st_size)

    with before_each_exchange(speak_at_length):
        replace(directory)
    assert state.stat().st_size >= opened[-1]
    assert state.read_bytes().startswith(b"word 1\n")
    assert len(opened) == 2


@pytest.mark.parametrize("rounds", [1, 2, 3])
@pytest.mark.parametrize("words", [1, 2, 3])
def test_words_are_put_back_while_the_writer_speaks(
    tmp_path: Path, directory: int, words: int, rounds: int
) -> None:
    """Where the disk is full once the writer has spoken, its last word stands, however often it goes on."""
    write, writes = os.write, itertools.count()

    def full(fd: int, text: bytes) -> int:
        if next(writes) >= rounds:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(fd, text)

    def speak_too(number: int) -> None:
        if number < rounds + words:
            speak(tmp_path, number + 1)

    with before_each_exchange(speak_too), pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(OSError, match="No space left"):
            replace(directory)
    assert (tmp_path / NAME).read_bytes() == b"word %d\n" % (rounds + words) + VICTIM
    assert not private(tmp_path)


def test_word_that_comes_while_another_kind_gets_its_place_back(tmp_path: Path, directory: int) -> None:
    """What the writer says just then is kept, and takes its place as soon as that is free."""
    state = tmp_path / NAME

    def put(number: int) -> None:
        if number == 0:
            state.unlink()
            os.mkfifo(state)
        else:
            speak(tmp_path, 1)

    with before_each_exchange(put), pytest.raises(RefusedError, match="replaced by something"):
        replace(directory)
    assert stat.S_ISFIFO(state.lstat().st_mode)
    state.unlink()
    exchange.recover(directory, NAME, private(tmp_path))
    assert state.read_bytes() == b"word 1\n" + VICTIM
    assert not private(tmp_path)


def killed_at_the_exchange(path: Path, directory: int, *, done: bool) -> None:
    """Leaves what a kill leaves: our text not yet in its place, or there and a word of the writer beside."""

    def kill(number: int) -> None:
        if done and number == 0:
            speak(path, 1)
        else:
            steps.kill()

    def work() -> None:
        with before_each_exchange(kill):
            replace(directory)

    assert steps.in_child(work, lambda _: None) == -signal.SIGKILL
    assert private(path)


def test_inode_that_another_file_has_by_now_is_not_ours(tmp_path: Path, directory: int) -> None:
    """The number of a file that is gone is given to the next: its text tells that the writer has spoken."""
    killed_at_the_exchange(tmp_path, directory, done=True)
    (tmp_path / NAME).write_bytes(b"word 2\n" + VICTIM)  # in place, since no test can choose a number
    exchange.recover(directory, NAME, private(tmp_path))
    assert (tmp_path / NAME).read_bytes() == b"word 2\n" + VICTIM
    assert not private(tmp_path)


def test_directory_that_was_copied_after_a_kill(tmp_path: Path) -> None:
    """A copy has other inode numbers: what the trainer had said has the state's name there too."""
    run, copy = tmp_path / "run", tmp_path / "copy"
    run.mkdir()
    (run / NAME).write_bytes(b"word 0\n" + VICTIM)
    with posix.open_directory(str(run)) as opened:
        killed_at_the_exchange(run, opened.fd, done=True)
    shutil.copytree(run, copy)
    with posix.open_directory(str(copy)) as opened:
        exchange.recover(opened.fd, NAME, private(copy))
    assert (copy / NAME).read_bytes().startswith(b"word 1\n" + VICTIM)
    assert not private(copy)


@pytest.mark.parametrize("copied", [False, True], ids=["in place", "copied"])
@pytest.mark.parametrize("done", [False, True], ids=["before the last exchange", "after it"])
def test_older_word_under_a_text_like_the_last(tmp_path: Path, copied: bool, done: bool) -> None:  # noqa: FBT001 - parameters
    """Where a later text of ours is the same as an earlier one, the word that came out last counts."""
    run, copy = tmp_path / "run", tmp_path / "copy"
    run.mkdir()
    state = run / NAME
    state.write_bytes(b"word 0\n")

    def say(number: int) -> None:
        if number < 3:
            (run / "trainer").write_bytes(b"word %d\n" % (number + 1))
            os.utime(run / "trainer", ns=(0, number))
            (run / "trainer").rename(state)
        elif not done:
            steps.kill()

    def work() -> None:
        with before_each_exchange(say), pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "unlink", lambda *_, **__: steps.kill())
            exchange.replace(opened.fd, NAME, base, lambda _: b"the same\n")

    with (
        posix.open_directory(str(run)) as opened,
        contextlib.closing(Snapshot.take(opened.fd, NAME)) as base,
    ):
        assert steps.in_child(work, lambda _: None) == -signal.SIGKILL
    if copied:
        shutil.copytree(run, copy)
    where = copy if copied else run
    with posix.open_directory(str(where)) as opened:
        exchange.recover(opened.fd, NAME, private(where))
    edited = done and not copied
    assert (where / NAME).read_bytes().startswith(b"the same\n" if edited else b"word 3\n")
    assert not private(where)


def test_text_of_ours_is_no_word(tmp_path: Path, directory: int) -> None:
    """A state that was deleted after a kill is not made again of what we were about to write."""
    killed_at_the_exchange(tmp_path, directory, done=False)
    (tmp_path / NAME).unlink()
    exchange.recover(directory, NAME, private(tmp_path))
    assert os.listdir(tmp_path) == []


def test_many_words_in_one_replacement(tmp_path: Path, directory: int) -> None:
    """A writer that speaks before each of our first hundred calls ends with its last word, edited."""

    def before(call: int) -> None:
        if call < 100:
            speak(tmp_path, call + 1)

    steps.in_child(lambda: replace(directory), before)
    text = (tmp_path / NAME).read_bytes()
    assert text.startswith(b"word 100\n")
    assert VICTIM not in text
    assert not private(tmp_path)


def test_race_against_a_writer_at_full_speed(tmp_path: Path, long: bool) -> None:  # noqa: FBT001 - a fixture
    """Beside a process that renames over the state as fast as it can, no word is ever lost."""
    soak = Path(__file__).parent / "bench" / "exchange_soak.py"
    rounds = "10000" if long else "50"
    done = subprocess.run(
        [sys.executable, str(soak), "--rounds", rounds, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done
    counted = json.loads(done.stdout)
    assert (counted["lost"], counted["left"]) == (0, 0)
    assert counted["words"] > 100
    assert not os.listdir(tmp_path)
