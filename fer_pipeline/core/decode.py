"""Bytes of a photo to upright pixels, at the scale that is needed, whatever the bytes are.

`open_photo` reads headers and checks bounds, `Photo.view` decodes. Every failure is an
UnreadableError with a reason; nothing a decoder raises goes further than here.
"""

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from fer_pipeline.core.bounds import DEFAULT_BOUNDS, Bounds, UnreadableError
from fer_pipeline.core.jpeg import (
    JPEG_END,
    JpegHeader,
    decode_scaled,
    eighths_for,
    read_header,
    scaled_size,
    upper_part,
)
from fer_pipeline.core.orientation import AS_STORED, swaps_sides, upright, upright_slack
from fer_pipeline.core.pictures import read_jpeg_with_opencv, read_picture

__all__ = ["Bounds", "Photo", "UnreadableError", "View", "decode", "open_photo", "photo_of"]


@dataclass(frozen=True)
class View:
    """A photo's pixels at one scale: uint8 (height, width) of luma or (height, width, 3) RGB.

    They may end below the rows that were asked for.
    A point (x, y) of the upright photo lies at (left + x * scale, top + y * scale); both count
    from the outer edge of the first pixel.
    """

    pixels: npt.NDArray[np.uint8]
    scale: float = 1.0
    left: float = 0.0
    top: float = 0.0


class Photo(Protocol):
    """A photo that can be decoded; `width` and `height` are upright and at full resolution."""

    width: int
    height: int

    def view(self, least: float, *, grey: bool = False, bottom: float = math.inf) -> View:
        """Pixels at scale `least` or more (1 is full resolution), whatever costs least.

        With `grey` they may be luma alone; rows below `bottom` (in pixels at full resolution) may
        be missing. Raises UnreadableError.
        """
        ...


def open_photo(data: bytes, bounds: Bounds = DEFAULT_BOUNDS) -> Photo:
    """The photo in these bytes; raises UnreadableError for what is no photo within the bounds.

    JPEGs are decoded when a view is asked for, all else at once: the first frame, as 8-bit RGB.
    Grey, palette, CMYK and 16-bit pictures are converted; transparency is dropped.
    """
    bounds.check_file(data)
    header = read_header(data)
    if header is not None:
        bounds.check_size(header.width, header.height, header.pixel_bytes)
        return _JpegPhoto(data, header, bounds)
    return photo_of(read_picture(data, bounds))


def photo_of(pixels: npt.NDArray[np.uint8]) -> Photo:
    """A photo that is decoded already: uint8 RGB (height, width, 3), upright."""
    return _PixelPhoto(pixels)


def decode(data: bytes, bounds: Bounds = DEFAULT_BOUNDS) -> npt.NDArray[np.uint8]:
    """Decode the first frame to uint8 RGB, shape (height, width, 3), EXIF orientation applied.

    Raises UnreadableError when the bytes are empty, damaged, truncated, no picture, or beyond
    the bounds.
    """
    return open_photo(data, bounds).view(1.0).pixels


class _PixelPhoto:
    def __init__(self, pixels: npt.NDArray[np.uint8]) -> None:
        self.height, self.width = pixels.shape[:2]
        self._view = View(pixels)

    def view(
        self,
        least: float,  # noqa: ARG002
        *,
        grey: bool = False,  # noqa: ARG002
        bottom: float = math.inf,  # noqa: ARG002
    ) -> View:
        return self._view


class _JpegPhoto:
    def __init__(self, data: bytes, header: JpegHeader, bounds: Bounds) -> None:
        sides = header.width, header.height
        self.width, self.height = sides[::-1] if swaps_sides(header.orientation) else sides
        self._data, self._header, self._bounds = data, header, bounds
        self._last: tuple[int, bool, View] | None = None
        self._cut = False

    def view(self, least: float, *, grey: bool = False, bottom: float = math.inf) -> View:
        # A larger decode that is at hand would do, but a face's crop would then depend on what
        # was looked at before it: whether its box was listed or found.
        eighths = eighths_for(least)
        if self._last is not None:
            decoded, luma, view = self._last
            if view.scale != decoded / 8 or (decoded, luma) == (eighths, grey):
                return view
        # Once: for a second face the whole, whose pixels are the same, is as good and stays.
        upper = None if self._cut else self._upper(bottom, eighths, grey=grey)
        if upper is not None:
            self._cut = True
            return upper
        view = self._decoded(eighths, grey=grey)
        self._last = eighths, grey, view
        return view

    def _upper(self, bottom: float, eighths: int, *, grey: bool) -> View | None:
        """The rows above `bottom` alone, where that saves something."""
        if self._header.orientation != AS_STORED or bottom >= self.height:
            return None
        part = upper_part(self._data, self._header, bottom, grey=grey)
        pixels = None if part is None else decode_scaled(*part, eighths, grey=grey, strict=False)
        return None if pixels is None else View(pixels, eighths / 8)

    def _decoded(self, eighths: int, *, grey: bool) -> View:
        header = self._header
        pixels = decode_scaled(self._data, header, eighths, grey=grey)
        if pixels is None:
            return View(self._decoded_otherwise())
        scale = eighths / 8
        width, height = scaled_size(header, eighths)
        left, top = upright_slack(
            width - header.width * scale, height - header.height * scale, header.orientation
        )
        return View(upright(pixels, header.orientation), scale, left, top)

    def _decoded_otherwise(self) -> npt.NDArray[np.uint8]:
        try:
            pixels = read_picture(self._data, self._bounds, self._header.orientation)
        except UnreadableError:
            # OpenCV fills what a truncated file lacks with grey and says nothing.
            if not self._data.rstrip(b"\x00\r\n").endswith(JPEG_END):
                raise
            found = read_jpeg_with_opencv(self._data)
            if found is None:
                raise
            pixels = upright(found, self._header.orientation)
        if pixels.shape[:2] != (self.height, self.width):
            raise UnreadableError("a JPEG whose headers contradict each other")
        return pixels
