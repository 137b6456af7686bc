"""instruct-imagen import: pretrained diffusers pipelines as models of this project."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from .arguments import DTYPES
from .errors import UserError

logger = logging.getLogger(__name__)


class ImportUsageError(UserError):
    """Options of `import` that do not fit together."""


def add_import(commands: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Adds `import`."""
    command = commands.add_parser("import", help="take over a pretrained pipeline of diffusers")
    command.add_argument(
        "source", nargs="?", metavar="SOURCE", help="folder of an IFPipeline or a StableDiffusionPipeline"
    )
    command.add_argument("--out", type=Path, metavar="DIR", help="the model is written here")
    command.add_argument("--super-resolution", metavar="SOURCE2", help="folder of an IFSuperResolutionPipeline")
    command.add_argument("--download", action="store_true", help="sources may be names on the hub, and are fetched")
    command.add_argument("--variant", metavar="NAME", help="of the weights, such as fp16 (the full ones)")
    command.add_argument("--dtype", choices=DTYPES, help="to store the weights in (as they are stored in SOURCE)")
    command.add_argument(
        "--estimate",
        action="store_true",
        help="import nothing; print parameters and memory of SOURCE, or without one of the known models",
    )
    command.set_defaults(run=_import)
    return command


def _import(options: argparse.Namespace) -> None:
    if options.source is None and not options.estimate:
        raise ImportUsageError("name the folder of a pipeline, or add --estimate for a table of known models")
    if options.estimate:
        _estimate(options)
    elif options.out is None:
        raise ImportUsageError("--out DIR is missing; the model is written there")
    else:
        _take_over(options)


def _estimate(options: argparse.Namespace) -> None:
    from .backbones.catalogue import KNOWN_MODELS, model_in
    from .backbones.source import find_source
    from .backbones.table import table_lines

    models = KNOWN_MODELS
    if options.source is not None:
        models = {options.source: model_in(find_source(options.source, options.download, options.variant))}
    for line in table_lines(models):
        print(line, flush=True)


def _take_over(options: argparse.Namespace) -> None:
    from .backbones.importer import import_pipeline, model_card, save_import
    from .backbones.source import find_source
    from .files import check_destination
    from .model_folders import hide_loading_bars

    check_destination(options.out)
    source = find_source(options.source, options.download, options.variant)
    second = None
    if options.super_resolution is not None:
        second = find_source(options.super_resolution, options.download, options.variant, super_resolution=True)
    hide_loading_bars()
    import torch

    dtype = None if options.dtype is None else getattr(torch, options.dtype)
    pipeline = import_pipeline(source, second, dtype, options.variant)
    card = model_card(pipeline, source, second)
    save_import(pipeline, options.out, card)
    logger.info("%s", card.strip())
    print(options.out)
