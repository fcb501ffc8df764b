"""Tests of ckptctl.metrics."""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING

import pytest

from ckptctl import metrics
from ckptctl.errors import UnreadableError
from ckptctl.metrics import read_values

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("m.csv", "step,loss,accuracy\n20,0.25,\n10,0.5,0.1\n30,,0.2\n20,0.125,\n"),
        ("m.json", '[{"step": 20, "loss": 9}, {"step": 10, "loss": 0.5}, {"step": 20, "loss": 0.125}]'),
        ("m.csv", "\ufeffloss,step\n0.125,2e1\n0.5,10\n"),
    ],
)
def test_values_by_step(tmp_path: Path, name: str, text: str) -> None:
    """Rows in any order; the last value of a step counts, and rows of other metrics do not."""
    path = tmp_path / name
    path.write_text(text)
    values = read_values(str(path), "loss")
    assert dict(zip(values.steps, values.values, strict=True)) == {10: 0.5, 20: 0.125}
    assert not values.times


def test_not_a_number(tmp_path: Path) -> None:
    """What a diverged run writes is read as it is."""
    path = tmp_path / "m.csv"
    path.write_text("step,loss\n1,nan\n2,-inf\n")
    first, second = read_values(str(path), "loss").values
    assert math.isnan(first)
    assert second == -math.inf


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("m.csv", b"step,loss\n", "no row has a loss"),
        ("m.csv", b"step,accuracy\n1,2\n", "no row has a loss"),
        ("m.csv", b"epoch,loss\n1,2\n", "a column `step`"),
        ("m.csv", b"step,loss\n1,low\n", "row 1: expected a whole step and a number loss"),
        ("m.csv", b"step,loss\n1.5,2\n", "row 1"),
        ("m.csv", b"step,loss\ninf,2\n", "row 1"),
        ("m.csv", b"", "a column `step`"),
        ("m.csv", b"\xff\xfe", "not text"),
        ("m.json", b"{", "expected JSON"),
        ("m.json", b"[" * 100_000, "expected JSON"),
        ("m.json", b"[1]", "expected a list"),
        ("m.json", b'[{"loss": 1}]', "row 1"),
        ("m.json", b'[{"step": [], "loss": 1}]', "row 1"),
        ("m.json", b'[{"step": 1, "loss": "x"}]', "row 1"),
    ],
)
def test_what_is_no_table_of_metrics(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    """Each kind of bad input is told, with the file."""
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(UnreadableError, match=message) as error:
        read_values(str(path), "loss")
    assert str(path) in str(error.value)


def test_no_file(tmp_path: Path) -> None:
    """A file that is not there is told."""
    with pytest.raises(UnreadableError, match="No such file"):
        read_values(str(tmp_path / "none.csv"), "loss")


def test_huge_file(tmp_path: Path) -> None:
    """A file of any size costs bounded memory."""
    path = tmp_path / "m.csv"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(UnreadableError, match="more than"):
        read_values(str(path), "loss")


def test_a_row_that_is_being_written(tmp_path: Path) -> None:
    """The last row of a CSV file that ends in the middle of it is no value."""
    path = tmp_path / "m.csv"
    path.write_text("step,loss\n1,0.5\n2,0")
    assert list(read_values(str(path), "loss").steps) == [1]


def test_json_of_another_kind(tmp_path: Path) -> None:
    """An object in a number's place is an error, and no crash."""
    path = tmp_path / "m.json"
    path.write_text('[{"step": 1, "loss": {"a": 1}}]')
    with pytest.raises(UnreadableError, match="row 1"):
        read_values(str(path), "loss")


def test_fifo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is silent is given up, whether or not anybody could write to it."""
    path = tmp_path / "fifo"
    os.mkfifo(path)
    monkeypatch.setattr(metrics, "_PATIENCE", 0.05)
    with pytest.raises(UnreadableError, match="nothing comes out of it"):
        read_values(str(path), "loss")
    held = os.open(path, os.O_RDWR)
    try:
        with pytest.raises(UnreadableError, match="nothing comes out of it"):
            read_values(str(path), "loss")
    finally:
        os.close(held)
