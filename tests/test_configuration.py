"""Tests of ckptctl.configuration: what a file may say, which directories a pattern means, what is hostile."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ckptctl import posix
from ckptctl.configuration import MAX_BYTES, ConfigurationFile, Files, is_meant, parse
from ckptctl.errors import PolicyError, RefusedError, UnreadableError

if TYPE_CHECKING:
    from pathlib import Path

KEYS = ("keep", "keep-daily", "max-size", "protect")


def test_keys_and_tables() -> None:
    """Keys with their values, and tables in the order in which they stand."""
    text = b"""\xef\xbb\xbfkeep = 3
[directories."runs/*"]
max-size = "1TB"
[directories.b]
keep = 1
"""
    settings, tables = parse(text, KEYS, tables=True)
    assert settings == {"keep": 3}
    assert tables == (("runs/*", {"max-size": "1TB"}), ("b", {"keep": 1}))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "it is empty"),
        (b"\xef\xbb\xbf\n", "it is empty"),
        (b"keeep = 3", "no key 'keeep'; the nearest is keep"),
        (b"keep_daily = 3", "the nearest is keep-daily"),
        (b"[keeps]\n", "no key 'keeps'; the nearest is keep"),
        (b"[directories.a]\nkeep.daily = 1\nmaxsize = 1", "no key 'maxsize'; the nearest is max-size"),
        (b"zzzz = 3", "no key 'zzzz'$"),
        (b"verify = true", "no key 'verify': --verify belongs on the command line$"),
        (b"directories = 3", "is to hold tables"),
        (b"[[directories]]\nkeep = 3", "is to hold tables"),
        (b"[directories]\na = 3", r'\[directories."a"\] on a line'),
        (b"keep = 3\nkeep = 4", "not TOML: Cannot overwrite"),
        (b"keep = ]", "not TOML: .* line 1, column"),
        (b"keep = 3 # \xff", "not UTF-8"),
        (b"protect = " + b"[" * 900, "nested too deeply|not TOML"),
        (b"keep = " + b"9" * 900 + b"x", "not TOML"),
        (b"a." * 600 + b"a = 1", "a line of more than 1,000 bytes"),
        (b"# x\n" * MAX_BYTES, "more than 65,536 bytes"),
    ],
)
def test_what_makes_no_sense(text: bytes, message: str) -> None:
    """Each kind of mistake is told, with the nearest key that is known."""
    with pytest.raises(PolicyError, match=message) as error:
        parse(text, KEYS, ("verify", "keep"), tables=True)
    assert len(str(error.value)) < 300


def test_tables_only_where_they_belong() -> None:
    """A directory's own file has no tables for directories."""
    with pytest.raises(PolicyError, match="belongs in a file that --config names"):
        parse(b"[directories.a]\nkeep = 3", KEYS, tables=False)


@given(st.binary(max_size=200) | st.text(alphabet="[]{}=.\"'\n keep3,#\\ux", max_size=200).map(str.encode))
def test_any_bytes(text: bytes) -> None:
    """Any bytes in: a document or our own error."""
    with contextlib.suppress(PolicyError):
        parse(text, KEYS, tables=True)


@pytest.mark.parametrize(
    ("pattern", "path", "meant"),
    [
        ("runs/a", "/top/runs/a", True),
        ("./runs//a/", "/top/runs/a", True),
        ("runs/*", "/top/runs/a", True),
        ("runs/*", "/top/runs", False),
        ("runs/*", "/top/runs/a/b", False),
        ("*", "/top/runs", True),
        ("*", "/top", False),
        (".", "/top", True),
        ("*-large", "/top/x-large", True),
        ("?-large", "/top/xx-large", False),
        ("run[1]", "/top/run[1]", True),
        ("run[1]", "/top/run1", False),
        ("run[*", "/top/run[1]", True),
        ("**", "/top", True),
        ("**", "/top/a/b", True),
        ("**/b", "/top/b", True),
        ("runs/**/b", "/top/runs/x/y/b", True),
        ("runs/**/b", "/top/other/b", False),
        ("*", "/elsewhere", False),
        ("*/elsewhere", "/elsewhere", False),
        ("**", "/elsewhere", False),
        ("../elsewhere", "/elsewhere", True),
        ("../*", "/elsewhere", True),
        ("/elsewhere/*", "/elsewhere/a", True),
        ("/**", "/elsewhere/a", True),
        ("/elsewhere", "/top/elsewhere", False),
        ("**/b/**/d", "/top/a/b/c/d", True),
        ("**/**", "/top", True),
        ("../**/x", "/elsewhere/a/x", True),
        ("**/" * 30 + "x", "/top" + "/a" * 60, False),
    ],
)
def test_directories_that_are_meant(pattern: str, path: str, meant: bool) -> None:  # noqa: FBT001
    """Stars stay between slashes, two of them do not, brackets are brackets, and .. has to be written out."""
    assert is_meant(pattern, path, "/top") is meant


def files() -> Files[str]:
    """Files of which the text counts; of one that says so it makes no sense."""

    def understand(file: ConfigurationFile) -> str:
        if b"nonsense" in file.text:
            raise PolicyError("nonsense")
        return f"{file.distrust or ''}{file.text.decode()}{time.monotonic_ns()}"

    return Files(understand)


def test_read_again_when_changed(tmp_path: Path) -> None:
    """A file is understood once, and again after it was written, replaced, or given to others to write."""
    own, known = tmp_path / "ckptctl.toml", files()
    with posix.open_directory(str(tmp_path)) as directory:
        assert known.own(directory) is None
        seen = set()
        own.write_text("one")
        own.chmod(0o644)
        for change in (
            lambda: None,
            lambda: own.write_text("other"),
            lambda: (tmp_path / "new").write_text("other") and (tmp_path / "new").replace(own),
            lambda: own.chmod(0o664),
        ):
            change()
            found = known.own(directory)
            assert found == known.own(directory), "as it was"
            seen.add(found)
        assert len(seen) == 4
        own.unlink()
        with pytest.raises(RefusedError, match="has just gone"):  # an editor may be about to write it anew
            known.own(directory)
        assert known.own(directory) is None


def test_directories_that_are_gone_are_forgotten(tmp_path: Path) -> None:
    """Runs come and go for ever; what a file of one that is there asked for is not forgotten with them."""
    known = files()
    (tmp_path / "stays").mkdir()
    (tmp_path / "stays" / "ckptctl.toml").write_text("keep = 1\n")
    with posix.open_directory(str(tmp_path / "stays")) as directory:
        known.own(directory)
    for number in range(2500):
        run = tmp_path / f"run-{number}"
        run.mkdir()
        (run / "ckptctl.toml").write_text("keep = 1\n")
        with posix.open_directory(str(run)) as directory:
            known.own(directory)
        shutil.rmtree(run)
    assert len(known._known) <= 1001
    (tmp_path / "stays" / "ckptctl.toml").unlink()
    with (
        posix.open_directory(str(tmp_path / "stays")) as directory,
        pytest.raises(RefusedError, match="has just gone"),
    ):
        known.own(directory)


def test_mistakes_are_remembered_and_mended(tmp_path: Path) -> None:
    """A file that makes no sense is refused at each look until it does."""
    own, known = tmp_path / "ckptctl.toml", files()
    with posix.open_directory(str(tmp_path)) as directory:
        own.write_text("nonsense")
        for _ in range(2):
            with pytest.raises(RefusedError, match=r"ckptctl.toml: nonsense. .* --no-own-config"):
                known.own(directory)
        with pytest.raises(PolicyError, match=r"ckptctl.toml: nonsense"):
            known.named(str(own))
        own.write_text("sense")
        assert "sense" in str(known.own(directory))


@pytest.mark.parametrize("kind", ["link", "fifo", "directory", "dangling"])
def test_own_file_has_to_be_a_file(tmp_path: Path, kind: str) -> None:
    """What is no regular file is refused at once, wherever it would lead; one that is named may be a link."""
    (tmp_path / "run").mkdir()
    own, there = tmp_path / "run" / "ckptctl.toml", tmp_path / "there.toml"
    there.write_text("keep = 3")
    if kind == "fifo":
        os.mkfifo(own)
    elif kind == "directory":
        own.mkdir()
    else:
        own.symlink_to(there if kind == "link" else tmp_path / "nowhere")
    known = files()
    with (
        posix.open_directory(str(tmp_path / "run")) as directory,
        pytest.raises(RefusedError, match="not a regular file"),
    ):
        known.own(directory)
    if kind == "link":
        assert "keep" in known.named(str(own))
    else:
        with pytest.raises(UnreadableError, match="cannot be read"):
            known.named(str(own))


@pytest.mark.parametrize("mode", [0o664, 0o646, 0o606])
def test_who_else_may_write(tmp_path: Path, mode: int) -> None:
    """A file that others may write may be their words."""
    own = tmp_path / "ckptctl.toml"
    own.touch()
    own.chmod(0o644)
    with posix.open_directory(str(tmp_path)) as directory:
        assert not str(files().own(directory)).startswith("may be")
        own.chmod(mode)
        assert str(files().own(directory)).startswith(f"may be written by others (mode {mode:o}; chmod go-w)")


def test_who_may_put_it_there(tmp_path: Path) -> None:
    """Where each may delete but their own, a file of the user's may have been moved there by another."""
    (tmp_path / "ckptctl.toml").touch(0o644)
    for mode, trusted in ((0o777, True), (0o1755, True), (0o1777, False), (0o1775, False)):
        tmp_path.chmod(mode)
        with posix.open_directory(str(tmp_path)) as directory:
            assert str(files().own(directory)).startswith("lies where others may put") is not trusted
    tmp_path.chmod(0o700)


def test_directory_that_others_may_write_by_now(tmp_path: Path) -> None:
    """A file that stays as it is is trusted no more once its directory is one where others put files."""
    (tmp_path / "ckptctl.toml").touch(0o644)
    tmp_path.chmod(0o755)
    known = files()
    with posix.open_directory(str(tmp_path)) as directory:
        assert not str(known.own(directory)).startswith("lies")
        tmp_path.chmod(0o1777)
        assert str(known.own(directory)).startswith("lies where others may put files (mode 1777)")
    tmp_path.chmod(0o700)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a file away")
def test_who_wrote_it(tmp_path: Path) -> None:
    """Another user's file is theirs, root's is as good as one's own."""
    own = tmp_path / "ckptctl.toml"
    own.touch(0o644)
    tmp_path.chmod(0o755)
    with posix.open_directory(str(tmp_path)) as directory:
        os.chown(own, 65534, 65534)
        assert str(files().own(directory)).startswith("belongs to another user (uid 65534)")
        for owner in (0, 65534):
            os.chown(own, owner, 0)
            os.seteuid(65534)
            try:
                found = str(files().own(directory))
            finally:
                os.seteuid(0)
            assert not found.startswith("belongs")
