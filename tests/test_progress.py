"""Progress of a drawing: counted over both networks, in pixels also for a latent model, and ended by its check."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from instruct_imagen import progress
from instruct_imagen.backbones.importer import import_pipeline
from instruct_imagen.instruction import Instruction
from instruct_imagen.pipeline import InstructImagenPipeline
from instruct_imagen.progress import Progress, progress_callback


@pytest.fixture(autouse=True)
def every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_REPORTS", 0.0)
    monkeypatch.setattr(progress, "PREVIEW_SHARE", 1e9)


def reports(pipeline: InstructImagenPipeline, steps: int | None, stages=None) -> list[Progress]:
    found: list[Progress] = []
    callback = progress_callback(pipeline, steps, found.append, stages=stages)
    pipeline(Instruction("a fox"), num_inference_steps=steps, callback_on_step_end=callback, stages=stages)
    return found


def test_steps_of_both_networks_are_counted(cascade: InstructImagenPipeline) -> None:
    second = cascade.super_resolution.default_steps
    found = reports(cascade, 3)
    assert [report.step for report in found] == list(range(3 + second + 1))
    assert {report.num_steps for report in found} == {3 + second}
    sizes = [report.previews[0].width for report in found[1:]]
    assert sizes == [cascade.size_px] * 3 + [min(cascade.output_size_px, progress.PREVIEW_PX)] * second
    assert [report.step for report in reports(cascade, 3, "base")] == [0, 1, 2, 3]


def test_a_latent_model_shows_pixels(sd_folder: Path) -> None:
    pipeline = import_pipeline(sd_folder)
    pipeline.set_progress_bar_config(disable=True)
    found = reports(pipeline, 2)
    num_steps = len(pipeline.scheduler.timesteps)
    assert [report.step for report in found] == list(range(num_steps + 1)) and found[-1].num_steps == num_steps
    assert found[1].previews[0].mode == "RGB" and found[1].previews[0].width == pipeline.size_px


def test_reports_are_rare_and_the_check_is_not(pipeline: InstructImagenPipeline, monkeypatch) -> None:
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_REPORTS", 3600.0)
    found, checks = [], []

    def check() -> None:
        checks.append(1)
        if len(checks) == 4:
            raise KeyError("enough")

    callback = progress_callback(pipeline, 9, found.append, check)
    with pytest.raises(KeyError, match="enough"):
        pipeline(Instruction("a fox"), num_inference_steps=9, callback_on_step_end=callback)
    assert [report.step for report in found] == [0, 1] and len(checks) == 4


def test_looking_on_changes_nothing(pipeline: InstructImagenPipeline) -> None:
    def draw(**options):
        generator = torch.Generator().manual_seed(3)
        return pipeline(
            Instruction("a fox"), num_inference_steps=3, generator=generator, output_type="pt", **options
        ).images

    assert torch.equal(draw(), draw(callback_on_step_end=progress_callback(pipeline, 3, lambda _: None)))
