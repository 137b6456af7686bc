"""The web server of a study: one page, a few JSON calls, and pictures under random names.

    GET    /                      the page; everything it needs is served from here
    POST   /api/session           {"token"} -> a cookie
    DELETE /api/session           signs out
    GET    /api/state             where the rater stands, and the picture to rate
    POST   /api/ratings           {"picture", "sc", "pq", "seconds"} -> the state after it
    POST   /api/undo              {"picture"}: takes the latest rating back -> the state after it
    GET    /pictures/ID           a picture of an instruction that this rater was given
    POST   /api/results/METHOD    a zip archive of a method's pictures, with an uploader's token
    GET    /healthz               whether the database answers

What is refused is answered with {"error": sentence}.
"""

from __future__ import annotations

import os
import tempfile
import threading
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import sqlalchemy as sa
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.types import ASGIApp

from ..errors import UserError
from . import schema
from .database import Database, open_database
from .desk import Answer, NotAssignedError, RatingDesk
from .protection import AttemptLimiter, BodyTooLongError, Protection
from .raters import MAX_TOKEN_CHARS, Visitor, check_session, check_token, sign_in, sign_out
from .results import MethodResults, ZipResults
from .study import add_methods

COOKIE = "rating_session"
RESULTS_PATH = "/api/results/"
MAX_UPLOAD_BYTES = 2 * 2**30
_STATIC = Path(__file__).with_name("static")
_PAGES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/static/rating.css": ("rating.css", "text/css; charset=utf-8"),
    "/static/rating.js": ("rating.js", "text/javascript; charset=utf-8"),
    "/static/view.js": ("view.js", "text/javascript; charset=utf-8"),
    "/static/icon.svg": ("icon.svg", "image/svg+xml"),
}

router = APIRouter()


@dataclass(frozen=True)
class _Services:
    """What requests share."""

    database: Database
    desk: RatingDesk
    sign_ins: AttemptLimiter = field(default_factory=AttemptLimiter)
    upload: threading.Lock = field(default_factory=threading.Lock)


PictureId = Field(max_length=64, pattern=r"^[A-Za-z0-9_-]+$")


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class SignInBody(_Body):
    """Body of POST /api/session."""

    token: str = Field(max_length=MAX_TOKEN_CHARS)


class RatingBody(_Body):
    """Body of POST /api/ratings."""

    picture: str = PictureId
    sc: float
    pq: float
    seconds: float | None = None


class UndoBody(_Body):
    """Body of POST /api/undo."""

    picture: str = PictureId


def create_app(study: str | Database) -> ASGIApp:
    """The application for one study.

    Args:
        study: its database, or the name of it.

    Raises:
        RatingError: there is no such study.
    """
    database = open_database(study) if isinstance(study, str) else study
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    app.state.services = _Services(database, RatingDesk(database))
    app.include_router(router)
    for path, (name, kind) in _PAGES.items():
        app.add_api_route(path, _page(name, kind), methods=["GET", "HEAD"])
    app.add_exception_handler(UserError, _user_error)
    app.add_exception_handler(StarletteHTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _malformed)
    app.add_exception_handler(BodyTooLongError, _too_long)
    app.add_exception_handler(SQLAlchemyError, _unreachable)
    return Protection(app, {RESULTS_PATH: MAX_UPLOAD_BYTES})


def _services(request: Request) -> _Services:
    services: _Services = request.app.state.services
    return services


def _signed_in(request: Request) -> Visitor:
    visitor = check_session(_services(request).database, request.cookies.get(COOKIE, ""))
    if visitor is None:
        raise HTTPException(401, "You are signed out; open your link again.")
    return visitor


def _checked_address(request: Request) -> str:
    """The client's address, if it may try a token now."""
    address = request.client.host if request.client else ""
    if wait := _services(request).sign_ins.wait_seconds(address):
        sentence = "Too many attempts with a wrong link; wait some minutes and try again."
        raise HTTPException(429, sentence, {"Retry-After": str(wait)})
    return address


def _uploader(request: Request) -> Visitor:
    address, services = _checked_address(request), _services(request)
    kind, _, token = request.headers.get("authorization", "").partition(" ")
    visitor = check_token(services.database, token, "uploader") if kind.lower() == "bearer" else None
    if visitor is None:
        services.sign_ins.failed(address)
        raise HTTPException(401, "Send an uploader's token as Authorization: Bearer TOKEN.")
    return visitor


Rater = Annotated[Visitor, Depends(_signed_in)]


@router.post("/api/session")
def begin_session(body: SignInBody, request: Request) -> Response:
    """Signs in."""
    address, services = _checked_address(request), _services(request)
    session = sign_in(services.database, body.token)
    if session is None:
        services.sign_ins.failed(address)
        raise HTTPException(401, "This link is not valid, or not any more; ask for a new one.")
    answer = Response(status_code=204)
    secure = request.url.scheme == "https"
    answer.set_cookie(COOKIE, session.cookie, max_age=session.seconds, httponly=True, samesite="strict", secure=secure)
    return answer


@router.delete("/api/session")
def end_session(request: Request) -> Response:
    """Signs out."""
    sign_out(_services(request).database, request.cookies.get(COOKIE, ""))
    answer = Response(status_code=204)
    answer.delete_cookie(COOKIE)
    return answer


@router.get("/api/state")
def get_state(rater: Rater, request: Request) -> dict[str, Any]:
    """Where the rater stands."""
    return asdict(_services(request).desk.state(rater.id))


@router.post("/api/ratings")
def post_rating(body: RatingBody, rater: Rater, request: Request) -> dict[str, Any]:
    """Saves a rating."""
    return asdict(_services(request).desk.submit(rater.id, body.picture, Answer(body.sc, body.pq), body.seconds))


@router.post("/api/undo")
def post_undo(body: UndoBody, rater: Rater, request: Request) -> dict[str, Any]:
    """Takes the latest rating back."""
    return asdict(_services(request).desk.undo(rater.id, body.picture))


@router.get("/pictures/{picture}")
def get_picture(picture: str, rater: Rater, request: Request) -> Response:
    """A picture that this rater was given."""
    png = _services(request).desk.picture(rater.id, picture[:64])
    if png is None:
        raise HTTPException(404, "There is no such picture.")
    # No date and no tag: what was stored one method after the other would tell the method by them.
    return Response(png, media_type="image/png", headers={"cache-control": "private, max-age=86400, immutable"})


@router.post(RESULTS_PATH + "{method}", dependencies=[Depends(_uploader)])
async def post_results(method: str, request: Request) -> dict[str, int]:
    """Adds a method from a zip archive; one upload at a time."""
    services = _services(request)
    if not services.upload.acquire(blocking=False):
        raise HTTPException(429, "Another upload is being checked; try again in a minute.", {"Retry-After": "60"})
    try:
        descriptor, path = tempfile.mkstemp(suffix=".zip", prefix="rating-")
        try:
            with os.fdopen(descriptor, "wb") as file:
                async for chunk in request.stream():
                    await run_in_threadpool(file.write, chunk)
            return await run_in_threadpool(_add_archive, services.database, method, Path(path))
        finally:
            os.unlink(path)
    finally:
        services.upload.release()


@router.get("/healthz")
def get_health(request: Request) -> dict[str, str]:
    """Whether the database answers."""
    with _services(request).database.reading() as connection:
        connection.execute(sa.select(schema.study.c.id))
    return {"status": "ok"}


def _add_archive(database: Database, method: str, path: Path) -> dict[str, int]:
    return asdict(add_methods(database, [MethodResults(method, ZipResults(path, "the archive"))]))


def _page(name: str, kind: str) -> Any:
    content = (_STATIC / name).read_bytes()

    def page() -> Response:
        return Response(content, media_type=kind, headers={"cache-control": "no-cache"})

    return page


def _error(status: int, sentence: str, headers: Any = None) -> JSONResponse:
    return JSONResponse({"error": sentence}, status, headers)


def _user_error(request: Request, error: Exception) -> Response:
    return _error(409 if isinstance(error, NotAssignedError) else 400, str(error))


def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, StarletteHTTPException)
    return _error(error.status_code, str(error.detail), error.headers)


def _malformed(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"][1:]) or "the body"
    return _error(422, f"{place}: {first['msg']}.")


def _too_long(request: Request, error: Exception) -> Response:
    return _error(413, "The request is longer than allowed.")


def _unreachable(request: Request, error: Exception) -> Response:
    return _error(503, "The database does not answer; nothing was saved, try again.")
