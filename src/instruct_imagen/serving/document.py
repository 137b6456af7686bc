"""The OpenAPI document, for bodies that come as JSON or as a form and are read by hand."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel

from .bodies import EditBody, GenerationBody, InstructBody
from .errors import ErrorAnswer

_REFERENCE = "#/components/schemas/{model}"
_PARTS: dict[str, dict[str, Any]] = {
    "file": {"type": "string", "format": "binary"},
    "files": {"type": "array", "minItems": 1, "items": {"type": "string", "format": "binary"}},
    "json": {"type": "string", "description": "The same JSON that is taken as a body of its own."},
}
ERRORS: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": ErrorAnswer, "description": "What to mend, in a sentence"},
    "5XX": {"model": ErrorAnswer, "description": "A fault of the server, or it is stopping"},
}
STREAM: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}},
}


def body_of(model: type[BaseModel], form: dict[str, Any] | None = None) -> dict[str, Any]:
    """A body that is JSON, or also a form."""
    content = {"application/json": {"schema": {"$ref": _REFERENCE.format(model=model.__name__)}}}
    if form is not None:
        content["multipart/form-data"] = {"schema": form}
    return {"requestBody": {"required": True, "content": content}}


def form_of(fields: type[BaseModel] | None, parts: dict[str, str]) -> dict[str, Any]:
    """A form of a model's fields and of parts, each a `file`, `files` or `json`; without a model, also of any files.

    The first part is required.
    """
    schema: dict[str, Any] = {"type": "object", "properties": {}, "required": []}
    if fields is not None:
        described = fields.model_json_schema(ref_template=_REFERENCE)
        schema |= {key: described[key] for key in ("properties", "required", "additionalProperties")}
    else:
        schema["additionalProperties"] = _PARTS["file"]
    schema["properties"] = schema["properties"] | {name: _PARTS[kind] for name, kind in parts.items()}
    schema["required"] = [*schema["required"], next(iter(parts))]
    return schema


def describe(app: FastAPI) -> None:
    """Makes `app.openapi` include the bodies."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = get_openapi(
                title=app.title, version=app.version, description=app.description, routes=app.routes
            )
            schemas = app.openapi_schema.setdefault("components", {}).setdefault("schemas", {})
            for model in (GenerationBody, EditBody, InstructBody):
                schema = model.model_json_schema(ref_template=_REFERENCE)
                schemas |= schema.pop("$defs", {}) | {model.__name__: schema}
            keys = app.openapi_schema["components"].setdefault("securitySchemes", {})
            keys["key"] = {"type": "http", "scheme": "bearer"}
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]
