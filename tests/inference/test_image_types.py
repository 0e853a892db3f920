"""The list of accepted types: its content, its exclusions, and checks of sizes in headers."""

from __future__ import annotations

import struct
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from tests.helpers import images
from visionops.data.files import FileInfo
from visionops.errors import ImageError
from visionops.inference.image import ImageProblem, decode_image, load_upright, read_header
from visionops.inference.image_types import (
    FORMATS,
    HAS_HEIF,
    IMAGE_SUFFIXES,
    UNREADABLE_IMAGE_SUFFIXES,
    preferred_suffix,
    suffixes_of,
)

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")

_MODES = {"MSP": "1", "XBM": "1"}
WRITABLE = sorted(name for name in Image.SAVE if name in {*FORMATS, "MPO"})
"""Types that Pillow can both write and read."""


def example(name: str, seed: int = 3) -> bytes:
    """Return an image of 64 x 64 pixels in a type by Pillow's name."""
    options = {"sizes": [(64, 64)]} if name == "ICO" else {}
    return images.encode(images.picture(seed, 64, 64).convert(_MODES.get(name, "RGB")), name, **options)


needs_heif = pytest.mark.skipif(not HAS_HEIF, reason="pillow-heif is not installed")


def test_the_usual_suffixes_are_images_in_any_case_and_others_are_not():
    usual = (
        ".jpg .jpeg .jfif .jpe .png .bmp .tif .tiff .webp .gif .jp2 .j2k .avif .pnm .ppm .pgm .pbm .tga .dds .ico .pcx"
    )
    for suffix in [*usual.split(), ".qoi", ".psd"]:
        assert FileInfo(f"lot/PART{suffix.upper()}", 1, 1).is_image, suffix
    for suffix in [".eps", ".wmf", ".h5", ".mpg", ".pdf", ".txt", ".json", ".gbr", ".pcd", ".cr2", ".svg", ""]:
        assert not FileInfo(f"lot/part{suffix}", 1, 1).is_image, suffix


@needs_heif
def test_heic_is_an_image_where_its_library_is():
    assert {".heic", ".heif"} <= IMAGE_SUFFIXES
    assert decode_image(example("HEIF")).shape == (64, 64, 3)


def test_without_its_library_heic_is_refused_with_its_name():
    code = (
        "import sys; sys.modules['pillow_heif'] = None\n"
        "from visionops.inference.image_types import FORMATS, IMAGE_SUFFIXES, UNREADABLE_IMAGE_SUFFIXES\n"
        "from visionops.inference.image import decode_image\n"
        "from visionops.errors import ImageError\n"
        "assert 'HEIF' not in FORMATS and '.heic' not in IMAGE_SUFFIXES and '.heic' in UNREADABLE_IMAGE_SUFFIXES\n"
        "try: decode_image(bytes.fromhex(sys.argv[1]), where='phone.heic')\n"
        "except ImageError as error: print(error.kind, error)\n"
    )
    data = b"\0\0\0\x18ftypheic" + b"\0" * 40
    done = subprocess.run([sys.executable, "-c", code, data.hex()], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("unsupported_format phone.heic: ")
    assert "pillow-heif" in done.stdout


def test_a_suffix_is_readable_or_not_and_never_both():
    assert not IMAGE_SUFFIXES & UNREADABLE_IMAGE_SUFFIXES.keys()
    assert {".cr2", ".nef", ".dng", ".svg", ".eps", ".emf", ".exr", ".hdr", ".dcm", ".jxl"} <= set(
        UNREADABLE_IMAGE_SUFFIXES
    )
    assert all(suffix == suffix.lower() and suffix.startswith(".") for suffix in IMAGE_SUFFIXES)


@pytest.mark.parametrize("name", FORMATS)
def test_the_preferred_suffix_is_one_of_the_type(name):
    assert preferred_suffix(name) in (suffixes_of(name) or ("",))
    assert {"JPEG": ".jpg", "TIFF": ".tif"}.get(name, preferred_suffix(name)) == preferred_suffix(name)


@pytest.mark.parametrize("name", WRITABLE)
def test_every_type_that_pillow_writes_is_read(name):
    data = example(name)
    rgb, header = decode_image(data), read_header(data)
    assert rgb.shape == (header.height, header.width, 3)
    assert load_upright(data)[0] == header
    if name not in {"ICNS", "GIF"}:  # always 1024 pixels wide, with few colours
        exact = np.asarray(images.picture(3, 64, 64).convert(_MODES.get(name, "RGB")).convert("RGB"), dtype=int)
        assert np.abs(exact - rgb).mean() < 8


def test_what_runs_other_programs_or_is_no_image_is_refused():
    for name in ("EPS", "PDF", "SPIDER", "PALM"):
        mode = "P" if name == "PALM" else "RGB"
        with pytest.raises(ImageError) as caught:
            decode_image(images.encode(images.picture().convert(mode), name))
        assert caught.value.kind in {ImageProblem.UNSUPPORTED, ImageProblem.NOT_AN_IMAGE}
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["PNG", "TIFF", "WEBP", "AVIF", pytest.param("HEIF", marks=needs_heif)])
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_an_orientation_is_applied_once_in_every_type(name, orientation):
    picture = images.picture(3)
    data = images.encode(picture, name, exif=images.exif(orientation).tobytes())
    reference = images.encode(picture, "PNG", exif=images.exif(orientation))
    header, rgb = read_header(data), decode_image(data)
    assert (header.height, header.width) == rgb.shape[:2]
    expected = decode_image(reference)
    assert rgb.shape == expected.shape
    assert np.abs(rgb.astype(int) - expected).mean() < 10


def test_lab_becomes_the_colour_that_it_names():
    red = ImageCms.profileToProfile(
        Image.new("RGB", (8, 8), (200, 30, 40)),
        ImageCms.createProfile("sRGB"),
        ImageCms.createProfile("LAB"),
        outputMode="LAB",
    )
    assert np.abs(decode_image(images.encode(red, "TIFF")).astype(int) - (200, 30, 40)).max() <= 3


def test_of_a_stack_of_pages_the_first_is_taken():
    pages = [images.picture(seed) for seed in (1, 2)]
    data = images.encode(pages[0], "TIFF", save_all=True, append_images=pages[1:])
    np.testing.assert_array_equal(decode_image(data), np.asarray(pages[0]))
    assert read_header(data).frames == 2


def _ico(inner: bytes) -> bytes:
    """Return an icon whose header says 16 x 16."""
    return b"\0\0\1\0\1\0" + struct.pack("<BBBBHHII", 16, 16, 0, 0, 1, 32, len(inner), 22) + inner


def _icns(inner: bytes) -> bytes:
    """Return an icon whose header says 128 x 128."""
    return b"icns" + struct.pack(">I", 16 + len(inner)) + b"ic07" + struct.pack(">I", 8 + len(inner)) + inner


def _bitmap(width: int, height: int) -> bytes:
    return struct.pack("<IiiHHIIiiII", 40, width, height * 2, 1, 32, 0, 0, 0, 0, 0, 0) + bytes(4096)


def _jpeg_2000(width: int, height: int) -> bytes:
    """Return a file of 64 x 48 with another size in its code stream."""
    data = bytearray(images.encode(images.picture(), "JPEG2000"))
    place = data.index(b"\xff\x4f\xff\x51") + 8
    data[place : place + 8] = struct.pack(">II", width, height)
    return bytes(data)


def _tiled_tiff(side: int) -> bytes:
    """Return 16 x 16 pixels in one tile that is much larger."""
    tags = [(256, 16), (257, 16), (258, 8), (259, 5), (262, 1), (277, 1), (322, side), (323, side), (324, 8), (325, 8)]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return b"II*\0" + struct.pack("<I", 16) + bytes(8) + struct.pack("<H", len(tags)) + entries + bytes(4)


LIARS = {
    "png in ico": lambda: _ico(images.huge_png()),
    "bitmap in ico": lambda: _ico(_bitmap(30_000, 30_000)),
    "png in icns": lambda: _icns(images.huge_png()),
    "jpeg 2000 in icns": lambda: _icns(_jpeg_2000(40_000, 40_000)),
    "jpeg 2000": lambda: _jpeg_2000(40_000, 40_000),
    "tile of tiff": lambda: _tiled_tiff(40_000),
}


@pytest.mark.parametrize("name", LIARS)
@pytest.mark.parametrize("function", [read_header, decode_image])
def test_a_small_header_hides_no_large_image(name, function):
    with pytest.raises(ImageError, match="refused before decoding") as caught:
        function(LIARS[name]())
    assert caught.value.kind is ImageProblem.TOO_LARGE


@needs_heif
def test_a_heic_larger_than_it_says_is_refused():
    data = bytearray(images.encode(images.picture(1, 600, 600), "HEIF"))
    place = data.index(b"ispe") + 8
    data[place : place + 8] = struct.pack(">II", 64, 64)
    with pytest.raises(ImageError):
        decode_image(bytes(data))


def test_an_icon_has_the_size_of_the_image_inside():
    data = _ico(images.encode(images.picture(3, 30, 20), "PNG"))
    assert (read_header(data).width, read_header(data).height) == (30, 20)
    assert decode_image(data).shape == (20, 30, 3)


_SEEDS = [example(name) for name in WRITABLE if name != "ICNS"]


@settings(max_examples=400, deadline=None, derandomize=True)
@given(
    st.sampled_from(_SEEDS), st.lists(st.tuples(st.integers(0, 300), st.integers(0, 255)), max_size=6), st.integers(1)
)
def test_damage_of_any_type_gives_pixels_or_an_image_error(seed, changes, length):
    images.decodes_or_refuses(seed, changes, length)
