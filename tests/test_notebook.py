"""The notebook of docs/ runs from top to bottom, in a kernel of this environment."""

from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).parents[1] / "docs" / "clustering.ipynb"


@pytest.mark.slow
def test_the_notebook_runs(tmp_path):
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    assert not any(cell.get("outputs") for cell in notebook.cells)  # none is kept
    resources = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=280, resources=resources).execute()
    *_, scores = [c for c in notebook.cells if c.cell_type == "code"]
    found = eval(scores.outputs[0]["data"]["text/plain"], {"np": __import__("numpy")})
    assert found["acc"] > 0.5
