"""The page that a browser gets at `/`: the files of the folder `page`, as they are.

They hold no secret, so they go to everybody; what they ask for needs the token. Nothing here
knows what is on the page.
"""

import hashlib
from importlib import resources
from pathlib import Path

from fastapi import APIRouter, HTTPException, Request, Response

_INDEX = "index.html"
# The system's own table may say anything of .js, and browsers run no script of another type.
_TYPES = {
    ".css": "text/css",
    ".html": "text/html",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}
_HEADERS = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": "; ".join(
        (
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "connect-src 'self'",
            # Pictures and videos that were chosen, and the camera's, never leave by these.
            "img-src 'self' blob:",
            "media-src blob: mediastream:",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        )
    ),
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def page_routes() -> APIRouter:
    """Routes of the page and of the files that it asks for."""
    router = APIRouter(include_in_schema=False)
    files = {
        file.name: file.read_bytes()
        for file in resources.files("fer_pipeline.service").joinpath("page").iterdir()
        if Path(file.name).suffix in _TYPES
    }
    tags = {name: f'"{hashlib.sha256(data).hexdigest()[:32]}"' for name, data in files.items()}

    @router.get("/")
    async def index(request: Request) -> Response:
        return await named(_INDEX, request)

    @router.get("/page/{name}")
    async def named(name: str, request: Request) -> Response:
        if name not in files:
            raise HTTPException(404, "the page has no such file")
        headers = {**_HEADERS, "ETag": tags[name]}
        if request.headers.get("if-none-match") == tags[name]:
            return Response(status_code=304, headers=headers)
        return Response(files[name], headers=headers, media_type=_TYPES[Path(name).suffix])

    return router
