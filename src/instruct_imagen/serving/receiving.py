"""From a request's bytes to checked fields and files: JSON or multipart, within the limits of size and time."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from fastapi import Request
from pydantic import BaseModel
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException

from ..instruction import MAX_REFERENCES
from .errors import ApiError
from .settings import MEBIBYTE, Limits

Body = TypeVar("Body", bound=BaseModel)
_MAX_FIELDS = 64


@dataclass(frozen=True)
class Received:
    """A body.

    Attributes:
        fields: of the JSON object, or of the form: text, or a list where a name ends in [] or stands several times.
        files: (name, content) of a form's files, in the order in which they came.
        is_form: whether it was multipart, in which every field is text.
    """

    fields: Mapping[str, Any]
    files: tuple[tuple[str, bytes], ...] = ()
    is_form: bool = field(default=False)

    def validate(self, model: type[Body], fields: Mapping[str, Any] | None = None) -> Body:
        """The fields as `model` has them; JSON must have the right types, a form's texts are read as numbers."""
        return model.model_validate(dict(self.fields if fields is None else fields), strict=not self.is_form)


async def receive(request: Request, limits: Limits, forms: bool) -> Received:
    """Reads a body.

    Args:
        request: as it came.
        limits: of size and time.
        forms: whether multipart is understood here.

    Raises:
        ApiError: too large, too slow, of a kind that is not read here, or damaged.
    """
    kind = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if kind != "application/json" and not (forms and kind == "multipart/form-data"):
        wanted = "application/json or multipart/form-data" if forms else "application/json"
        raise ApiError(415, f"The body must be {wanted}, not '{kind[:100]}'.", "unsupported_media_type")
    try:
        async with asyncio.timeout(limits.body_seconds):
            return await (_form(request, limits) if kind == "multipart/form-data" else _json(request))
    except TimeoutError as error:
        raise ApiError(408, f"The body did not arrive within {limits.body_seconds:g} s.", "timeout") from error


async def _json(request: Request) -> Received:
    body = await request.body()
    try:
        content = await asyncio.to_thread(json.loads, body, object_pairs_hook=_unique)
    except RecursionError as error:
        raise ApiError(400, "The body is nested too deeply.", "invalid_json") from error
    except ValueError as error:
        raise ApiError(400, f"The body is not valid JSON ({str(error)[:100]}).", "invalid_json") from error
    if not isinstance(content, dict):
        raise ApiError(400, "The body must be a JSON object.", "invalid_json")
    return Received(content)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) != len(pairs):
        raise ValueError("a key appears twice")
    return content


async def _form(request: Request, limits: Limits) -> Received:
    try:
        form = await request.form(
            max_files=MAX_REFERENCES + 2, max_fields=_MAX_FIELDS, max_part_size=min(limits.body_bytes, MEBIBYTE)
        )
    except HTTPException as error:  # starlette's word for every fault of a form
        raise ApiError(400, f"The form cannot be read ({error.detail}).", "invalid_form") from error
    fields: dict[str, Any] = {}
    files = []
    for name, value in form.multi_items():
        if isinstance(value, UploadFile):
            files.append((name, await value.read()))
        elif name.endswith("[]"):
            fields.setdefault(name[:-2], []).append(value)
        elif name in fields:
            raise ApiError(400, f"The field '{name[:100]}' stands twice in the form.", "invalid_form", name[:100])
        else:
            fields[name] = value
    await form.close()
    return Received(fields, tuple(files), is_form=True)


class BodyTooLarge(ApiError):
    """413."""

    def __init__(self, limit: int):
        super().__init__(413, f"The body is larger than {limit / MEBIBYTE:g} MiB; reduce the pictures.", "too_large")
