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
        assert 0 < row["share_of_matrix_product"] < 1.2
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


@pytest.mark.parametrize("options", [["--threads", "2", "--clock", "processor"], ["--examples", "3"]])
def test_options_that_do_not_go_together_are_refused(options):
    run = subprocess.run([sys.executable, str(BENCHMARKS / "training.py"), *options], capture_output=True, text=True)
    assert run.returncode == 2 and "usage" in run.stderr
