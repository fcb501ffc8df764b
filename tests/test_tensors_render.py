"""Tests of the tables and the JSON of tensors."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ckptctl import render
from ckptctl.tensors.compare import layer_of
from ckptctl.tensors.listing import short_names
from ckptctl.tensors.render import dump, plain, table

VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"


@given(
    st.lists(st.lists(st.text(max_size=12), min_size=3, max_size=3), min_size=1, max_size=6),
    st.sets(st.integers(0, 2)),
)
def test_table_is_tabulate_s(rows: list[list[str]], right: set[int]) -> None:
    """The table that is written here is tabulate's, to the byte."""
    headers = ("name", "a long header", "x")
    assert table(rows, headers, "simple", right) == render.table(rows, headers, "simple", right)


def test_table_without_rows() -> None:
    """A table may be empty, and has its headers then."""
    assert table([], ("a", "b"), "simple") == render.table([], ("a", "b"), "simple")


@given(
    st.dictionaries(
        st.text(max_size=5),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(max_size=5),
            lambda inner: (
                st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
            ),
            max_leaves=8,
        ),
        max_size=4,
    )
)
def test_dump_is_json(document: dict[str, object]) -> None:
    """What is dumped can be read again."""
    assert json.loads(dump(document)) == document


def test_dump_knows_no_nan() -> None:
    """A number that JSON has no word for never gets out as a word that JSON does not have."""
    with pytest.raises(ValueError, match="JSON"):
        dump({"x": math.nan})
    assert plain([1.5, math.nan, [math.inf, -math.inf], complex(0, math.nan), b"\xff", True, None]) == [
        1.5, "NaN", ["Infinity", "-Infinity"], [0.0, "NaN"], "\udcff", True, None,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        (f"model/layer_with_weights-0/kernel{VALUE}", "model/layer_with_weights-0"),
        (f"model/l/kernel/.OPTIMIZER_SLOT/opt/m{VALUE}", "model/l (slots)"),
        (f"v/.OPTIMIZER_SLOT/opt/m{VALUE}", "(slots)"),
        ("dense/kernel", "dense"),
        ("dense/kernel/Adam", "dense (slots)"),
        ("dense/bias/Adam", "dense/bias"),
        ("kernel/Adam", "(slots)"),
        (f"step{VALUE}", ""),
        ("global_step", ""),
        ("", ""),
    ],
)
def test_layer(name: str, layer: str) -> None:
    """A layer is everything before the last name of an object."""
    assert layer_of(name, {"dense/kernel", "kernel"}) == layer


def test_short_names() -> None:
    """The common suffix is dropped wherever that leaves a name that no other tensor has."""
    assert short_names([f"a{VALUE}", f"b{VALUE}", "b", VALUE]) == {
        f"a{VALUE}": "a",
        f"b{VALUE}": f"b{VALUE}",
        "b": "b",
        VALUE: "",
    }
