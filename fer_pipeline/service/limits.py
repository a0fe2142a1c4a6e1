"""How much the service takes on: of one request, and of all of them together."""

from dataclasses import dataclass

from fer_pipeline.core.bounds import Bounds

MEBIBYTE = 1 << 20
_PIXEL_BYTES = 4


@dataclass(frozen=True)
class Limits:
    """What is refused, and when.

    Of one request: `body_bytes` of its body, `pixels` of its picture, `faces` that are read of a
    picture (and boxes that may be given), `seconds` until it is answered. Of all together:
    `waiting` requests under way, whose bodies have `held_bytes` in all.
    """

    body_bytes: int = 20 * MEBIBYTE
    pixels: int = 50_000_000
    faces: int = 500
    seconds: float = 20.0
    waiting: int = 32
    held_bytes: int = 256 * MEBIBYTE

    @property
    def bounds(self) -> Bounds:
        """What is refused before it is decoded."""
        return Bounds(self.pixels, self.pixels * _PIXEL_BYTES, self.body_bytes)
