"""InstructImagenPipeline: instructions in, pictures out.

    pipe = InstructImagenPipeline.from_pretrained("instruct-imagen-nano")
    image = pipe(Instruction.build("Draw the [ref#1] fox on a beach.", [(fox, "fox")])).images[0]

The fast default is DPM-Solver++; `pipe.use_paper_sampler()` with `OscillatingGuidance()` is the paper's (A.2.2).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DDPMScheduler, DiffusionPipeline, DPMSolverMultistepScheduler, SchedulerMixin
from diffusers.utils import BaseOutput
from diffusers.utils import logging as diffusers_logging
from diffusers.utils.torch_utils import randn_tensor
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file
from transformers import PreTrainedTokenizerBase, T5EncoderModel
from transformers.utils import logging as transformers_logging

from .conditioning import Conditioning, ConditioningEncoder, Prompt, make_prompt_batch
from .errors import UserError
from .extras import require
from .guidance import ConstantGuidance, Guidance, combine
from .instruction import Instruction
from .unet import InstructUNet

SHIPPED_MODELS = Path(__file__).parent / "weights"
DEFAULT_MODEL = "instruct-imagen-nano"
DEFAULT_STEPS = 24
PAPER_STEPS = 256
LORA_FILE = "pytorch_lora_weights.safetensors"


class ModelError(UserError):
    """A model that is missing, damaged, or no Instruct-Imagen model."""


@dataclass
class InstructImagenOutput(BaseOutput):
    """`images`: list of PIL pictures, or one array [N, S, S, 3] in 0..1, or a tensor [N, 3, S, S] in -1..1."""

    images: list[Image.Image] | np.ndarray | torch.Tensor


def fast_scheduler(config: dict[str, Any]) -> DPMSolverMultistepScheduler:
    """DPM-Solver++ (2M) for the training schedule of `config`; clean pictures are clipped to -1..1 in every step."""
    return DPMSolverMultistepScheduler(
        num_train_timesteps=config["num_train_timesteps"],
        beta_schedule=config["beta_schedule"],
        prediction_type=config["prediction_type"],
        algorithm_type="dpmsolver++",
        solver_order=2,
        thresholding=True,
        sample_max_value=1.0,
        lambda_min_clipped=-5.1,
        timestep_spacing="trailing",
    )


def paper_scheduler(config: dict[str, Any]) -> DDPMScheduler:
    """DDPM on the training schedule of `config`, which is what training adds noise by too (A.2.2)."""
    return DDPMScheduler(
        num_train_timesteps=config["num_train_timesteps"],
        beta_schedule=config["beta_schedule"],
        prediction_type=config["prediction_type"],
        clip_sample=True,
    )


def hide_loading_bars() -> None:
    """Switches off the bars of diffusers and transformers for loading and saving; a small model takes a second."""
    diffusers_logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()


def resolve_model(name_or_path: str | Path) -> Path:
    """Folder of a shipped model or of a path.

    Raises:
        ModelError: neither.
    """
    for folder in (SHIPPED_MODELS / str(name_or_path), Path(name_or_path)):
        if (folder / "model_index.json").is_file():
            return folder
    shipped = sorted(p.name for p in SHIPPED_MODELS.glob("*") if p.is_dir())
    raise ModelError(
        f"there is no model {str(name_or_path)!r}: neither a shipped one ({', '.join(shipped) or 'none'}) "
        "nor a folder with a model_index.json"
    )


class InstructImagenPipeline(DiffusionPipeline):
    """Base model of the cascade as a diffusers pipeline.

    Args:
        tokenizer, text_encoder: of the instruction and of each reference's text.
        unet: the denoiser, which also encodes the references.
        scheduler: any diffusers scheduler whose `step` gives `prev_sample`.
    """

    model_cpu_offload_seq = "text_encoder->unet"
    scheduler: SchedulerMixin

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        text_encoder: T5EncoderModel,
        unet: InstructUNet,
        scheduler: SchedulerMixin,
    ):
        super().__init__()
        self.register_modules(tokenizer=tokenizer, text_encoder=text_encoder, unet=unet, scheduler=scheduler)

    @classmethod
    def from_pretrained(cls, name_or_path: str | Path = DEFAULT_MODEL, **options: Any) -> InstructImagenPipeline:
        """Loads a shipped model by name or a saved one by path; asks no network.

        Weights are stored in bfloat16 and computed with in float32 unless `dtype` says otherwise.

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
        """Side of the square pictures."""
        return int(self.unet.config.backbone_config["sample_size"] * self.unet.config.patch_size)

    def use_fast_sampler(self) -> None:
        """DPM-Solver++, for up to 32 steps."""
        self.scheduler = fast_scheduler(self.scheduler.config)

    def use_paper_sampler(self) -> None:
        """DDPM with the cosine schedule, for 256 steps (A.2.2)."""
        self.scheduler = paper_scheduler(self.scheduler.config)

    def load_lora(self, folder: str | Path, scale: float = 1.0) -> None:
        """Adds a LoRA adapter, as fine-tuning writes it, to the network; the last one added is the one that acts.

        Args:
            folder: with `pytorch_lora_weights.safetensors`.
            scale: how strongly it acts.

        Raises:
            ModelError: there is none, it is damaged, or made for a network of other layers.
            UserError: peft is not installed.
        """
        require("peft", "lora", "A LoRA adapter")
        file = Path(folder) / LORA_FILE
        if not file.is_file():
            raise ModelError(f"there is no adapter in {folder}: it has no {LORA_FILE}")
        try:
            weights = load_file(file)
        except (OSError, SafetensorError) as error:
            raise ModelError(f"the adapter {file} is damaged: {error}") from error
        for name, weight in weights.items():
            layer_name, _, side = name.removesuffix(".weight").rpartition(".")
            layer = dict(self.unet.named_modules()).get(layer_name)
            layer = getattr(layer, "base_layer", layer)
            widths = {"lora_A": getattr(layer, "in_features", None), "lora_B": getattr(layer, "out_features", None)}
            if side not in widths or widths[side] != weight.shape[1 if side == "lora_A" else 0]:
                raise ModelError(f"the adapter {folder} is not for this model: {layer_name or name} does not fit")
        name = f"lora{len(getattr(self.unet, 'peft_config', {}))}"
        self.unet.load_lora_adapter(str(folder), prefix=None, adapter_name=name, local_files_only=True)
        self.unet.set_adapters([name], [scale])

    def encode(self, prompts: Sequence[Prompt]) -> Conditioning:
        """Text states, context features and all keys and values: everything that does not depend on the step."""
        batch = make_prompt_batch(prompts, self.tokenizer, self.size_px).to(self._execution_device)
        return ConditioningEncoder(self.text_encoder, self.unet).encode(batch)

    @torch.no_grad()
    def __call__(
        self,
        instruction: Instruction | Sequence[Instruction],
        num_inference_steps: int = DEFAULT_STEPS,
        guidance_scale: float = 3.0,
        image_guidance_scale: float | None = None,
        guidance: Guidance | None = None,
        num_images_per_prompt: int = 1,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
        callback_on_step_end: Callable[[InstructImagenPipeline, int, int, dict[str, Any]], dict[str, Any]]
        | None = None,
        drop_context: bool = False,
    ) -> Any:
        """Draws pictures.

        Args:
            instruction: one, or a list, each with its own number of references.
            num_inference_steps: denoising steps.
            guidance_scale: of the whole condition, or of the text alone where `image_guidance_scale` is given.
            image_guidance_scale: of the references on top of the text.
            guidance: a schedule of scales, which then replaces the two above.
            num_images_per_prompt: pictures of each instruction.
            generator: one per picture (then a picture depends on nothing but its generator), or one for all.
            output_type: "pil", "np" ([N, S, S, 3] in 0..1) or "pt" ([N, 3, S, S] in -1..1).
            return_dict: false returns a tuple.
            callback_on_step_end: called with (pipeline, step, timestep, {"latents": noisy pictures}) after each step.
            drop_context: leave the references out, to see what they add.

        Returns:
            Pictures, those of one instruction next to each other.

        Raises:
            ValueError: no instruction, or counts and types that do not fit.
        """
        instructions = [instruction] if isinstance(instruction, Instruction) else list(instruction)
        self._check(instructions, num_inference_steps, num_images_per_prompt, generator, output_type)
        schedule = guidance or ConstantGuidance(guidance_scale, image_guidance_scale)
        device, num_images = self._execution_device, len(instructions) * num_images_per_prompt
        branches = self._encode_branches(
            instructions, schedule, num_inference_steps, num_images_per_prompt, drop_context
        )
        shape = (num_images, 3, self.size_px, self.size_px)
        generators = list(generator) if isinstance(generator, Sequence) else generator
        sample = randn_tensor(shape, generator=generators, device=device, dtype=self.unet.dtype)
        self.scheduler.set_timesteps(num_inference_steps, device=device)
        sample = sample * self.scheduler.init_noise_sigma
        needs_generator = isinstance(self.scheduler, DDPMScheduler)
        for index, timestep in enumerate(self.progress_bar(self.scheduler.timesteps)):
            scales = schedule.scales(index, len(self.scheduler.timesteps))
            conditioning = branches.select(scales.branches)
            num_branches = len(scales.branches)
            model_input = self.scheduler.scale_model_input(sample, timestep).repeat(num_branches, 1, 1, 1)
            timesteps = timestep.to(device).expand(len(model_input))
            prediction = self.unet(model_input, timesteps, conditioning.text_BLE, conditioning.cache)
            prediction = combine(prediction.chunk(num_branches), scales)
            extra = {"generator": generators} if needs_generator else {}
            sample = self.scheduler.step(prediction, timestep, sample, **extra).prev_sample
            if callback_on_step_end is not None:
                changed = callback_on_step_end(self, index, int(timestep), {"latents": sample})
                sample = (changed or {}).get("latents", sample)
        images = self._to_output(sample, output_type)
        self.maybe_free_model_hooks()
        return InstructImagenOutput(images) if return_dict else (images,)

    def _check(
        self,
        instructions: list[Instruction],
        num_steps: int,
        num_per_prompt: int,
        generator: torch.Generator | Sequence[torch.Generator] | None,
        output_type: str,
    ) -> None:
        if not instructions or not all(isinstance(item, Instruction) for item in instructions):
            raise ValueError("give an Instruction or a non-empty list of them")
        if num_steps < 1 or num_per_prompt < 1:
            raise ValueError("num_inference_steps and num_images_per_prompt must be at least 1")
        if output_type not in ("pil", "np", "pt"):
            raise ValueError(f"output_type must be 'pil', 'np' or 'pt', not {output_type!r}")
        num_images = len(instructions) * num_per_prompt
        if isinstance(generator, Sequence) and len(generator) != num_images:
            raise ValueError(f"{num_images} pictures need {num_images} generators, but {len(generator)} were given")

    def _encode_branches(
        self,
        instructions: list[Instruction],
        schedule: Guidance,
        num_steps: int,
        num_per_prompt: int,
        drop_context: bool,
    ) -> _Branches:
        """Encodes once what the schedule will need: full prompts, prompts without context, and the empty prompt."""
        needed = {b for step in range(num_steps) for b in schedule.scales(step, num_steps).branches}
        prompts = {
            "full": [Prompt.of(i, drop_context=drop_context) for i in instructions],
            "text": [Prompt.of(i, drop_context=True) for i in instructions],
            "null": [Prompt()] * len(instructions),
        }
        kept = [name for name in prompts if name in needed]
        conditioning = self.encode([prompt for name in kept for prompt in prompts[name]]).repeat(num_per_prompt)
        return _Branches(conditioning, tuple(kept), len(instructions) * num_per_prompt)

    def _to_output(self, sample: torch.Tensor, output_type: str) -> list[Image.Image] | np.ndarray | torch.Tensor:
        sample = sample.float().clamp(-1, 1)
        if output_type == "pt":
            return sample
        arrays = (sample / 2 + 0.5).permute(0, 2, 3, 1).cpu().numpy()
        if output_type == "np":
            return arrays
        return [Image.fromarray(array) for array in np.rint(arrays * 255).astype(np.uint8)]


class _Branches:
    """Conditioning of all guidance branches, stacked; the rows of each set of branches are selected once."""

    def __init__(self, conditioning: Conditioning, names: tuple[str, ...], rows_per_branch: int):
        self._conditioning, self._names, self._rows = conditioning, names, rows_per_branch
        self._selected: dict[tuple[str, ...], Conditioning] = {names: conditioning}

    def select(self, names: tuple[str, ...]) -> Conditioning:
        """The conditioning of the named branches, in that order."""
        if names not in self._selected:
            starts = [self._names.index(name) * self._rows for name in names]
            device = self._conditioning.text_BLE.device
            rows = torch.cat([torch.arange(start, start + self._rows, device=device) for start in starts])
            self._selected[names] = self._conditioning.select(rows)
        return self._selected[names]
