"""The pipeline: seeds, batches, caches, samplers, and its errors."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler
from PIL import Image

from instruct_imagen.conditioning import ConditioningEncoder, Prompt, in_company, make_prompt_batch
from instruct_imagen.errors import UserError
from instruct_imagen.guidance import ConstantGuidance, OscillatingGuidance
from instruct_imagen.instruction import Instruction
from instruct_imagen.model_folders import DrawingDefaults, ModelError, drawing_defaults
from instruct_imagen.pipeline import InstructImagenPipeline
from instruct_imagen.schedulers import ddpm_scheduler, fast_scheduler

STEPS = 6
TOLERANCE = 1e-3


def picture(seed: int, size: tuple[int, int] = (48, 40)) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8))


def generators(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


@pytest.fixture(scope="module")
def instructions() -> list[Instruction]:
    return [
        Instruction.build("draw [ref#1] on a beach", [(picture(1), "fox")]),
        Instruction.build(
            "put [ref#1] next to [ref#2] in a forest, with many more words so that texts are padded",
            [([picture(2), picture(3)], "cat"), (picture(4), "style")],
        ),
        Instruction("a red star"),
    ]


def draw(pipeline: InstructImagenPipeline, instruction, seeds, **options) -> torch.Tensor:
    return pipeline(instruction, STEPS, generator=generators(*seeds), output_type="pt", **options).images


def test_a_picture_depends_on_its_instruction_and_seed_alone(pipeline, instructions):
    together = draw(pipeline, instructions, (1, 2, 3), image_guidance_scale=1.5)
    for index, instruction in enumerate(instructions):
        alone = draw(pipeline, instruction, (index + 1,), image_guidance_scale=1.5)
        torch.testing.assert_close(together[index], alone[0], rtol=0, atol=TOLERANCE)
    several = draw(pipeline, instructions[1], (2, 7), num_images_per_prompt=2, image_guidance_scale=1.5)
    torch.testing.assert_close(several[0], together[1], rtol=0, atol=TOLERANCE)
    assert (several[0] - several[1]).abs().max() > 0.1


def test_a_model_is_drawn_with_its_own_scales_where_none_is_asked(pipeline, instructions, tmp_path):
    own = InstructImagenPipeline(**pipeline.components, default_guidance=2.0, default_image_guidance=4.0)
    base = instructions[0]
    wanted = draw(pipeline, base, (1,), guidance_scale=2.0, image_guidance_scale=4.0)
    torch.testing.assert_close(draw(own, base, (1,)), wanted, rtol=0, atol=0)
    together = draw(pipeline, base, (1,), guidance_scale=3.0)  # one scale asked for is that of all
    torch.testing.assert_close(draw(own, base, (1,), guidance_scale=3.0), together, rtol=0, atol=0)
    assert (together - wanted).abs().max() > 1e-3
    own.save_pretrained(tmp_path)
    assert drawing_defaults(tmp_path) == DrawingDefaults(24, 2.0, 4.0)
    (tmp_path / "model_index.json").write_text("{")
    with pytest.raises(UserError, match="damaged"):
        drawing_defaults(tmp_path)


def test_without_references_their_scale_costs_no_evaluation():
    assert ConstantGuidance.of(3.0, 8.0, has_references=False).scales(0, 4).branches == ("full", "null")
    assert ConstantGuidance.of(3.0, 8.0, has_references=True).scales(0, 4).branches == ("full", "text", "null")


def test_references_and_their_texts_change_the_picture(pipeline, instructions):
    base = draw(pipeline, instructions[0], (1,))
    other_picture = Instruction.build("draw [ref#1] on a beach", [(picture(9), "fox")])
    other_text = Instruction.build("draw [ref#1] on a beach", [(picture(1), "edge map")])
    for changed in (other_picture, other_text):
        assert (draw(pipeline, changed, (1,)) - base).abs().max() > TOLERANCE
    assert (draw(pipeline, instructions[0], (1,), drop_context=True) - base).abs().max() > TOLERANCE


def test_pictures_of_one_marker_may_come_in_any_order(pipeline):
    pairs = [picture(2), picture(3)]
    first = Instruction.build("draw [ref#1]", [(pairs, "cat")])
    second = Instruction.build("draw [ref#1]", [(pairs[::-1], "cat")])
    torch.testing.assert_close(draw(pipeline, first, (1,)), draw(pipeline, second, (1,)), rtol=0, atol=TOLERANCE)


def test_cached_keys_and_values_equal_recomputed_ones(pipeline, parts, instructions):
    prompts = [Prompt.of(instruction) for instruction in instructions]
    batch = make_prompt_batch(prompts, parts.tokenizer, pipeline.size_px)
    encoder = ConditioningEncoder(parts.text_encoder, parts.unet)
    sample = torch.randn(3, 3, pipeline.size_px, pipeline.size_px, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        cached = encoder.encode(batch)
        for timestep in (999, 500, 1):
            timesteps = torch.full((3,), timestep)
            fresh = encoder.encode(batch)
            first = parts.unet(sample, timesteps, cached.text_BLE, cached.cache)
            second = parts.unet(sample, timesteps, fresh.text_BLE, fresh.cache)
            torch.testing.assert_close(first, second, rtol=0, atol=0)
            repeated = cached.repeat(2).select(torch.tensor([0, 2, 4]))
            third = parts.unet(sample, timesteps, repeated.text_BLE, repeated.cache)
            torch.testing.assert_close(first, third, rtol=0, atol=0)


def test_references_in_company_keep_their_rows():
    rows = torch.arange(6).view(3, 2)
    for multiple, expected in ((1, [0, 1, 2]), (3, [0, 1, 2]), (4, [0, 1, 2, 2]), (16, [0, 1] + [2] * 14)):
        first, second = in_company((rows, rows > 2), multiple)
        assert torch.equal(first, rows[expected])
        assert torch.equal(second, (rows > 2)[expected])


def test_conditions_are_encoded_once_per_request(pipeline, instructions, monkeypatch):
    calls = []
    original = ConditioningEncoder.encode
    monkeypatch.setattr(ConditioningEncoder, "encode", lambda self, batch: calls.append(1) or original(self, batch))
    draw(pipeline, instructions, (1, 2, 3), image_guidance_scale=2.0)
    assert len(calls) == 1


def test_references_of_different_sizes_are_encoded_in_one_batch(parts, instructions):
    prompts = [Prompt.of(instruction) for instruction in instructions]
    together = make_prompt_batch(prompts, parts.tokenizer, 32)
    assert together.reference_images.shape == (4, 3, 32, 32)
    assert together.reference_rows.tolist() == [0, 1, 1, 1]
    assert together.reference_slots.tolist() == [0, 0, 1, 2]


class AnalyticDenoiser:
    """The exact denoiser of normally distributed pictures, mean `mean` and standard deviation `deviation`."""

    def __init__(self, mean: float, deviation: float, schedule: DDPMScheduler):
        self.mean, self.deviation, self.alphas = mean, deviation, schedule.alphas_cumprod

    def __call__(self, sample: torch.Tensor, timesteps: torch.Tensor, *_) -> torch.Tensor:
        alpha_bar = self.alphas[timesteps].view(-1, 1, 1, 1)
        variance = alpha_bar * self.deviation**2 + 1 - alpha_bar
        return self.mean + alpha_bar.sqrt() * self.deviation**2 / variance * (sample - alpha_bar.sqrt() * self.mean)


@pytest.mark.parametrize("sampler", ["fast", "paper"])
def test_samplers_reach_the_distribution_of_an_analytic_denoiser(parts, sampler: str):
    mean, deviation = 0.2, 0.15
    config = dict(parts.scheduler.config, prediction_type="sample")
    training = DDPMScheduler.from_config(config)
    scheduler = fast_scheduler(training.config)
    if sampler == "paper":
        scheduler = ddpm_scheduler(scheduler.config)
    scheduler.set_timesteps(24 if sampler == "fast" else 256)
    denoise = AnalyticDenoiser(mean, deviation, training)
    generator = torch.Generator().manual_seed(0)
    sample = torch.randn(4, 3, 32, 32, generator=generator)
    for timestep in scheduler.timesteps:
        prediction = denoise(sample, timestep.expand(len(sample)))
        extra = {"generator": generator} if sampler == "paper" else {}
        sample = scheduler.step(prediction, timestep, sample, **extra).prev_sample
    num_values = sample.numel()
    assert sample.mean().item() == pytest.approx(mean, abs=5 * deviation / math.sqrt(num_values) + 0.01)
    assert sample.std().item() == pytest.approx(deviation, rel=0.1)


def test_the_papers_sampler_runs_with_oscillating_guidance(model_folder: Path, instructions):
    pipeline = InstructImagenPipeline.from_pretrained(model_folder)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.use_paper_sampler()
    pipeline.scheduler.set_timesteps(256)
    assert pipeline.scheduler.timesteps[0] >= 995, "it begins where there is noise alone"
    first, second = (
        pipeline(instructions[0], 8, guidance=OscillatingGuidance(), generator=generators(5), output_type="np").images
        for _ in range(2)
    )
    assert first.shape == (1, 32, 32, 3)
    np.testing.assert_array_equal(first, second)
    together = pipeline(
        instructions[:2], 8, guidance=OscillatingGuidance(), generator=generators(5, 6), output_type="np"
    ).images
    np.testing.assert_allclose(together[0], first[0], atol=0.02)


def test_outputs_and_callback(pipeline, instructions):
    seen = []

    def callback(pipe, step, timestep, values):
        seen.append((step, timestep))
        return {"latents": values["latents"] * 0}

    images, *_ = pipeline(
        instructions[2], STEPS, generator=generators(1), return_dict=False, callback_on_step_end=callback
    )
    assert [step for step, _ in seen] == list(range(STEPS))
    assert seen[0][1] > seen[-1][1]
    assert images[0].size == (32, 32)
    assert np.asarray(images[0]).std() == 0


@pytest.mark.parametrize(
    "options",
    [
        {"instruction": []},
        {"instruction": ["text"]},
        {"num_inference_steps": 0},
        {"num_images_per_prompt": 0},
        {"output_type": "latent"},
        {"generator": generators(1, 2, 3)},
    ],
)
def test_bad_calls_are_refused(pipeline, instructions, options):
    with pytest.raises(ValueError, match=r"\w"):
        pipeline(**{"instruction": instructions[0], "num_inference_steps": 2, **options})


def test_saved_models_load_and_damaged_ones_are_refused(pipeline, model_folder: Path, instructions, tmp_path: Path):
    import shutil

    loaded = InstructImagenPipeline.from_pretrained(model_folder)
    loaded.set_progress_bar_config(disable=True)
    torch.testing.assert_close(
        draw(loaded, instructions, (1, 2, 3)), draw(pipeline, instructions, (1, 2, 3)), rtol=0, atol=1e-5
    )
    with pytest.raises(ModelError, match="no model"):
        InstructImagenPipeline.from_pretrained(tmp_path / "nothing")
    weights = next((model_folder / "unet").glob("*.safetensors")).name
    for damage in ("truncate", "remove", "json"):
        copy = tmp_path / damage
        shutil.copytree(model_folder, copy)
        file = copy / "unet" / weights
        if damage == "truncate":
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
        elif damage == "remove":
            file.unlink()
        else:
            (copy / "unet" / "config.json").write_text("{")
        with pytest.raises(ModelError, match="damaged"):
            InstructImagenPipeline.from_pretrained(copy)
