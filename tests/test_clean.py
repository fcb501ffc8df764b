"""Tests of ckptctl.clean and ckptctl.leftovers: what a killed save left goes, and nothing else ever does."""

from __future__ import annotations

import errno
import functools
import importlib
import os
import shutil
import signal
import subprocess
import sys
import time
import types
from pathlib import Path
from typing import TYPE_CHECKING

import fabricate
import pytest
import steps
from trainers import restore_and_train

from ckptctl import locks, posix, removal
from ckptctl.clean import clean as clean_beside
from ckptctl.errors import LockedError, PolicyError, RefusedError, UnreadableError
from ckptctl.leftover_names import Names
from ckptctl.pins import pin
from ckptctl.policy import Newest, Policy
from ckptctl.prune import prune
from ckptctl.scan import scan

if TYPE_CHECKING:
    from collections.abc import Callable

    from ckptctl.clean import CleanReport
    from ckptctl.model import File

clean = functools.partial(clean_beside, offline=True)
"""Where no trainer is at work: what is made here is younger than the checkpoints."""

HEX = "0123456789abcdef" * 2
PART = "part-00000-of-00001"
DATA = "data-00000-of-00001"
META = b"\x0a\x05\x2a\x03abc\x12\x02\x0a\x00"  # a MetaGraphDef with a meta_info_def and a graph_def


@pytest.fixture
def _later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two hours from now."""
    fabricate.set_clock(monkeypatch, "ckptctl.clean")


later = pytest.mark.usefixtures("_later")


def put(path: Path, name: str, content: bytes = b"part") -> None:
    """Writes a file, and the directories that it lies in."""
    (path / name).parent.mkdir(parents=True, exist_ok=True)
    (path / name).write_bytes(content)


LEFT = {
    "ckpt-9.data-00000-of-00001": b"data",
    "model-7.data-00001-of-00003": b"data",
    "model.ckpt-7.meta": META,
    f"ckpt-9.{DATA}.tempstate123": b"data",
    "ckpt-9.index.tempstate123": b"index",
    "model.ckpt-9.tempstate5506369763598434277": b"V1",
    "model.ckpt-9-00000-of-00002.tempstate14898400153617119859": b"V1, sharded",
    f"checkpoint.tmp{HEX}": b"state",
    f"model.ckpt-8.meta.tmp{HEX}": META,
    f"ckpt-9_temp/{PART}.{DATA}": b"data",
    f"ckpt-9_temp/{PART}.index.tempstate9": b"",
    f"model-7_temp_{HEX}/{PART}.{DATA}.tempstate18446744073709551615": b"data",
    "workertemp_1/ckpt-9.index": b"index",
    f"workertemp_1/ckpt-9.{DATA}": b"data",
    "workertemp_1/checkpoint": b"state",
    f"workertemp_1/ckpt-10_temp/{PART}.{DATA}": b"data",
    "workertemp_2/checkpoint.tmp" + HEX: b"state",
}
"""What saves leave behind."""


def leave(path: Path) -> Path:
    """A run of two, with all that saves leave behind."""
    fabricate.run(path, 2)
    for name, content in LEFT.items():
        put(path, name, content)
    return path


@later
def test_leftovers_go_and_all_else_stays(tmp_path: Path) -> None:
    """Every kind of leftover goes, with its directory; checkpoints and what is the user's do not."""
    for name in ("events.out.tfevents.1", "graph.pbtxt", "checkpoint.bak-20260101T000000Z", "notes/x.txt"):
        put(tmp_path, name)
    fabricate.run(tmp_path, 2)
    before = fabricate.contents(tmp_path)
    report = clean(leave(tmp_path))
    assert fabricate.contents(tmp_path) == before
    assert sorted(os.listdir(tmp_path)) == sorted({name.partition("/")[0] for name in before})
    assert set(report.deleted) == {name.partition("/")[0] for name in LEFT}
    assert report.freed_bytes == sum(map(len, LEFT.values()))
    assert (report.failed, report.spared, report.notes) == ((), (), ())


@later
def test_dry_run_touches_nothing(tmp_path: Path) -> None:
    """A dry run plans the same and leaves every byte and time as it was."""
    leave(tmp_path)
    before = fabricate.contents(tmp_path), tmp_path.stat().st_mtime_ns
    report = clean(tmp_path, dry_run=True)
    assert {one.path for one in report.plan.delete} == {name.partition("/")[0] for name in LEFT}
    assert (fabricate.contents(tmp_path), tmp_path.stat().st_mtime_ns) == before


STAYS = {
    "notes.meta": META,  # not numbered: exported by hand
    "scene-7.meta": b"fileFormatVersion: 2\n",  # another program's
    "cut-7.meta": META[:-1],
    f"graph.pbtxt.tmp{HEX}": b"graph",
    "download.tempstate5": b"something",
    "my_temp/thesis.tex": b"the only copy",
    f"ckpt-9_temp/{PART}.{DATA}.bak": b"kept by hand",
    f"ckpt-8_temp/deeper/{PART}.{DATA}": b"data",
    f"_temp/{PART}.{DATA}": b"no prefix",
    "workertemp_x/ckpt-1.index": b"index",
    "workertemp_3/best.h5": b"weights",
    f"workertemp_4/ckpt-1_temp/deeper/{PART}.{DATA}": b"data",
}
"""What looks like it and is none."""


@later
def test_directory_that_the_state_leads_into_stays(tmp_path: Path) -> None:
    """A trainer may save to a directory that is called like one of parts."""
    run = fabricate.run(tmp_path, 1)
    fabricate.run(run / "workertemp_1", 2)
    (run / "checkpoint").write_text(fabricate.state_text(["ckpt-1", "workertemp_1/ckpt-2"]))
    (kept,) = clean(run).plan.found
    assert (kept.path, kept.keep) == ("workertemp_1", "the state file lists what is in it")
    assert fabricate.names(run / "workertemp_1") == {"ckpt-1", "ckpt-2"}


@later
def test_names_that_only_look_like_it_stay(tmp_path: Path) -> None:
    """One file that no save puts there keeps a whole directory, which is named with that file."""
    fabricate.run(tmp_path, 1)
    for name, content in STAYS.items():
        put(tmp_path, name, content)
    put(tmp_path, f"my_temp/{PART}.{DATA}")
    before = fabricate.contents(tmp_path)
    report = clean(tmp_path)
    assert fabricate.contents(tmp_path) == before
    assert not report.plan.delete
    why = {one.path: one.keep for one in report.plan.found}
    assert why["my_temp"] == "no save puts there what is in it: thesis.tex"
    assert why["workertemp_4"] == "no save puts there what is in it: ckpt-1_temp/deeper"
    assert why["_temp"] == "no save gives a directory that name"
    assert why["scene-7.meta"] == "it may be something else"


DATA_SET = ["train.data-00000-of-00003", "train.data-00001-of-00003", "train.data-00002-of-00003"]
"""What Beam calls a data set by default, where its prefix is `train.data`."""


@later
def test_data_sets_stay(tmp_path: Path) -> None:
    """What no trainer wrote is not touched: without a checkpoint nothing, with one no prefix but a save's."""
    kept = {}
    for directory in (tmp_path / "data", fabricate.run(tmp_path / "run", 2)):
        for name in (*DATA_SET, f"ckpt-9.{DATA}", "ckpt-9.meta"):
            put(directory, name, META)
        (directory / f"model-7_temp_{HEX}").mkdir()
        kept[directory.name] = {one.path: one.keep for one in clean(directory).plan.found}
    assert set(kept["data"].values()) == {
        "there is no checkpoint here and no state file: it may be something else",
        "it may be something else",
    }
    assert {name for name, keep in kept["run"].items() if keep} == set(DATA_SET)
    assert set(os.listdir(tmp_path / "run")) >= set(DATA_SET)


@later
def test_prefix_without_a_number(tmp_path: Path) -> None:
    """It is a save's if the state lists it, or if a checkpoint there is called so before its number."""
    fabricate.checkpoint(tmp_path, "model-7")
    text = fabricate.state_text(["best", "model-7"])
    (tmp_path / "checkpoint").write_text(text)
    for name in ("best", "model", "mode", "model-"):
        put(tmp_path, f"{name}.{DATA}")
        (tmp_path / f"{name}_temp").mkdir()
    assert set(clean(tmp_path).deleted) == {f"best.{DATA}", f"model.{DATA}", "best_temp", "model_temp"}


@later
def test_prefix_with_a_number_inside(tmp_path: Path) -> None:
    """Names that Keras makes of a pattern are a save's where a checkpoint there has another number in it."""
    fabricate.checkpoint(tmp_path, "cp-0001.ckpt")
    for name in ("cp-0012.ckpt", "cp-.ckpt", "cp-0012", "scene-0012.ckpt", "cp-0012.ckpt.old", "cp-1-2.ckpt"):
        put(tmp_path, f"{name}.{DATA}")
        (tmp_path / f"{name}_temp").mkdir()
    assert set(clean(tmp_path).deleted) == {
        *(f"cp-0012.ckpt.{DATA}", "cp-0012.ckpt_temp"),
        *(f"cp-0012.{DATA}", "cp-0012_temp"),  # as ever: it ends in a number
    }


@later
def test_empty_directories_of_others_stay(tmp_path: Path) -> None:
    """An empty directory has nothing but its name to tell whose it is."""
    fabricate.run(tmp_path, 1)
    for name in ("plots_temp", f"plots_temp_{HEX}", "ckpt_temp", "ckpt-8_temp", "workertemp_3"):
        (tmp_path / name).mkdir()
    report = clean(tmp_path)
    assert [one.path for one in report.plan.found if one.keep] == ["plots_temp"]
    assert (tmp_path / "plots_temp").is_dir()
    assert len(report.deleted) == 4


@later
def test_what_a_link_leads_to_stays(tmp_path: Path) -> None:
    """Whoever made a link counts on what it leads to, by whatever path: a file, a directory, or in one."""
    run = fabricate.run(tmp_path / "run", 1)
    for name in (f"ckpt-7.{DATA}", f"ckpt-8.{DATA}", f"ckpt-9.{DATA}", f"ckpt-9_temp/{PART}.{DATA}"):
        put(run, name)
    put(run, f"ckpt-8_temp/{PART}.{DATA}")
    (run / "by-name").symlink_to(f"ckpt-8.{DATA}")
    (run / "by-path").symlink_to(f"../run/ckpt-9.{DATA}")
    (run / "inside").symlink_to(f"ckpt-9_temp/{PART}.{DATA}")
    (run / "directory").symlink_to(run / "ckpt-8_temp")
    report = clean(run)
    assert report.deleted == (f"ckpt-7.{DATA}",)
    assert {one.path: one.keep for one in report.plan.found if one.keep} == {
        f"ckpt-8.{DATA}": "the link by-name leads to it",
        f"ckpt-9.{DATA}": "the link by-path leads to it",
        "ckpt-9_temp": "the link inside leads to it",
        "ckpt-8_temp": "the link directory leads to it",
    }


@later
@pytest.mark.parametrize("data", ["link", "damaged", "shards", "directory"])
def test_meta_of_a_v1_checkpoint_that_no_scan_sees(tmp_path: Path, data: str) -> None:
    """A `.meta` stays as long as there is anything that may be its checkpoint's data."""
    fabricate.run(tmp_path, 1)
    put(tmp_path, "model-7.meta", META)
    if data == "link":
        put(tmp_path / "store", "blob", fabricate.v1())
        (tmp_path / "model-7").symlink_to("store/blob")
    elif data == "directory":
        (tmp_path / "model-7").mkdir()
    else:
        put(tmp_path, "model-7" if data == "damaged" else "model-7-00001-of-00002", b"\0damaged")
    (kept,) = clean(tmp_path).plan.found
    assert (kept.path, kept.keep) == ("model-7.meta", "model-7 may be its checkpoint")
    assert (tmp_path / "model-7.meta").exists()


@later
def test_links_and_other_kinds_stay(tmp_path: Path) -> None:
    """No link is followed, out of the directory or in a directory of parts, and only regular files go."""
    outside = tmp_path / "outside"
    put(outside, f"{PART}.{DATA}")
    run = fabricate.run(tmp_path / "run", 1)
    (run / "ckpt-8_temp").symlink_to(outside)
    (run / f"ckpt-8.{DATA}").symlink_to(outside / f"{PART}.{DATA}")
    (run / "ckpt-9_temp").mkdir()
    (run / "ckpt-9_temp" / f"{PART}.{DATA}").symlink_to(outside / f"{PART}.{DATA}")
    (run / "ckpt-7_temp").mkdir()
    os.mkfifo(run / "ckpt-7_temp" / f"{PART}.index")
    os.mkfifo(run / f"ckpt-6.{DATA}")
    (run / f"ckpt-5.{DATA}").mkdir()
    os.mkfifo(run / f"ckpt-4.{DATA}.tempstate9")
    (run / f"ckpt-3.{DATA}.tempstate9").mkdir()
    before = sorted(map(str, run.rglob("*")))
    report = clean(run)
    assert not report.deleted
    why = {one.path: one.keep for one in report.plan.found}
    assert why[f"ckpt-4.{DATA}.tempstate9"] == "it is not a regular file"
    assert why[f"ckpt-3.{DATA}.tempstate9"] == "no save gives a directory that name"
    assert sorted(map(str, run.rglob("*"))) == before
    assert (outside / f"{PART}.{DATA}").exists()


@later
def test_suspended_save_beside_another_saver(tmp_path: Path) -> None:
    """What one saver has in hand has not been outlived because another one has saved since."""
    fabricate.run(tmp_path, 3)
    put(tmp_path, f"ckpt-4_temp/{PART}.{DATA}")
    (tmp_path / f"checkpoint.tmp{HEX}").write_bytes(b"state")
    now = time.time()
    for name in ("ckpt-4_temp", f"ckpt-4_temp/{PART}.{DATA}", f"checkpoint.tmp{HEX}"):
        os.utime(tmp_path / name, (now - 100, now - 100))
    fabricate.checkpoint(tmp_path, "best-3", at=now - 50)
    assert clean_beside(tmp_path).deleted == ()
    fabricate.checkpoint(tmp_path, "ckpt-5", at=now - 20)
    assert set(clean_beside(tmp_path).deleted) == {"ckpt-4_temp", f"checkpoint.tmp{HEX}"}


@later
def test_hard_link_frees_nothing(tmp_path: Path) -> None:
    """What has another name besides is not counted as freed."""
    fabricate.run(tmp_path, 1)
    put(tmp_path, f"ckpt-9.{DATA}", b"data")
    os.link(tmp_path / f"ckpt-9.{DATA}", tmp_path / "kept")
    report = clean(tmp_path)
    assert (report.deleted, report.freed_bytes) == ((f"ckpt-9.{DATA}",), 0)


@pytest.mark.parametrize(
    "touched",
    ["ckpt-2.index", f"ckpt-9.{DATA}", "checkpoint", f"ckpt-9_temp/{PART}.{DATA}", f"checkpoint.tmp{HEX}"],
)
def test_nothing_goes_while_something_is_young(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, touched: str
) -> None:
    """Whatever file of a save was written last, its time is the whole directory's."""
    leave(tmp_path)
    written = time.time() + 5000
    os.utime(tmp_path / touched, (written, written))
    before = fabricate.contents(tmp_path)
    module = importlib.import_module("ckptctl.clean")

    def clean_at(moment: float) -> CleanReport:
        monkeypatch.setattr(module, "time", types.SimpleNamespace(time=lambda: moment))
        return clean(tmp_path, older_than=3600)

    for moment, words in ((written - 9, "in the future"), (written + 3590, "written 59m ago")):
        report = clean_at(moment)
        assert not report.deleted
        assert all(words in (one.keep or "") for one in report.plan.found)
    assert fabricate.contents(tmp_path) == before
    assert len(clean_at(written + 3601).deleted) == len({name.partition("/")[0] for name in LEFT})


def test_copy_that_keeps_times_is_young_all_the_same(tmp_path: Path) -> None:
    """`cp -p` and `rsync` bring the data first, with their old time: the copy may be under way."""
    fabricate.checkpoint(tmp_path, "ckpt-1")
    (tmp_path / "ckpt-1.index").unlink()
    assert (tmp_path / f"ckpt-1.{DATA}").stat().st_mtime == fabricate.EPOCH
    assert not clean(tmp_path).deleted
    assert (tmp_path / f"ckpt-1.{DATA}").exists()


WHY = "it was written after the newest checkpoint: a save that is suspended may go on"


@later
@pytest.mark.parametrize(
    "left",
    [
        f"ckpt-3.{DATA}",
        f"ckpt-3.{DATA}.tempstate12",
        f"ckpt-3_temp/{PART}.{DATA}",
        f"workertemp_1/ckpt-3_temp/{PART}.{DATA}",
        f"checkpoint.tmp{HEX}",
    ],
)
def test_save_that_may_be_suspended_stays(tmp_path: Path, left: str) -> None:
    """However long it was quiet, until there is a later checkpoint or the user says that nobody is at work.

    That a prune has written the state since tells nothing.
    """
    run = fabricate.run(tmp_path / "a run", 2)
    put(run, left)
    prune(run, Policy((Newest(1),)))
    (kept,) = clean_beside(run).plan.found
    assert kept.keep is not None
    assert kept.keep.startswith(WHY)
    assert f"`ckptctl clean --offline '{run}'`" in kept.keep
    assert (run / left).exists()
    assert [one.path for one in clean_beside(run, dry_run=True, offline=True).plan.delete] == [kept.path]
    fabricate.checkpoint(run, "ckpt-4", at=time.time() + 1)
    assert clean_beside(run).deleted == (kept.path,)


@later
def test_what_an_older_save_left_goes(tmp_path: Path) -> None:
    """What is older than the newest checkpoint is of no save that goes on; of a killed prune, mostly."""
    run = fabricate.run(tmp_path, 3)
    (run / "ckpt-1.index").unlink()
    assert clean_beside(run).deleted == (f"ckpt-1.{DATA}",)


@later
def test_what_is_counted_on_stays(tmp_path: Path) -> None:
    """Data of the latest that the state names, and of what is pinned, stay even without their index."""
    fabricate.run(tmp_path, 3)
    pin(str(tmp_path), ["ckpt-1"])
    for step in (1, 2, 3):
        (tmp_path / f"ckpt-{step}.index").unlink()
    parts = [
        name.replace("ckpt-N", f"ckpt-{step}")
        for name in (
            f"ckpt-N.{DATA}.tempstate12", f"ckpt-N.meta.tmp{HEX}", f"ckpt-N_temp/{PART}.{DATA}",
            f"ckpt-N_temp_{HEX}/{PART}.{DATA}",
        )
        for step in (1, 2, 3)
    ]  # fmt: skip
    for name in parts:
        put(tmp_path, name)
    assert set(clean(tmp_path).deleted) == {f"ckpt-2.{DATA}"} | {
        name.partition("/")[0] for name in parts if name.startswith("ckpt-2")
    }


def test_less_than_a_minute_is_refused(tmp_path: Path) -> None:
    """No time is too short for a save, so a minute is the least; NaN is no time."""
    for seconds in (0, 59.9, -1, float("nan")):
        with pytest.raises(PolicyError, match="a minute at least"):
            clean(tmp_path, older_than=seconds)


@later
@pytest.mark.parametrize("trouble", ["state", "pins", "variables", "misspelt"])
def test_directory_that_is_not_understood_is_refused(tmp_path: Path, trouble: str) -> None:
    """Where it is not known what is counted on, nothing goes."""
    run = leave(tmp_path / ("variables" if trouble == "variables" else "run"))
    name = "checkpoint"
    if trouble == "state":
        (run / "checkpoint").write_bytes(b"")
    elif trouble == "pins":
        (run / "ckptctl.pins").write_text("a/b\n")
    elif trouble == "variables":
        fabricate.checkpoint(run, "variables")
    else:
        name = "chekpoint"
    before = fabricate.contents(run)
    with pytest.raises(RefusedError):
        clean(run, latest_filename=name)
    assert fabricate.contents(run) == before


@later
def test_locked_or_absent_directory(tmp_path: Path) -> None:
    """While another ckptctl is at work nothing is done; what is not there is an error."""
    leave(tmp_path)
    with posix.open_directory(str(tmp_path)) as other, locks.lock(other), pytest.raises(LockedError):
        clean(tmp_path)
    with pytest.raises(UnreadableError):
        clean(tmp_path / "nowhere")


@later
def test_stop_leaves_the_rest(tmp_path: Path) -> None:
    """Asked to stop, it finishes the deletion in hand and says what it did."""
    leave(tmp_path)
    report = clean(tmp_path, stop=lambda: not (tmp_path / f"ckpt-9.{DATA}").exists())
    assert report.deleted[-1] == f"ckpt-9.{DATA}"
    assert report.notes == ("stopped before everything was deleted",)
    assert (tmp_path / "workertemp_1").exists()


@later
@pytest.mark.skipif(os.getuid() != 0, reason="only root may set the immutable flag, or the lack of it")
def test_what_cannot_be_deleted_is_reported(tmp_path: Path) -> None:
    """A file that cannot be removed is reported, with its directory, and the rest goes on."""
    leave(tmp_path)
    stuck = tmp_path / "ckpt-9_temp" / f"{PART}.{DATA}"
    if os.system(f"chattr +i '{stuck}' 2>/dev/null") != 0:  # noqa: S605 - our own path
        pytest.skip("this file system has no immutable flag")
    try:
        report = clean(tmp_path)
    finally:
        os.system(f"chattr -i '{stuck}'")  # noqa: S605 - the same
    assert [(failure.name, failure.error.partition(":")[0]) for failure in report.failed] == [
        ("ckpt-9_temp", f"{PART}.{DATA}")
    ]
    assert "workertemp_2" in report.deleted


@later
def test_what_a_killed_prune_left_is_put_right(tmp_path: Path) -> None:
    """Files that are still being written go, and those that were taken get their names back."""
    fabricate.run(tmp_path, 2)
    put(tmp_path, ".ckptctl-new-0011223344556677")
    (tmp_path / "ckpt-1.index").rename(tmp_path / ".ckptctl-taken-ckpt-1.index")
    assert [one.what for one in clean(tmp_path, dry_run=True).plan.found] == [
        "ckptctl's own",
        "ckptctl's own",
        "a shard without an index",
    ]
    assert not clean(tmp_path).plan.found
    assert fabricate.names(tmp_path) == {"ckpt-1", "ckpt-2"}


def test_tree_that_was_taken_has_its_name_again(tmp_path: Path) -> None:
    """Any command that comes after a clean that was killed gives the parts of a save their directory back."""
    fabricate.run(tmp_path, 1)
    put(tmp_path, f".ckptctl-taken-workertemp_3/ckpt-9_temp/{PART}.{DATA}")
    assert [file.name for file in scan(tmp_path).leftovers] == [".ckptctl-taken-workertemp_3"]
    prune(tmp_path, Policy((Newest(1),)))
    (kept,) = clean(tmp_path).plan.found  # it is young
    assert (kept.path, kept.what) == ("workertemp_3", "parts of a save")
    assert kept.keep is not None


@later
def test_tree_that_was_taken_and_saved_again(tmp_path: Path) -> None:
    """Where a new save has made the directory anew, both go once it is quiet, and neither into the other."""
    fabricate.run(tmp_path, 1)
    put(tmp_path, f".ckptctl-taken-ckpt-9_temp/{PART}.{DATA}", b"old")
    put(tmp_path, f"ckpt-9_temp/{PART}.{DATA}", b"new")
    prune(tmp_path, Policy((Newest(1),)))
    assert (tmp_path / f"ckpt-9_temp/{PART}.{DATA}").read_bytes() == b"new"
    report = clean(tmp_path)
    assert (report.deleted, report.freed_bytes) == ((".ckptctl-taken-ckpt-9_temp", "ckpt-9_temp"), 6)
    assert not list(tmp_path.glob("*_temp"))


def test_names_keep_nothing_that_goes(tmp_path: Path) -> None:
    """What `ls` takes from the names alone keeps no leftover that a clean deletes or puts right."""
    leave(tmp_path)
    put(tmp_path, ".ckptctl-new-0011223344556677")
    (tmp_path / "ckpt_temp").mkdir()
    found = scan(tmp_path)
    assert len(found.leftovers) == len({name.partition("/")[0] for name in LEFT}) + 2
    assert all(Names.of(found).may_go(file) for file in found.leftovers)


def test_names_that_keep(tmp_path: Path) -> None:
    """What is no regular file, of another program or of what is counted on, is known by a listing to stay."""
    fabricate.run(tmp_path, 2)
    (tmp_path / f"ckpt-9.{DATA}.tempstate5").symlink_to("ckpt-1.index")
    os.mkfifo(tmp_path / f"ckpt-8.{DATA}.tempstate5")
    (tmp_path / "plots_temp").mkdir()
    for name in (*DATA_SET, f"ckpt-2_temp/{PART}.{DATA}", f"ckpt-2.{DATA}.tempstate7", "notes.meta"):
        put(tmp_path, name)
    found = scan(tmp_path)
    assert len(found.leftovers) == 6 + len(DATA_SET)
    assert not any(Names.of(found).may_go(file) for file in found.leftovers)


@later
def test_what_another_state_file_waits_for_stays(tmp_path: Path) -> None:
    """What was taken out of a state file of another name may be its trainer's last word."""
    fabricate.run(tmp_path, 1)
    private = f".ckptctl-state-01234567-1-{HEX[:16]}-{HEX[:16]}"
    put(tmp_path, private)
    (kept,) = clean(tmp_path).plan.found
    assert (kept.path, kept.keep) == (private, "the next run for the same state file puts it right")


# At any moment


def calls_of_one_clean(run: Path) -> int:
    """How many system calls an undisturbed run makes."""
    fresh(run)
    count = steps.in_child(lambda: clean(run), lambda _: None)
    assert count > 50
    return count


def fresh(run: Path) -> None:
    """An emptied directory made a run with leftovers again."""
    shutil.rmtree(run, ignore_errors=True)
    leave(run)


@later
def test_kill_at_any_moment(tmp_path: Path) -> None:
    """After a kill before any call the checkpoints are whole, and the next run finishes."""
    run = tmp_path / "run"

    def kill_at(moment: int) -> int:
        return steps.in_child(lambda: clean(run), lambda call: steps.kill() if call == moment else None)

    for moment in range(calls_of_one_clean(run)):
        fresh(run)
        assert kill_at(moment) == -signal.SIGKILL
        clean(run)
        found = scan(run)
        assert [one.complete for one in found.checkpoints] == [True, True]
        assert not found.leftovers, moment
        assert len(os.listdir(run)) == 5


def saves_again(run: Path) -> None:
    """A save under the names that were left behind, up to its index, as TensorFlow makes it."""
    parts = run / "ckpt-9_temp"
    parts.mkdir(exist_ok=True)
    new = parts / f"{PART}.{DATA}.tempstate77"
    new.write_bytes(b"new" * 40)
    new.rename(parts / f"{PART}.{DATA}")
    (parts / f"{PART}.{DATA}").rename(run / f"ckpt-9.{DATA}")
    (run / "ckpt-9.index").write_bytes(fabricate.index(size=120))
    for path in (parts, run / f"ckpt-9.{DATA}", run / "ckpt-9.index"):
        os.utime(path, (time.time() + 7200, time.time() + 7200))  # by the clock that is set forward, now


@later
def test_trainer_may_save_at_any_moment(tmp_path: Path) -> None:
    """A save under a leftover's very name, before any of our calls, is whole afterwards."""
    run = tmp_path / "run"

    def save_at(moment: int) -> None:
        steps.in_child(lambda: clean(run), lambda call: saves_again(run) if call == moment else None)

    for moment in range(calls_of_one_clean(run)):
        fresh(run)
        save_at(moment)
        assert (run / f"ckpt-9.{DATA}").read_bytes() == b"new" * 40, moment
        assert [one.complete for one in scan(run).checkpoints] == [True, True, True], moment


@later
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_signal_at_any_moment_leaves_nothing_in_hand(tmp_path: Path, number: signal.Signals) -> None:
    """Wherever it comes, no file is left under a private name."""
    run = tmp_path / "run"

    for moment in range(calls_of_one_clean(run)):
        fresh(run)
        ended = steps.signalled(lambda: clean(run), number, moment)
        assert ended >= 0 if number == signal.SIGINT else ended == -number
        assert not [name for name in run.rglob("*") if name.name.startswith(".ckptctl-")], moment


def written_into(tree: Path) -> None:
    """A part of a new save."""
    (tree / f"{PART}.index").write_bytes(b"new")


@later
@pytest.mark.parametrize("change", [written_into, shutil.rmtree], ids=["written to", "gone"])
def test_tree_that_changes_in_the_meantime(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], None]
) -> None:
    """A directory of parts that is not as it was stays with all that is in it."""
    fabricate.run(tmp_path, 1)
    put(tmp_path, f"ckpt-8.{DATA}")
    put(tmp_path, f"ckpt-9_temp/{PART}.{DATA}")
    remove = removal.remove

    def removing(directory: int, file: File) -> int:
        change(tmp_path / "ckpt-9_temp")
        return remove(directory, file)

    monkeypatch.setattr(removal, "remove", removing)
    report = clean(tmp_path)
    assert (report.deleted, report.spared) == ((f"ckpt-8.{DATA}",), ("ckpt-9_temp",))
    assert (tmp_path / "ckpt-9_temp" / f"{PART}.{DATA}").exists() == (change is written_into)


@later
@pytest.mark.parametrize("name", ["ckpt-9_temp", ".ckptctl-taken-ckpt-9_temp"], ids=["before", "taken"])
def test_tree_that_cannot_be_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """An error of the disk is told as one, and not taken for something that a trainer wrote."""
    fabricate.run(tmp_path, 1)
    put(tmp_path, f"ckpt-8.{DATA}")
    put(tmp_path, f"ckpt-9_temp/{PART}.{DATA}")
    opened = os.open

    def failing(path: str, *arguments: int, **options: int) -> int:
        if path == name:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return opened(path, *arguments, **options)

    report = clean(tmp_path, announce=lambda _: monkeypatch.setattr(os, "open", failing))
    monkeypatch.undo()
    assert (report.deleted, report.spared) == ((f"ckpt-8.{DATA}",), ())
    (failure,) = report.failed
    assert failure.name == "ckpt-9_temp"
    assert failure.error.endswith("ckpt-9_temp cannot be read again")
    assert os.listdir(tmp_path / "ckpt-9_temp") == [f"{PART}.{DATA}"]


# Beside TensorFlow


@later
@pytest.mark.skipif(shutil.which("strace") is None, reason="strace kills the trainer at a call")
@pytest.mark.parametrize(
    ("name", "rename"), [("manager", 5), ("manager", 6), ("manager", 8), ("saver-sharded", 9)]
)
def test_what_a_killed_trainer_leaves_goes(tmp_path: Path, name: str, rename: int) -> None:
    """What a real trainer leaves that is killed before one of its renames goes, and it goes on after that."""
    run = tmp_path / "run"
    trainer = str(Path(__file__).parent / "trainers.py")
    subprocess.run(
        [
            *("strace", "-f", "-qq", "-o", os.devnull, "-e", "trace=rename"),
            *("-e", f"inject=rename:signal=SIGKILL:when={rename}"),
            *(sys.executable, trainer, name, str(run), "--saves=4"),
        ],
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"},
        capture_output=True,
        timeout=120,
        check=False,
    )
    before = scan(run)
    assert before.leftovers
    report = clean(run)
    assert set(report.deleted) == {file.name for file in before.leftovers}
    after = scan(run)
    assert not after.leftovers
    assert [one.name for one in after.checkpoints] == [one.name for one in before.checkpoints]
    assert restore_and_train(name, run, saves=2).missing == ()
