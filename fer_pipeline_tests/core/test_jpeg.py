import io
import struct
import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fer_pipeline.core.decode import UnreadableError, open_photo
from fer_pipeline.core.jpeg import (
    JpegHeader,
    decode_scaled,
    eighths_for,
    read_header,
    scaled_size,
    upper_part,
)
from fer_pipeline_tests.core.small_release import encoded, noise

PIXELS = noise(3, 203, 301)


def _jpeg(mode="RGB", orientation=None, **options):
    exif = Image.Exif()
    if orientation:
        exif[0x0112] = orientation
    buffer = io.BytesIO()
    Image.fromarray(PIXELS).convert(mode).save(buffer, "JPEG", exif=exif, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (_jpeg(), JpegHeader(301, 203, 3, 8, False, 1, block_rows=16)),
        (_jpeg(subsampling=1), JpegHeader(301, 203, 3, 8, False, 1, block_rows=8)),
        (_jpeg("L"), JpegHeader(301, 203, 1, 8, False, 1, block_rows=8)),
        (_jpeg("CMYK"), JpegHeader(301, 203, 4, 8, False, 1, block_rows=8)),
        (_jpeg(progressive=True), JpegHeader(301, 203, 3, 8, True, 1, block_rows=None)),
        (_jpeg(orientation=6), JpegHeader(301, 203, 3, 8, False, 6, block_rows=16)),
    ],
)
def test_header_says_what_is_in_the_file(data, expected):
    found = read_header(data)
    assert replace(found, height_at=0) == expected
    assert data[found.height_at : found.height_at + 2] == struct.pack(">H", 203)


def test_fill_bytes_and_junk_between_segments_are_passed_over():
    data = _jpeg()
    second = data.index(b"\xff\xdb")
    for junk in (b"\xff" * 50, b"\x00\x01\x02", b"\xff\x01"):
        found = read_header(data[:second] + junk + data[second:])
        assert replace(found, height_at=found.height_at - len(junk)) == read_header(data)


def test_what_is_no_whole_header_is_none():
    data = _jpeg()
    start = data.index(b"\xff\xda")
    assert read_header(data[: start + 12]) is not None
    for end in range(start + 4):
        assert read_header(data[:end]) is None
    assert read_header(b"\x89PNG" + data) is None


@pytest.mark.parametrize(
    "exif",
    [
        b"",
        b"XX*\x00\x08\x00\x00\x00",
        b"II*\x00\xff\xff\xff\x7f",
        b"II*\x00\x08\x00\x00\x00\xff\xff",
        b"II*\x00\x08\x00\x00\x00\x01\x00" + struct.pack("<HHIHH", 0x0112, 3, 1, 9, 0),
        b"II*\x00\x08\x00\x00\x00\x01\x00" + struct.pack("<HHIHH", 0x0112, 2, 1, 6, 0),
    ],
)
def test_damaged_or_impossible_orientation_counts_as_none(exif):
    body = b"Exif\x00\x00" + exif
    data = _jpeg()
    segment = b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body
    assert read_header(data[:2] + segment + data[2:]).orientation == 1


@pytest.mark.parametrize("order", ["<", ">"])
def test_orientation_is_read_in_both_byte_orders(order):
    head = {"<": b"II", ">": b"MM"}[order]
    tiff = head + struct.pack(f"{order}HIH", 42, 8, 1)
    tiff += struct.pack(f"{order}HHIHH", 0x0112, 3, 1, 8, 0)
    body = b"Exif\x00\x00" + tiff
    data = _jpeg()
    segment = b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body
    assert read_header(data[:2] + segment + data[2:]).orientation == 8


def test_smallest_scale_that_suffices_is_one_with_fast_code():
    assert [eighths_for(least) for least in (0, 0.125, 0.126, 0.3, 0.5, 0.51, 1, 7)] == [
        *(1, 1, 2, 4, 4, 8, 8, 8)
    ]


@pytest.mark.parametrize("eighths", [1, 2, 4, 8])
@pytest.mark.parametrize("grey", [False, True])
def test_scaled_decode_is_the_picture_made_smaller(eighths, grey):
    import cv2

    data = _jpeg(quality=95)
    header = read_header(data)
    found = decode_scaled(data, header, eighths, grey=grey)
    width, height = scaled_size(header, eighths)
    assert found.shape == ((height, width) if grey else (height, width, 3))
    times = 8 // eighths
    inner = PIXELS[: 203 // times * times, : 301 // times * times]
    expected = cv2.resize(inner, (301 // times, 203 // times), interpolation=cv2.INTER_AREA).astype(
        float
    )
    if grey:
        expected = expected @ (0.299, 0.587, 0.114)
    found = found[: 203 // times, : 301 // times]
    assert np.abs(found - expected).mean() < 2


@pytest.mark.parametrize("grey", [False, True])
@pytest.mark.parametrize(
    "options",
    [{}, {"subsampling": 0}, {"subsampling": 1}, {"restart_marker_rows": 1}, {"mode": "L"}],
    ids=str,
)
def test_upper_part_of_a_file_decodes_to_the_same_pixels_as_the_whole(options, grey):
    data = _jpeg(**options)
    header = read_header(data)
    for eighths in (1, 2, 4, 8):
        whole = decode_scaled(data, header, eighths, grey=grey)
        for rows in range(1, 190):
            part = upper_part(data, header, rows, grey=grey)
            if part is None:  # nearly all rows
                assert rows > 150
                continue
            found = decode_scaled(*part, eighths, grey=grey, strict=False)
            wanted = -(-rows * eighths // 8)
            assert wanted <= len(found) < len(whole)
            assert np.array_equal(found[:wanted], whole[:wanted])


@pytest.mark.parametrize(
    "data",
    [_jpeg(progressive=True), _jpeg()[:-2], _jpeg()[:-100], _jpeg() + b"\x00"],
    ids=["progressive", "no end", "truncated", "something behind the end"],
)
def test_file_that_does_not_end_as_it_should_or_has_several_scans_is_decoded_as_a_whole(data):
    assert upper_part(data, read_header(data), 50, grey=True) is None


def test_kinds_that_need_another_decoder_are_left_to_it():
    cmyk = _jpeg("CMYK")
    assert decode_scaled(cmyk, read_header(cmyk), 8, grey=True) is None
    assert open_photo(cmyk).view(0.1, grey=True).pixels.shape == (203, 301, 3)


def test_photo_whose_two_headers_differ_in_size_is_not_decoded_at_a_wrong_scale():
    data = _jpeg()
    header = replace(read_header(data), width=300, height=200)
    assert decode_scaled(data, header, 4, grey=True) is None


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("least", [0.1, 0.25, 0.5, 1.0])
def test_scaled_view_is_upright_and_says_where_the_photo_lies_in_it(orientation, least):
    """A white dot on black: its centre, found in the view, is where it is upright."""
    import cv2

    pixels = np.zeros((203, 301, 3), np.uint8)
    cv2.circle(pixels, (77, 141), 20, (255, 255, 255), -1)
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(pixels, "JPEG", exif=exif, quality=95)
    photo = open_photo(data)
    view = photo.view(least, grey=True)
    x, y = 77.5, 141.5
    right, below = 301 - x, 203 - y
    expected = {
        **{1: (x, y), 2: (right, y), 3: (right, below), 4: (x, below)},
        **{5: (y, x), 6: (below, x), 7: (below, right), 8: (y, right)},
    }[orientation]
    assert (photo.width, photo.height) == ((301, 203) if orientation < 5 else (203, 301))
    weights = view.pixels.astype(float)
    rows, columns = (np.arange(size) + 0.5 for size in weights.shape)
    found = (
        (weights.sum(0) @ columns / weights.sum() - view.left) / view.scale,
        (weights.sum(1) @ rows / weights.sum() - view.top) / view.scale,
    )
    assert found == pytest.approx(expected, abs=0.15)


def test_view_is_not_decoded_again_while_the_same_one_is_asked_for():
    photo = open_photo(_jpeg())
    first = photo.view(0.5)
    assert photo.view(0.4) is first
    assert photo.view(0.1).scale == 0.125
    assert photo.view(0.6).scale == 1
    assert photo.view(1.0, grey=True).pixels.ndim == 2


def test_file_of_a_thousand_scans_is_refused_before_it_takes_minutes():
    data = bytearray(_jpeg(progressive=True))
    frame = data.index(b"\xff\xc2")
    data[frame + 5 : frame + 9] = struct.pack(">HH", 10_000, 10_000)
    start = data.index(b"\xff\xda")
    scan = bytes(data[start : data.index(b"\xff", start + 2)])
    many = bytes(data[:start]) + scan * 1000 + b"\xff\xd9"
    with pytest.raises(UnreadableError, match="1000 scans"):
        open_photo(many)


def test_endless_fill_and_endless_segments_take_no_time():
    start = time.process_time()
    for body in (b"\xff" * 5_000_000, b"\xff\xe5\x00\x02" * 1_000_000):
        with pytest.raises(UnreadableError):
            open_photo(b"\xff\xd8\xff\xe5\x00\x02" + body + b"\x00").view(1.0)
    assert time.process_time() - start < 5


_FILES = [_jpeg(), _jpeg(progressive=True), _jpeg("L", orientation=6), _jpeg("CMYK")]


@given(
    file=st.integers(0, len(_FILES) - 1),
    changes=st.lists(
        st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=6
    ),
    least=st.sampled_from([0.1, 0.3, 1.0]),
)
@settings(max_examples=300)
def test_damaged_header_ends_as_a_view_or_unreadable(file, changes, least):
    data = bytearray(_FILES[file])
    for place, value in changes:
        data[int(place * data.index(b"\xff\xda"))] = value
    try:
        photo = open_photo(bytes(data))
        view = photo.view(least, grey=True)
    except UnreadableError:
        return
    height, width = view.pixels.shape[:2]
    assert width == pytest.approx(photo.width * view.scale, abs=1)
    assert height == pytest.approx(photo.height * view.scale, abs=1)
