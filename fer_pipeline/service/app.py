"""The service as an ASGI application: its routes, and the answers to what it refuses.

How it is started stands in `serve_command.py`.
"""

import asyncio
import functools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, StreamingResponse

from fer_pipeline import __version__
from fer_pipeline.core.bounds import TooLargeError, UnreadableError
from fer_pipeline.core.recogniser import Recogniser
from fer_pipeline.service.about import About, starter_model
from fer_pipeline.service.access import OwnBrowsers, token_check
from fer_pipeline.service.bodies import Asked, Switch, asked_of, boxes_of, read_body, sentence
from fer_pipeline.service.browser import page_routes
from fer_pipeline.service.limits import Limits
from fer_pipeline.service.live import live_routes
from fer_pipeline.service.metrics import CONTENT_TYPE, CountRequests, Metrics
from fer_pipeline.service.request_log import LogRequests
from fer_pipeline.service.room import FullError, Place, Room
from fer_pipeline.service.schemas import (
    HealthAnswer,
    JsonPicture,
    ModelAnswer,
    PictureAnswer,
    Problem,
)
from fer_pipeline.service.videos import LINES, video_routes
from fer_pipeline.service.work import Work

_RETRY = {"Retry-After": "1"}
_LONGEST = 200
_PROBLEMS = {
    400: "The body is damaged, the Host is none of this service's names, or a page of another site "
    "asks.",
    401: "The token is missing or wrong.",
    408: "The body didn't come in time.",
    413: "The body is too large, or the picture has too many pixels.",
    415: "The body is of no kind that is taken.",
    422: "What was sent is no picture, or a value is wrong.",
    503: "Too many requests are under way, or the picture wasn't read in time: ask again later.",
    507: "There is no disk space for the video.",
}
_PICTURE = {"schema": {"type": "string", "format": "binary"}}
_JSON_PICTURE = JsonPicture.model_json_schema()
_BOXES = _JSON_PICTURE["properties"]["boxes"]["anyOf"][0]
_FORM = {
    "type": "object",
    "properties": {
        "image": {"type": "string", "format": "binary", "description": "A picture's bytes."},
        "boxes": _BOXES,
        "whole": {"type": "boolean"},
        "small": {"type": "boolean"},
    },
    "required": ["image"],
    "additionalProperties": False,
}
_BODY = {
    "required": True,
    "description": "A picture (JPEG, PNG, WebP, ...): its bytes, in a form, or in JSON. What form "
    "or JSON say goes before the query.",
    "content": {
        "image/*": _PICTURE,
        "application/octet-stream": _PICTURE,
        "multipart/form-data": {
            "schema": _FORM,
            "encoding": {"boxes": {"contentType": "application/json"}},
        },
        "application/json": {"schema": _JSON_PICTURE},
    },
}


def create_app(
    recogniser: Recogniser,
    limits: Limits | None = None,
    token: str | None = None,
    *,
    about: About | None = None,
    hosts: frozenset[str] | None = None,
    threads: int | None = None,
) -> FastAPI:
    """The service of one model, as an ASGI application.

    `token`, where there is one, must be sent with everything but /health, /openapi.json and the
    files of the page.
    `hosts` are the names that it answers to, None: any. `about` says what the model is called,
    None: the starter. `threads` decode and crop, None: one for each core.
    """
    limits, about = limits or Limits(), about or starter_model()
    room = Room(limits)
    metrics = Metrics(lambda: room.requests)
    app = FastAPI(
        title="fer_pipeline",
        version=__version__,
        description="Faces in pictures and their expressions. An expression is not an emotion.",
        lifespan=_lifespan(recogniser, limits, metrics, threads),
        docs_url=None,
        redoc_url=None,
    )
    guard = [] if token is None else [Depends(token_check(token))]
    refusals = _problems(400, *(() if token is None else (401,)))

    @app.post(
        "/recognise",
        dependencies=guard,
        responses=refusals | _problems(408, 413, 415, 422, 503),
        openapi_extra={"requestBody": _BODY},
    )
    async def recognise(
        request: Request,
        boxes: Annotated[
            str | None,
            Query(
                description="Faces to read, as JSON: [[x, y, width, height], ...].",
                json_schema_extra={"contentMediaType": "application/json", "contentSchema": _BOXES},
            ),
        ] = None,
        whole: Annotated[
            Switch | None, Query(description="Whether the picture itself is one face.")
        ] = None,
        small: Annotated[Switch, Query(description="Look for small faces too.")] = True,
    ) -> PictureAnswer:
        """Find the faces of a picture and tell their expressions."""
        known = None if boxes is None else boxes_of(boxes)
        asked = Asked(boxes=known, whole=whole, small=small)
        work: Callable[[], Asked] | None = None
        with _entered(room, metrics) as place:
            try:
                async with asyncio.timeout(limits.seconds):
                    body = await _body(request, limits, place, metrics)
                    kind = request.headers.get("content-type", "")
                    work = functools.partial(asked_of, kind, body, asked, limits)
                    del body
                    found = await app.state.work.read(work, place)
            except TimeoutError as error:
                metrics.timed_out.inc()
                raise _too_late(limits, read=work is not None) from error
            except TooLargeError as error:
                raise HTTPException(413, f"{error}") from error
            except UnreadableError as error:
                reason = f"{error}"[:_LONGEST]
                raise HTTPException(422, f"the picture can't be read: {reason}") from error
        return PictureAnswer.of(found.reading, found.left_out, about.name)

    @app.get("/model", dependencies=guard, responses=refusals)
    async def model() -> ModelAnswer:
        """What the model is, and what it must not be taken for."""
        return about.answer(recogniser.card)

    @app.get("/health", responses=_problems(400) | {503: {"model": HealthAnswer}})
    async def health(response: Response) -> HealthAnswer:
        """Whether requests are answered."""
        ready = app.state.work.ready
        response.status_code = 200 if ready else 503
        return HealthAnswer(ready=ready)

    @app.get(
        "/metrics",
        dependencies=guard,
        response_class=Response,
        responses=refusals | {200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
    )
    async def numbers() -> Response:
        """What was counted, in Prometheus' text format."""
        return Response(metrics.text(), media_type=CONTENT_TYPE)

    app.include_router(page_routes())
    app.include_router(live_routes(room, token, limits))
    videos = {"dependencies": guard, "response_class": StreamingResponse}
    refused = _problems(408, 413, 415, 422, 503, 507)
    app.include_router(
        video_routes(limits, videos | {"responses": refusals | refused | {200: LINES}})
    )
    app.add_exception_handler(RequestValidationError, _wrong_value)
    app.add_middleware(OwnBrowsers, names=hosts)
    app.add_middleware(CountRequests, metrics=metrics)
    app.add_middleware(LogRequests)
    return app


def _lifespan(recogniser: Recogniser, limits: Limits, metrics: Metrics, threads: int | None) -> Any:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.work = work = Work(recogniser, limits, metrics, threads)
        try:
            yield
        finally:
            await asyncio.to_thread(work.close)

    return lifespan


def _entered(room: Room, metrics: Metrics) -> Place:
    try:
        return room.enter()
    except FullError as error:
        metrics.refused.inc()
        raise HTTPException(503, f"{error}: ask again later", _RETRY) from error


async def _body(request: Request, limits: Limits, place: Place, metrics: Metrics) -> bytes:
    try:
        return await read_body(request, limits, place)
    except FullError as error:
        metrics.refused.inc()
        raise HTTPException(503, f"{error}: ask again later", _RETRY) from error


def _too_late(limits: Limits, *, read: bool) -> HTTPException:
    if read:
        return HTTPException(503, f"not answered in {limits.seconds:g} seconds", _RETRY)
    # Whoever sends so slowly isn't waited for any longer.
    return HTTPException(
        408, f"the body didn't come in {limits.seconds:g} seconds", {"Connection": "close"}
    )


def _problems(*codes: int) -> dict[int | str, dict[str, Any]]:
    return {code: {"model": Problem, "description": _PROBLEMS[code]} for code in codes}


async def _wrong_value(_: Request, error: Exception) -> JSONResponse:
    problems = error.errors() if isinstance(error, RequestValidationError) else ()
    return JSONResponse({"detail": "; ".join(map(sentence, problems))}, 422)
