"""What a request asks: a picture and what is to be done with it, from a body of three kinds.

Everything that is wrong with it is an HTTPException with one sentence. Pictures aren't opened
here.
"""

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

from fastapi import HTTPException, Request
from pydantic import BeforeValidator, TypeAdapter, ValidationError
from python_multipart.multipart import parse_options_header
from starlette.requests import ClientDisconnect

from fer_pipeline.core.detect import Box
from fer_pipeline.service.limits import Limits
from fer_pipeline.service.multipart import parts_of
from fer_pipeline.service.room import Place
from fer_pipeline.service.schemas import GivenBox, JsonPicture

_BOXES: TypeAdapter[list[GivenBox]] = TypeAdapter(list[GivenBox])
_TRUTHS = {"true": True, "false": False}
_FIELDS = ("image", "boxes", "whole", "small")
_OTHER_COMMAS = 100
"""More than JSON has beside its boxes, also where somebody adds fields that aren't known."""
_RAW = ("application/octet-stream", "")


def _truth(value: Any) -> Any:
    """Only what OpenAPI calls a boolean: pydantic takes yes, on and 1 too."""
    if isinstance(value, bool):
        return value
    if value not in _TRUTHS:
        raise ValueError("give true or false")
    return _TRUTHS[value]


Switch = Annotated[bool, BeforeValidator(_truth)]


@dataclass(frozen=True)
class Asked:
    """A picture's bytes and what is asked of it, as `Recogniser.read` takes it."""

    image: bytes = b""
    boxes: Sequence[Box] | None = None
    whole: bool | None = None
    small: bool = True


async def read_body(request: Request, limits: Limits, place: Place) -> bytes:
    """The body; refused with 413 as soon as it is known to be too large."""
    declared = request.headers.get("content-length", "0")
    if declared.isdecimal() and int(declared) > limits.body_bytes:
        raise _too_large(limits)
    chunks, size = [], 0
    try:
        async for chunk in request.stream():
            size += len(chunk)
            if size > limits.body_bytes:
                raise _too_large(limits)
            place.hold(len(chunk))
            chunks.append(chunk)
    except ClientDisconnect as error:
        raise HTTPException(400, "the body ended before its end") from error
    return b"".join(chunks)


def asked_of(content_type: str, body: bytes, query: Asked, limits: Limits) -> Asked:
    """What a body asks; what it doesn't say is as the query says."""
    kind, options = _kind(content_type)
    if kind.startswith("image/") or kind in _RAW:
        asked = replace(query, image=body)
    elif kind == "multipart/form-data":
        parts = parts_of(body, options.get(b"boundary", b""), _FIELDS)
        _check_count(parts.get("boxes", b""), limits)
        asked = _of_parts(parts, query)
    elif kind == "application/json":
        _check_count(body, limits)
        asked = _of_json(body, query)
    else:
        raise HTTPException(
            415,
            f"can't take {kind[:80]!r}: send a picture as image/..., application/octet-stream, "
            "multipart/form-data or application/json",
        )
    if asked.boxes is not None and len(asked.boxes) > limits.faces:
        raise HTTPException(422, f"{len(asked.boxes):,} boxes, more than {limits.faces:,}")
    if not asked.image:
        raise HTTPException(422, "there is no picture: it has no bytes")
    return asked


def boxes_of(text: str) -> Sequence[Box]:
    """Boxes that stand in a query or a form as JSON."""
    try:
        return _BOXES.validate_json(text, strict=True)
    except ValidationError as error:
        raise HTTPException(
            422, f"boxes: {sentence(error.errors()[0])}; give [[x, y, width, height], ...]"
        ) from error


def sentence(error: Mapping[str, Any]) -> str:
    """One sentence for what pydantic found first; what was sent isn't repeated."""
    where = ".".join(str(one) for one in error["loc"] if one not in ("query", "body"))
    said = str(error["msg"]).removeprefix("Value error, ")
    return f"{where}: {said}" if where else said


def _kind(content_type: str) -> tuple[str, Mapping[bytes, bytes]]:
    kind, options = parse_options_header(content_type)
    return kind.decode("latin-1").lower(), options


def _check_count(text: bytes, limits: Limits) -> None:
    """Refuse JSON of far more values than boxes have before anything is made of them.

    20 MiB of empty lists, and a sentence for each of them, would take gigabytes. Every value but
    the first has a comma before it, and base64 has none.
    """
    if text.count(b",") > 4 * limits.faces + _OTHER_COMMAS:
        raise HTTPException(422, f"more values than {limits.faces:,} boxes have")


def _of_parts(parts: Mapping[str, bytes], query: Asked) -> Asked:
    if "image" not in parts:
        raise HTTPException(422, "the form has no field `image` with a picture")
    return Asked(
        parts["image"],
        boxes_of(_text(parts, "boxes")) if "boxes" in parts else query.boxes,
        _switch(parts, "whole") if "whole" in parts else query.whole,
        _switch(parts, "small") if "small" in parts else query.small,
    )


def _switch(parts: Mapping[str, bytes], name: str) -> bool:
    said = _text(parts, name)
    if said not in _TRUTHS:
        raise HTTPException(422, f"{name}: give true or false")
    return _TRUTHS[said]


def _text(parts: Mapping[str, bytes], name: str) -> str:
    try:
        return parts[name].decode()
    except UnicodeDecodeError as error:
        raise HTTPException(422, f"{name}: is no text") from error


def _of_json(body: bytes, query: Asked) -> Asked:
    try:
        found = JsonPicture.model_validate_json(body, strict=True)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        malformed = first["type"] == "json_invalid"
        raise HTTPException(400 if malformed else 422, sentence(first)) from error
    try:
        image = base64.b64decode(found.image, validate=True)
    except (binascii.Error, ValueError) as error:
        raise HTTPException(422, "image: is no base64") from error
    said = found.model_fields_set
    return Asked(
        image,
        found.boxes if "boxes" in said else query.boxes,
        found.whole if "whole" in said else query.whole,
        found.small if "small" in said else query.small,
    )


def _too_large(limits: Limits) -> HTTPException:
    return HTTPException(413, f"a body of more than {limits.body_bytes:,} bytes")
