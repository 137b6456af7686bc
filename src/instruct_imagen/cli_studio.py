"""The command line's studio: instruct-imagen studio."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from .arguments import natural
from .cli_data import add_control_models, control_models


def add_studio(
    commands: argparse._SubParsersAction, add_model_options: Callable[[argparse.ArgumentParser], None]
) -> argparse.ArgumentParser:
    """Adds `studio`."""
    command = commands.add_parser("studio", help="write instructions and watch them drawn, in a web page")
    command.add_argument("--host", default="127.0.0.1", help="address to listen at (%(default)s: this machine alone)")
    command.add_argument("--port", type=natural, default=7860, metavar="N", help="0: a free one (%(default)s)")
    command.add_argument("--keep", type=Path, metavar="DIR", help="keep every drawing and the history here")
    command.add_argument("--pack", default="auto", help="glyph pack of the examples (%(default)s)")
    add_control_models(command)
    add_model_options(command)
    command.set_defaults(run=_studio, download=False)
    return command


def _studio(options: argparse.Namespace) -> None:
    from .cli import load_pipeline
    from .metadata import title_with
    from .studio.drawing import PipelinePainter
    from .studio.pictures import StudioError
    from .studio.server import serve_studio

    for option in ("depth", "mask", "edge"):  # before somebody waits for them
        path = getattr(options, f"{option}_model")
        if path is not None and not Path(path).exists():
            raise StudioError(f"There is nothing at '{path}'; --{option}-model names a model on this machine.")
    pipeline = load_pipeline(options)
    pipeline.set_progress_bar_config(disable=True)
    title = title_with(Path(options.model).name, options.lora)
    painter = PipelinePainter(pipeline, title, options.steps, options.stages)
    serve_studio(painter, options.host, options.port, control_models(options), options.pack, options.keep)
