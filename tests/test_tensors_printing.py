"""Tests of what is printed of a tensor: to the character what numpy prints."""

from __future__ import annotations

import math
import sys
import time
from typing import TYPE_CHECKING, Any

import bundle_writer as writer
import ml_dtypes
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ckptctl.bundle.dtypes import DTYPES
from ckptctl.tensors.elements import read_summary
from ckptctl.tensors.listing import open_listing
from ckptctl.tensors.printing import full_text, summary_text

if TYPE_CHECKING:
    from pathlib import Path

    Array = np.ndarray[Any, Any]


def numbers(dtype: int, shape: tuple[int, ...]) -> Array:
    """Elements of that type, as different as it has them."""
    kind = DTYPES[dtype]
    plain = np.dtype(getattr(ml_dtypes, kind.numpy, None) or kind.numpy)
    random = np.random.default_rng(dtype)
    raw = random.integers(0, 256, (*shape, plain.itemsize), dtype=np.uint8)
    if plain.kind == "b":
        raw %= 2
    if not kind.name.startswith(("int2", "int4", "uint2", "uint4", "float4")):
        values: Array = raw.view(plain).reshape(shape)
        return values
    return random.integers(0, 2, shape).astype(plain)


def words(shape: tuple[int, ...]) -> Array:
    """Strings of many lengths."""
    lengths = np.random.default_rng(1).integers(0, 120, math.prod(shape))
    values = np.empty(len(lengths), dtype=object)
    values[:] = [b"\xff" * length for length in lengths]
    return values.reshape(shape)


@pytest.mark.parametrize("dtype", sorted(DTYPES))
@pytest.mark.filterwarnings("ignore:invalid value")
def test_full_numbers(dtype: int) -> None:
    """Every element of every dtype is printed as numpy prints it among the others."""
    values = numbers(dtype, (3, 2, 171))
    assert full_text(values) == np.array2string(values, threshold=sys.maxsize)


SHAPES = [(), (0,), (3,), (1200,), (2000, 1), (1, 1, 2000), (5, 0, 3), (3, 1, 4, 7, 20), (*[1] * 10, 1001)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_full_shapes(shape: tuple[int, ...]) -> None:
    """Brackets and lines are where numpy has them."""
    for values in (numbers(1, shape), numbers(3, shape)):
        assert full_text(values) == np.array2string(values, threshold=sys.maxsize)
    if shape:
        expected = np.array2string(words(shape), threshold=sys.maxsize, formatter={"object": repr})
        assert full_text(words(shape)) == expected


@pytest.mark.parametrize("shape", [(400_000,), (2, 200_000), (200_000, 2)], ids=str)
def test_full_is_linear(shape: tuple[int, ...]) -> None:
    """Four times the elements take about four times the time."""
    values = numbers(3, shape)
    seconds = []
    quarter = values[: shape[0] // 4] if shape[0] % 4 == 0 else values[:, : shape[1] // 4]
    for part in (quarter, values):
        began = time.process_time()
        full_text(part)
        seconds.append(time.process_time() - began)
    assert seconds[1] < 8 * seconds[0]


def summary(directory: Path, bundle: writer.BundleWriter, values: Array) -> str:
    """What is printed of the tensor `a`."""
    bundle.write(directory, "P")
    with open_listing(str(directory / "P")) as listing:
        read = read_summary(listing, listing.find("a", dict))
    return summary_text(read, summarised=values.size > 1000)


@pytest.mark.parametrize("dtype", sorted(DTYPES))
@pytest.mark.filterwarnings("ignore:invalid value")
def test_summary_of_numbers(tmp_path: Path, dtype: int) -> None:
    """A summary of every dtype is numpy's."""
    for shape in [(2, 3), (7, 2, 171), (1001,)]:
        values = numbers(dtype, shape)
        bundle = writer.BundleWriter()
        bundle.add(b"a", dtype, shape, values.tobytes())
        assert summary(tmp_path, bundle, values) == np.array2string(values)


@given(
    shape=st.lists(st.sampled_from([0, 1, 2, 5, 6, 7, 8, 40]), max_size=4).map(tuple),
    cuts=st.tuples(st.integers(1, 12), st.integers(1, 12)),
)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_summary_of_shapes(tmp_path: Path, shape: tuple[int, ...], cuts: tuple[int, int]) -> None:
    """So it is of every shape, in one piece or partitioned along two axes, and of strings."""
    values = np.arange(int(np.prod(shape)), dtype="<i4").reshape(shape)
    bundle = writer.BundleWriter()
    bundle.add(b"a", 3, shape, values.tobytes())
    assert summary(tmp_path, bundle, values) == np.array2string(values)
    strings = [b"%d" % number for number in values.flat]
    bundle = writer.BundleWriter()
    bundle.add_strings(b"a", shape, strings)
    objects = np.array(strings, dtype=object).reshape(shape)
    expected = np.array2string(objects, formatter={"object": repr}) if shape else repr(strings[0])
    assert summary(tmp_path, bundle, values) == expected
    if len(shape) >= 2 and values.size:
        parts: list[tuple[writer.Extents, bytes, int]] = []
        for row in range(0, shape[0], cuts[0]):
            for column in range(0, shape[1], cuts[1]):
                piece = values[row : row + cuts[0], column : column + cuts[1]]
                extents = ((row, piece.shape[0]), (column, piece.shape[1]), *[None] * (len(shape) - 2))
                parts.append((extents, piece.tobytes(), 0))
        bundle = writer.BundleWriter()
        bundle.add_partitioned(b"a", 3, shape, parts)
        assert summary(tmp_path, bundle, values) == np.array2string(values)
