"""The command line's serving part: instruct-imagen serve."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from .arguments import add_adapters, natural, positive, positive_number

if TYPE_CHECKING:
    from .serving.keys import ApiKeys
    from .serving.settings import ServerSettings

KEYS_VARIABLE = "INSTRUCT_IMAGEN_API_KEYS"
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


def add_serve(commands: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Adds `serve`."""
    command = commands.add_parser("serve", help="serve a model over HTTP, as OpenAI's images API and its own")
    command.add_argument("--model", default="instruct-imagen-nano", metavar="NAME_OR_PATH", help="(%(default)s)")
    add_adapters(command)
    command.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    command.add_argument("--port", type=natural, default=8000, help="0: any that is free (%(default)s)")
    command.add_argument("--model-name", metavar="NAME", help="as clients call it (the model's own name)")
    command.add_argument("--alias", action="append", default=[], metavar="NAME", help="another name for it")
    command.add_argument(
        "--keys", type=Path, metavar="FILE", help=f"API keys, one a line ({KEYS_VARIABLE}, separated by commas)"
    )
    command.add_argument("--allow-anonymous", action="store_true", help="without keys, also beyond this machine")
    command.add_argument("--steps", type=positive, metavar="N", help="where none are asked (the model's own, 24)")
    command.add_argument("--size", type=positive, default=256, metavar="PX", help="where none is asked (%(default)s)")
    command.add_argument("--exact", action="store_true", help="the same bits in any company; slower")
    _add_limits(command)
    command.add_argument("--picture-dir", type=Path, metavar="DIR", help="hand out URLs, and keep their pictures here")
    command.add_argument("--public-url", metavar="URL", help="beginning of those URLs (what the request names)")
    command.add_argument("--allow-url-references", action="store_true", help="fetch references from the public web")
    command.add_argument("--watermark", metavar="TEXT", help="write it into the pixels, invisibly")
    command.add_argument("--log-instructions", action="store_true", help="write instructions into the log")
    command.add_argument(
        "--grace", type=positive_number, default=120.0, metavar="SECONDS", help="to finish when stopped (%(default)s)"
    )
    command.add_argument("--engine", choices=("local", "ray"), default="local", help="(%(default)s)")
    command.add_argument("--ray-address", metavar="HOST:PORT", help="a running Ray cluster, or auto (a new one here)")
    command.add_argument("--min-replicas", type=positive, default=1, metavar="N", help="of a Ray engine (%(default)s)")
    command.add_argument("--max-replicas", type=positive, default=4, metavar="N", help="of a Ray engine (%(default)s)")
    command.add_argument("--replica-cpus", type=positive_number, default=1.0, metavar="N", help="(%(default)s)")
    command.add_argument("--replica-gpus", type=natural, default=0, metavar="N", help="(%(default)s)")
    command.set_defaults(run=_serve)
    return command


def _add_limits(command: argparse.ArgumentParser) -> None:
    command.add_argument("--batch", type=positive, default=16, metavar="N", help="pictures in the batch (%(default)s)")
    command.add_argument("--queue", type=natural, default=64, metavar="N", help="pictures that wait (%(default)s)")
    command.add_argument("--max-images", type=positive, default=8, metavar="N", help="a request (%(default)s)")
    command.add_argument("--max-steps", type=positive, default=256, metavar="N", help="a picture (%(default)s)")
    command.add_argument("--max-size", type=positive, default=1024, metavar="PX", help="a side (%(default)s)")
    command.add_argument("--max-body", type=positive, default=32, metavar="MIB", help="of a request (%(default)s)")
    command.add_argument(
        "--max-megapixels", type=positive_number, default=25.0, metavar="N", help="of a reference (%(default)s)"
    )
    command.add_argument("--rate", type=positive_number, metavar="N", help="pictures a minute for each key (any)")


def _serve(options: argparse.Namespace) -> None:
    import logging

    from .serving.extras import require_serving
    from .serving.logs import use_json_logs

    require_serving(options.engine)
    settings = settings_of(options)
    use_json_logs(logging.WARNING if options.quiet else logging.INFO)
    if options.engine == "ray":
        from .serving.ray_serve import RayOptions, serve_on_ray

        serve_on_ray(
            settings,
            RayOptions(
                options.host,
                options.port,
                options.ray_address,
                options.min_replicas,
                options.max_replicas,
                options.replica_cpus,
                options.replica_gpus,
            ),
        )
        return
    from .listening import listen
    from .serving.server import serve

    with listen(options.host, options.port) as listening:
        serve(settings, listening)


def settings_of(options: argparse.Namespace) -> ServerSettings:
    """The server that the options describe.

    Raises:
        UserError: options that do not fit together.
    """
    from .model_folders import drawing_defaults
    from .serving.settings import MEBIBYTE, Limits, ServerError, ServerSettings

    keys = _keys(options)
    if not keys and options.host not in _LOOPBACK and not options.allow_anonymous:
        raise ServerError(f"--host {options.host} is open to others; give --keys FILE, or say --allow-anonymous")
    if options.queue < options.max_images:
        raise ServerError("--queue must be at least --max-images, or a large request would never be taken")
    if options.min_replicas > options.max_replicas:
        raise ServerError("--min-replicas must not be larger than --max-replicas")
    own = drawing_defaults(options.model, [name_or_path for name_or_path, _ in options.lora])
    steps = options.steps or own.steps
    if options.size > options.max_size or steps > options.max_steps:
        raise ServerError("--size and --steps must not be larger than --max-size and --max-steps")
    limits = Limits(
        body_bytes=options.max_body * MEBIBYTE,
        picture_pixels=round(options.max_megapixels * 1_000_000),
        num_images=options.max_images,
        num_steps=options.max_steps,
        size_px=options.max_size,
        num_running=options.batch,
        num_waiting=options.queue,
        pictures_per_minute=options.rate,
    )
    return ServerSettings(
        model=options.model,
        adapters=tuple(options.lora),
        model_name=options.model_name,
        aliases=tuple(options.alias),
        limits=limits,
        keys=keys,
        default_steps=steps,
        default_guidance=own.guidance,
        default_image_guidance=own.image_guidance,
        default_size_px=options.size,
        exact=options.exact,
        picture_folder=options.picture_dir,
        public_url=options.public_url,
        allow_url_references=options.allow_url_references,
        watermark=options.watermark,
        log_instructions=options.log_instructions,
        grace_seconds=options.grace,
    )


def _keys(options: argparse.Namespace) -> ApiKeys:
    from .serving.keys import ApiKeys

    if options.keys is not None:
        return ApiKeys.read(options.keys)
    variable = os.environ.get(KEYS_VARIABLE, "")
    return ApiKeys.of([key for key in variable.split(",") if key.strip()], KEYS_VARIABLE) if variable else ApiKeys()
