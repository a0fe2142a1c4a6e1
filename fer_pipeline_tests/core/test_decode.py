import contextlib
import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fer_pipeline.core import pictures
from fer_pipeline.core.decode import Bounds, UnreadableError, decode, open_photo
from fer_pipeline_tests.core.small_release import encoded, noise

PIXELS = noise(3, 40, 60)
HTML = b"<!DOCTYPE html><html><body>404</body></html>"


def _image(picture, kind="PNG", **options):
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def _png_that_claims(width, height):
    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM"])
def test_lossless_formats_give_their_pixels_in_rgb_order(kind):
    found = decode(encoded(PIXELS, kind))
    assert found.dtype == np.uint8
    assert np.array_equal(found, PIXELS)


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
def test_lossy_formats_give_nearly_their_pixels_in_rgb_order(kind):
    found = decode(encoded(PIXELS, kind, quality=95)).astype(int)
    assert found.shape == PIXELS.shape
    assert np.abs(found - PIXELS).mean() < 6


def test_format_is_known_by_content_since_no_name_is_given():
    red = np.zeros((8, 8, 3), np.uint8) + np.array([255, 0, 0], np.uint8)
    for kind in ("JPEG", "PNG", "BMP"):
        assert np.abs(decode(encoded(red, kind)).astype(int) - red).max() <= 2


def test_grey_becomes_three_equal_channels():
    for kind in ("JPEG", "PNG"):
        found = decode(encoded(PIXELS[:, :, 0], kind))
        assert found.shape == (40, 60, 3)
        assert np.array_equal(found[:, :, 0], found[:, :, 2])


def test_cmyk_jpeg_keeps_its_colours():
    data = _image(Image.fromarray(PIXELS).convert("CMYK"), "JPEG", quality=95)
    assert np.abs(decode(data).astype(int) - PIXELS).mean() < 8


def test_16_bit_grey_is_scaled_and_not_clipped():
    values = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    found = decode(_image(Image.fromarray(values)))
    assert np.abs(found[:, :, 1].astype(float) - values / 257).max() <= 1


def test_16_bit_colour_is_scaled_and_keeps_its_order():
    import cv2

    data = cv2.imencode(".png", PIXELS[:, :, ::-1].astype(np.uint16) * 257)[1].tobytes()
    assert np.abs(decode(data).astype(int) - PIXELS).max() <= 1


@pytest.mark.parametrize("mode", ["P", "1", "L", "LA"])
def test_palette_and_bilevel_pictures_become_rgb(mode):
    picture = Image.fromarray(PIXELS).convert(mode)
    expected = np.asarray(picture.convert("RGB"))
    assert np.array_equal(decode(_image(picture)), expected)


def test_alpha_is_dropped_and_the_colours_below_stay():
    picture = Image.fromarray(PIXELS).convert("RGBA")
    picture.putalpha(10)
    assert np.array_equal(decode(_image(picture)), PIXELS)


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP"])
def test_animation_gives_its_first_frame(kind):
    frames = [Image.new("RGB", (30, 20), colour) for colour in ("red", "blue", "green")]
    options = {"lossless": True} if kind == "WEBP" else {}
    data = _image(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    assert decode(data)[10, 10].tolist() == [255, 0, 0]


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize(
    ("orientation", "corner"),
    [
        (1, (0, 0)),
        (2, (0, -1)),
        (3, (-1, -1)),
        (4, (-1, 0)),
        (5, (0, 0)),
        (6, (0, -1)),
        (7, (-1, -1)),
        (8, (-1, 0)),
    ],
)
def test_exif_orientation_is_applied(kind, orientation, corner):
    """A picture whose stored upper left is red; the corner is where it belongs upright."""
    pixels = np.zeros((40, 60, 3), np.uint8)
    pixels[:16, :16] = (255, 0, 0)
    exif = Image.Exif()
    exif[0x0112] = orientation
    found = decode(encoded(pixels, kind, exif=exif))
    assert found.shape == ((40, 60, 3) if orientation < 5 else (60, 40, 3))
    corners = {(y, x): int(found[y, x, 0]) for y in (0, -1) for x in (0, -1)}
    assert corners.pop(corner) > 240
    assert max(corners.values()) < 15


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP"])
def test_truncated_photo_is_unreadable_and_not_half_grey(kind):
    data = encoded(PIXELS, kind)
    for part in (len(data) // 3, len(data) * 2 // 3):
        with pytest.raises(UnreadableError):
            decode(data[:part])


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_rows": 1}])
@pytest.mark.parametrize("least", [0.1, 0.25, 0.5, 1.0])
@pytest.mark.parametrize("grey", [False, True])
def test_truncated_jpeg_is_unreadable_at_every_scale_wherever_it_ends(options, least, grey):
    data = encoded(noise(2, 300, 400), "JPEG", **options)
    assert open_photo(data).view(least, grey=grey).scale >= least
    for part in np.linspace(0.02, 0.98, 25):
        with pytest.raises(UnreadableError):
            open_photo(data[: int(part * len(data))]).view(least, grey=grey)


def test_jpeg_that_only_opencv_reads_is_read_by_it_unless_it_has_no_end(monkeypatch):
    import cv2

    # Damaged data makes the first decoder refuse it, the second is made to.
    data = bytearray(encoded(noise(2, 300, 400), "JPEG"))
    data[len(data) // 2 : len(data) // 2 + 2] = b"\xff\x01"
    assert decode(bytes(data)).shape == (300, 400, 3)

    def refuse(*_):
        raise UnreadableError("refused")

    grey = np.full((300, 400, 3), 128, np.uint8)
    monkeypatch.setattr("fer_pipeline.core.decode.read_picture", refuse)
    monkeypatch.setattr(cv2, "imdecode", lambda *_: grey)
    assert decode(bytes(data))[0, 0, 0] == 128
    with pytest.raises(UnreadableError, match="refused"):
        decode(bytes(data[: len(data) * 2 // 3]))


def test_second_picture_after_the_first_of_a_jpeg_does_no_harm():
    first, second = (Image.fromarray(noise(seed, 200, 300)) for seed in (1, 2))
    data = _image(first, "MPO", save_all=True, append_images=[second])
    cut = data[: -len(data) // 4]
    for whole in (data, cut):
        assert np.abs(decode(whole).astype(int) - noise(1, 200, 300)).mean() < 3


@pytest.mark.parametrize("tail", [b"\x00" * 40, b"\r\n", b"some appended text"])
def test_bytes_after_the_end_of_a_jpeg_do_no_harm(tail):
    data = encoded(PIXELS, "JPEG", quality=95)
    assert np.abs(decode(data + tail).astype(int) - decode(data)).max() <= 2


def test_zero_byte_file_is_unreadable():
    with pytest.raises(UnreadableError, match="empty file"):
        decode(b"")


@pytest.mark.parametrize("data", [HTML, b"\x00" * 100, b"\xff\xd8\xff", b"GIF89a", b"%PDF-1.4"])
def test_html_and_other_non_pictures_are_unreadable_with_the_same_reason_each_time(data):
    reasons = set()
    for _ in range(2):
        with pytest.raises(UnreadableError) as caught:
            decode(data)
        reasons.add(str(caught.value))
    assert len(reasons) == 1


def test_photo_over_the_pixel_bound_is_refused_by_its_header_alone():
    with pytest.raises(UnreadableError, match="60000x60000 pixels, more than 100000000"):
        decode(_png_that_claims(60000, 60000))
    with pytest.raises(UnreadableError, match="60x40 pixels, more than 2399"):
        decode(encoded(PIXELS), Bounds(max_pixels=2399))
    assert decode(encoded(PIXELS), Bounds(max_pixels=2400)).shape == (40, 60, 3)


def test_file_over_its_bound_is_refused():
    data = encoded(PIXELS)
    assert decode(data, Bounds(max_file_bytes=len(data))).shape == (40, 60, 3)
    with pytest.raises(UnreadableError, match="a file of more than"):
        decode(data, Bounds(max_file_bytes=len(data) - 1))


@pytest.mark.parametrize(
    ("mode", "kind", "pixel_bytes"),
    [
        ("L", "JPEG", 1),
        ("RGB", "JPEG", 3),
        ("CMYK", "JPEG", 4),
        ("L", "PNG", 1),
        ("I;16", "PNG", 2),
        ("RGB", "PNG", 3),
        ("RGBA", "PNG", 4),
        ("F", "TIFF", 4),
        ("RGB", "WEBP", 12),
    ],
)
def test_bytes_of_a_decoded_pixel_count_by_mode(mode, kind, pixel_bytes):
    data = _image(Image.new(mode, (60, 40)), kind)
    assert decode(data, Bounds(max_decoded_bytes=2400 * pixel_bytes)).shape == (40, 60, 3)
    refusal = f"60x40 pixels of {pixel_bytes} bytes, more than {2400 * pixel_bytes - 1} bytes"
    with pytest.raises(UnreadableError, match=refusal):
        decode(data, Bounds(max_decoded_bytes=2400 * pixel_bytes - 1))


@pytest.mark.parametrize("mode", ["L", "P", "RGB", "CMYK", "I;16", "I", "F"])
def test_strips_give_the_pixels_of_the_whole(mode, monkeypatch):
    ramp = np.linspace(0, 250, 4000).reshape(50, 80)
    deep = {"I;16": ramp * 257, "I": ramp * 257, "F": ramp / 250}
    kinds = {"I;16": np.uint16, "I": np.int32, "F": np.float32}
    if mode in deep:
        picture = Image.fromarray(deep[mode].astype(kinds[mode]))
    else:
        picture = Image.fromarray(noise(1, 50, 80)).convert(mode)
    data = _image(picture, "TIFF")
    whole = decode(data)
    monkeypatch.setattr(pictures, "_STRIP_PIXELS", 7 * 80)
    assert np.array_equal(decode(data), whole)
    assert whole.std() > 20
    if mode in deep:
        assert np.abs(whole[:, :, 0] - ramp * (255 / 250 if mode == "F" else 1)).max() <= 1


def test_deep_picture_is_converted_without_many_times_its_bytes():
    import tracemalloc

    data = _image(Image.fromarray(np.full((3000, 4000), 0.5, np.float32)), "TIFF")
    tracemalloc.start()
    try:
        pixels = decode(data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert pixels[0, 0].tolist() == [127] * 3
    assert peak < 4.5 * pixels.nbytes  # 12 million doubles alone are 2.7 times the pixels


_FILES = {kind: encoded(PIXELS, kind) for kind in ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP")}


@given(
    kind=st.sampled_from(sorted(_FILES)),
    changes=st.lists(
        st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=8
    ),
    in_head=st.booleans(),
    cut=st.integers(0, 30),
)
@settings(max_examples=200)
def test_damaged_bytes_end_as_pixels_or_unreadable_and_as_nothing_else(kind, changes, in_head, cut):
    data = bytearray(_FILES[kind])
    reach = min(len(data), 120) if in_head else len(data)
    for place, value in changes:
        data[int(place * reach)] = value
    try:
        found = decode(bytes(data[: len(data) - cut]), Bounds(max_pixels=500_000))
    except UnreadableError:
        return
    assert found.dtype == np.uint8
    assert found.ndim == 3
    assert found.shape[2] == 3


def test_every_hostile_file_ends_as_pixels_or_unreadable(real_data):
    files = sorted((real_data / "hostile").iterdir())
    ended = {"read": 0, "unreadable": 0}
    for file in files:
        try:
            found = decode(file.read_bytes())
        except UnreadableError:
            ended["unreadable"] += 1
        else:
            assert found.shape[2] == 3, file.name
            ended["read"] += 1
    assert sum(ended.values()) == len(files) > 60
    assert min(ended.values()) > 10


def test_no_file_fills_standard_error(real_data, capfd):
    for file in sorted((real_data / "hostile").iterdir()):
        with contextlib.suppress(UnreadableError):
            decode(file.read_bytes())
    captured = capfd.readouterr()
    assert captured.err == ""


def test_tiff_of_too_many_samples_is_unreadable_and_not_logged(caplog):
    data = _image(Image.fromarray(PIXELS), "TIFF")
    samples = struct.pack("<HHIH", 277, 3, 1, 3)
    assert data.count(samples) == 1
    with pytest.raises(UnreadableError):
        decode(data.replace(samples, struct.pack("<HHIH", 277, 3, 1, 255)))
    assert caplog.records == []


def test_pillows_own_bound_stands_again_after_a_picture():
    before = Image.MAX_IMAGE_PIXELS
    decode(encoded(PIXELS, "PNG"))
    with pytest.raises(UnreadableError):
        decode(HTML)
    assert before == Image.MAX_IMAGE_PIXELS


def test_view_is_the_same_whatever_was_looked_at_before():
    rng = np.random.default_rng(6)
    coarse = rng.integers(0, 256, (30, 40, 3)).astype(np.uint8)
    data = encoded(np.kron(coarse, np.ones((16, 16, 1), np.uint8)), "JPEG", quality=80)
    alone = open_photo(data).view(0.25, grey=True)
    photo = open_photo(data)
    for least, grey in ((1.0, False), (0.5, True), (0.25, False)):
        photo.view(least, grey=grey)
        after = photo.view(0.25, grey=True)
        assert after.scale == alone.scale
        np.testing.assert_array_equal(after.pixels, alone.pixels)
