"""InstructImagenPipeline: instructions in, pictures out, through both networks of the cascade.

    pipe = InstructImagenPipeline.from_pretrained("instruct-imagen-nano")
    instruction = Instruction.build("Draw the [ref#1] fox on a beach.", [(fox, "fox")])
    image = pipe(instruction).images[0]
    small = pipe(instruction, stages="base").images[0]  # each network alone
    large = pipe.super_resolve(small, instruction).images[0]

The fast default is DPM-Solver++; `pipe.use_paper_sampler()` with `OscillatingGuidance()` is the paper's (A.2.2).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from diffusers import AutoencoderKL, DiffusionPipeline, SchedulerMixin
from diffusers.utils import BaseOutput
from diffusers.utils.torch_utils import randn_tensor
from PIL import Image
from transformers import CLIPTextModel, PreTrainedTokenizerBase, T5EncoderModel

from .conditioning import ConditioningEncoder, image_to_tensor, to_unit_range
from .denoising import Branches, Denoiser, Denoising
from .guidance import ConstantGuidance, Guidance
from .instruction import Instruction
from .latents import pixels_per_sample, to_pixels
from .lora import adapter_guidance, find_adapter, load_adapter
from .model_folders import DEFAULT_GUIDANCE, DEFAULT_MODEL, DEFAULT_STEPS, ModelError, resolve_model
from .sampling import Request, encode_branches
from .schedulers import ddpm_scheduler, fast_scheduler
from .super_resolution import LowResolution, SuperResolutionOptions, SuperResolutionUNet
from .unet import InstructUNet

Stages = Literal["base", "cascade"]
OnStep = Callable[[int, int, torch.Tensor], torch.Tensor]
Network = Literal["unet", "super_resolution"]
Callback = Callable[["InstructImagenPipeline", int, int, dict[str, Any]], dict[str, Any]]


@dataclass
class InstructImagenOutput(BaseOutput):
    """`images`: list of PIL pictures, or one array [N, S, S, 3] in 0..1, or a tensor [N, 3, S, S] in -1..1."""

    images: list[Image.Image] | np.ndarray | torch.Tensor


class InstructImagenPipeline(DiffusionPipeline):
    """The cascade as a diffusers pipeline. Either network may be missing; the other then works alone.

    Args:
        tokenizer, text_encoder: of the instruction and of each reference's text; both networks read them.
        unet: the base model's denoiser, which also encodes the references.
        scheduler: any diffusers scheduler whose `step` gives `prev_sample`.
        super_resolution: the network that enlarges what the base model draws.
        super_resolution_scheduler: likewise.
        vae: of a latent base model, whose denoiser then draws and reads its latents.
        default_steps, default_guidance, default_image_guidance: of the base model, where a call names none; the last
            may be None, see `__call__`.

    Raises:
        ModelError: neither network is there, one lacks its scheduler, or the second does not enlarge pictures of the
            first one's size.
    """

    model_cpu_offload_seq = "text_encoder->unet->vae->super_resolution"
    _optional_components = ["unet", "scheduler", "super_resolution", "super_resolution_scheduler", "vae"]  # noqa: RUF012
    scheduler: SchedulerMixin

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        text_encoder: T5EncoderModel | CLIPTextModel,
        unet: InstructUNet | None = None,
        scheduler: SchedulerMixin | None = None,
        super_resolution: SuperResolutionUNet | None = None,
        super_resolution_scheduler: SchedulerMixin | None = None,
        vae: AutoencoderKL | None = None,
        default_steps: int = DEFAULT_STEPS,
        default_guidance: float = DEFAULT_GUIDANCE,
        default_image_guidance: float | None = None,
    ):
        super().__init__()
        if unet is None and super_resolution is None:
            raise ModelError("a pipeline needs a base model or a super-resolution network")
        pairs = ((unet, scheduler), (super_resolution, super_resolution_scheduler))
        if any(network is not None and steps is None for network, steps in pairs):
            raise ModelError("each network of a pipeline needs its scheduler")
        self.register_modules(
            tokenizer=tokenizer,
            text_encoder=text_encoder,
            unet=unet,
            scheduler=scheduler,
            super_resolution=super_resolution,
            super_resolution_scheduler=super_resolution_scheduler,
            vae=vae,
        )
        self.register_to_config(
            default_steps=default_steps,
            default_guidance=default_guidance,
            default_image_guidance=default_image_guidance,
        )
        if super_resolution is not None and self.size_px != super_resolution.config.low_res_px:
            raise ModelError(
                f"the super-resolution enlarges pictures of {super_resolution.config.low_res_px} pixels, "
                f"but the base model draws {self.size_px}"
            )

    @classmethod
    def from_pretrained(cls, name_or_path: str | Path = DEFAULT_MODEL, **options: Any) -> InstructImagenPipeline:
        """Loads a shipped model by name or a saved one by path; asks no network.

        Weights are stored in bfloat16 and computed with in float32 unless `dtype` says otherwise.
        `super_resolution=None` leaves the second network out.

        Raises:
            ModelError: missing, damaged or truncated.
        """
        folder = resolve_model(name_or_path)
        if "torch_dtype" not in options:
            options.setdefault("dtype", torch.float32)
        try:
            return super().from_pretrained(str(folder), local_files_only=True, **options)
        except Exception as error:  # diffusers, transformers and safetensors each raise their own
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
            raise ModelError(f"model {str(name_or_path)!r} is damaged or incomplete: {reason}") from error

    @property
    def size_px(self) -> int:
        """Side of the base model's square pictures."""
        if self.unet is None:
            return int(self.super_resolution.config.low_res_px)
        return int(self.unet.size_px * pixels_per_sample(self.vae))

    @property
    def output_size_px(self) -> int:
        """Side of the pictures that a call gives: those of the last network."""
        return self.size_px if self.super_resolution is None else int(self.super_resolution.size_px)

    def use_fast_sampler(self) -> None:
        """DPM-Solver++ for the base model, for up to 32 steps."""
        self.scheduler = fast_scheduler(self.scheduler.config, bounded=self.vae is None)

    def use_paper_sampler(self) -> None:
        """DDPM for the base model, for 256 steps (A.2.2), over the schedule it was trained with: the paper's is cosine.

        Super-resolution keeps its scheduler: of its sampling the paper says nothing.
        """
        self.scheduler = ddpm_scheduler(self.scheduler.config, bounded=self.vae is None)

    def load_lora(self, name_or_path: str | Path, scale: float = 1.0) -> None:
        """Adds a LoRA adapter to the base network: one that comes with the model, by name, or a folder.

        Those that were added before go on acting; `scale` says how strongly this one does. The guidance that it names,
        if it names one, becomes the pipeline's own.

        Raises:
            ModelError: there is no base network, which an adapter would change.
            AdapterError: there is no such adapter, or see `lora.load_adapter`.
        """
        if self.unet is None:
            raise ModelError("this model has no base network, which an adapter would change")
        folder = find_adapter(name_or_path, self.name_or_path)
        guidance = adapter_guidance(folder)
        load_adapter(self.unet, folder, scale)
        if guidance is not None:
            self.register_to_config(default_guidance=guidance, default_image_guidance=None)

    @torch.no_grad()
    def __call__(
        self,
        instruction: Instruction | Sequence[Instruction],
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        image_guidance_scale: float | None = None,
        guidance: Guidance | None = None,
        num_images_per_prompt: int = 1,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
        callback_on_step_end: Callback | None = None,
        drop_context: bool = False,
        stages: Stages | None = None,
        super_resolution_options: SuperResolutionOptions | None = None,
    ) -> Any:
        """Draws pictures.

        Args:
            instruction: one, or a list, each with its own number of references.
            num_inference_steps: denoising steps of the base model; its own number by default.
            guidance_scale: of the whole condition, or of the text alone where `image_guidance_scale` is given; the
                model's own by default.
            image_guidance_scale: of the references on top of the text; where neither scale is given, the model's own,
                if it has one.
            guidance: a schedule of scales, which then replaces the two above.
            num_images_per_prompt: pictures of each instruction.
            generator: one per picture (then a picture depends on nothing but its generator), or one for all.
            output_type: "pil", "np" ([N, S, S, 3] in 0..1) or "pt" ([N, 3, S, S] in -1..1).
            return_dict: false returns a tuple.
            callback_on_step_end: called with (pipeline, step, timestep, {"latents": noisy pictures}) after each step;
                the steps of super-resolution are counted on.
            drop_context: leave the references out, to see what they add.
            stages: "base" draws small pictures, "cascade" enlarges them, too; by default all that the model has.
            super_resolution_options: how the second network is sampled.

        Returns:
            Pictures, those of one instruction next to each other.

        Raises:
            ValueError: no instruction, or counts and types that do not fit.
            ModelError: the model lacks a network that is asked for.
        """
        instructions = [instruction] if isinstance(instruction, Instruction) else list(instruction)
        self._check(instructions, len(instructions) * num_images_per_prompt, generator, output_type)
        if num_inference_steps is None:
            num_inference_steps = self.config.default_steps
        if guidance_scale is None and image_guidance_scale is None:
            image_guidance_scale = self.config.default_image_guidance
        if guidance_scale is None:
            guidance_scale = self.config.default_guidance
        if num_inference_steps < 1 or num_images_per_prompt < 1:
            raise ValueError("num_inference_steps and num_images_per_prompt must be at least 1")
        enlarges = self._enlarges(stages)
        request = Request(
            instructions,
            [row for row in range(len(instructions)) for _ in range(num_images_per_prompt)],
            list(generator) if isinstance(generator, Sequence) else generator,
            drop_context,
        )
        has_references = not drop_context and any(i.references for i in instructions)
        schedule = guidance or ConstantGuidance.of(guidance_scale, image_guidance_scale, has_references)
        self.scheduler.set_timesteps(num_inference_steps, device=self._execution_device)
        branches = self.encode_branches(request, schedule, len(self.scheduler.timesteps))
        denoising = self.start(request, branches, schedule, self.scheduler)
        pictures = self.to_pictures(self._run(denoising, self.unet, self._on_step(callback_on_step_end)))
        if enlarges:
            on_step = self._on_step(callback_on_step_end, len(self.scheduler.timesteps))
            pictures = self._enlarge(pictures, request, super_resolution_options, on_step)
        return self._finish(pictures, output_type, return_dict)

    @torch.no_grad()
    def super_resolve(
        self,
        image: Image.Image | Sequence[Image.Image] | torch.Tensor,
        instruction: Instruction | Sequence[Instruction],
        options: SuperResolutionOptions | None = None,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
        callback_on_step_end: Callback | None = None,
        drop_context: bool = False,
    ) -> Any:
        """Enlarges given pictures: the second network alone.

        Args:
            image: one per instruction, of any size (brought to the base model's as references are), or a tensor
                [N, 3, s, s] in -1..1 of the base model's size.
            instruction: what each picture shows, with its references.
            options: how it is sampled.
            generator, output_type, return_dict, callback_on_step_end, drop_context: as in a call.

        Returns:
            As a call.

        Raises:
            ValueError: counts, sizes or types that do not fit.
            ModelError: the model has no super-resolution.
        """
        instructions = [instruction] if isinstance(instruction, Instruction) else list(instruction)
        self._check(instructions, len(instructions), generator, output_type)
        if self.super_resolution is None:
            raise ModelError("this model has no super-resolution network")
        images = [image] if isinstance(image, Image.Image) else image
        if len(images) != len(instructions):
            raise ValueError(f"{len(images)} pictures need as many instructions, but {len(instructions)} were given")
        pictures = self._small_pictures(images)
        generators = list(generator) if isinstance(generator, Sequence) else generator
        request = Request(instructions, range(len(instructions)), generators, drop_context)
        pictures = self._enlarge(pictures, request, options, self._on_step(callback_on_step_end))
        return self._finish(pictures, output_type, return_dict)

    def _enlarges(self, stages: Stages | None) -> bool:
        """Whether a call goes on to the second network."""
        if stages not in (None, *get_args(Stages)):
            raise ValueError(f"stages must be 'base' or 'cascade', not {stages!r}")
        if self.unet is None:
            raise ModelError("this model has no base network; it can only enlarge given pictures")
        if stages == "cascade" and self.super_resolution is None:
            raise ModelError("this model has no super-resolution network; draw with stages='base'")
        return stages != "base" and self.super_resolution is not None

    def _small_pictures(self, images: Sequence[Image.Image] | torch.Tensor) -> torch.Tensor:
        """Pictures to enlarge as a tensor [N, 3, s, s] in -1..1."""
        if isinstance(images, torch.Tensor):
            if images.shape[1:] != (3, self.size_px, self.size_px):
                raise ValueError(f"pictures to enlarge must be [N, 3, {self.size_px}, {self.size_px}]")
            return images
        return to_unit_range(torch.stack([image_to_tensor(item, self.size_px) for item in images]))

    def encode_branches(
        self, request: Request, guidance: Guidance, num_steps: int, network: Network = "unet"
    ) -> Branches:
        """What no step of one of the networks changes: the conditions of every branch that `guidance` asks for."""
        vae = self.vae if network == "unet" else None
        encoder = ConditioningEncoder(self.text_encoder, getattr(self, network), vae)
        return encode_branches(encoder, self.tokenizer, request, guidance, num_steps, self._execution_device)

    def new_scheduler(self, num_inference_steps: int, network: Network = "unet") -> SchedulerMixin:
        """A scheduler like one of the pipeline's own, with its steps set, for a `Denoising` of its own."""
        own = self.scheduler if network == "unet" else self.super_resolution_scheduler
        scheduler = type(own).from_config(own.config)
        scheduler.set_timesteps(num_inference_steps, device=self._execution_device)
        return scheduler

    def start(self, request: Request, branches: Branches, guidance: Guidance, scheduler: SchedulerMixin) -> Denoising:
        """Pictures of the base model before their first step, to be denoised with `Denoiser(self.unet)`.

        Args:
            request: rows and generators.
            branches: from `encode_branches`.
            guidance: what the branches were encoded for.
            scheduler: with its steps set; taken over by the result.
        """
        noise = self._noise(self.unet, self.unet.size_px, request)
        return Denoising(noise * scheduler.init_noise_sigma, scheduler, guidance, branches, request.generators)

    def start_enlarging(
        self,
        pictures: torch.Tensor,
        request: Request,
        options: SuperResolutionOptions,
        parts: Iterable[tuple[slice, Branches, SchedulerMixin]],
    ) -> Iterator[Denoising]:
        """Pictures of the second network before their first step, part after part.

        Args:
            pictures: [N, 3, s, s] in -1..1.
            request: rows and generators of all of them.
            options: guidance and the level of noise.
            parts: which pictures, their branches, and a scheduler with its steps set.
        """
        unet = self.super_resolution
        clean = pictures.float().clamp(-1, 1).to(self._execution_device)
        level = unet.config.noise_level if options.noise_level is None else options.noise_level
        levels = torch.full((len(clean),), level, device=clean.device)
        noise, small = unet.begin(clean, levels, lambda size_px: self._noise(unet, size_px, request))
        for rows, branches, scheduler in parts:
            low_res = LowResolution(small.images_BCHW[rows].to(unet.dtype), levels[rows])
            sample = noise[rows] * scheduler.init_noise_sigma
            generators = request.part(rows.start, rows.stop).generators
            yield Denoising(sample, scheduler, self.enlarging_guidance(options), branches, generators, low_res)

    def enlarging_guidance(self, options: SuperResolutionOptions) -> Guidance:
        """The guidance of the second network: the options', or else its own."""
        scale = self.super_resolution.default_guidance if options.guidance_scale is None else options.guidance_scale
        return ConstantGuidance(scale, options.image_guidance_scale)

    def to_pictures(self, samples: torch.Tensor) -> torch.Tensor:
        """What the base model denoises as pictures [N, 3, S, S] in -1..1: decoded where it has a VAE."""
        return to_pixels(samples, self.vae)

    def _enlarge(
        self, pictures: torch.Tensor, request: Request, options: SuperResolutionOptions | None, on_step: OnStep | None
    ) -> torch.Tensor:
        """The second network, `batch_size` pictures at a time."""
        options = options or SuperResolutionOptions()
        num_pictures = len(request.rows)
        size, scheduler = options.batch_size or num_pictures, self.super_resolution_scheduler
        num_steps = options.num_inference_steps or self.super_resolution.default_steps

        def parts() -> Iterator[tuple[slice, Branches, SchedulerMixin]]:
            for start in range(0, num_pictures, size):
                rows = slice(start, min(start + size, num_pictures))
                scheduler.set_timesteps(num_steps, device=self._execution_device)
                part, guidance = request.part(rows.start, rows.stop), self.enlarging_guidance(options)
                branches = self.encode_branches(part, guidance, len(scheduler.timesteps), "super_resolution")
                yield rows, branches, scheduler

        started = self.start_enlarging(pictures, request, options, parts())
        return torch.cat([self._run(denoising, self.super_resolution, on_step) for denoising in started])

    def _run(self, denoising: Denoising, network: InstructUNet, on_step: OnStep | None) -> torch.Tensor:
        """Takes pictures through all their steps."""
        denoiser = Denoiser(network)
        for index in self.progress_bar(range(denoising.num_steps)):
            timestep = int(denoising.timestep)
            denoiser.step([denoising])
            if on_step is not None:
                denoising.sample = on_step(index, timestep, denoising.sample)
        return denoising.sample

    def _on_step(self, callback: Callback | None, first_step: int = 0) -> OnStep | None:
        """The caller's callback as the loop calls it, its steps counted from `first_step`."""
        if callback is None:
            return None

        def on_step(index: int, timestep: int, sample: torch.Tensor) -> torch.Tensor:
            changed = callback(self, first_step + index, timestep, {"latents": sample})
            return (changed or {}).get("latents", sample)

        return on_step

    def _noise(self, unet: InstructUNet, size_px: int, request: Request) -> torch.Tensor:
        shape = (len(request.rows), unet.num_channels, size_px, size_px)
        return randn_tensor(shape, generator=request.generators, device=self._execution_device, dtype=unet.dtype)

    def _check(
        self,
        instructions: list[Instruction],
        num_images: int,
        generator: torch.Generator | Sequence[torch.Generator] | None,
        output_type: str,
    ) -> None:
        if not instructions or not all(isinstance(item, Instruction) for item in instructions):
            raise ValueError("give an Instruction or a non-empty list of them")
        if output_type not in ("pil", "np", "pt"):
            raise ValueError(f"output_type must be 'pil', 'np' or 'pt', not {output_type!r}")
        if isinstance(generator, Sequence) and len(generator) != num_images:
            raise ValueError(f"{num_images} pictures need {num_images} generators, but {len(generator)} were given")

    def _finish(self, pictures: torch.Tensor, output_type: str, return_dict: bool) -> Any:
        images = _to_output(pictures, output_type)
        self.maybe_free_model_hooks()
        return InstructImagenOutput(images) if return_dict else (images,)


def to_images(pictures: torch.Tensor) -> list[Image.Image]:
    """Clean pictures [N, 3, S, S] in -1..1 as PIL pictures."""
    return [Image.fromarray(array) for array in np.rint(_to_arrays(pictures) * 255).astype(np.uint8)]


def _to_arrays(pictures: torch.Tensor) -> np.ndarray:
    return (pictures.float().clamp(-1, 1) / 2 + 0.5).permute(0, 2, 3, 1).cpu().numpy()


def _to_output(pictures: torch.Tensor, output_type: str) -> list[Image.Image] | np.ndarray | torch.Tensor:
    """See `InstructImagenOutput`."""
    if output_type == "pt":
        return pictures.float().clamp(-1, 1)
    return _to_arrays(pictures) if output_type == "np" else to_images(pictures)
