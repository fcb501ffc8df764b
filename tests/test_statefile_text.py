"""What a state file says when some of its entries are taken out, and what stays as the trainer wrote it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import fabricate
import pytest
from fabricate import EPOCH

from ckptctl import posix, statefile

if TYPE_CHECKING:
    from pathlib import Path

    from ckptctl.model import State

NAMES = ["ckpt-1", "ckpt-2", "ckpt-3"]


def said(path: Path, text: str) -> State:
    """What a directory's state file with this text says."""
    (path / "checkpoint").write_text(text)
    with posix.open_directory(os.fspath(path)) as directory:
        state, snapshot = statefile.read(directory, "checkpoint")
    assert snapshot is not None
    snapshot.close()
    return state


@pytest.mark.parametrize("timestamps", [True, False])
@pytest.mark.parametrize("preserved", [None, EPOCH - 1.25])
def test_text_is_what_was_read(tmp_path: Path, timestamps: bool, preserved: float | None) -> None:  # noqa: FBT001 - a parameter
    """A state that is written as it was read has every path, time and the time of the last preserved one."""
    text = fabricate.state_text(NAMES, timestamps=timestamps, last_preserved=preserved)
    assert statefile.text(said(tmp_path, text)) == text.encode()


def test_dropped_ones_go_with_their_times(tmp_path: Path) -> None:
    """Of two lists that belong together, the same places go."""
    state = said(tmp_path, fabricate.state_text(NAMES, last_preserved=EPOCH - 1.25))
    left = fabricate.state_text(NAMES[1:], first=2, last_preserved=EPOCH - 1.25)
    assert statefile.without(state, {"ckpt-1"}) == left.encode()


@pytest.mark.parametrize("latest", NAMES)
def test_latest_stays_listed(tmp_path: Path, latest: str) -> None:
    """Whatever is to be dropped, the latest is not, wherever it stands in the list."""
    state = said(tmp_path, fabricate.state_text(NAMES, latest=latest, timestamps=False))
    left = fabricate.state_text([latest], timestamps=False)
    assert statefile.without(state, NAMES) == left.encode()


def test_what_is_foreign_stays_listed(tmp_path: Path) -> None:
    """A path that leads elsewhere is not that of the name here."""
    names = ["/elsewhere/ckpt-1", *NAMES]
    state = said(tmp_path, fabricate.state_text(names, timestamps=False))
    left = fabricate.state_text(["/elsewhere/ckpt-1", "ckpt-3"], timestamps=False)
    assert statefile.without(state, {"ckpt-1", "ckpt-2"}) == left.encode()


@pytest.mark.parametrize(
    ("text", "dropped"),
    [
        (fabricate.state_text(NAMES), {"ckpt-9"}),
        (fabricate.state_text(["ckpt-3"]), {"ckpt-3"}),
        (fabricate.state_text(NAMES) + "all_model_checkpoint_timestamps: 7\n", {"ckpt-1"}),
        (fabricate.state_text(NAMES, timestamps=False) + "all_model_checkpoint_timestamps: 7\n", {"ckpt-1"}),
        ("", {"ckpt-1"}),
    ],
    ids=["none of them", "the latest alone", "a time too many", "times too few", "no state"],
)
def test_nothing_to_write(tmp_path: Path, text: str, dropped: set[str]) -> None:
    """Where nothing is to go, or nobody knows which time is whose, there is no new text."""
    assert statefile.without(said(tmp_path, text), dropped) is None
