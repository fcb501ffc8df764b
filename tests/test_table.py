"""Tests of tables: the one that we lay out ourselves is tabulate's, letter for letter."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st
from tabulate import tabulate

from ckptctl import render

CELLS = st.text(st.characters(max_codepoint=127), max_size=9) | st.sampled_from(
    ["", " ", "  a ", "1.50", "-"]
)
WIDE = CELLS | st.text(max_size=4) | st.sampled_from(["\u4e16\u754c", "e\u0301", "\u00fc"])


@st.composite
def tables(draw: st.DrawFn, cells: st.SearchStrategy[str]) -> tuple[list[list[str]], list[str], set[int]]:
    """Rows, headers, and the columns that are aligned to the right."""
    width = draw(st.integers(1, 5))
    headers = draw(
        st.lists(st.sampled_from(["", "name", "step", "why", "a b"]), min_size=width, max_size=width)
    )
    rows = draw(st.lists(st.lists(cells, min_size=width, max_size=width), max_size=5))
    return rows, headers, draw(st.sets(st.integers(0, width - 1)))


def expected(rows: list[list[str]], headers: list[str], right: set[int]) -> str:
    """What tabulate makes of it."""
    return tabulate(
        [[render.escape(cell) for cell in row] for row in rows],
        headers=headers,
        tablefmt="simple",
        disable_numparse=True,
        preserve_whitespace=True,
        colalign=["right" if at in right else "left" for at in range(len(headers))],
    )


@given(tables(CELLS))
@example(([], ["name", "step"], {1}))
@example(([["", ""]], ["", ""], {1}))
def test_simple_is_that_of_tabulate(table: tuple[list[list[str]], list[str], set[int]]) -> None:
    """ASCII is laid out without tabulate."""
    assert render.table(*table[:2], "simple", table[2]) == expected(*table)


@given(tables(WIDE))
def test_other_letters(table: tuple[list[list[str]], list[str], set[int]]) -> None:
    """Whatever letters there are."""
    assert render.table(*table[:2], "simple", table[2]) == expected(*table)
