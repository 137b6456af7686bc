"""The command line's studio: instruct-imagen studio."""

from __future__ import annotations

import argparse
from pathlib import Path

from .arguments import natural
from .cli_data import control_models


def add_studio(commands: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Adds `studio`."""
    command = commands.add_parser("studio", help="write instructions and watch them drawn, in a web page")
    command.add_argument(
        "--model", default="instruct-imagen-nano", metavar="NAME_OR_PATH", help="shipped model or folder (%(default)s)"
    )
    command.add_argument("--host", default="127.0.0.1", help="address to listen at (%(default)s: this machine alone)")
    command.add_argument("--port", type=natural, default=7860, metavar="N", help="0: a free one (%(default)s)")
    command.add_argument("--keep", type=Path, metavar="DIR", help="keep every drawing and the history here")
    command.add_argument("--pack", default="auto", help="glyph pack of the examples (%(default)s)")
    command.add_argument("--depth-model", metavar="FOLDER", help="a depth estimation model of transformers")
    command.add_argument("--mask-model", metavar="FOLDER", help="a segmentation model of transformers (GrabCut)")
    command.add_argument("--edge-model", type=Path, metavar="FILE", help="an edge detector in ONNX, as DexiNed (Canny)")
    command.set_defaults(run=_studio, download=False)
    return command


def _studio(options: argparse.Namespace) -> None:
    from .pipeline import InstructImagenPipeline, hide_loading_bars
    from .studio.drawing import PipelinePainter
    from .studio.pictures import StudioError
    from .studio.server import serve_studio

    for option in ("depth_model", "mask_model"):
        folder = getattr(options, option)
        if folder is not None and not Path(folder).is_dir():
            raise StudioError(f"There is no folder {folder!r}; --{option.replace('_', '-')} takes a model's folder.")
    hide_loading_bars()
    pipeline = InstructImagenPipeline.from_pretrained(options.model)
    pipeline.set_progress_bar_config(disable=True)
    painter = PipelinePainter(pipeline, Path(options.model).name)
    serve_studio(painter, options.host, options.port, control_models(options), options.pack, options.keep)
