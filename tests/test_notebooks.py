"""Every notebook runs from top to bottom."""

import json
import pathlib

import matplotlib
import pytest

FOLDER = pathlib.Path(__file__).parents[1] / "notebooks"


@pytest.mark.slow
@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.ipynb")), ids=lambda p: p.name)
def test_notebook_runs(path):
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    cells = json.loads(path.read_text())["cells"]
    namespace = {}
    for number, cell in enumerate(cells):
        if cell["cell_type"] == "code":
            assert not cell["outputs"], "outputs are not kept in the repository"
            source = "".join(cell["source"])
            exec(compile(source, f"{path.name}, cell {number}", "exec"), namespace)
    plt.close("all")
    assert (
        namespace["history"].history["loss"][-1]
        < namespace["history"].history["loss"][0]
    )
