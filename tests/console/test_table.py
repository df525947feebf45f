import hypothesis.strategies as st
from hypothesis import given, settings
from rich.text import Text

from raytransfer.console.table import NumberTable, counts_table
from raytransfer.words import number_of
from tests.helpers import rendered

NUMBERS = st.floats(-1e6, 1e6).map(lambda value: f"{value:+.1f} [{value - 1:.1f},{value + 1:.1f}]")


@settings(max_examples=30)
@given(rows=st.lists(st.lists(NUMBERS, min_size=5, max_size=5), min_size=1, max_size=4), width=st.integers(40, 120))
def test_no_number_is_broken_or_cut_short(rows, width):
    table = NumberTable({"a name": "left", **{f"column {i}": "right" for i in range(5)}})
    for i, row in enumerate(rows):
        table.add_row(f"{i}-" + "name" * 15, *row)
    lines = rendered(table, width)
    shown = [word for line in lines for word in line.split()]
    assert all(len(line) <= width for line in lines)
    assert [word for row in rows for cell in row for word in cell.split() if word not in shown] == []


def test_what_does_not_fit_beside_each_other_follows_below_with_the_first_columns():
    table = NumberTable({"base": "left", "n": "right", "first": "right", "second": "right"}, keys=2)
    table.add_row("a", "10", "+98.7%" * 3, Text("-12.5%" * 3))
    for width, columns in ((80, 4), (50, 4), (49, 3)):
        assert rendered(table, width)[1].split() == ["base", "n", "first", "second"][:columns]
    narrow = [line.split() for line in rendered(table, 40) if line.split()]
    assert narrow[0] == ["base", "n", "first"]
    assert ["base", "n", "second"] in narrow
    assert narrow[-1] == ["a", "10", "-12.5%" * 3]


def test_long_names_are_broken_before_columns_are_moved_below():
    table = NumberTable({"base": "left", "first": "right", "second": "right"}, line=False)
    table.add_row("name" * 15, "1", "2")
    lines = rendered(table, 50)
    assert lines[0].split() == ["base", "first", "second"]
    assert lines[1].split()[1:] == ["1", "2"]
    assert "".join(line.split()[0] for line in lines[1:]) == "name" * 15


def test_a_line_breaks_before_an_interval_and_not_within():
    table = NumberTable({"name": "left", "first": "right", "second": "right"}, line=False)
    table.add_row("a", "74.2 [67.5, 80.9]", "-0.1 [-2.0, 1.8]")
    assert "74.2 [67.5,80.9]" in "".join(rendered(table, 60))
    shown = [line.split() for line in rendered(table, 34)]
    assert shown[1:3] == [["a", "74.2", "-0.1"], ["[67.5,80.9]", "[-2.0,1.8]"]]
    table.add_row("b", "1.5 [0.9, inf]", "")
    assert "1.5 [0.9,inf]" in "".join(rendered(table, 60))


def test_columns_without_a_filled_cell_are_left_out():
    table = NumberTable({"name": "left", "empty": "right", "number": "right", "none": "right"})
    table.add_row("a", "", "1", " ")
    table.add_row("b", "", "", "")
    text = "\n".join(rendered(table, 40))
    assert ("number" in text, "empty" in text, "none" in text) == (True, False, False)
    nothing = NumberTable({"name": "left", "empty": "right"})
    nothing.add_row("a", "")
    assert "empty" in "\n".join(rendered(nothing, 40))


def test_counts_are_of_the_states_that_some_trial_is_in():
    counts = {"baseB": {"done": 3, "failed": 0, "left": 0}, "AnB": {"done": 2, "failed": 0, "left": 2}}
    assert [line.split() for line in rendered(counts_table(counts, ("done", "failed", "left")))] == [
        ["treatment", "trials", "done", "left"],
        ["baseB", "3", "3", "0"],
        ["AnB", "4", "2", "2"],
    ]


def test_one_is_one():
    assert [number_of(n, "trial") for n in (0, 1, 2)] == ["0 trials", "1 trial", "2 trials"]
    assert number_of(4, "class") == "4 classes"
