"""The only decoder: every accepted and every refused kind of file."""

from __future__ import annotations

import io
import re
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.helpers import images
from visionops.errors import ImageError
from visionops.inference.image import ImageProblem, decode_image, load_upright, read_header

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")


@pytest.mark.parametrize("name", images.BROKEN)
def test_a_broken_file_is_refused_with_its_kind(name):
    kind, make = images.BROKEN[name]
    with pytest.raises(ImageError, match=r"^lot/") as caught:
        decode_image(make(), where=f"lot/{name}")
    assert caught.value.kind == kind
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", images.PECULIAR)
def test_a_peculiar_file_becomes_upright_rgb(name):
    data = images.PECULIAR[name][1]()
    rgb = decode_image(data)
    header = read_header(data)
    assert rgb.dtype == np.uint8
    assert rgb.shape == (header.height, header.width, 3)
    assert rgb.std() > 5


def test_a_text_file_is_refused_in_a_fresh_process():
    # Pillow loads its plugins when files need them; the registered types must not depend on earlier files.
    code = (
        "from visionops.inference.image import decode_image\n"
        "from visionops.errors import ImageError\n"
        "try: decode_image(b'not an image')\n"
        "except ImageError as error: print(error.kind)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "not_an_image"


def test_the_limit_of_pixels_is_the_callers():
    with pytest.raises(ImageError, match="over the limit of 3071") as caught:
        decode_image(images.jpeg(), max_pixels=64 * 48 - 1)
    assert caught.value.kind is ImageProblem.TOO_LARGE
    assert decode_image(images.jpeg(), max_pixels=64 * 48).shape == (48, 64, 3)


def test_a_limit_above_pillows_own_is_kept():
    assert read_header(images.huge_png(20_000, 20_000), max_pixels=10**9).width == 20_000


@pytest.mark.parametrize("orientation", range(1, 9))
def test_each_exif_orientation_is_turned_as_pillow_turns_it(orientation):
    from PIL import ImageOps

    data = images.encode(images.picture(3), "PNG", exif=images.exif(orientation))
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    np.testing.assert_array_equal(decode_image(data), expected)
    header = read_header(data)
    assert (header.orientation, header.height, header.width) == (orientation, *expected.shape[:2])


def test_an_impossible_orientation_counts_as_upright():
    data = images.encode(images.picture(), "JPEG", exif=images.exif(99))
    assert read_header(data).orientation == 1


def test_sixteen_bit_grey_is_scaled_by_its_full_range():
    rgb = decode_image(images.sixteen_bit_png())
    assert (rgb.min(), rgb.max()) == (0, 255)
    assert abs(float(rgb.mean()) - 127.5) < 1


def test_of_an_animation_the_first_frame_is_taken():
    data = images.animated_gif()
    first = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    np.testing.assert_array_equal(decode_image(data), first)
    assert read_header(data).frames == 3


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("grey.jpg", True),
        ("really_png.jpg", True),
        ("cmyk.jpg", False),
        ("grey16.png", False),
        ("colour16.png", False),
        ("palette.png", False),
        ("rotated.jpg", False),
        ("moving.gif", False),
        ("grey_alpha.png", False),
        ("modern.webp", False),
        ("mask.png", False),
    ],
)
def test_plain_means_that_any_decoder_gives_the_same(name, plain):
    assert read_header(images.PECULIAR[name][1]()).is_plain is plain


@pytest.mark.parametrize("name", images.PECULIAR)
def test_the_header_is_the_same_before_and_after_decoding(name):
    data = images.PECULIAR[name][1]()
    assert load_upright(data)[0] == read_header(data)


def test_a_header_is_read_without_decoding_a_png():
    data = images.encode(images.picture(0, 400, 400), "PNG")
    assert read_header(data[:600]).width == 400


def test_a_jpeg_can_be_decoded_smaller_for_a_thumbnail():
    data = images.encode(images.picture(0, 640, 320), "JPEG", exif=images.exif(6))
    header, image = load_upright(data, at_least=80)
    assert (header.width, header.height) == (320, 640)
    assert image.size == (80, 160)


_JPEGS = [
    images.encode(images.picture(1, 200, 150), "JPEG", quality=80, **options)
    for options in ({}, {"progressive": True}, {"subsampling": 0}, {"exif": images.exif(6)})
]


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    st.sampled_from(_JPEGS),
    st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=4),
    st.integers(20, 30_000),
)
def test_luminance_alone_finds_the_same_damage_as_colour(seed, changes, length):
    data = bytearray(seed[:length])
    for place, value in changes:
        data[place % len(data)] = value
    assert _outcome(bytes(data), luminance=True) == _outcome(bytes(data), luminance=False)


def _outcome(data: bytes, *, luminance: bool):
    try:
        return load_upright(data, max_pixels=1_000_000, luminance=luminance)[0]
    except ImageError as error:
        return error.kind, str(error)


_SEEDS = [make() for _, make in images.PECULIAR.values()] + [
    images.encode(images.picture(), "BMP"),
    images.encode(images.picture(), "TIFF", compression="tiff_lzw", exif=images.exif(6)),
    images.encode(images.picture(), "MPO", save_all=True, append_images=[images.picture(1)]),
]


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    st.sampled_from(_SEEDS), st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=6), st.integers(1)
)
def test_damaged_bytes_give_pixels_or_an_image_error_and_nothing_else(seed, changes, length):
    images.decodes_or_refuses(seed, changes, length)


@given(
    size=st.tuples(st.integers(1, 70), st.integers(1, 70)),
    quality=st.integers(1, 100),
    subsampling=st.sampled_from([0, 1, 2]),
    progressive=st.booleans(),
    mode=st.sampled_from(["RGB", "L", "CMYK"]),
    seed=st.integers(0, 99),
    cut=st.none() | st.floats(0.2, 1),
)
@settings(max_examples=150, deadline=None)
def test_a_jpeg_has_the_pixels_that_pillow_gives_it(size, quality, subsampling, progressive, mode, seed, cut):
    bands = {"L": 1, "RGB": 3, "CMYK": 4}[mode]
    noise = np.random.default_rng(seed).integers(0, 256, (*size, bands), dtype=np.uint8)
    buffer = io.BytesIO()
    colour = {} if mode == "L" else {"subsampling": subsampling}
    Image.fromarray(noise.squeeze(2) if bands == 1 else noise, mode).save(
        buffer, "JPEG", quality=quality, progressive=progressive, **colour
    )
    data = buffer.getvalue()
    data = data if cut is None else data[: int(cut * len(data))]
    try:
        expected = np.asarray(load_upright(data)[1].convert("RGB"))
    except ImageError as error:
        with pytest.raises(ImageError, match=re.escape(str(error))):
            decode_image(data)
    else:
        np.testing.assert_array_equal(decode_image(data), expected)
