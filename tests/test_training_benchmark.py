"""The benchmark of training steps: it runs, counts, and takes the width that was asked for."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from torch import nn

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def training(tmp_path_factory) -> dict:
    """What one quick run wrote."""
    file = tmp_path_factory.mktemp("benchmark") / "training.json"
    options = ["--quick", "--precision", "float32", "--pack", "builtin", "--json", str(file)]
    run = subprocess.run(
        [sys.executable, str(BENCHMARKS / "training.py"), *options], capture_output=True, text=True, timeout=300
    )
    assert run.returncode == 0, run.stderr
    return json.loads(file.read_text())


def test_everyone_takes_the_same_rounds_and_rivals_are_as_large(training):
    rows = {row["name"]: row for row in training["rows"]}
    assert {"diffusers", "pixels", "debug"} <= rows.keys() and training["rounds"] >= 2
    own, rival = rows["pixels"], rows["diffusers"]
    assert own["references"] > 0 == rival["references"]
    assert rival["trained_parameters_m"] == pytest.approx(own["trained_parameters_m"], rel=0.3)
    assert own["times_as_fast_as"].keys() >= {"diffusers"}


def test_shares_come_from_counted_operations(training):
    product = training["matrix_product_gflops_per_s"]["float32"]
    for row in training["rows"]:
        seconds = row["examples"] / row["examples_per_s"]
        work = row["network_gflop"] + row["update_gflop"]
        assert row["share_of_matrix_product"] == pytest.approx(work / seconds / product)
        assert row["network_gflop"] > 0  # the share may exceed 1: convolutions can be faster than the product
    work = {row["name"]: row["network_gflop"] for row in training["rows"]}
    assert work["pixels"] > 4 * work["debug"]  # patches of 4 leave a sixteenth of the places


def test_the_width_is_the_one_with_the_nearest_number_of_parameters(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from training_rivals import nearest_width

    def build(width: int) -> nn.Module:
        return nn.Linear(width, width, bias=False)

    assert nearest_width(build, 24 * 24, 8) == 24
    assert nearest_width(build, 29 * 29, 8) == 32
    assert nearest_width(build, 1, 8) == 8


def test_imagen_pytorch_is_taken_without_its_trainer_and_leaves_no_stubs(tmp_path, monkeypatch):
    package = tmp_path / "imagen_pytorch"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('imports the trainer')\n")
    (package / "t5.py").write_text("T5_CONFIGS = {}\nDEFAULT_T5_NAME = 'a model of the hub'\n")
    (package / "imagen_pytorch.py").write_text(
        "import torchvision.transforms as T\n"
        "import kornia.augmentation as K\n"
        "from imagen_pytorch.t5 import DEFAULT_T5_NAME, T5_CONFIGS\n"
        "class Unet:\n    width = T5_CONFIGS[DEFAULT_T5_NAME]['config'].d_model\n"
    )
    for path in (BENCHMARKS, tmp_path):
        monkeypatch.syspath_prepend(str(path))
    from training_rivals import load_imagen_pytorch

    absent = object()
    before = {name: sys.modules.get(name, absent) for name in ("torchvision", "torchvision.transforms", "kornia")}
    try:
        assert load_imagen_pytorch.__wrapped__().width == 768
        assert {name: sys.modules.get(name, absent) for name in before} == before
    finally:
        for name in [name for name in sys.modules if name.split(".")[0] == "imagen_pytorch"]:
            del sys.modules[name]


@pytest.mark.parametrize("options", [["--threads", "2", "--clock", "processor"], ["--examples", "3"]])
def test_options_that_do_not_go_together_are_refused(options):
    run = subprocess.run([sys.executable, str(BENCHMARKS / "training.py"), *options], capture_output=True, text=True)
    assert run.returncode == 2 and "usage" in run.stderr
