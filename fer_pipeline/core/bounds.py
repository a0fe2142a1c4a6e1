"""How large a photo may be, and the error of those that can't be read."""

from dataclasses import dataclass

MAX_PIXELS = 100_000_000
MAX_DECODED_BYTES = 512_000_000
MAX_FILE_BYTES = 200_000_000


class UnreadableError(Exception):
    """The bytes are no photo that can be decoded within bounds; the message says why."""


class TooLargeError(UnreadableError):
    """The bytes are refused for their size; the message says which bound they exceed."""


@dataclass(frozen=True)
class Bounds:
    """What is refused before it is decoded: larger files, more pixels, more bytes of pixels."""

    max_pixels: int = MAX_PIXELS
    max_decoded_bytes: int = MAX_DECODED_BYTES
    max_file_bytes: int = MAX_FILE_BYTES

    def check_file(self, data: bytes) -> None:
        """Raise UnreadableError for an empty or too large file."""
        if not data:
            raise UnreadableError("empty file")
        if len(data) > self.max_file_bytes:
            raise TooLargeError(f"a file of more than {self.max_file_bytes:,} bytes")

    def check_size(self, width: int, height: int, pixel_bytes: int) -> None:
        """Raise UnreadableError for a picture without area, or one beyond the bounds."""
        pixels = width * height
        if width < 1 or height < 1:
            raise UnreadableError("a picture without area")
        if pixels > self.max_pixels:
            raise TooLargeError(f"{width}x{height} pixels, more than {self.max_pixels}")
        if pixels * pixel_bytes > self.max_decoded_bytes:
            raise TooLargeError(
                f"{width}x{height} pixels of {pixel_bytes} bytes, "
                f"more than {self.max_decoded_bytes} bytes"
            )


DEFAULT_BOUNDS = Bounds()
