"""Imported backbones draw what the original pipelines draw, and read references on top."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path

import diffusers
import numpy as np
import pytest
import torch
from accelerate import cpu_offload
from diffusers import DiffusionPipeline, UniPCMultistepScheduler
from PIL import Image
from tiny_backbones import save_stable_diffusion

from instruct_imagen.backbones.importer import import_pipeline
from instruct_imagen.conditioning import Prompt, make_prompt_batch
from instruct_imagen.guidance import OscillatingGuidance
from instruct_imagen.instruction import Instruction
from instruct_imagen.latents import to_pixels, to_samples
from instruct_imagen.pipeline import InstructImagenPipeline
from instruct_imagen.super_resolution import SuperResolutionOptions

# Measured: 0. Where the tensors of a file lie in memory can move the last bit, so this is what a test can rely on.
TOLERANCE = 1e-5
TEXTS = ("A red Fox on a beach", "the DOG next to the cat")
LONG = " ".join(["the quick brown fox jumps over the lazy dog"] * 12)


def generators(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def picture(seed: int, size_px: int = 40) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size_px, size_px, 3), dtype=np.uint8))


def quiet(pipeline: DiffusionPipeline) -> DiffusionPipeline:
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def original(folder: Path) -> DiffusionPipeline:
    """The pipeline as its users load it, without its guards."""
    index = DiffusionPipeline.load_config(folder)
    guards = {name: None for name in ("safety_checker", "feature_extractor", "watermarker") if name in index}
    kind = getattr(diffusers, index["_class_name"])
    return quiet(kind.from_pretrained(folder, requires_safety_checker=False, **guards))


def draw_original(pipeline: DiffusionPipeline, texts, seeds, steps: int, scale: float, **options) -> np.ndarray:
    if "clean_caption" in inspect.signature(pipeline.__call__).parameters:
        options["clean_caption"] = False  # needs further libraries, and takes markers for dirt
    return pipeline(
        list(texts),
        num_inference_steps=steps,
        guidance_scale=scale,
        generator=generators(*seeds),
        output_type="np",
        **options,
    ).images


def draw(pipeline: InstructImagenPipeline, texts, seeds, steps: int, scale: float | None, **options) -> np.ndarray:
    instructions = [text if isinstance(text, Instruction) else Instruction(text) for text in texts]
    return pipeline(
        instructions, steps, guidance_scale=scale, generator=generators(*seeds), output_type="np", **options
    ).images


@pytest.fixture(scope="module")
def imported_if(if_folder: Path) -> InstructImagenPipeline:
    return quiet(import_pipeline(if_folder, if_folder.with_name("super-resolution")))


@pytest.fixture(scope="module")
def imported_sd(sd_folder: Path) -> InstructImagenPipeline:
    return quiet(import_pipeline(sd_folder))


@pytest.fixture(params=["if", "sd"])
def imported(request: pytest.FixtureRequest) -> InstructImagenPipeline:
    return request.getfixturevalue(f"imported_{request.param}")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Sums are split over threads by the batch's shape; with one thread both pipelines add in the same order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("scale", [1.0, 7.0])
def test_a_fresh_import_of_if_draws_what_the_original_draws(if_folder, imported_if, scale: float, tmp_path: Path):
    expected = draw_original(original(if_folder), (*TEXTS, LONG), (3, 4, 5), 6, scale)
    assert expected.std() > 0.1
    found = draw(imported_if, (*TEXTS, LONG), (3, 4, 5), 6, scale, stages="base")
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE)
    imported_if.save_pretrained(tmp_path / "saved")
    loaded = quiet(InstructImagenPipeline.from_pretrained(tmp_path / "saved"))
    found = draw(loaded, (*TEXTS, LONG), (3, 4, 5), 6, scale, stages="base")
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("scale", [1.0, 4.0])
def test_stage_2_of_if_enlarges_as_the_original_does(if_folder, imported_if, scale: float):
    small = [picture(seed, 16) for seed in (0, 1)]
    second = original(if_folder.with_name("super-resolution"))
    expected = draw_original(second, TEXTS, (3, 4), 5, scale, image=small)
    instructions = [Instruction(text) for text in TEXTS]
    found = imported_if.super_resolve(
        small, instructions, SuperResolutionOptions(5, scale), generator=generators(3, 4), output_type="np"
    ).images
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE)
    parted = SuperResolutionOptions(5, scale, batch_size=1)
    found = imported_if.super_resolve(small, instructions, parted, generator=generators(3, 4), output_type="np").images
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-3)


def test_the_cascade_of_if_draws_at_full_size_with_the_originals_settings(imported_if):
    assert (imported_if.config.default_steps, imported_if.config.default_guidance) == (100, 7.0)
    network = imported_if.super_resolution
    assert (network.default_steps, network.default_guidance, network.config.noise_level) == (50, 4.0, 0.25)
    assert not network.reads_context
    images = draw(imported_if, TEXTS[:1], (1,), 3, None, super_resolution_options=SuperResolutionOptions(2))
    assert images.shape == (1, 32, 32, 3)


@pytest.mark.parametrize("scale", [1.0, 7.5])
@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_a_fresh_import_of_stable_diffusion_draws_what_the_original_draws(
    sd_folder: Path, scale: float, prediction_type: str, tmp_path: Path
):
    folder = sd_folder
    if prediction_type != "epsilon":  # as 2.1 is: linear projections, heads by block
        folder = tmp_path / "sd"
        options = {"use_linear_projection": True, "attention_head_dim": (2, 2, 4, 4), "upcast_attention": True}
        save_stable_diffusion(folder, prediction_type, **options)
    expected = draw_original(original(folder), TEXTS, (3, 4), 6, scale)
    assert expected.std() > 0.1
    pipeline = quiet(import_pipeline(folder))
    assert (pipeline.config.default_steps, pipeline.config.default_guidance) == (50, 7.5)
    np.testing.assert_allclose(draw(pipeline, TEXTS, (3, 4), 6, scale), expected, rtol=0, atol=TOLERANCE)
    pipeline.save_pretrained(tmp_path / "saved")
    loaded = quiet(InstructImagenPipeline.from_pretrained(tmp_path / "saved"))
    np.testing.assert_allclose(draw(loaded, TEXTS, (3, 4), 6, scale), expected, rtol=0, atol=TOLERANCE)


def with_reference(seed: int = 1, text: str = "fox") -> Instruction:
    return Instruction.build("draw the [ref#1] fox on a beach", [(picture(seed), text)])


def wake(pipeline: InstructImagenPipeline, deviation: float) -> None:
    """Gives the context layers a voice, or with 0 takes it back."""
    torch.manual_seed(0)
    for _, processor in pipeline.unet.context_layers:
        if processor.reads_context:
            torch.nn.init.normal_(processor.to_out_context.weight, std=deviation)


def test_references_change_nothing_at_first_and_something_later(imported):
    def base(instruction: Instruction, **options) -> np.ndarray:
        return draw(imported, [instruction], (2,), 4, 3.0, stages="base", **options)

    fresh = base(with_reference())
    np.testing.assert_array_equal(fresh, base(with_reference(), drop_context=True))
    wake(imported, 0.2)
    try:
        read = base(with_reference())
        assert np.abs(read - fresh).max() > 1e-3
        assert np.abs(read - base(with_reference(seed=9))).max() > 1e-4
        np.testing.assert_array_equal(base(with_reference(), drop_context=True), fresh)
        several = draw(imported, [with_reference(), TEXTS[0]], (2, 7), 4, 3.0, stages="base", image_guidance_scale=2.0)
        alone = base(with_reference(), image_guidance_scale=2.0)
        np.testing.assert_allclose(several[0], alone[0], rtol=0, atol=1e-3)
    finally:
        wake(imported, 0.0)


def test_context_is_read_in_the_lowest_blocks_that_have_attention(imported_if, imported_sd, sd_folder):
    def places(pipeline: InstructImagenPipeline) -> set[str]:
        processors = pipeline.unet.backbone.attn_processors
        return {n.split(".attentions")[0] for n, p in processors.items() if getattr(p, "reads_context", False)}

    assert places(imported_if) == {"down_blocks.2", "mid_block", "up_blocks.0"}
    assert places(imported_sd) == {"down_blocks.2", "mid_block", "up_blocks.1"}
    everywhere = import_pipeline(sd_folder, context_places="all")
    assert len(places(everywhere)) == 7


def test_references_of_a_latent_model_are_encoded_by_its_vae(imported_sd):
    prompt = Prompt("", (("[ref#1] fox", picture(3)),))
    batch = make_prompt_batch([prompt], imported_sd.tokenizer, imported_sd.size_px, imported_sd.unet.text_format)
    assert batch.reference_images.shape == (1, 3, 32, 32)
    pixels = batch.reference_images.float() / 127.5 - 1
    with torch.no_grad():
        mean = imported_sd.vae.encode(pixels).latent_dist.mean
        latents = to_samples(pixels, imported_sd.vae)
        torch.testing.assert_close(latents, mean * imported_sd.vae.config.scaling_factor)
        torch.testing.assert_close(to_pixels(latents, imported_sd.vae), imported_sd.vae.decode(mean).sample)
    assert latents.shape[1:] == (imported_sd.unet.num_channels, imported_sd.unet.size_px, imported_sd.unet.size_px)


def test_samplers_work_and_keep_what_belongs_to_the_model(imported):
    before, latent = imported.scheduler, imported.vae is not None
    try:
        imported.use_fast_sampler()
        fast = draw(imported, [with_reference()], (1,), 4, 3.0, stages="base")
        assert imported.scheduler.config.thresholding is not latent
        imported.use_paper_sampler()
        kept = ("beta_schedule", "beta_start", "prediction_type")
        assert all(imported.scheduler.config[name] == before.config[name] for name in kept)
        if not latent:
            kept = ("variance_type", "thresholding", "dynamic_thresholding_ratio", "sample_max_value", "clip_sample")
            assert all(imported.scheduler.config[name] == before.config[name] for name in kept)
        else:
            assert not imported.scheduler.config.clip_sample
        slow = draw(imported, [with_reference()], (1,), 4, None, stages="base", guidance=OscillatingGuidance(5.0))
        imported.scheduler = UniPCMultistepScheduler.from_config(imported.scheduler.config)  # reads no variance
        other = draw(imported, [with_reference()], (1,), 4, 3.0, stages="base")
        for images in (fast, slow, other):
            assert np.isfinite(images).all()
            assert images.std() > 0.05
    finally:
        imported.scheduler = before


def test_the_paper_sampler_of_an_import_is_its_own_one(if_folder, imported_if):
    """DeepFloyd IF is sampled by DDPM anyway, so `use_paper_sampler` changes nothing."""
    before = imported_if.scheduler
    expected = draw(imported_if, TEXTS, (1, 2), 5, 3.0, stages="base")
    try:
        imported_if.use_paper_sampler()
        np.testing.assert_array_equal(draw(imported_if, TEXTS, (1, 2), 5, 3.0, stages="base"), expected)
    finally:
        imported_if.scheduler = before


def test_other_precisions(imported, tmp_path: Path):
    imported.save_pretrained(tmp_path / "saved")
    half = quiet(InstructImagenPipeline.from_pretrained(tmp_path / "saved", dtype=torch.bfloat16))
    assert half.unet.dtype == torch.bfloat16
    images = draw(half, [with_reference()], (1,), 3, 3.0, super_resolution_options=SuperResolutionOptions(2))
    full = draw(imported, [with_reference()], (1,), 3, 3.0, super_resolution_options=SuperResolutionOptions(2))
    assert np.abs(images - full).mean() < 0.1


def test_weights_arrive_before_each_use_where_they_are_offloaded(imported_sd, sd_folder):
    """Offloading moves a network to the device when it is called; encoding references is such a call, too."""
    expected = draw(imported_sd, [with_reference()], (1,), 3, 3.0)
    offloaded = quiet(import_pipeline(sd_folder))
    for name in ("text_encoder", "unet", "vae"):  # what enable_sequential_cpu_offload does, here with CPU as the device
        cpu_offload(getattr(offloaded, name), torch.device("cpu"))
    assert next(offloaded.unet.parameters()).is_meta
    np.testing.assert_allclose(draw(offloaded, [with_reference()], (1,), 3, 3.0), expected, rtol=0, atol=1e-4)
    whole = quiet(import_pipeline(sd_folder))
    whole.enable_model_cpu_offload(device="cpu")
    np.testing.assert_allclose(draw(whole, [with_reference()], (1,), 3, 3.0), expected, rtol=0, atol=1e-4)

    class Recorder:
        calls = 0

        def pre_forward(self, module, *args, **kwargs):
            self.calls += 1
            return args, kwargs

    imported_sd.unet._hf_hook = recorder = Recorder()
    try:
        imported_sd.unet.encode_context(
            torch.zeros(1, 4, 16, 16), torch.zeros(1, 77, 24), torch.ones(1, 77, dtype=torch.bool)
        )
    finally:
        del imported_sd.unet._hf_hook
    assert recorder.calls > 0


def test_long_texts_are_cut_with_a_warning(imported, caplog: pytest.LogCaptureFixture):
    draw(imported, TEXTS[:1], (1,), 1, 3.0, stages="base")
    assert "too many tokens" not in caplog.text
    draw(imported, [LONG], (1,), 1, 3.0, stages="base")
    assert "too many tokens" in caplog.text
