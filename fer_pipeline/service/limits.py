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

    Of the page, `cameras` that are watched at once: of each frames of at most `frame_bytes`, of
    which `frames_per_second` are read (others wait), with at most `silence` seconds between two.
    And `videos` that are read at once, of at most `video_bytes` and `video_seconds` each.
    """

    body_bytes: int = 20 * MEBIBYTE
    pixels: int = 50_000_000
    faces: int = 500
    seconds: float = 20.0
    waiting: int = 32
    held_bytes: int = 256 * MEBIBYTE
    cameras: int = 16
    frame_bytes: int = 2 * MEBIBYTE
    frames_per_second: float = 25.0
    silence: float = 60.0
    videos: int = 2
    video_bytes: int = 256 * MEBIBYTE
    video_seconds: float = 600.0

    @property
    def bounds(self) -> Bounds:
        """What is refused before it is decoded."""
        return Bounds(self.pixels, self.pixels * _PIXEL_BYTES, self.body_bytes)
