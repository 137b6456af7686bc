"""What users copy runs: the README's Python block, and the cells of the example notebook, on the debug model."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / "examples" / "instruct_imagen.ipynb"
SHIPPED = '"instruct-imagen-nano")'
MAX_NOTEBOOK_BYTES = 200_000


def on_debug_model(code: str, model_folder: Path) -> str:
    """The code with the debug model in the shipped one's place, where it is loaded."""
    return code.replace(f"from_pretrained({SHIPPED}", f"from_pretrained({str(model_folder)!r})")


def test_the_readmes_python_runs(model_folder: Path, tmp_path: Path, monkeypatch) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 1 and SHIPPED in blocks[0]
    for name in ("fox.png", "style.png"):
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, Any] = {}
    exec(compile(on_debug_model(blocks[0], model_folder), "README.md", "exec"), namespace)
    assert isinstance(namespace["image"], Image.Image)


def code_cells() -> list[dict[str, Any]]:
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


def run_cell(source: str, namespace: dict[str, Any]) -> Any:
    """Runs a cell as a notebook does; returns the value of its last expression."""
    parsed = ast.parse(source)
    last = parsed.body.pop() if isinstance(parsed.body[-1], ast.Expr) else None
    exec(compile(parsed, "notebook", "exec"), namespace)
    return None if last is None else eval(compile(ast.Expression(last.value), "notebook", "eval"), namespace)


def test_the_notebook_was_run_in_order_and_is_small() -> None:
    assert NOTEBOOK.stat().st_size < MAX_NOTEBOOK_BYTES
    cells = code_cells()
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    for cell in cells:
        assert len(cell["outputs"]) == 1 and cell["outputs"][0]["output_type"] == "execute_result"


@pytest.mark.slow
def test_the_notebooks_cells_run(model_folder: Path) -> None:
    namespace: dict[str, Any] = {}
    for cell in code_cells():
        value = run_cell(on_debug_model("".join(cell["source"]), model_folder), namespace)
        shown = cell["outputs"][0]["data"]
        assert isinstance(value, Image.Image) == ("image/jpeg" in shown)
        if isinstance(value, Image.Image):
            assert value.width <= 512
    assert "add that reference" in namespace["sentence"]
