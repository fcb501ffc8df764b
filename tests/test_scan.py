"""Tests of ckptctl.scan."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import time
from typing import TYPE_CHECKING, Any

import bundle_writer
import fabricate
import pytest
import steps
from bundle_writer import BundleWriter
from fabricate import EPOCH

from ckptctl.bundle import v1
from ckptctl.errors import UnreadableError
from ckptctl.model import Checkpoint, Directory, Format, StateStatus, Status
from ckptctl.scan import SAVING_SECONDS, scan, scan_tree

if TYPE_CHECKING:
    from pathlib import Path

OLD = EPOCH + 1e6
"""A time at which nothing that `fabricate` wrote is young."""


def names(directory: Directory) -> list[str]:
    """The checkpoints' names, oldest first."""
    return [checkpoint.name for checkpoint in directory.checkpoints]


def only(directory: Directory) -> Checkpoint:
    """The one checkpoint there."""
    (checkpoint,) = directory.checkpoints
    return checkpoint


def test_run_is_listed_oldest_first(tmp_path: Path) -> None:
    """Each checkpoint comes with its step, times, files and flags, oldest first."""
    fabricate.run(tmp_path, 12)
    found = scan(tmp_path, now=OLD)
    assert names(found) == [f"ckpt-{step}" for step in range(1, 13)]
    assert found.state.status is StateStatus.OK
    last = found.checkpoints[-1]
    assert (last.step, last.latest, last.listed, last.status) == (12, True, True, Status.COMPLETE)
    assert last.saved == EPOCH + 60.5 * 11
    assert [file.name for file in last.files] == ["ckpt-12.index", "ckpt-12.data-00000-of-00001"]
    assert last.bytes == 100 + len(fabricate.index())
    assert not found.checkpoints[0].latest


def test_order_of_the_state_counts(tmp_path: Path) -> None:
    """Listed checkpoints stand in the state's order, timestamps or none, whatever the files' times say."""
    fabricate.run(tmp_path, 5, listed=0)
    rolled_back = ["ckpt-1", "ckpt-2", "ckpt-4", "ckpt-5", "ckpt-3"]
    for timestamps in (True, False):
        (tmp_path / "checkpoint").write_text(fabricate.state_text(rolled_back, timestamps=timestamps))
        assert names(scan(tmp_path, now=OLD)) == rolled_back


def test_unlisted_ones_go_by_the_time_of_their_index(tmp_path: Path) -> None:
    """What the state does not list finds its place by its index's time."""
    fabricate.run(tmp_path, 4)
    fabricate.checkpoint(tmp_path, "best", at=EPOCH + 100)
    assert names(scan(tmp_path, now=OLD)) == ["ckpt-1", "ckpt-2", "best", "ckpt-3", "ckpt-4"]


def test_absent_state_goes_by_time(tmp_path: Path) -> None:
    """Without a state file everything goes by time; equal times go by step."""
    for step in (10, 9, 1):
        fabricate.checkpoint(tmp_path, f"ckpt-{step}")
    found = scan(tmp_path, now=OLD)
    assert found.state.status is StateStatus.ABSENT
    assert names(found) == ["ckpt-1", "ckpt-9", "ckpt-10"]


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"", StateStatus.INVALID),
        (b"# nothing yet\n", StateStatus.INVALID),
        (b'all_model_checkpoint_paths: "ckpt-1"\n', StateStatus.INVALID),
        (b'model_checkpoint_path: "ckpt-1\n', StateStatus.UNREADABLE),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 100\n", StateStatus.UNREADABLE),
        (b"\x82\xa5epoch\x01\xa4step\xcd\x03\xe8\xff\xfe", StateStatus.UNREADABLE),
        (bytes(range(256)) * 20, StateStatus.UNREADABLE),
        (b'model_checkpoint_path: "ckpt-1"\nnew_field: 3\n', StateStatus.UNREADABLE),
        (b'model_checkpoint_path: "\\355\\240\\200"\n', StateStatus.UNREADABLE),
    ],
    ids=[
        "empty",
        "comment",
        "no latest",
        "broken quote",
        "git-lfs",
        "msgpack",
        "binary",
        "unknown",
        "surrogate",
    ],
)
def test_bad_state_is_told_from_none(tmp_path: Path, content: bytes, status: StateStatus) -> None:
    """A state file that TensorFlow cannot use is not the same as none, and says what is wrong with it."""
    fabricate.run(tmp_path, 2)
    (tmp_path / "checkpoint").write_bytes(content)
    found = scan(tmp_path, now=OLD)
    assert found.state.status is status
    assert found.state.problem
    assert names(found) == ["ckpt-1", "ckpt-2"]


@pytest.mark.parametrize("kind", ["link", "dangling", "fifo", "directory", "socket"])
def test_state_that_is_no_file_is_unreadable(tmp_path: Path, kind: str) -> None:
    """A state file that is not a regular file is neither followed nor waited for."""
    fabricate.run(tmp_path, 1)
    state = tmp_path / "checkpoint"
    state.rename(tmp_path / "elsewhere")
    if kind == "link":
        state.symlink_to("elsewhere")
    elif kind == "dangling":
        state.symlink_to("nowhere")
    elif kind == "fifo":
        os.mkfifo(state)
    elif kind == "directory":
        state.mkdir()
    else:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(state))
    assert scan(tmp_path, now=OLD).state.status is StateStatus.UNREADABLE


def test_huge_state_is_not_read(tmp_path: Path) -> None:
    """A state file of any size costs no memory."""
    with (tmp_path / "checkpoint").open("wb") as file:
        file.truncate(1 << 40)
    state = scan(tmp_path, now=OLD).state
    assert state.status is StateStatus.UNREADABLE
    assert "1,099,511,627,776 bytes" in (state.problem or "")


def test_other_state_file_is_read(tmp_path: Path) -> None:
    """A trainer may call its state file as it likes."""
    fabricate.run(tmp_path, 3)
    (tmp_path / "my_state").write_text(fabricate.state_text(["ckpt-2"]))
    found = scan(tmp_path, latest_filename="my_state", now=OLD)
    assert [one.name for one in found.checkpoints if one.latest] == ["ckpt-2"]


def test_copied_directory_is_foreign(tmp_path: Path) -> None:
    """In a copy, absolute paths lead to the original; the base names tell what is meant here."""
    original = fabricate.run(tmp_path / "original", 3, listed=0)
    text = fabricate.state_text([f"{original}/ckpt-{step}" for step in (0, 1, 2, 3)], timestamps=False)
    (original / "checkpoint").write_text(text)
    copy = tmp_path / "copy"
    shutil.copytree(original, copy)
    for directory, foreign in ((original, False), (copy, True)):
        found = scan(directory, now=OLD)
        assert found.state.latest is not None
        assert (found.state.latest.name, found.state.latest.foreign) == ("ckpt-3", foreign)
        assert [one.name for one in found.checkpoints if one.latest and one.listed] == ["ckpt-3"]
        gone = next(one for one in found.checkpoints if one.name == "ckpt-0")
        assert gone.status is (Status.FOREIGN if foreign else Status.MISSING)


def test_directory_known_by_another_path_is_not_foreign(tmp_path: Path) -> None:
    """An absolute path through a link leads into the directory all the same."""
    run = fabricate.run(tmp_path / "run", 2, listed=0)
    (tmp_path / "alias").symlink_to(run)
    (run / "checkpoint").write_text(fabricate.state_text([f"{tmp_path}/alias/ckpt-2"]))
    latest = scan(run, now=OLD).state.latest
    assert latest is not None
    assert not latest.foreign


@pytest.mark.parametrize(
    ("path", "name", "foreign"),
    [
        ("./ckpt-1", "ckpt-1", False),
        ("../ckpt-1", "ckpt-1", True),
        ("deeper/ckpt-1", "ckpt-1", True),
        ("/ckpt-1", "ckpt-1", True),
        ("C:\\\\runs\\\\a\\\\ckpt-1", "ckpt-1", True),
        ("a\\000b", "", True),
        ("/", "", True),
        ("..", "..", True),
        ("", None, None),
    ],
)
def test_path_of_the_state(tmp_path: Path, path: str, name: str | None, foreign: bool | None) -> None:  # noqa: FBT001 - a parameter of the test
    """A path leads into the directory or is foreign, and then still tells a base name."""
    fabricate.checkpoint(tmp_path, "ckpt-1")
    (tmp_path / "checkpoint").write_text(f'model_checkpoint_path: "{path}"\n')
    latest = scan(tmp_path, now=OLD).state.latest
    if name is None:
        assert latest is None
    else:
        assert latest is not None
        assert (latest.name, latest.foreign) == (name, foreign)


def test_backslash_in_a_real_name_is_literal(tmp_path: Path) -> None:
    """A prefix that holds a backslash is found under its own name."""
    fabricate.checkpoint(tmp_path, "a\\b-1")
    (tmp_path / "checkpoint").write_text('model_checkpoint_path: "a\\\\b-1"\n')
    assert only(scan(tmp_path, now=OLD)).latest


@pytest.mark.parametrize(
    ("gone", "problem"),
    [
        ("ckpt-1.data-00001-of-00003", "shard 1 of 3 is not there"),
        ("ckpt-1.data-*", "shard 0 of 3 is not there"),
    ],
)
def test_incomplete_one_is_saving_then_broken(tmp_path: Path, gone: str, problem: str) -> None:
    """A checkpoint without all its shards counts as being saved while it is young, and as broken later.

    A copy may bring one file after the other with their old times: it is as young as it came here.
    """
    fabricate.checkpoint(tmp_path, "ckpt-1", shards=3)
    for file in tmp_path.glob(gone):
        file.unlink()
    came = time.time()
    assert only(scan(tmp_path, now=came + SAVING_SECONDS - 60)).status is Status.SAVING
    later = only(scan(tmp_path, now=came + SAVING_SECONDS + 1))
    assert (later.status, later.problem) == (Status.BROKEN, problem)


@pytest.mark.parametrize("content", [b"", fabricate.index()[:-1], fabricate.index()[:20]])
def test_cut_index_is_incomplete(tmp_path: Path, content: bytes) -> None:
    """An index that a saver has opened and not finished is no complete checkpoint."""
    _, index = fabricate.checkpoint(tmp_path, "ckpt-1")
    index.write_bytes(content)
    assert only(scan(tmp_path)).status is Status.SAVING


def test_shards_of_an_older_save_belong_to_it(tmp_path: Path) -> None:
    """Saved again in another number of shards, a checkpoint is complete, and the old shards are its files."""
    fabricate.checkpoint(tmp_path, "ckpt-1", shards=2)
    fabricate.checkpoint(tmp_path, "ckpt-1", shards=1)
    one = only(scan(tmp_path, now=OLD))
    assert one.complete
    assert len(one.shards) == 3


def test_every_number_of_shards_has_to_be_complete(tmp_path: Path) -> None:
    """Shards of an older save do not hide that one of the last save is missing."""
    fabricate.checkpoint(tmp_path, "ckpt-1", shards=1)
    fabricate.checkpoint(tmp_path, "ckpt-1", shards=2)
    (tmp_path / "ckpt-1.data-00001-of-00002").unlink()
    assert only(scan(tmp_path, now=time.time() + 7200)).status is Status.BROKEN


def test_step_of_absurd_length_is_none(tmp_path: Path) -> None:
    """A number that no step has is no step."""
    (tmp_path / "checkpoint").write_text(f'model_checkpoint_path: "x-{"1" * 5000}"\n')
    assert only(scan(tmp_path, now=OLD)).step is None


def test_prefix_of_another_prefix(tmp_path: Path) -> None:
    """ckpt-1 is not a part of ckpt-10."""
    fabricate.checkpoint(tmp_path, "ckpt-1")
    fabricate.checkpoint(tmp_path, "ckpt-10", shards=2)
    assert [len(one.files) for one in scan(tmp_path, now=OLD).checkpoints] == [2, 3]


ODD = [
    "a b-1",
    "run[1]-2",
    "*-3",
    "new\nline-4",
    "\x1b[31mred-5",
    "ünïcode-6",
    os.fsdecode(b"\xff\xfe-7"),
    "-8",
]


@pytest.mark.parametrize("name", ODD)
def test_odd_names_are_literal(tmp_path: Path, name: str) -> None:
    """Names are taken literally, whatever characters and bytes they hold."""
    fabricate.checkpoint(tmp_path, name)
    one = only(scan(tmp_path, now=OLD))
    assert (one.name, one.complete) == (name, True)
    assert one.step == int(name[-1])


def test_leftovers_are_no_checkpoints(tmp_path: Path) -> None:
    """What interrupted saves leave is listed apart, with its size."""
    (tmp_path / "ckpt-1.data-00000-of-00001").write_bytes(bytes(7))
    (tmp_path / "ckpt-2.meta").write_bytes(b"graph")
    (tmp_path / ("checkpoint.tmp" + "0a" * 16)).write_bytes(b"")
    (tmp_path / ".ckptctl-new-1").write_bytes(b"x")
    parts = tmp_path / "ckpt-3_temp"
    parts.mkdir()
    (parts / "part-00000-of-00001.data-00000-of-00001.tempstate1").write_bytes(bytes(11))
    found = scan(tmp_path, now=OLD)
    assert not found.checkpoints
    assert {file.name: file.size for file in found.leftovers} == {
        "ckpt-1.data-00000-of-00001": 7,
        "ckpt-2.meta": 5,
        "checkpoint.tmp" + "0a" * 16: 0,
        ".ckptctl-new-1": 1,
        "ckpt-3_temp": 11,
    }


def test_v1_is_known_by_what_it_holds(tmp_path: Path) -> None:
    """A V1 data file counts if it lists tensors, and has a number or a witness; data sets never do."""
    for name in (
        "model.ckpt-1",
        "model.ckpt-2",
        "listed",
        "witnessed",
        "alone",
        "model.ckpt-3-00000-of-00002",
        "model.ckpt-3-00001-of-00002",
    ):
        (tmp_path / name).write_bytes(fabricate.v1())
    (tmp_path / "words-0").write_bytes(bundle_writer.table([(b"key", b"value")]))
    (tmp_path / "words-0.meta").write_text('{"my": "sidecar"}')
    for name in ("notes", "notes-7", "train-00000-of-00002", "train-00001-of-00002"):
        (tmp_path / name).write_bytes(b"something else altogether")
    (tmp_path / "leveldb-000005").write_bytes(bundle_writer.table([(b"key", b"value")]))
    for name in ("model.ckpt-1.meta", "witnessed.meta", "notes.meta", "train.meta"):
        (tmp_path / name).write_bytes(b"graph")
    (tmp_path / "checkpoint").write_text('model_checkpoint_path: "listed"\n')
    found = {one.name: one for one in scan(tmp_path, now=OLD).checkpoints}
    assert found.pop("words-0").doubt, "it may be another program's, and is not to be deleted"
    assert sorted(found) == ["listed", "model.ckpt-1", "model.ckpt-2", "model.ckpt-3", "witnessed"]
    assert all(one.format is Format.V1 and one.complete for one in found.values())
    assert [file.name for file in found["model.ckpt-3"].files] == [
        "model.ckpt-3-00000-of-00002",
        "model.ckpt-3-00001-of-00002",
    ]


def test_v1_without_its_list_of_tensors_is_broken(tmp_path: Path) -> None:
    """A table that the state names and that lists no tensors is a damaged V1 checkpoint."""
    (tmp_path / "model.ckpt-1").write_bytes(fabricate.v1().replace(b"weights", b"weighty"))
    assert not scan(tmp_path, now=OLD + 1e9).checkpoints
    (tmp_path / "checkpoint").write_text('model_checkpoint_path: "model.ckpt-1"\n')
    one = only(scan(tmp_path, now=OLD + 1e9))
    assert (one.status, one.problem) == (Status.BROKEN, "its list of tensors cannot be read")


def test_v1_with_a_list_too_large_to_be_read_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the state names is not called broken for a list of tensors that is larger than what is read."""
    large = (b"a", 1, [1 << 20], [((None,), bytes(1 << 12))])
    (tmp_path / "model.ckpt-1").write_bytes(bundle_writer.v1_table([large]))
    monkeypatch.setattr(v1, "WHOLE_BYTES", 1 << 10)
    monkeypatch.setattr(v1, "MAX_META_BYTES", 8)
    assert not scan(tmp_path, now=OLD + 1e9).checkpoints
    (tmp_path / "checkpoint").write_text('model_checkpoint_path: "model.ckpt-1"\n')
    one = only(scan(tmp_path, now=OLD + 1e9))
    assert one.doubt is not None
    assert "expected at most 8" in one.doubt


def _write(directory: Path, name: str, writer: BundleWriter, at: float = EPOCH) -> None:
    writer.write(directory, name)
    for file in directory.glob(f"{name}.*"):
        os.utime(file, (at, at))


@pytest.mark.parametrize(
    ("shard", "problem"),
    [
        (b"", "shard 0 has 0 bytes, expected 100"),
        (bytes(99), "shard 0 has 99 bytes, expected 100"),
        (bytes(101), "shard 0 has 101 bytes, expected 100"),
    ],
)
def test_shard_has_to_have_the_right_length(tmp_path: Path, shard: bytes, problem: str) -> None:
    """A checkpoint whose shard is not as long as the index says is not complete, whatever came before it."""
    fabricate.run(tmp_path, 3)
    (tmp_path / "ckpt-2.data-00000-of-00001").write_bytes(shard)
    first, second, third = scan(tmp_path, now=OLD + 1e9).checkpoints
    assert (second.status, second.problem) == (Status.BROKEN, problem)
    assert first.complete
    assert third.complete


def test_flipped_bytes_of_an_index_are_noticed(tmp_path: Path) -> None:
    """Each byte of an index counts, also where one of the same kind has just been found to be whole."""
    fabricate.run(tmp_path, 2)
    index = tmp_path / "ckpt-2.index"
    whole = index.read_bytes()
    footer = len(whole) - 48
    missed = set()
    for at in range(len(whole)):
        index.write_bytes(whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :])
        if scan(tmp_path, now=OLD + 1e9).checkpoints[1].complete:
            missed.add(at)
    # TensorFlow does not look at the metaindex, its handle, and the footer's padding either; `verify` does.
    metaindex = bundle_writer.with_trailer(bundle_writer.block([]))
    begin = whole.index(metaindex)
    assert missed <= {*range(begin, begin + len(metaindex)), *range(footer, footer + 40)}


def test_step_is_what_the_checkpoint_says(tmp_path: Path) -> None:
    """The step is read from each checkpoint, though their indexes differ in checksums only."""
    for number, step in enumerate((700, 1400, 2100), start=1):
        writer = BundleWriter()
        writer.add(b"save_counter/.ATTRIBUTES/VARIABLE_VALUE", 9, (), number.to_bytes(8, "little"))
        writer.add(b"optimizer/_iterations/.ATTRIBUTES/VARIABLE_VALUE", 9, (), step.to_bytes(8, "little"))
        _write(tmp_path, f"ckpt-{number}", writer, EPOCH + number)
    fabricate.checkpoint(tmp_path, "weights-9", at=EPOCH + 10)
    fabricate.checkpoint(tmp_path, "final", at=EPOCH + 11)
    assert [(one.step, one.step_from) for one in scan(tmp_path, now=OLD).checkpoints] == [
        (700, "optimizer/_iterations"),
        (1400, "optimizer/_iterations"),
        (2100, "optimizer/_iterations"),
        (9, "name"),
        (None, None),
    ]


def test_step_that_fails_its_checksum_gives_a_broken_one_away(tmp_path: Path) -> None:
    """Where the few bytes that are read are damaged, no number is taken from them."""
    for number in (1, 2):
        writer = BundleWriter()
        writer.add(b"global_step", 9, (), number.to_bytes(8, "little"))
        _write(tmp_path, f"model.ckpt-{number}", writer, EPOCH + number)
    (tmp_path / "model.ckpt-2.data-00000-of-00001").write_bytes(bytes(8))
    second = scan(tmp_path).checkpoints[1]
    assert second.status is Status.BROKEN, "however young it is: no save under way explains it"
    assert "fails its checksum" in (second.problem or "")
    assert (second.step, second.step_from) == (2, "name")


def test_index_beyond_what_is_read_is_not_broken(tmp_path: Path) -> None:
    """A checkpoint in a later version of the format is neither called complete nor deleted as broken."""
    writer = BundleWriter()
    writer.entries[b""] = bundle_writer.header_proto(1, producer=9, min_consumer=9)
    _write(tmp_path, "ckpt-1", writer)
    one = only(scan(tmp_path, now=OLD + 1e9))
    assert not one.complete
    assert "version 9" in (one.doubt or "")


def test_file_that_a_state_lists_is_no_v1_checkpoint_for_that(tmp_path: Path) -> None:
    """A state that lists some other file does not make a checkpoint of it."""
    (tmp_path / "thesis").write_bytes(b"three years of work")
    (tmp_path / "checkpoint").write_text(fabricate.state_text(["thesis", "ckpt-1"]))
    found = scan(tmp_path, now=OLD)
    assert {one.name: one.status for one in found.checkpoints} == {
        "thesis": Status.MISSING,
        "ckpt-1": Status.MISSING,
    }


def test_preserved_ones_are_known_by_time(tmp_path: Path) -> None:
    """Unlisted and no later than last_preserved_timestamp: it may have been preserved for ever."""
    fabricate.run(tmp_path, 6, listed=2, last_preserved=EPOCH + 130)
    assert [one.preserved for one in scan(tmp_path, now=OLD).checkpoints] == [True] * 3 + [False] * 3


def test_preserved_ones_are_known_by_another_clock(tmp_path: Path) -> None:
    """A file server's clock that is some seconds ahead of the trainer's lets none of them go."""
    fabricate.run(tmp_path, 6, listed=2, last_preserved=EPOCH + 119)  # ckpt-3's file says 121
    assert [one.preserved for one in scan(tmp_path, now=OLD).checkpoints] == [True] * 3 + [False] * 3


def test_preserved_ones_are_known_in_a_copy_without_times(tmp_path: Path) -> None:
    """Where a copy has lost the times, an unlisted older step may be preserved too."""
    fabricate.run(tmp_path, 6, listed=2, last_preserved=EPOCH + 130)
    for file in tmp_path.iterdir():
        os.utime(file, (OLD, OLD))
    found = {one.name: one.preserved for one in scan(tmp_path, now=OLD + 7200).checkpoints}
    assert found == {f"ckpt-{step}": step <= 4 for step in range(1, 7)}


def test_links_are_not_regular_files(tmp_path: Path) -> None:
    """Links to files count as there, and their targets know of them; a dangling one makes it broken."""
    data, index = fabricate.checkpoint(tmp_path, "ckpt-1")
    (tmp_path / "best.index").symlink_to(index.name)
    (tmp_path / "best.data-00000-of-00001").symlink_to(data)
    (tmp_path / "bad.index").symlink_to("nowhere.index")
    found = {one.name: one for one in scan(tmp_path, now=OLD + 1e9).checkpoints}
    assert found["best"].complete
    assert set(found["ckpt-1"].linked_from) == {"best.index", "best.data-00000-of-00001"}
    assert found["bad"].status is Status.BROKEN


@pytest.mark.parametrize(
    "target", ["ckpt-1", "./ckpt-1", "../run/ckpt-1", "../alias/ckpt-1", "{}/alias/ckpt-1"]
)
def test_link_called_like_a_checkpoint(tmp_path: Path, target: str) -> None:
    """A link to a prefix leads to no file, and means the checkpoint all the same, by whatever path."""
    run = fabricate.run(tmp_path / "run", 2)
    (tmp_path / "alias").symlink_to(run)
    (run / "best").symlink_to(target.format(tmp_path))
    (run / "other").symlink_to(tmp_path / "elsewhere" / "ckpt-2")
    found = {one.name: one.linked_from for one in scan(run).checkpoints}
    assert found == {"ckpt-1": ("best",), "ckpt-2": ()}


def test_directory_called_like_an_index(tmp_path: Path) -> None:
    """A directory, a FIFO or a socket in the place of a file is seen for what it is."""
    fabricate.checkpoint(tmp_path, "ckpt-5")[1].unlink()
    (tmp_path / "ckpt-5.index").mkdir()
    fabricate.checkpoint(tmp_path, "ckpt-6")[0].unlink()
    os.mkfifo(tmp_path / "ckpt-6.data-00000-of-00001")
    found = scan(tmp_path, now=OLD + 1e9)
    assert [one.problem for one in found.checkpoints] == [
        "ckpt-6.data-00000-of-00001 is not a file",
        "ckpt-5.index is not a file",
    ]


def test_saved_model_is_known(tmp_path: Path) -> None:
    """variables/ of an export is known by what is beside it, and by its name before that is written."""
    exported = tmp_path / "export" / "variables"
    exported.mkdir(parents=True)
    fabricate.checkpoint(exported, "variables")
    assert scan(exported, now=OLD).saved_model
    moved = exported.rename(tmp_path / "export" / "vars")
    assert not scan(moved, now=OLD).saved_model
    (tmp_path / "export" / "saved_model.pb").write_bytes(b"")
    assert scan(moved, now=OLD).saved_model


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "no such directory"),  # noqa: ARG005 - nothing is made
        (lambda path: path.write_text("x"), "is not a directory"),
        (lambda path: path.symlink_to("itself"), "cannot be read|no such directory"),
    ],
    ids=["nothing", "file", "dangling"],
)
def test_no_directory(tmp_path: Path, make: object, message: str) -> None:
    """What is no directory is said to be none."""
    make(tmp_path / "run")  # type: ignore[operator]
    with pytest.raises(UnreadableError, match=message):
        scan(tmp_path / "run")


def test_tree_finds_every_run(tmp_path: Path) -> None:
    """All runs below a directory are found, links not followed, exports and parts passed over."""
    for name in ("a", "a/nested", "b"):
        fabricate.run(tmp_path / name, 1)
    (tmp_path / "b" / "variables").mkdir()
    fabricate.checkpoint(tmp_path / "b" / "variables", "x")
    exported = tmp_path / "export" / "variables"
    exported.mkdir(parents=True)
    fabricate.checkpoint(exported, "variables")
    (tmp_path / "empty").mkdir()
    (tmp_path / "b" / "loop").symlink_to(tmp_path)
    parts = tmp_path / "b" / "ckpt-2_temp"
    parts.mkdir()
    fabricate.checkpoint(parts, "part-00000-of-00001")
    assert [os.path.relpath(one.path, tmp_path) for one in scan_tree(str(tmp_path))] == [
        "a",
        "a/nested",
        "b",
        "b/variables",
    ]


def test_listed_one_may_come_at_any_moment(tmp_path: Path) -> None:
    """What the state lists and is saved between the listing and the look makes no listing a short one."""
    run = tmp_path / "run"

    def lacking() -> None:
        shutil.rmtree(run, ignore_errors=True)
        fabricate.run(run, 3)
        for file in run.glob("ckpt-2.*"):
            file.unlink()

    def save_at(moment: int | None) -> int:
        def before(call: int) -> None:
            if call == moment:
                fabricate.checkpoint(run, "ckpt-2")

        return steps.in_child(lambda: scan(run), before)

    lacking()
    for moment in range(save_at(None)):
        lacking()
        save_at(moment)


def test_look_that_fails_is_no_absence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the disk does not tell whether a listed checkpoint is there, the directory is not planned on."""
    fabricate.run(tmp_path, 3)
    (tmp_path / "ckpt-2.index").unlink()
    look = os.stat

    def failing(path: str, **options: Any) -> os.stat_result:
        if path == "ckpt-2.index":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return look(path, **options)

    monkeypatch.setattr(os, "stat", failing)
    with pytest.raises(UnreadableError, match="cannot be listed: Input/output error"):
        scan(tmp_path, now=OLD)


@pytest.mark.parametrize("time", ["nan", "inf", "-inf"])
def test_time_that_is_none_is_taken_from_the_file(tmp_path: Path, time: str) -> None:
    """A timestamp of the state that is no time tells nothing: the index's own counts."""
    fabricate.run(tmp_path, 2)
    text = fabricate.state_text(["ckpt-1", "ckpt-2"]).replace(f"{EPOCH}.0", time)
    assert time in text
    (tmp_path / "checkpoint").write_text(text)
    assert [one.saved for one in scan(tmp_path, now=OLD).checkpoints] == [EPOCH, EPOCH + 60.5]


@pytest.mark.parametrize("victim", ["ckpt-1", "model.ckpt-2", "model.ckpt-3"])
def test_checkpoint_may_go_at_any_moment(tmp_path: Path, victim: str) -> None:
    """A trainer deletes while it is looked at: before whichever call it does, the others are listed."""

    def fill(path: Path) -> None:
        fabricate.run(path, 2)
        (path / "model.ckpt-2").write_bytes(fabricate.v1())
        for shard in range(2):
            (path / f"model.ckpt-3-0000{shard}-of-00002").write_bytes(fabricate.v1())
        (path / "model.ckpt-2.meta").write_bytes(b"graph")

    fill(tmp_path / "run")
    rest = {"ckpt-1", "ckpt-2", "model.ckpt-2", "model.ckpt-3"} - {victim}
    count = steps.in_child(lambda: scan(tmp_path / "run"), lambda _: None, steps.READING)
    assert count > 10
    for moment in range(count):
        fill(tmp_path / "run")

        def go(call: int, moment: int = moment) -> None:
            if call == moment:
                for path in (tmp_path / "run").iterdir():
                    if path.name == victim or path.name.startswith((f"{victim}.", f"{victim}-")):
                        path.unlink()

        def look() -> None:
            assert rest <= set(names(scan(tmp_path / "run")))

        steps.in_child(look, go, steps.READING)


def test_index_that_nobody_may_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is unreadable, whatever its age, and neither being saved nor broken; the reason is the system's."""
    fabricate.run(tmp_path, 2)
    opened = os.open

    def refusing(path: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if path == "ckpt-2.index":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return opened(path, flags, mode, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", refusing)
    for now in (None, time.time() + 2 * SAVING_SECONDS):
        _, one = scan(tmp_path, now=now).checkpoints
        assert (one.status, one.complete) == (Status.UNREADABLE, False)
        assert one.problem == "its index cannot be read: Permission denied"
        assert one.doubt == f"it cannot be told whether it restores: {one.problem}"
