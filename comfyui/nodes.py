"""The nodes, in ComfyUI's V3 schema: load a pipeline, tie pictures to a marker, draw.

ComfyUI hands pictures over as float tensors [B, H, W, C] in 0..1, and so do these nodes. Bad input raises an error of
instruct_imagen whose one sentence ComfyUI shows at the node.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from comfy_api.latest import ComfyAPISync, ComfyExtension, io
from PIL import Image

from instruct_imagen import Instruction, Reference
from instruct_imagen.guidance import OscillatingGuidance
from instruct_imagen.lora import LORA_FILE, find_adapter
from instruct_imagen.model_folders import DEFAULT_MODEL, DEFAULT_STEPS, PAPER_STEPS, resolve_model
from instruct_imagen.pipeline import InstructImagenPipeline
from instruct_imagen.progress import Progress, progress_callback

CATEGORY = "Instruct-Imagen"
PIPELINE = io.Custom("INSTRUCT_IMAGEN_PIPELINE")
REFERENCES = io.Custom("INSTRUCT_IMAGEN_REFERENCES")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
NO_SCALE = -1.0
MAX_SEED = 2**63 - 1025  # room for the seeds of a batch


class LoadPipeline(io.ComfyNode):
    """A model, loaded once and kept by ComfyUI for as long as its settings stay."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """See ComfyUI."""
        return io.Schema(
            node_id="InstructImagenLoadPipeline",
            display_name="Load Instruct-Imagen",
            category=CATEGORY,
            description="Loads a shipped model by name, or a folder that save_pretrained or the training wrote.",
            inputs=[
                io.String.Input("model", default=DEFAULT_MODEL, tooltip="A shipped model's name, or a folder."),
                io.Combo.Input("device", options=["auto", "cpu", "cuda"], default="auto"),
                io.Combo.Input("dtype", options=list(DTYPES), default="float32"),
                io.String.Input("lora", default="", tooltip="An adapter of the model's own, or a folder; empty: none."),
                io.Float.Input("lora_scale", default=1.0, min=-10.0, max=10.0, step=0.05, tooltip="How strongly."),
            ],
            outputs=[PIPELINE.Output(display_name="pipeline")],
        )

    @classmethod
    def fingerprint_inputs(cls, model: str, device: str, dtype: str, lora: str = "", lora_scale: float = 1.0) -> Any:
        """Loads again when the model or the adapter was saved anew."""
        folder = resolve_model(model)
        files = [folder / "model_index.json", *([find_adapter(lora, folder) / LORA_FILE] if lora else [])]
        return model, device, dtype, lora, lora_scale, [file.stat().st_mtime for file in files]

    @classmethod
    def execute(cls, model: str, device: str, dtype: str, lora: str = "", lora_scale: float = 1.0) -> io.NodeOutput:
        """Loads it."""
        pipeline = InstructImagenPipeline.from_pretrained(model, dtype=DTYPES[dtype])
        if lora:
            pipeline.load_lora(lora, lora_scale)
        pipeline.set_progress_bar_config(disable=True)
        return io.NodeOutput(pipeline.to(_device() if device == "auto" else device))


class TieReference(io.ComfyNode):
    """One marker and its pictures; chained, one node a marker."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """See ComfyUI."""
        return io.Schema(
            node_id="InstructImagenReference",
            display_name="Instruct-Imagen Reference",
            category=CATEGORY,
            description="Ties pictures to a marker such as [ref#1]; a batch is several pictures of one subject.",
            inputs=[
                io.Image.Input("image", tooltip="A subject, a style, depth, a mask as an image, edges, a sketch."),
                io.String.Input("text", default="", tooltip="What it is, such as fox, style or edge map."),
                io.Int.Input("marker", default=0, min=0, max=9, tooltip="N of [ref#N]; 0: the next one."),
                REFERENCES.Input("references", optional=True, tooltip="The references before this one."),
            ],
            outputs=[REFERENCES.Output(display_name="references")],
        )

    @classmethod
    def execute(
        cls, image: torch.Tensor, text: str, marker: int, references: tuple[Reference, ...] = ()
    ) -> io.NodeOutput:
        """Adds the pictures to the references."""
        number = marker or max((reference.marker for reference in references), default=0) + 1
        added = tuple(Reference(picture, text, number) for picture in to_pictures(image))
        return io.NodeOutput((*references, *added))


class Generate(io.ComfyNode):
    """Draws; picture i of a batch uses seed + i and depends on nothing else in it."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """See ComfyUI."""
        return io.Schema(
            node_id="InstructImagenGenerate",
            display_name="Instruct-Imagen",
            category=CATEGORY,
            description="Draws an instruction whose [ref#N] markers name the references.",
            inputs=[
                PIPELINE.Input("pipeline"),
                io.String.Input("instruction", multiline=True, default="", placeholder="Draw the fox in [ref#1] ..."),
                io.Int.Input("seed", default=0, min=0, max=MAX_SEED, control_after_generate=True),
                io.Int.Input("num_images", default=1, min=1, max=64),
                io.Int.Input("steps", default=0, min=0, max=1000, tooltip="0: the model's own number."),
                io.Float.Input(
                    "guidance", default=NO_SCALE, min=NO_SCALE, max=30.0, step=0.1, tooltip="-1: the model's own scale."
                ),
                io.Float.Input(
                    "image_guidance",
                    default=NO_SCALE,
                    min=NO_SCALE,
                    max=30.0,
                    step=0.1,
                    tooltip="A scale of its own for the references; -1: none. The paper's sampler has its own scales.",
                ),
                io.Combo.Input(
                    "sampler",
                    options=["model", "fast", "paper"],
                    default="model",
                    tooltip="model: its own; fast: DPM-Solver++; paper: DDPM with oscillating guidance, 256 steps.",
                ),
                REFERENCES.Input("references", optional=True),
            ],
            outputs=[io.Image.Output(display_name="images")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls,
        pipeline: InstructImagenPipeline,
        instruction: str,
        seed: int,
        num_images: int,
        steps: int,
        guidance: float,
        image_guidance: float,
        sampler: str,
        references: tuple[Reference, ...] = (),
    ) -> io.NodeOutput:
        """Draws, with a progress bar and a preview of the noisy picture in ComfyUI."""
        asked, own_scheduler = Instruction(instruction, references), pipeline.scheduler
        if sampler == "fast":
            pipeline.use_fast_sampler()
            steps = steps or DEFAULT_STEPS
        elif sampler == "paper":
            pipeline.use_paper_sampler()
            steps = steps or PAPER_STEPS
        try:
            images = pipeline(
                asked,
                num_inference_steps=steps or None,
                guidance_scale=None if guidance < 0 else guidance,
                image_guidance_scale=None if image_guidance < 0 else image_guidance,
                guidance=OscillatingGuidance() if sampler == "paper" else None,
                num_images_per_prompt=num_images,
                generator=[torch.Generator().manual_seed(seed + number) for number in range(num_images)],
                output_type="np",
                callback_on_step_end=_callback(pipeline, steps, cls.hidden.unique_id),
            ).images
        finally:
            pipeline.scheduler = own_scheduler
        return io.NodeOutput(torch.from_numpy(np.ascontiguousarray(images, dtype=np.float32)))


class InstructImagenExtension(ComfyExtension):
    """The pack."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        """See ComfyUI."""
        return [LoadPipeline, TieReference, Generate]


async def comfy_entrypoint() -> ComfyExtension:
    """What ComfyUI calls to load the pack."""
    return InstructImagenExtension()


def to_pictures(image: torch.Tensor) -> list[Image.Image]:
    """ComfyUI's float [B, H, W, C] in 0..1, C 1, 3 or 4, as pictures."""
    values = (image.detach().float().cpu().nan_to_num().clamp(0, 1) * 255).round().byte().numpy()
    return [Image.fromarray(array.squeeze(-1) if array.shape[-1] == 1 else array) for array in values]


def _device() -> torch.device:
    from comfy import model_management

    return model_management.get_torch_device()


def _callback(pipeline: InstructImagenPipeline, num_steps: int, node_id: str) -> Any:
    """Moves the node's progress bar, and stops when ComfyUI's user wants it."""
    from comfy import model_management

    bar = ComfyAPISync().execution

    def report(progress: Progress) -> None:
        preview = progress.previews[0] if progress.previews else None
        bar.set_progress(progress.step, progress.num_steps, node_id, preview)

    check = model_management.throw_exception_if_processing_interrupted
    return progress_callback(pipeline, num_steps or None, report, check)
