"""Tests of ckptctl.naming."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ckptctl import naming
from ckptctl.naming import ParsedName, Role, counting_columns, split_numbers


@pytest.mark.parametrize(
    ("name", "parsed"),
    [
        ("ckpt-1.index", ParsedName("ckpt-1", Role.INDEX)),
        ("ckpt-1.data-00000-of-00001", ParsedName("ckpt-1", Role.SHARD, 0, 1)),
        ("ckpt-1.data-00007-of-00012", ParsedName("ckpt-1", Role.SHARD, 7, 12)),
        ("ckpt-1.data-123456-of-200000", ParsedName("ckpt-1", Role.SHARD, 123456, 200000)),
        ("model.ckpt-10.meta", ParsedName("model.ckpt-10", Role.META)),
        ("model.ckpt-10-00000-of-00002", ParsedName("model.ckpt-10", Role.V1_SHARD, 0, 2)),
        (".00001.index", ParsedName(".00001", Role.INDEX)),
        ("-995.index", ParsedName("-995", Role.INDEX)),
        ("1e-09.index", ParsedName("1e-09", Role.INDEX)),
        ("run [1] a.index", ParsedName("run [1] a", Role.INDEX)),
        ("new\nline.index", ParsedName("new\nline", Role.INDEX)),
        ("weights.h5f.data-00000-of-00001", ParsedName("weights.h5f", Role.SHARD, 0, 1)),
        ("checkpoint.index", ParsedName("checkpoint", Role.INDEX)),
        ("a.index.index", ParsedName("a.index", Role.INDEX)),
        ("checkpoint.tmp" + "0f" * 16, ParsedName("", Role.LEFTOVER)),
        ("part-00000-of-00001.data-00000-of-00001.tempstate12345", ParsedName("", Role.LEFTOVER)),
        ("ckpt-1.meta.tmp" + "0f" * 16, ParsedName("", Role.LEFTOVER)),
        (".ckptctl-taken-ckpt-1.index", ParsedName("", Role.PRIVATE)),
    ],
)
def test_name_is_taken_apart(name: str, parsed: ParsedName) -> None:
    """A saver's file name gives its prefix and role."""
    assert naming.parse(name) == parsed


@pytest.mark.parametrize(
    "name",
    [
        "checkpoint",
        ".index",
        ".meta",
        "graph.pbtxt",
        "events.out.tfevents.1700000000.host",
        "latest.weights.h5",
        "ckpt-1.data-0000-of-0001",
        "ckpt-1.data-00001-of-00001",
        "ckpt-1.data-00000-of-00001.bak",
        "ckpt-1.index.bak",
        "checkpoint.tmp123",
    ],
)
def test_other_name_is_no_part_of_a_checkpoint(name: str) -> None:
    """A name that no saver gives is left alone, close as it may come."""
    assert naming.parse(name) is None


@given(st.text(st.characters(exclude_characters="/\0"), min_size=1).filter(lambda p: p[:9] != ".ckptctl-"))
def test_every_file_of_any_prefix_leads_back_to_it(prefix: str) -> None:
    """Whatever a prefix holds, the names that TensorFlow derives from it lead back to exactly it."""
    for suffix in (".index", ".meta", ".data-00000-of-00002"):
        parsed = naming.parse(prefix + suffix)
        assert parsed is not None
        assert parsed.prefix == prefix
        assert naming.prefix_of(f"some/where/{prefix}{suffix}") == f"some/where/{prefix}"


@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("ckpt-12", 12),
        ("cp-0005", 5),
        ("-995", 995),
        ("after_34_steps-1", 1),
        ("1e-09", 9),
        ("4-0.8", None),
        ("best", None),
        ("ckpt-", None),
        ("ckpt-٣", None),
        ("ckpt-1\n", None),
    ],
)
def test_step_is_the_number_behind_the_last_dash(name: str, step: int | None) -> None:
    """The step is the number behind the last dash, where there is one."""
    assert naming.step_of(name) == step


def test_sharded_v1_checkpoint_is_listed_as_a_pattern() -> None:
    """The state of a sharded V1 saver names a pattern, which stands for the prefix."""
    assert naming.listed_prefix("model.ckpt-20-?????-of-00002") == "model.ckpt-20"
    assert naming.listed_prefix("model.ckpt-20") == "model.ckpt-20"


@pytest.mark.parametrize("name", ["_temp", "ckpt-3_temp", "ckpt-3_temp_" + "ab" * 16, "workertemp_2"])
def test_directories_of_parts_are_known(name: str) -> None:
    """The directories in which savers make parts are no run directories."""
    assert naming.is_leftover_directory(name)
    assert not naming.is_leftover_directory("run1")


@pytest.mark.parametrize("name", [".~tmp~", ".rsync-partial", "ckpt-3_temp"])
def test_runs_have_other_names(name: str) -> None:
    """What rsync has yet to move to its place is no run, and neither are the parts of a save."""
    assert not naming.may_be_a_run(name)
    assert naming.may_be_a_run("run1")


@pytest.mark.parametrize(
    ("prefix", "data", "name"),
    [
        ("ckpt-1", ["ckpt-1.data-00000-of-00001"], "ckpt-1"),
        ("model-1", ["model-1"], "model-1"),
        ("model-1", ["model-1-00000-of-00002", "model-1-00001-of-00002"], "model-1-?????-of-00002"),
        ("ckpt-1", [], "ckpt-1"),
    ],
)
def test_restorable_name(prefix: str, data: list[str], name: str) -> None:
    """What is given to a restore is taken for the checkpoint again."""
    assert naming.restorable_name(prefix, data) == name
    assert naming.prefix_of(f"/run/{name}") == f"/run/{prefix}"


@pytest.mark.parametrize(
    ("names", "columns"),
    [
        (["model_9", "model_10"], [[9, 10]]),
        (["cp-0009.ckpt", "cp-0010.ckpt"], [[9, 10]]),
        (["w.01-0.50", "w.02-0.5"], [[1, 2]]),
        (["v2.1-e3-b40", "v2.1-e4-b50"], [[3, 4], [40, 50]]),
        (["best", "best"], []),
    ],
)
def test_numbers_of_names(names: list[str], columns: list[list[int]]) -> None:
    """Numbers count wherever they stand; what has a decimal point is none of them."""
    split = [split_numbers(name) for name in names]
    assert len({between for between, _ in split}) == 1
    assert counting_columns([numbers for _, numbers in split]) == columns


def test_names_that_are_not_alike() -> None:
    """A `#` in a name is no number."""
    assert split_numbers("a#b")[0] != split_numbers("a1b")[0]
