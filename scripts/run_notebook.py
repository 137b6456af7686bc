"""Runs the example notebook and keeps its outputs, small: needs `pip install nbclient ipykernel`.

    python scripts/run_notebook.py examples/instruct_imagen.ipynb

Run it again when the shipped model has changed.
"""

from __future__ import annotations

import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient


def run(path: Path) -> None:
    """Executes every cell in order and writes the notebook back."""
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=3600, kernel_name="python3").execute()
    for cell in notebook.cells:
        cell.metadata.clear()
        outputs = [output for output in cell.get("outputs", []) if output.output_type != "stream"]
        for output in outputs:
            if "image/jpeg" in output.get("data", {}):
                output.data.pop("image/png", None)  # the same picture, five times as large
        if cell.cell_type == "code":
            cell.outputs = outputs
    notebook.metadata.language_info = {"name": "python"}
    nbformat.write(notebook, path)


if __name__ == "__main__":
    run(Path(sys.argv[1]))
