"""How a server is set up: what it serves, to whom, and within which limits."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from ..errors import UserError
from ..metadata import title_with
from .keys import ApiKeys

MEBIBYTE = 1024**2


class ServerError(UserError):
    """A server that cannot be set up in this way."""


@dataclass(frozen=True)
class Limits:
    """What one request, one key and the whole server may take.

    Attributes:
        body_bytes: of one request, all pictures included.
        body_seconds: for a body to arrive.
        picture_pixels: of one reference or mask, as its file says it.
        num_images, num_steps: of one request.
        size_px: side of the pictures handed out.
        output_pixels: of all pictures of one request together.
        guidance: largest guidance scale.
        num_running, num_waiting: pictures in the batch, and pictures that wait for a place in it.
        num_open: requests that are open at once.
        pictures_per_minute: of one key, or of one address where there are no keys; None: any number.
    """

    body_bytes: int = 32 * MEBIBYTE
    body_seconds: float = 30.0
    picture_pixels: int = 25_000_000
    num_images: int = 8
    num_steps: int = 256
    size_px: int = 1024
    output_pixels: int = 4 * 1024 * 1024
    guidance: float = 50.0
    num_running: int = 16
    num_waiting: int = 64
    num_open: int = 256
    pictures_per_minute: float | None = None


@dataclass(frozen=True)
class ServerSettings:
    """One server.

    Attributes:
        model: shipped model or folder.
        adapters: of LoRA, by name or folder, and how strongly each acts.
        model_name: as clients call it; the model's own name where None.
        aliases: other names that clients may use for it, such as "dall-e-2".
        limits: see `Limits`.
        keys: who may use it; without keys, everybody who reaches the port.
        default_steps, default_guidance, default_image_guidance: where a request names none.
        default_size_px: where a request names none.
        exact: one network call per picture and step, for the same bits in any company; slower.
        picture_folder: where pictures lie that are asked for by URL; without it none are given out.
        picture_seconds: how long they are kept.
        public_url: beginning of their URLs; without it, what the request names as host.
        allow_url_references: fetch references from http(s) URLs, never from private addresses.
        watermark: what the invisible watermark says; None: no watermark.
        log_instructions: write instructions into the log.
        grace_seconds: time to finish what was accepted when the server is told to stop.
    """

    model: str = "instruct-imagen-nano"
    adapters: tuple[tuple[str, float], ...] = ()
    model_name: str | None = None
    aliases: tuple[str, ...] = ()
    limits: Limits = field(default_factory=Limits)
    keys: ApiKeys = field(default_factory=ApiKeys)
    default_steps: int = 24
    default_guidance: float = 3.0
    default_image_guidance: float | None = None
    default_size_px: int = 256
    exact: bool = False
    picture_folder: Path | None = None
    picture_seconds: float = 3600.0
    public_url: str | None = None
    allow_url_references: bool = False
    watermark: str | None = None
    log_instructions: bool = False
    grace_seconds: float = 120.0

    @property
    def name(self) -> str:
        """The model as clients call it."""
        return self.model_name or Path(self.model).name

    @property
    def made_with(self) -> str:
        """The model as pictures call it, with its adapters."""
        return title_with(self.name, self.adapters)
