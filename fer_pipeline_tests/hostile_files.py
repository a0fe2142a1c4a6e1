"""Files that were made to hurt whoever opens them, and odd ones that are photos all the same.

Each is written small; what it claims to be is not.
"""

import io
import os
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from fer_pipeline_tests.core.small_release import encoded, noise


def hostile_bytes() -> Mapping[str, bytes]:
    """Content by file name; the names' endings don't always tell the truth."""
    good = encoded(noise(1), "JPEG", quality=90)
    return {
        "good.jpg": good,
        "named.png": good,
        "empty.jpg": b"",
        "page.jpg": b"<!DOCTYPE html><html><body>404 Not Found</body></html>",
        "zeros.jpg": bytes(5000),
        "start.jpg": b"\xff\xd8\xff",
        "endless-markers.jpg": b"\xff\xd8" + b"\xff" * 200_000,
        "bomb.png": _png_header(60_000, 60_000),
        "bomb-within-pixels.png": _png(9_000, 9_000, 16, 6),
        "huge.png": _png(9_900, 9_900, 8, 0),
        "text-bomb.png": _text_bomb(),
        "thin.png": _png(1, 60_000, 8, 2),
        "flat.png": _png(60_000, 1, 8, 2),
        "one.png": _png(1, 1, 8, 2),
        "sof-65500.jpg": _resized(good, 65_500, 65_500),
        "sof-9900.jpg": _resized(good, 9_900, 9_900),
        "sof-0.jpg": _resized(good, 0, 0),
        "scans.jpg": _many_scans(2_000),
        "thumbnails.jpg": _nested_thumbnails(good, 40),
        "endless-exif.jpg": _exif_that_loops(good),
        "huge.gif": b"GIF89a" + struct.pack("<HH", 65_535, 65_535) + b"\x80\x00\x00" + b"\x2c" * 50,
        "huge.bmp": _bmp_header(30_000, 30_000),
        "program.eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9999 9999\n%%EOF\n",
        "huge.tif": _tiff_header(50_000, 50_000),
        "looping.tif": _tiff_header(100, 100, after=8),
        **{f"cut-{kind}": _encoded(kind)[:-60] for kind in ("jpg", "png", "gif", "webp", "tif")},
        **{f"cut-{at}.jpg": good[:at] for at in range(20, len(good), max(1, len(good) // 12))},
        **_odd_photos(),
    }


def write_odd_things(folder: Path) -> list[str]:
    """What stands where a photo should and is no file of bytes; gives the names."""
    (folder / "folder.jpg").mkdir()
    os.mkfifo(folder / "pipe.jpg")
    (folder / "zero.jpg").symlink_to("/dev/zero")
    (folder / "terminal.jpg").symlink_to("/dev/tty")
    (folder / "loop.jpg").symlink_to("loop.jpg")
    (folder / "dangling.jpg").symlink_to("nowhere.jpg")
    (folder / "forbidden.jpg").write_bytes(b"secret")
    (folder / "forbidden.jpg").chmod(0)
    return [
        *("folder.jpg", "pipe.jpg", "zero.jpg", "terminal.jpg", "loop.jpg", "dangling.jpg"),
        *("forbidden.jpg", "x" * 300 + ".jpg", "y" * 5_000 + ".jpg", "good.jpg/inside.jpg"),
        *("a\x00b.jpg", "\N{SNOWMAN}\u202e.jpg", " ", "-rf", "%s%n.jpg", "con.jpg"),
    ]


def _odd_photos() -> dict[str, bytes]:
    """Photos that open, each in another way."""
    pixels, deep = noise(2), (noise(3)[:, :, 0].astype(np.uint16) << 8)
    frames = [Image.fromarray(noise(seed)) for seed in (4, 5, 6)]
    found = {
        "deep.png": encoded(deep),
        "deep.tif": encoded(deep, "TIFF"),
        "cmyk.jpg": _saved(Image.fromarray(pixels).convert("CMYK"), "JPEG"),
        "cmyk.tif": _saved(Image.fromarray(pixels).convert("CMYK"), "TIFF"),
        "palette.png": _saved(Image.fromarray(pixels).convert("P"), "PNG"),
        "alpha.png": _saved(Image.fromarray(pixels).convert("RGBA"), "PNG"),
        "bits.png": _saved(Image.fromarray(pixels).convert("1"), "PNG"),
        "float.tif": _saved(Image.fromarray(pixels[:, :, 0].astype(np.float32)), "TIFF"),
        "progressive.jpg": encoded(pixels, "JPEG", progressive=True),
        "photo.bmp": encoded(pixels, "BMP"),
        "lossless.webp": encoded(pixels, "WEBP", lossless=True),
    }
    for number, shape in enumerate([(24, 640), (640, 24), (80, 640), (150, 900)]):
        grain = np.random.default_rng(number).integers(0, 256, (*shape, 3)).astype(np.uint8)
        found[f"long-{number}.png"] = encoded(grain)
    for kind in ("GIF", "PNG", "WEBP", "TIFF"):
        name = f"frames.{kind.lower()}"
        found[name] = _saved(frames[0], kind, save_all=True, append_images=frames[1:])
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        found[f"turned-{orientation}.jpg"] = encoded(pixels, "JPEG", exif=exif)
    return found


def _encoded(kind: str) -> bytes:
    return encoded(noise(7), {"jpg": "JPEG", "tif": "TIFF"}.get(kind, kind.upper()))


def _saved(picture: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def _chunk(kind: bytes, data: bytes) -> bytes:
    check = struct.pack(">I", zlib.crc32(kind + data))
    return struct.pack(">I", len(data)) + kind + data + check


def _png_header(width: int, height: int, bits: int = 8, colour: int = 2) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header)


def _png(width: int, height: int, bits: int, colour: int) -> bytes:
    """A whole PNG of zeros."""
    channels = {0: 1, 2: 3, 6: 4}[colour]
    line = bytes(1 + width * channels * bits // 8)
    packer = zlib.compressobj(6)
    data = b"".join(packer.compress(line) for _ in range(height)) + packer.flush()
    start = _png_header(width, height, bits, colour)
    return start + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")


def _text_bomb() -> bytes:
    text = _chunk(b"zTXt", b"Comment\x00\x00" + zlib.compress(bytes(200_000_000)))
    whole = encoded(noise(8))
    return whole[:33] + text * 4 + whole[33:]


def _resized(jpeg: bytes, width: int, height: int) -> bytes:
    """A JPEG whose header claims another size."""
    at = jpeg.index(b"\xff\xc0")
    return jpeg[: at + 5] + struct.pack(">HH", height, width) + jpeg[at + 9 :]


def _many_scans(count: int) -> bytes:
    whole = _resized_progressive()
    at = whole.rindex(b"\xff\xda")
    return whole[:at] + whole[at:-2] * count + b"\xff\xd9"


def _resized_progressive() -> bytes:
    return encoded(np.zeros((3_000, 3_000, 3), np.uint8), "JPEG", progressive=True)


def _nested_thumbnails(jpeg: bytes, depth: int) -> bytes:
    """EXIF whose thumbnail is a JPEG whose EXIF has a thumbnail, and so on."""
    inner = jpeg
    for _ in range(depth):
        if len(inner) > 60_000:
            break
        entries = [(0x0201, 4, 1, 26 + 12), (0x0202, 4, 1, len(inner))]
        directory = struct.pack("<H", 2) + b"".join(struct.pack("<HHII", *e) for e in entries)
        exif = b"Exif\x00\x00II*\x00" + struct.pack("<I", 8) + directory + bytes(4) + inner
        inner = jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + jpeg[2:]
    return inner


def _exif_that_loops(jpeg: bytes) -> bytes:
    """EXIF whose directories follow each other in a circle, with 65,535 entries promised."""
    entry = struct.pack("<HHII", 0x8769, 4, 1, 8)
    exif = b"Exif\x00\x00II*\x00" + struct.pack("<IH", 8, 65_535) + entry + struct.pack("<I", 8)
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + jpeg[2:]


def _bmp_header(width: int, height: int) -> bytes:
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + info


def _tiff_header(width: int, height: int, after: int = 0) -> bytes:
    entries = [
        *((256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (259, 3, 1, 1)),
        *((262, 3, 1, 1), (273, 4, 1, 8), (277, 3, 1, 1), (278, 4, 1, height)),
        (279, 4, 1, min(2**32 - 1, width * height)),
    ]
    directory = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"II*\x00" + struct.pack("<IH", 8, len(entries)) + directory + struct.pack("<I", after)
