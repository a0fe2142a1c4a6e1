"""Photos with bytes changed at random: whatever they hold, there is a status and never an error."""

import struct
import time
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fer_pipeline.core.bounds import MAX_PIXELS
from fer_pipeline.core.crop import CropSettings, PreparedFace, Status, prepare_face
from fer_pipeline_tests.core.small_release import encoded, noise

SETTINGS = CropSettings(side=24)
SECONDS = 5.0
_BOXES = st.one_of(
    st.just((20.0, 10.0, 70.0, 80.0)),
    st.tuples(*[st.floats(-1e4, 1e4, width=32)] * 4),
    st.tuples(*[st.sampled_from([0.0, -1.0, 1e9, float("inf"), float("nan")])] * 4),
)


def _turned(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(noise(orientation), "JPEG", exif=exif)


_JPEGS = (
    encoded(noise(1), "JPEG", quality=90),
    encoded(noise(2), "JPEG", progressive=True),
    encoded(noise(3)[:, :, 0].copy(), "JPEG"),
    encoded(noise(4), "JPEG", subsampling=2, restart_marker_rows=1),
    _turned(6),
)
_OTHERS = tuple(
    encoded(noise(5), kind) for kind in ("PNG", "BMP", "GIF", "WEBP", "TIFF", "ICO", "PPM", "TGA")
)
_MARKERS = [bytes([0xFF, code]) for code in (0x00, 0xC0, 0xC2, 0xC4, 0xC9, 0xD8, 0xD9, 0xDA, 0xE1)]
_NUMBERS = st.sampled_from([0, 1, 2, 7, 255, 256, 9_999, 32_767, 65_500, 65_535])


@st.composite
def _changed(draw: st.DrawFn, photos: tuple[bytes, ...]) -> bytes:
    """A photo with one to six changes: bits, cuts, inserted markers, lengths, sizes, repeats."""
    data = bytearray(draw(st.sampled_from(photos)))
    for change in draw(st.lists(st.sampled_from(_CHANGES), min_size=1, max_size=6)):
        # Most of what matters is said in the first few hundred bytes.
        last = max(0, len(data) - 1)
        at = draw(st.one_of(st.integers(0, min(last, 400)), st.integers(0, last)))
        change(draw, data, at)
    return bytes(data)


def _flip(draw: st.DrawFn, data: bytearray, at: int) -> None:
    if data:
        data[at] ^= 1 << draw(st.integers(0, 7))


def _cut(_draw: st.DrawFn, data: bytearray, at: int) -> None:
    del data[at:]


def _drop(draw: st.DrawFn, data: bytearray, at: int) -> None:
    del data[at : at + draw(st.integers(1, 50))]


def _insert(draw: st.DrawFn, data: bytearray, at: int) -> None:
    length = struct.pack(">H", draw(_NUMBERS))
    data[at:at] = draw(st.sampled_from(_MARKERS)) + length * draw(st.integers(0, 3))


def _write(draw: st.DrawFn, data: bytearray, at: int) -> None:
    data[at : at + 2] = struct.pack(">H", draw(_NUMBERS))


def _resize(draw: st.DrawFn, data: bytearray, _at: int) -> None:
    frame = max(data.find(b"\xff\xc0"), data.find(b"\xff\xc2"))
    if frame >= 0:
        data[frame + 5 : frame + 9] = struct.pack(">HH", draw(_NUMBERS), draw(_NUMBERS))


def _repeat(draw: st.DrawFn, data: bytearray, at: int) -> None:
    data[at:at] = data[at : at + 200] * draw(st.integers(1, 20))


_CHANGES: list[Callable[[st.DrawFn, bytearray, int], None]] = [
    *(_flip, _cut, _drop, _insert, _write, _resize, _repeat)
]


def _check(face: PreparedFace) -> None:
    assert face.status in set(Status)
    assert face.status is not Status.MISSING
    decoded = face.status is not Status.UNREADABLE
    sizes = (face.photo_width, face.photo_height)
    assert (None not in sizes) == decoded == (sizes != (None, None))
    assert (face.crop is not None) == (face.status is Status.OK)
    assert bool(face.reason) == (not decoded)
    if face.photo_width is not None and face.photo_height is not None:
        assert 0 < face.photo_width * face.photo_height <= MAX_PIXELS
    if face.crop is not None:
        assert (face.crop.shape, face.crop.dtype) == ((24, 24, 1), np.uint8)
    if face.reason:
        assert len(face.reason) <= 200
        assert " at 0x" not in face.reason


@pytest.mark.parametrize("photos", [_JPEGS, _OTHERS], ids=["jpeg", "others"])
def test_changed_bytes_of_a_photo_give_a_status(photos: tuple[bytes, ...]) -> None:
    @given(data=_changed(photos), box=_BOXES)
    @settings(max_examples=250)
    def check(data: bytes, box: tuple[float, float, float, float]) -> None:
        started = time.process_time()
        _check(prepare_face(data, box, SETTINGS))
        assert time.process_time() - started < SECONDS

    check()


@given(data=_changed(_JPEGS))
@settings(max_examples=80)
def test_changed_bytes_of_a_photo_give_a_status_where_the_face_is_looked_for(data: bytes) -> None:
    _check(prepare_face(data, None, SETTINGS))


@given(data=_changed(_JPEGS), box=_BOXES)
@settings(max_examples=60)
def test_changed_bytes_give_the_same_outcome_each_time(
    data: bytes, box: tuple[float, float, float, float]
) -> None:
    first, second = (prepare_face(data, box, SETTINGS) for _ in range(2))
    assert (first.status, first.reason) == (second.status, second.reason)
    assert (first.photo_width, first.photo_height) == (second.photo_width, second.photo_height)
    if first.crop is not None and second.crop is not None:
        assert np.array_equal(first.crop, second.crop)


@given(data=st.binary(max_size=300), start=st.sampled_from([b"", b"\xff\xd8\xff", b"\x89PNG\r\n"]))
@settings(max_examples=150)
def test_any_bytes_are_no_error(data: bytes, start: bytes) -> None:
    _check(prepare_face(start + data, (0.0, 0.0, 50.0, 50.0), SETTINGS))
