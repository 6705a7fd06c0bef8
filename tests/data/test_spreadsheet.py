from hypothesis import given, settings
from hypothesis import strategies as st

from vtcc.data.spreadsheet import path_cell, path_of, text_cell

BEGINNINGS = ("=", "+", "-", "@", "\t", "\r", "\n")


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(("", "./", *BEGINNINGS)), st.text())
def test_no_cell_begins_a_formula_and_a_path_comes_back(beginning, rest):
    text = beginning + rest
    for cell in (path_cell(text), text_cell(text)):
        assert cell in (text, f"./{text}", f"'{text}")
        assert not cell.startswith(BEGINNINGS)
    assert path_of(path_cell(text)) in (text, text.removeprefix("./"))
    if not text.startswith("./"):
        assert path_of(path_cell(text)) == text
