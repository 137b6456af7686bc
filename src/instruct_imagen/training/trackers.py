"""Where a run is watched: TensorBoard, or Weights & Biases by option. Losses, speed, and grids of samples."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import Accelerator
from PIL import Image

from ..extras import require

PROJECT = "instruct-imagen"


def check_tracker(name: str) -> None:
    """Refuses a tracker whose library is missing, which accelerate passes over.

    Raises:
        UserError: it is not installed; the sentence names the extra.
    """
    if name == "wandb":
        require("wandb", "wandb", "The tracker wandb")


def start_tracker(accelerator: Accelerator, name: str, out: Path, settings: Mapping[str, Any]) -> None:
    """Opens the tracker of a run: `OUT/logs` for TensorBoard; for Weights & Biases a run named after the folder.

    Args:
        accelerator: made with `log_with=name`.
        name: of the tracker.
        out: the run's folder.
        settings: shown with the run, by trackers that can.
    """
    if name == "wandb":
        options = {"wandb": {"name": out.name, "dir": str(out), "resume": "allow", "id": _run_id(out)}}
        accelerator.init_trackers(PROJECT, config=dict(settings), init_kwargs=options)
    else:
        accelerator.init_trackers("logs")


def _run_id(out: Path) -> str:
    """The same for a run that is resumed in its folder, another elsewhere."""
    return hashlib.blake2b(str(out.resolve()).encode(), digest_size=8).hexdigest()


def show_picture(accelerator: Accelerator, name: str, picture: Image.Image, step: int) -> None:
    """Shows a picture at a step; only the main process does."""
    for tracker in accelerator.trackers:
        if tracker.name == "tensorboard":
            tracker.writer.add_image(name, np.asarray(picture.convert("RGB")), step, dataformats="HWC")
        else:
            tracker.log_images({name: [picture]}, step=step)
