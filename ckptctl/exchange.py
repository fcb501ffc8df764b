"""Edits a small file beside a program that replaces it whenever it likes, and loses none of its words.

The trainer replaces its state file by renaming another one over it, and asks nobody. Between our reading and
our writing it may speak, and a plain rename of ours would then wipe out what it said. So:

1. read the file and keep it open (*expected*);
2. write the edited text to a temporary name beside it;
3. **exchange** the two names. What now lies under the temporary name is exactly what we replaced;
4. if that is *expected* (the same inode, compared while we hold both open, with the same text): done, unlink
   it. If it is another file, the trainer spoke in between. Its words win: edit *those*, and go to 2, this
   time expecting our own file to come out. If it is *expected* with another text, or a new file that is
   empty, somebody writes it in place (a copy, an editor): that very file has its name again, and we refuse.

Why no update is lost: a text leaves the file's name only by the trainer's own rename, which it means, or by
our exchange, which hands it to us. We end only when what came out is what our text was made from, or a text
of ours; every other text is carried into the next one. The name is never absent. The text is on the disk
before it counts: where an fsync fails, nobody knows what the disk holds, and a second one would not tell
either, so the writer's own last words are given their place again.

Who writes in place goes on writing to the file that they opened, whatever it is called by then, so no copy of
its text will do: a file that was written to since it was read is not unlinked. The last look at that comes
just before the unlink. Who has opened the file before our exchange, has changed nothing by then (to cut it to
nothing is a change), and writes after that look is not heard, and cannot be: no call of Linux unlinks a file
on condition that nobody has it open. Nor is one who makes a new file under the name, unlike a trainer, and
has written a part of the text, and no more until after that look: the part is taken for the whole.

Why TensorFlow's readers are not disturbed: its reader opens the file, then asks for the size *by name*. If
that size is smaller than the file that it opened, it reads a cut text, ignores the state, and a training
script that asks at that moment starts from scratch. So a new text is padded to the length of the one it
replaces, and somewhat beyond: what it really replaces may be the writer's next one.

What a kill leaves: the temporary name tells what we put there (inode and digest) and the digest of what was
expected to come out. At the next start `recover` looks at what lies under it:

- our own text: the exchange had not happened, or ours came out again after a later one: drop it;
- what was expected: the exchange was done: drop it;
- anything else is the trainer's word. If our text still has the file's name, the trainer has said nothing
  since: a copy takes its place, by the same steps as above. If not, the trainer has spoken again: drop it.

Our text is known by its digest, since a directory that is copied or restored after the kill has other inode
numbers. Could that cost a word? Only if a text with our digest were a word later than the one in hand. No
trainer writes such a text: ours ends in a comment, or is far longer than all that the trainer has said, and a
trainer writes no comments, and speaks only with a new checkpoint. What has our text under another number is a
copy of it; one that somebody kept and puts back says what the trainer had said before the word in hand. Only
a later text of ours may be the same as an earlier one, under whose temporary name lies an older word. So the
name that tells the right number decides, where there is one, and goes last; in a copy the latest word does.
"""

from __future__ import annotations

import contextlib
import os
import re
from typing import TYPE_CHECKING, NoReturn

from ckptctl import posix
from ckptctl.errors import RefusedError
from ckptctl.naming import PRIVATE_PREFIX, UNFINISHED
from ckptctl.snapshot import Snapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_SLACK = 4096
"""Bytes by which the writer's next text may be longer than its last."""

_TIDY_ROUNDS = 50
"""After how many rounds temporary files are removed before the end: in between it would cost time, in which
a fast writer speaks again."""

_IN_PLACE = "is being written in place, and was left alone: try again when that is done"
_TEMPORARY = re.compile(
    re.escape(PRIVATE_PREFIX) + r"state-(?P<key>[0-9a-f]{8})-(?P<inode>[0-9a-f]{1,16})"
    r"-(?P<digest>[0-9a-f]{16})-(?P<expected>[0-9a-f]{16})"
)


def replace(directory: int, name: str, base: Snapshot, edit: Callable[[Snapshot], bytes]) -> Snapshot:
    """Replaces a file by an edited text without losing what its writer says in the meantime.

    Args:
        directory: The descriptor of the directory that holds it.
        name: The file's name.
        base: What it is believed to hold. Stays open.
        edit: Makes the new text; called again with the writer's newer text each time it spoke in between.

    Returns:
        The new file, which carries the last words of the writer, edited. To be closed by the caller.

    Raises:
        NotImplementedError: The file system cannot exchange names. Nothing was changed.
        FileNotFoundError: The file is gone. Nothing was changed.
        PermissionError: The new file cannot be given the old one's owner or mode. Nothing was changed.
        OSError: The new file cannot be written. If that is so after the writer spoke, its words lie under a
            temporary name until `recover` puts them back.
        RefusedError: Something that is not a regular file came in between; it was put back. Or the file is
            being written in place, or nobody knows whether the new text is on the disk: then the writer's own
            last words were put back.
    """
    return _carry(directory, name, expected=base, words=base, edit=edit)


def replace_alone(directory: int, name: str, base: Snapshot, text: bytes) -> Snapshot:
    """Replaces a file that nobody else writes, where names cannot be exchanged: compare, then rename.

    Somebody who writes it between the two is overwritten. Otherwise as `replace`.

    Raises:
        OSError: The new file cannot be written. Nothing was changed.
        RefusedError: Somebody has written it since `base` was taken. Nothing was changed.
    """
    temporary, ours = _write(directory, name, _pad(text, _length(base, base)), base, base, durable=True)
    try:
        with contextlib.closing(Snapshot.take(directory, name)) as found:
            same = found.is_same(base)
        if not same:
            raise RefusedError(f"{name} was written just now: a trainer is at work")  # noqa: TRY301
        os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
    except BaseException:
        ours.close()
        os.unlink(temporary, dir_fd=directory)
        raise
    try:
        posix.sync(directory)
    except OSError as error:
        ours.close()
        raise RefusedError(f"{name} cannot be written to the disk: {posix.reason(error)}") from error
    return ours


def is_left(entry: str, name: str) -> bool:
    """Whether an entry is what `recover` is for.

    Args:
        entry: Its name.
        name: That of the file that was being replaced.
    """
    return entry.startswith(UNFINISHED) or _replacing(entry, name) is not None


def _replacing(entry: str, name: str) -> re.Match[str] | None:
    """What a temporary name tells, if it is one that `replace` gives for a file."""
    match = _TEMPORARY.fullmatch(entry)
    return match if match is not None and match["key"] == _key(name) else None


def recover(directory: int, name: str, names: Iterable[str]) -> None:
    """Finishes or undoes what a killed `replace` left behind. The caller holds the directory's lock.

    Args:
        directory: A descriptor.
        name: The name of the file that was being replaced.
        names: What there is in the directory under private names.

    Raises:
        OSError: Something cannot be read, written or removed; it is left for the next time.
        RefusedError: The same, of something that is not a regular file.
    """
    left: dict[str, re.Match[str]] = {}
    for entry in names:
        if entry.startswith(UNFINISHED):
            _drop(directory, [entry])
        elif match := _replacing(entry, name):
            left[entry] = match
    if left:
        _recover(directory, name, left)


def _recover(directory: int, name: str, left: dict[str, re.Match[str]]) -> None:
    """Gives the trainer's last word its place, if one of the temporary files is that, and drops the rest."""
    words, written = set(), {}
    for entry, said in left.items():
        with contextlib.closing(Snapshot.take(directory, entry)) as found:
            written[entry] = found.stat.st_mtime_ns
            if found.digest not in {said["digest"], said["expected"]}:
                words.add(entry)
    by_age = sorted(left, key=written.__getitem__)
    try:
        current = Snapshot.take(directory, name)
    except FileNotFoundError:
        last = next((entry for entry in reversed(by_age) if entry in words), "")
        if last:
            posix.rename_new(directory, last, name)
    else:
        with contextlib.closing(current):
            number = f"{current.stat.st_ino:x}"
            alike = [entry for entry in by_age if left[entry]["digest"] == current.digest]
            ours = [entry for entry in alike if left[entry]["inode"] == number]
            counting = ours or [entry for entry in alike if entry in words]
            last = counting[-1] if counting else ""
            if last in words:
                _restore(directory, name, current, last)
            else:
                last = ""
    _unlink(directory, words - {last})
    _drop(directory, left.keys() - words)


def _drop(directory: int, names: Iterable[str]) -> None:
    """Removes what is nobody's word; what only another user may remove does no harm where it is."""
    for name in names:
        with contextlib.suppress(PermissionError):
            os.unlink(name, dir_fd=directory)


def _restore(directory: int, name: str, current: Snapshot, entry: str) -> None:
    with contextlib.closing(Snapshot.take(directory, entry)) as found:
        if found.text:
            _carry(directory, name, current, found, lambda words: words.text, under=entry).close()
        else:  # somebody is writing it in place
            _put_back(directory, name, entry, current, found)


def _carry(
    directory: int,
    name: str,
    expected: Snapshot,
    words: Snapshot,
    edit: Callable[[Snapshot], bytes],
    under: str | None = None,
) -> Snapshot:
    """Exchanges until what comes out is `expected`.

    `words` is what the writer said last, and `under` the temporary name that holds it, unless that is the
    file itself.
    """
    opened: list[Snapshot] = []
    superseded: list[str] = []
    try:
        while True:
            # Once the writer has spoken, a reader waits for its words: the disk has to wait.
            durable = under is None
            try:
                text = _pad(edit(words), _length(words, expected))
                temporary, ours = _write(directory, name, text, words, expected, durable=durable)
            except BaseException:
                if under is not None:
                    _put_back(directory, name, under, expected, words)
                    _unlink(directory, superseded)
                raise
            opened.append(ours)
            out = _swap(directory, name, temporary, ours)
            opened.append(out)
            # The writer's last words are in the file or in `out`; those before are done with.
            superseded += [] if under is None else [under]
            names = {temporary, *superseded}
            if _is_unfinished(out, expected):
                _leave(directory, name, names, ours, (temporary, out), _IN_PLACE)
            if out.is_same(expected):
                said = (under or temporary, words)
                try:
                    posix.sync(ours.fd)
                    posix.sync(directory)
                except OSError as error:
                    # What the disk holds is unknown now, and a second fsync would not tell either.
                    why = f"cannot be written to the disk ({posix.reason(error)}), and is as it was"
                    _leave(directory, name, names, ours, said, why)
                for held in ((temporary, out), said):
                    if not held[1].is_unchanged():
                        _leave(directory, name, names, ours, held, _IN_PLACE)
                _unlink(directory, [*superseded, temporary])
                opened.remove(ours)
                return ours
            expected, words, under = ours, out, temporary
            if len(superseded) > _TIDY_ROUNDS:
                _unlink(directory, superseded)
                superseded.clear()
                _close(opened[:-2])
                del opened[:-2]
    finally:
        _close(opened)


def _is_unfinished(out: Snapshot, expected: Snapshot) -> bool:
    """Whether what came out is no word yet, but a file to which somebody is writing.

    A trainer's file has its text before it has its name. One that is empty was made under that name.
    """
    if os.path.samestat(out.stat, expected.stat):
        return out.text != expected.text or not expected.is_unchanged()
    return not out.text


def _leave(
    directory: int, name: str, names: set[str], ours: Snapshot, words: tuple[str, Snapshot], why: str
) -> NoReturn:
    """Gives the writer's own file its place again, removes what else there is, and refuses."""
    _put_back(directory, name, words[0], ours, words[1])
    _unlink(directory, names - {words[0]})
    raise RefusedError(f"{name} {why}")


def _unlink(directory: int, names: Iterable[str]) -> None:
    for name in names:
        os.unlink(name, dir_fd=directory)


def _close(snapshots: Iterable[Snapshot]) -> None:
    for snapshot in snapshots:
        snapshot.close()


def _put_back(directory: int, name: str, temporary: str, ours: Snapshot, words: Snapshot) -> None:
    """Gives the writer's words their place back as they are, in the file that they were written to.

    Once something else than our text has come out, that is newer than `words`, which it replaced, and has to
    have the place: what comes out next is `words` again, whatever is being written to it, or newer still.
    """
    opened: list[Snapshot] = []
    expected = ours
    try:
        while True:
            posix.exchange(directory, temporary, name)
            out = Snapshot.take(directory, temporary)
            opened.append(out)
            if os.path.samestat(out.stat, expected.stat) and (expected is not ours or out.text == ours.text):
                os.unlink(temporary, dir_fd=directory)
                return
            expected, words = words, out
    finally:
        _close(opened)


def _swap(directory: int, name: str, temporary: str, ours: Snapshot) -> Snapshot:
    """Exchanges, and opens what came out; what cannot be read as a state file is given its place back."""
    try:
        posix.exchange(directory, temporary, name)
    except (OSError, NotImplementedError):
        os.unlink(temporary, dir_fd=directory)
        raise
    try:
        return Snapshot.take(directory, temporary)
    except (OSError, RefusedError) as error:
        posix.exchange(directory, temporary, name)
        with contextlib.suppress(OSError, RefusedError):
            back = Snapshot.take(directory, temporary)
            with contextlib.closing(back):
                if back.is_same(ours):
                    os.unlink(temporary, dir_fd=directory)
        raise RefusedError(f"{name} was replaced by something that cannot be read: {error}") from error


def _write(
    directory: int, name: str, text: bytes, like: Snapshot, expected: Snapshot, *, durable: bool
) -> tuple[str, Snapshot]:
    """Writes a temporary file with the mode and owner of another."""
    unfinished = UNFINISHED + os.urandom(8).hex()
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(unfinished, flags, 0o600, dir_fd=directory)
    try:
        written = 0
        while written < len(text):
            written += os.write(fd, text[written:])
        posix.keep_owner(fd, like.stat)
        posix.keep_mode(fd, like.stat)
        if durable:
            posix.sync(fd)
        ours = Snapshot(fd, text, os.fstat(fd))
        temporary = f"{PRIVATE_PREFIX}state-{_key(name)}-{ours.stat.st_ino:x}-{ours.digest}-{expected.digest}"
        os.rename(unfinished, temporary, src_dir_fd=directory, dst_dir_fd=directory)
    except BaseException as error:
        os.close(fd)
        os.unlink(unfinished, dir_fd=directory)
        if isinstance(error, OSError) and error.filename is None:
            error.filename = name  # of a descriptor the system says no name
        raise
    return temporary, ours


def _length(words: Snapshot, expected: Snapshot) -> int:
    # What is replaced may be a text that the writer has put there since, a little longer than the last.
    written = len(words.text.rstrip(b"# \n"))
    return max(len(words.text), len(expected.text), written + _SLACK)


def _pad(text: bytes, length: int) -> bytes:
    # A comment, and one that may be cut anywhere: a reader may see only a part of it.
    missing = length - len(text)
    return text if missing <= 0 else text + b"#" + b" " * (missing - 2) + b"\n"[: missing - 1]


def _key(name: str) -> str:
    import hashlib  # noqa: PLC0415 - see above

    return hashlib.sha256(os.fsencode(name)).hexdigest()[:8]
