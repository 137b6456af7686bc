"""The bodies of requests and answers, as the OpenAPI document shows them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

from ..instruction import MAX_REFERENCE_TEXT_CHARS, MAX_REFERENCES, MAX_TEXT_CHARS

PictureForm = Literal["png", "jpeg", "webp"]
Seed = Annotated[int, Field(ge=0, lt=2**63 - 1024)]  # picture i uses seed + i
_Ignored = Annotated[str | None, Field(max_length=1_000, description="Accepted for OpenAI's clients; changes nothing.")]


class DrawingOptions(BaseModel):
    """What every request may choose; the server's own limits may be lower (docs/serving.md)."""

    model_config = ConfigDict(extra="forbid")

    n: int | None = Field(1, ge=1, le=64, description="Pictures; picture i uses seed + i.")
    size: str | None = Field(None, max_length=20, description="'256x256' and the like, square, or 'auto'.")
    seed: Seed | None = Field(None, description="Of the first picture; drawn by chance where none is given.")
    num_inference_steps: int | None = Field(None, ge=1, le=1000)
    guidance_scale: FiniteFloat | None = Field(None, ge=0, le=1000)
    image_guidance_scale: FiniteFloat | None = Field(None, ge=0, le=1000)
    output_format: PictureForm | None = None


class GenerationBody(DrawingOptions):
    """OpenAI's image generation, with this project's own extras."""

    prompt: str = Field(max_length=100_000)
    model: str | None = Field(None, max_length=200)
    response_format: Literal["b64_json", "url"] | None = None
    stream: bool | None = None
    partial_images: int | None = Field(None, ge=0, le=3)
    background: Literal["auto", "opaque"] | None = None
    quality: _Ignored = None
    style: _Ignored = None
    moderation: _Ignored = None
    user: _Ignored = None
    safety_identifier: _Ignored = None
    output_compression: int | None = Field(None, ge=0, le=100, description="Accepted; changes nothing.")


class ImageUrl(BaseModel):
    """A picture as a data URL, or as a web address where the server allows it."""

    model_config = ConfigDict(extra="forbid")
    image_url: str


class EditFields(GenerationBody):
    """The fields of an edit beside its pictures."""

    input_fidelity: _Ignored = None
    reference_texts: list[Annotated[str, Field(max_length=MAX_REFERENCE_TEXT_CHARS)]] | None = Field(
        None, max_length=MAX_REFERENCES, description="Short texts of the pictures, in their order, such as 'fox'."
    )


class EditBody(EditFields):
    """OpenAI's image edit as JSON; picture i is marker i."""

    images: list[ImageUrl] = Field(min_length=1, max_length=MAX_REFERENCES)
    mask: ImageUrl | None = Field(None, description="Transparent, or white without alpha, where to change.")


class ReferenceBody(BaseModel):
    """One reference of an instruction."""

    model_config = ConfigDict(extra="forbid")
    marker: int = Field(ge=1, le=9)
    text: str = Field("", max_length=MAX_REFERENCE_TEXT_CHARS)
    image: str = Field(description="A data URL, or the name of the part that holds the picture in a multipart body.")


class InstructBody(DrawingOptions):
    """An instruction with references, as docs/instruction-format.md has it."""

    instruction: str = Field(max_length=MAX_TEXT_CHARS)
    references: list[ReferenceBody] = Field(default_factory=list, max_length=MAX_REFERENCES)
    stream: bool = Field(False, description="Answer with server-sent events: accepted, progress, picture, done.")
    preview_every: int = Field(0, ge=0, le=1000, description="Every so many steps, progress holds a preview; 0: never.")


class PictureBody(BaseModel):
    """One finished picture, in one of two shapes, and the seed that draws it again."""

    b64_json: str | None = None
    url: str | None = None
    seed: int


class ImagesAnswer(BaseModel):
    """Pictures, in the order of their seeds."""

    created: int
    data: list[PictureBody]
    output_format: PictureForm
    size: str


class InstructAnswer(ImagesAnswer):
    """Pictures of an instruction; `id` names the request in the log and for cancelling."""

    id: str


class ModelBody(BaseModel):
    """A model as OpenAI's clients list it."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str


class ModelList(BaseModel):
    """The models served: one, under its name and its aliases."""

    object: Literal["list"] = "list"
    data: list[ModelBody]
