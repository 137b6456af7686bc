"""The command line: instruct-imagen generate | demo | data | train | finetune | import | evaluate | rate | serve | ...

Bad input ends with exit code 2 and one sentence that says what to mend; Ctrl-C with 130, but for a training, which it
ends well.
"""

from __future__ import annotations

import argparse
import logging
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from .arguments import DTYPES, add_adapters, natural, positive, share
from .cli_data import add_data
from .cli_evaluate import add_evaluate
from .cli_import import add_import
from .cli_rate import add_rate
from .cli_serve import add_serve
from .cli_studio import add_studio
from .cli_train import add_train
from .errors import UserError

_MARKER_PREFIX = re.compile(r"([1-9][0-9]*):(.*)", re.DOTALL)


class UsageError(UserError):
    """Options that do not fit together."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit code."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(
        level=logging.WARNING if options.quiet else logging.INFO, format="%(message)s", stream=sys.stderr
    )
    for name in ("httpx", "accelerate", "diffusers", "transformers", "absl"):
        logging.getLogger(name).setLevel(logging.ERROR)
    os.environ.setdefault("HF_HUB_OFFLINE", "0" if getattr(options, "download", False) else "1")
    try:
        options.run(options)
        return 0
    except UserError as error:
        print(f"instruct-imagen: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    from . import __version__

    parser = argparse.ArgumentParser(prog="instruct-imagen", description=__doc__.splitlines()[0])
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    added = [add(commands) for add in (_add_generate, _add_demo, add_import, add_serve)]
    added += [add(commands, _add_model_options) for add in (add_evaluate, add_studio)]
    for command in (*added, *add_train(commands), *add_data(commands), *add_rate(commands)):
        command.add_argument("--quiet", action="store_true", help="no progress, only errors")
    return parser


def _add_model_options(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--model", default="instruct-imagen-nano", metavar="NAME_OR_PATH", help="shipped model or folder (%(default)s)"
    )
    add_adapters(command)
    command.add_argument(
        "--steps", type=positive, metavar="N", help="denoising steps (the model's own, 24; the paper's sampler: 256)"
    )
    command.add_argument(
        "--stages", choices=("base", "cascade"), help="base: small pictures; cascade: enlarged ones (all the model has)"
    )
    command.add_argument("--device", metavar="NAME", help="such as cuda or cpu (cuda where there is one)")
    command.add_argument("--dtype", choices=DTYPES, default="float32", help="to compute with (%(default)s)")
    command.add_argument("--offload", action="store_true", help="only the network at work is on the device")


def _add_generate(commands: argparse._SubParsersAction) -> argparse.ArgumentParser:
    command = commands.add_parser("generate", help="draw pictures from an instruction with references")
    command.add_argument("text", nargs="?", help='such as "Draw the [ref#1] fox in the style of [ref#2]"')
    command.add_argument(
        "--ref",
        action="append",
        default=[],
        metavar="[N:]PATH[=TEXT]",
        help="a reference; numbered in order, or with N: one more picture of marker N",
    )
    command.add_argument("--json", type=Path, metavar="FILE", help="read the instruction from a JSON file instead")
    command.add_argument("--num-images", type=positive, default=1, metavar="N", help="pictures (%(default)s)")
    command.add_argument("--seed", type=natural, default=0, help="picture i uses seed + i (%(default)s)")
    command.add_argument("--guidance", type=float, help="guidance scale (the model's own, 3.0; paper: 25.0)")
    command.add_argument("--image-guidance", type=float, help="separate guidance scale of the references")
    command.add_argument(
        "--sampler",
        choices=("model", "fast", "paper"),
        default="model",
        help="model: its own; fast: DPM-Solver++; paper: DDPM with oscillating guidance (%(default)s)",
    )
    command.add_argument("--enlarge", metavar="PICTURE", help="enlarge this picture instead of drawing one")
    command.add_argument("--noise-level", type=share, metavar="L", help="of super-resolution, 0..1 (the model's own)")
    command.add_argument("--sr-steps", type=positive, metavar="N", help="denoising steps of super-resolution (12)")
    command.add_argument("--size", type=positive, metavar="PX", help="side of the file (256, or the model's if larger)")
    command.add_argument("--out", type=Path, required=True, metavar="FILE", help="several pictures also go to FILE-i")
    _add_model_options(command)
    command.set_defaults(run=_generate)
    return command


def _add_demo(commands: argparse._SubParsersAction) -> argparse.ArgumentParser:
    command = commands.add_parser("demo", help="write a contact sheet over every task")
    command.add_argument("--out", type=Path, required=True, metavar="DIR")
    command.add_argument("--pack", default="auto", help="glyph pack: auto, font, builtin or a folder (%(default)s)")
    _add_model_options(command)
    command.set_defaults(run=_demo)
    return command


def parse_reference(argument: str) -> tuple[int | None, str, str]:
    """Splits `[N:]PATH[=TEXT]` into marker or None, path and text.

    The path ends at the first "=" before which a file of that name exists, else at the first "=".
    """
    match = None if Path(argument.partition("=")[0]).is_file() else _MARKER_PREFIX.fullmatch(argument)
    marker, rest = (int(match[1]), match[2]) if match else (None, argument)
    ends = [place.start() for place in re.finditer("=", rest)]
    if not ends or Path(rest).is_file():
        return marker, rest, ""
    end = next((place for place in ends if Path(rest[:place]).is_file()), ends[0])
    return marker, rest[:end], rest[end + 1 :]


def _read_instruction(options: argparse.Namespace):
    from .instruction import Instruction, Reference
    from .pictures import load_image

    if options.json is not None:
        if options.text is not None or options.ref:
            raise UsageError("--json takes the place of the text and of --ref; give one or the other")
        return Instruction.from_json(options.json)
    if options.text is None:
        raise UsageError("give an instruction, or --json FILE")
    references, following = [], 1
    for argument in options.ref:
        marker, path, text = parse_reference(argument)
        if marker is None:
            marker, following = following, following + 1
        else:
            following = max(following, marker + 1)
        references.append(Reference(load_image(path), text, marker))
    return Instruction(options.text, tuple(references))


def load_pipeline(options: argparse.Namespace):
    """The pipeline that the options name, with a progress bar unless they are quiet."""
    import torch

    from .model_folders import hide_loading_bars
    from .pipeline import InstructImagenPipeline
    from .precision import place

    hide_loading_bars()
    pipeline = InstructImagenPipeline.from_pretrained(options.model, dtype=getattr(torch, options.dtype))
    for name_or_path, scale in options.lora:
        pipeline.load_lora(name_or_path, scale)
    pipeline.set_progress_bar_config(disable=options.quiet, leave=False)
    place(pipeline, options.device, options.offload)
    return pipeline


def _generate(options: argparse.Namespace) -> None:
    from .files import check_writable, write_atomically
    from .sheet import image_grid, tile

    check_writable(options.out)
    if options.out.suffix.lower() not in (".png", ".jpg", ".jpeg", ".webp"):
        raise UsageError(f"--out {options.out} must end in .png, .jpg or .webp")
    if options.enlarge is not None and options.stages is not None:
        raise UsageError("--enlarge takes the place of drawing; leave out --stages")
    instruction = _read_instruction(options)
    pipeline = load_pipeline(options)
    images = _enlarged(options, pipeline, instruction) if options.enlarge else _drawn(options, pipeline, instruction)
    images = [tile(image, options.size or max(256, image.width)) for image in images]
    if len(images) > 1:
        for number, image in enumerate(images):
            name = f"{options.out.stem}-{number}{options.out.suffix}"
            write_atomically(options.out.with_name(name), image.save)
    write_atomically(options.out, image_grid(images).save)
    print(options.out)


def _drawn(options: argparse.Namespace, pipeline, instruction) -> list:
    """Pictures of an instruction."""
    from .guidance import OscillatingGuidance
    from .model_folders import DEFAULT_STEPS, PAPER_STEPS

    guidance, steps = None, options.steps
    if options.sampler == "fast":
        pipeline.use_fast_sampler()
        steps = options.steps or DEFAULT_STEPS
    if options.sampler == "paper":
        pipeline.use_paper_sampler()
        scale = {} if options.guidance is None else {"text": options.guidance}
        guidance, steps = OscillatingGuidance(**scale, image=options.image_guidance), options.steps or PAPER_STEPS
    return pipeline(
        instruction,
        num_inference_steps=steps,
        guidance_scale=options.guidance,
        image_guidance_scale=options.image_guidance,
        guidance=guidance,
        num_images_per_prompt=options.num_images,
        generator=_generators(options),
        stages=options.stages,
        super_resolution_options=_super_resolution_options(options),
    ).images


def _enlarged(options: argparse.Namespace, pipeline, instruction) -> list:
    """A given picture, enlarged as often as pictures are asked for."""
    from .pictures import load_image

    return pipeline.super_resolve(
        [load_image(options.enlarge)] * options.num_images,
        [instruction] * options.num_images,
        _super_resolution_options(options),
        generator=_generators(options),
    ).images


def _generators(options: argparse.Namespace) -> list:
    import torch

    return [torch.Generator().manual_seed(options.seed + i) for i in range(options.num_images)]


def _super_resolution_options(options: argparse.Namespace):
    from .super_resolution import SuperResolutionOptions

    return SuperResolutionOptions(options.sr_steps, noise_level=options.noise_level)


def _demo(options: argparse.Namespace) -> None:
    from .demo import run_demo

    pipeline = load_pipeline(options)
    pipeline.set_progress_bar_config(disable=True)  # one bar for all instructions instead of two for each
    result = run_demo(pipeline, options.out, options.steps, options.pack, options.stages, progress=not options.quiet)
    print(f"{result.sheet}: {result.num_images} pictures, {result.seconds_per_image:.2f} s each")


if __name__ == "__main__":
    sys.exit(main())
