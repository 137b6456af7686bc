"""The second network: what it reads, its noise levels, and the cascade as one pipeline and as two."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from diffusers.models.embeddings import get_timestep_embedding
from PIL import Image

from instruct_imagen.conditioning import ConditioningEncoder, Prompt, make_prompt_batch, to_unit_range
from instruct_imagen.instruction import Instruction
from instruct_imagen.model import build_unet
from instruct_imagen.model_folders import ModelError
from instruct_imagen.pipeline import InstructImagenPipeline
from instruct_imagen.presets import PRESETS
from instruct_imagen.super_resolution import LowResolution, SuperResolutionOptions, SuperResolutionUNet
from instruct_imagen.unet import InstructUNet, masked_mean

STEPS = 3
TOLERANCE = 1e-3
OPTIONS = SuperResolutionOptions(STEPS, noise_level=0.2)
CONFIG = PRESETS["debug-sr"].model


def picture(seed: int, side: int = 48) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8))


def generators(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


@pytest.fixture(scope="module")
def instructions() -> list[Instruction]:
    return [
        Instruction.build("draw [ref#1] on a beach", [(picture(1), "fox")]),
        Instruction.build(
            "put [ref#1] next to [ref#2] in a wood", [([picture(2), picture(3)], "cat"), (picture(4), "")]
        ),
        Instruction("a red star"),
    ]


@pytest.fixture(scope="module")
def inputs(parts, instructions):
    """Noisy pictures, steps, conditioning and pictures to enlarge for three instructions."""
    prompts = [Prompt.of(instruction) for instruction in instructions]
    batch = make_prompt_batch(prompts, parts.tokenizer, CONFIG.size_px)
    generator = torch.Generator().manual_seed(0)
    sample = torch.randn(3, 3, 64, 64, generator=generator)
    small = torch.rand(3, 3, 32, 32, generator=generator) * 2 - 1
    return batch, sample, torch.tensor([3, 500, 999]), LowResolution(small, torch.tensor([0.0, 0.2, 0.5]))


def predict(unet, parts, inputs, low_res: LowResolution | None = None) -> torch.Tensor:
    batch, sample, timesteps, given = inputs
    with torch.no_grad():
        conditioning = ConditioningEncoder(parts.text_encoder, unet).encode(batch)
        return unet(sample, timesteps, conditioning.text_BLE, conditioning.cache, low_res or given)


def draw(pipeline, instruction, seeds, **options) -> torch.Tensor:
    options = {"super_resolution_options": OPTIONS, **options}
    return pipeline(instruction, STEPS, generator=generators(*seeds), output_type="pt", **options).images


def test_the_small_picture_is_concatenated_before_patches_are_folded(second, parts, inputs):
    """The same backbone on input put together by hand gives the same output."""
    batch, sample, timesteps, low_res = inputs
    with torch.no_grad():
        conditioning = ConditioningEncoder(parts.text_encoder, second).encode(batch)
        enlarged = F.interpolate(low_res.images_BCHW, (64, 64), mode="bicubic", align_corners=False)
        side = CONFIG.patch_size
        folded = torch.cat([F.pixel_unshuffle(sample, side), F.pixel_unshuffle(enlarged, side)], dim=1)
        level = get_timestep_embedding(1000 * low_res.levels_B, CONFIG.channels[0], flip_sin_to_cos=True)
        output = second.backbone(
            folded,
            timesteps,
            encoder_hidden_states=conditioning.text_BLE,
            class_labels=masked_mean(conditioning.text_BLE, conditioning.cache.text_mask),
            timestep_cond=level,
            cross_attention_kwargs={"cache": conditioning.cache},
        ).sample
        lacking = F.pixel_shuffle(output, side)
    signal, noise = (low_res.levels_B * torch.pi / 2).cos(), (low_res.levels_B * torch.pi / 2).sin()
    share = signal * 0.25 / (signal**2 * 0.25 + noise**2)
    assert share[0] == 1
    expected = lacking + share.view(-1, 1, 1, 1) * enlarged
    torch.testing.assert_close(predict(second, parts, inputs), expected, rtol=1e-5, atol=1e-5)
    plain = build_unet(replace(CONFIG, low_res=replace(CONFIG.low_res, residual=False)))
    plain.load_state_dict(second.state_dict())
    torch.testing.assert_close(predict(plain.eval(), parts, inputs), lacking, rtol=1e-5, atol=1e-5)
    with pytest.raises(ValueError, match="needs low_res"):
        second(sample, timesteps, conditioning.text_BLE, conditioning.cache)


def test_a_fresh_network_predicts_the_enlarged_picture(parts, inputs):
    torch.manual_seed(0)
    low_res = inputs[-1]
    clean = LowResolution(low_res.images_BCHW, torch.zeros(3))
    fresh = build_unet(CONFIG).eval()
    torch.testing.assert_close(predict(fresh, parts, inputs, clean), fresh.enlarge(low_res.images_BCHW))


def test_level_zero_is_the_clean_picture_and_level_one_is_noise():
    clean, noise = torch.rand(2, 3, 8, 8), torch.randn(2, 3, 8, 8)
    augmented = LowResolution.augmented(clean, noise, torch.tensor([0.0, 1.0]))
    assert torch.equal(augmented.images_BCHW[0], clean[0])
    torch.testing.assert_close(augmented.images_BCHW[1], noise[1], rtol=0, atol=1e-6)
    half = LowResolution.augmented(clean, noise, torch.tensor([0.5, 0.5])).images_BCHW
    torch.testing.assert_close(half, (clean + noise) / 2**0.5, rtol=0, atol=1e-6)


def test_the_network_is_told_the_level(second, parts, inputs):
    low_res = inputs[-1]
    told = LowResolution(low_res.images_BCHW, low_res.levels_B + 0.3)
    plain = build_unet(replace(CONFIG, low_res=replace(CONFIG.low_res, residual=False)))
    plain.load_state_dict(second.state_dict())
    difference = predict(plain.eval(), parts, inputs, told) - predict(plain, parts, inputs)
    assert (difference.abs().amax((1, 2, 3)) > 1e-4).all()


@pytest.mark.parametrize("level", [0.0, 0.25, None])
def test_sampling_hands_over_the_level_and_the_noise_it_names(cascade, instructions, level, monkeypatch):
    seen: list[LowResolution] = []
    forward = SuperResolutionUNet.forward
    monkeypatch.setattr(SuperResolutionUNet, "forward", lambda *a, **k: seen.append(k["low_res"]) or forward(*a, **k))
    small = picture(5, 32)
    cascade.super_resolve(small, instructions[0], SuperResolutionOptions(2, noise_level=level), generators(3))
    clean = to_unit_range(torch.from_numpy(np.array(small)).permute(2, 0, 1))[None]
    noise = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(3))
    wanted = CONFIG.low_res.noise_level if level is None else level
    expected = LowResolution.augmented(clean, noise, torch.tensor([wanted]))
    assert len(seen) == 2
    for low_res in seen:
        assert low_res.levels_B.tolist() == pytest.approx([wanted])
        assert torch.equal(low_res.images_BCHW, expected.images_BCHW)
        assert torch.equal(low_res.images_BCHW, clean) == (level == 0)


def test_a_picture_depends_on_its_instruction_and_seed_alone(cascade, instructions):
    together = draw(cascade, instructions, (1, 2, 3))
    assert together.shape == (3, 3, 64, 64)
    for index, instruction in enumerate(instructions):
        alone = draw(cascade, instruction, (index + 1,))
        torch.testing.assert_close(together[index], alone[0], rtol=0, atol=TOLERANCE)
    several = draw(cascade, instructions[1], (2, 7), num_images_per_prompt=2)
    torch.testing.assert_close(several[0], together[1], rtol=0, atol=TOLERANCE)
    assert (several[0] - several[1]).abs().max() > 0.1


@pytest.mark.parametrize("size", [1, 2, 4])
def test_enlarging_in_parts_changes_no_picture(cascade, instructions, size):
    guided = replace(OPTIONS, guidance_scale=2.0, image_guidance_scale=1.5)
    whole = draw(cascade, instructions[:2], (1, 2, 3, 4), num_images_per_prompt=2, super_resolution_options=guided)
    parts = replace(guided, batch_size=size)
    again = draw(cascade, instructions[:2], (1, 2, 3, 4), num_images_per_prompt=2, super_resolution_options=parts)
    torch.testing.assert_close(again, whole, rtol=0, atol=TOLERANCE)


def test_one_generator_for_all_gives_the_same_in_parts(cascade, instructions):
    def drawn(size: int | None) -> torch.Tensor:
        options = replace(OPTIONS, batch_size=size)
        one = torch.Generator().manual_seed(4)
        return cascade(instructions, STEPS, generator=one, output_type="pt", super_resolution_options=options).images

    torch.testing.assert_close(drawn(1), drawn(None), rtol=0, atol=TOLERANCE)


def test_the_stages_alone_are_the_cascade(cascade, pipeline, instructions):
    whole = draw(cascade, instructions, (1, 2, 3))
    used = generators(1, 2, 3)
    small = cascade(instructions, STEPS, generator=used, stages="base", output_type="pt").images
    assert small.shape == (3, 3, 32, 32)
    large = cascade.super_resolve(small, instructions, OPTIONS, used, output_type="pt").images
    torch.testing.assert_close(large, whole, rtol=0, atol=1e-5)
    alone = pipeline(instructions, STEPS, generator=generators(1, 2, 3), output_type="pt").images
    torch.testing.assert_close(small, alone, rtol=0, atol=1e-5)
    assert (cascade.size_px, cascade.output_size_px, pipeline.output_size_px) == (32, 64, 32)


def test_references_are_read_at_full_size_and_by_context_networks_alone(cascade, parts, instructions, monkeypatch):
    base = draw(cascade, instructions[0], (1,))
    small = picture(6, 32)

    def enlarged(pipe, reference: Image.Image) -> torch.Tensor:
        instruction = Instruction.build("draw [ref#1] on a beach", [(reference, "fox")])
        return pipe.super_resolve(small, instruction, OPTIONS, generators(1), output_type="pt").images

    assert base.shape[-1] == 64
    fine = picture(7, 64)  # differs from `coarse` in detail alone
    coarse = fine.resize((32, 32), Image.Resampling.BOX).resize((64, 64), Image.Resampling.NEAREST)
    assert (enlarged(cascade, fine) - enlarged(cascade, coarse)).abs().max() > TOLERANCE
    text_only = build_unet(replace(CONFIG, context_places="none")).eval()
    torch.nn.init.normal_(text_only.backbone.conv_out.weight, std=0.1)
    assert not text_only.reads_context
    assert text_only.num_context_parameters() == 0
    second = InstructImagenPipeline(
        parts.tokenizer,
        parts.text_encoder,
        super_resolution=text_only,
        super_resolution_scheduler=cascade.super_resolution_scheduler,
    )
    second.set_progress_bar_config(disable=True)
    monkeypatch.setattr(InstructUNet, "encode_context", lambda *_: pytest.fail("references were encoded"))
    torch.testing.assert_close(enlarged(second, fine), enlarged(second, picture(8, 64)), rtol=0, atol=0)


def test_references_are_encoded_beside_their_own_reduction(second, parts):
    images = torch.rand(2, 3, 64, 64) * 2 - 1
    folded, condition = second._clean_input(images)
    side = CONFIG.patch_size
    pair = F.pixel_shuffle(folded, side)
    torch.testing.assert_close(pair[:, :3], images)
    reduced = F.interpolate(F.avg_pool2d(images, 2), (64, 64), mode="bicubic", align_corners=False)
    torch.testing.assert_close(pair[:, 3:], reduced, rtol=1e-4, atol=1e-5)
    zero = get_timestep_embedding(torch.zeros(2), CONFIG.channels[0], flip_sin_to_cos=True)
    torch.testing.assert_close(condition, zero)


def test_a_saved_cascade_loads_and_draws_the_same(cascade, cascade_folder: Path, instructions):
    loaded = InstructImagenPipeline.from_pretrained(cascade_folder)
    loaded.set_progress_bar_config(disable=True)
    assert loaded.super_resolution.config.noise_level == cascade.super_resolution.config.noise_level
    torch.testing.assert_close(
        draw(loaded, instructions, (1, 2, 3)), draw(cascade, instructions, (1, 2, 3)), rtol=0, atol=1e-5
    )
    base = InstructImagenPipeline.from_pretrained(cascade_folder, super_resolution=None)
    assert base.output_size_px == 32


def test_a_model_that_was_saved_before_the_cascade_loads(model_folder: Path, instructions, tmp_path: Path):
    index = json.loads((model_folder / "model_index.json").read_text())
    old = {key: value for key, value in index.items() if not key.startswith("super_resolution")}
    assert len(old) == len(index) - 2
    shutil.copytree(model_folder, tmp_path / "old")
    (tmp_path / "old" / "model_index.json").write_text(json.dumps(old))
    loaded = InstructImagenPipeline.from_pretrained(tmp_path / "old")
    loaded.set_progress_bar_config(disable=True)
    assert loaded(instructions[2], 2).images[0].size == (32, 32)
    with pytest.raises(ModelError, match="no super-resolution"):
        loaded(instructions[2], 2, stages="cascade")
    with pytest.raises(ModelError, match="no super-resolution"):
        loaded.super_resolve(picture(1), instructions[2])


def test_a_super_resolution_alone_enlarges_and_draws_nothing(cascade, parts, instructions, tmp_path: Path):
    second = InstructImagenPipeline(
        parts.tokenizer,
        parts.text_encoder,
        super_resolution=cascade.super_resolution,
        super_resolution_scheduler=cascade.super_resolution_scheduler,
    )
    second.save_pretrained(str(tmp_path))
    loaded = InstructImagenPipeline.from_pretrained(tmp_path)
    loaded.set_progress_bar_config(disable=True)
    small = [picture(seed, side) for seed, side in ((1, 32), (2, 100))]
    images = loaded.super_resolve(small, instructions[:2], OPTIONS, generators(1, 2)).images
    assert [image.size for image in images] == [(64, 64)] * 2
    with pytest.raises(ModelError, match="no base network"):
        loaded(instructions[0], 2)
    with pytest.raises(ModelError, match="base model or"):
        InstructImagenPipeline(parts.tokenizer, parts.text_encoder)
    with pytest.raises(ModelError, match="its scheduler"):
        InstructImagenPipeline(parts.tokenizer, parts.text_encoder, super_resolution=cascade.super_resolution)


def test_networks_that_do_not_fit_are_refused(cascade, parts):
    other = build_unet(replace(CONFIG, low_res=replace(CONFIG.low_res, size_px=16)))
    schedulers = (cascade.scheduler, cascade.super_resolution_scheduler)
    with pytest.raises(ModelError, match="enlarges pictures of 16 pixels"):
        InstructImagenPipeline(parts.tokenizer, parts.text_encoder, parts.unet, schedulers[0], other, schedulers[1])


def test_steps_are_counted_over_both_stages(cascade, instructions):
    seen = []

    def callback(pipe, step, timestep, values):
        seen.append((step, values["latents"].shape[-1]))
        return {}

    draw(cascade, instructions[2], (1,), callback_on_step_end=callback)
    assert seen == [(0, 32), (1, 32), (2, 32), (3, 64), (4, 64), (5, 64)]


def test_offloaded_networks_are_fetched_for_references_and_projections_too(cascade_folder: Path, parts, inputs):
    """With the kind of hook that `enable_model_cpu_offload` sets, on a machine without an accelerator."""
    from accelerate.hooks import ModelHook, add_hook_to_module

    network = SuperResolutionUNet.from_pretrained(cascade_folder / "super_resolution")
    weights = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    expected = predict(network, parts, inputs)

    class Fetch(ModelHook):
        def pre_forward(self, module, *args, **kwargs):
            module.load_state_dict(weights)
            return args, kwargs

    for parameter in network.parameters():
        parameter.data.fill_(torch.nan)  # of no use until they are fetched
    assert predict(network, parts, inputs).isnan().all()
    add_hook_to_module(network, Fetch())
    torch.testing.assert_close(predict(network, parts, inputs), expected)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda p, i: p(i, 2, stages="both"), "stages must be"),
        (lambda p, i: p.super_resolve([], i), r"\w"),
        (lambda p, i: p.super_resolve([picture(1)] * 2, i), "as many instructions"),
        (lambda p, i: p.super_resolve(torch.zeros(1, 3, 8, 8), i), "must be"),
        (lambda p, i: p.super_resolve(picture(1), i, generator=generators(1, 2)), "need 1 generators"),
        (lambda p, i: p.super_resolve(picture(1), i, output_type="x"), "output_type"),
        (lambda p, i: p.super_resolve(picture(1), "text"), "give an Instruction"),
    ],
)
def test_bad_calls_are_refused(cascade, instructions, call, words):
    with pytest.raises(ValueError, match=words):
        call(cascade, instructions[0])


@pytest.mark.parametrize(
    "options", [{"num_inference_steps": 0}, {"batch_size": 0}, {"noise_level": 1.5}, {"noise_level": -0.1}]
)
def test_bad_options_are_refused(options):
    with pytest.raises(ValueError, match="must"):
        SuperResolutionOptions(**options)
