"""Samples of 16 bits to 8: the white level becomes 255, in every file type with 16 bits."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.helpers import images
from tests.helpers.bundles import make_bundle
from visionops.inference.bundle import ModelBundle
from visionops.inference.image import decode_image, deep_samples, load_upright, read_header, to_eight_bits, white_level
from visionops.inference.preprocessing_spec import FULL_WHITE, PreprocessingSpec

LEVELS = (255, 1023, 4095, 16383, 65535)


def ramp(largest: int, width: int = 64, height: int = 48) -> np.ndarray:
    """Return uint16 (height, width) from 0 to ``largest``."""
    return np.linspace(0, largest, width * height).round().astype(np.uint16).reshape(height, width)


def pgm(samples: np.ndarray, maxval: int = 65535) -> bytes:
    """Return a PGM with two bytes for each sample, the larger first."""
    height, width = samples.shape
    return b"P5\n%d %d\n%d\n" % (width, height, maxval) + samples.astype(">u2").tobytes()


def big_endian_tiff(samples: np.ndarray) -> bytes:
    data = images.encode(Image.fromarray(samples.astype(">u2")), "TIFF")
    assert data.startswith(b"MM")
    return data


GREY = {
    "png": lambda samples: images.encode(Image.fromarray(samples), "PNG"),
    "tiff": lambda samples: images.encode(Image.fromarray(samples), "TIFF"),
    "big-endian tiff": big_endian_tiff,
    "compressed tiff": lambda samples: images.encode(Image.fromarray(samples), "TIFF", compression="tiff_lzw"),
    "pgm": pgm,
    "jpeg 2000": lambda samples: images.encode(Image.fromarray(samples), "JPEG2000"),
}


def expected(samples: np.ndarray, white: int) -> np.ndarray:
    return np.minimum(255, np.floor(np.minimum(samples, white) * 255.0 / white + 0.5)).astype(np.uint8)


@pytest.mark.parametrize("kind", GREY)
@pytest.mark.parametrize("white", LEVELS)
def test_grey_is_scaled_by_the_white_level(kind, white):
    samples = ramp(white)
    data = GREY[kind](samples)
    header, image = load_upright(data)
    assert header.bits == 16
    assert header == read_header(data)
    np.testing.assert_array_equal(deep_samples(data, header, image), samples)
    rgb = decode_image(data, white=white)
    assert (rgb.min(), rgb.max()) == (0, 255)
    # Ties may be rounded either way.
    assert np.abs(rgb[:, :, 0].astype(int) - expected(samples, white)).max() <= 1
    assert (np.diff(rgb.reshape(-1, 3)[:, 0].astype(int)) >= 0).all()


def test_a_pgm_that_states_its_largest_value_needs_no_other():
    samples = ramp(16383)
    rgb = decode_image(pgm(samples, 16383))  # Pillow scales it to 65535
    assert np.abs(rgb[:, :, 1].astype(int) - expected(samples, 16383)).max() <= 1


@pytest.mark.parametrize("suffix", [".png", ".tiff", ".ppm"])
@pytest.mark.parametrize("white", [1023, 4095, 16383])
def test_colour_is_scaled_by_the_white_level_from_all_of_its_bits(suffix, white):
    samples = np.dstack([ramp(white), ramp(white)[::-1], ramp(white // 2)])
    data = bytes(cv2.imencode(suffix, samples[:, :, ::-1])[1])
    header, image = load_upright(data)
    assert (header.bits, header.mode) == (16, "RGB")
    np.testing.assert_array_equal(deep_samples(data, header, image), samples)
    rgb = decode_image(data, white=white)
    assert np.abs(rgb.astype(int) - expected(samples, white)).max() <= 1
    np.testing.assert_array_equal(decode_image(data), np.asarray(image))  # the full range, truncated as by Pillow


def test_colour_with_transparency_is_scaled_alike():
    samples = np.dstack([ramp(4095), ramp(4095)[::-1], ramp(2047), np.full((48, 64), 65535, np.uint16)])
    data = bytes(cv2.imencode(".png", samples[:, :, [2, 1, 0, 3]])[1])
    assert np.abs(decode_image(data, white=4095).astype(int) - expected(samples[:, :, :3], 4095)).max() <= 1


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_a_turned_image_is_scaled_and_upright(orientation):
    data = images.encode(Image.fromarray(ramp(4095)), "PNG", exif=images.exif(orientation))
    eight = images.encode(Image.fromarray(to_eight_bits(ramp(4095), 4095)), "PNG", exif=images.exif(orientation))
    np.testing.assert_array_equal(decode_image(data, white=4095), decode_image(eight))


@given(st.integers(1, FULL_WHITE), st.lists(st.integers(0, FULL_WHITE), min_size=1, max_size=50))
def test_every_white_level_keeps_the_order_and_becomes_255(white, values):
    samples = np.array(sorted([0, white, *values]), dtype=np.uint16)
    scaled = to_eight_bits(samples, white)
    assert scaled[0] == 0
    assert (np.diff(scaled.astype(int)) >= 0).all()
    assert (scaled[samples >= white] == 255).all()
    assert (np.abs(scaled - np.minimum(samples, white) * 255.0 / white) <= 0.5 + 1e-9).all()


@given(st.integers(0, FULL_WHITE))
def test_the_white_level_is_the_smallest_that_holds_the_peak(peak):
    level = white_level(peak)
    assert level in LEVELS
    assert level >= peak
    assert peak == 0 or all(other < peak for other in LEVELS if other < level)


def test_black_tells_nothing_of_the_range():
    assert white_level(0) == FULL_WHITE


def test_the_full_range_is_scaled_as_ever():
    samples = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    grey = decode_image(images.encode(Image.fromarray(samples), "PNG"))[:, :, 0]
    np.testing.assert_array_equal(grey, (samples / 257.0).round().astype(np.uint8))


@pytest.mark.parametrize("white", LEVELS)
def test_eight_bits_are_as_they_are(white):
    for data in (images.jpeg(), images.encode(images.picture(), "PNG"), images.palette_png()):
        np.testing.assert_array_equal(decode_image(data, white=white), decode_image(data))


def test_a_bundle_without_a_white_level_scales_by_the_full_range(tmp_path):
    bundle = make_bundle(tmp_path / "old")
    assert '"white"' not in (bundle.folder / "bundle.json").read_text()
    assert ModelBundle.load(bundle.folder).card.preprocessing.white == FULL_WHITE
    spec = {"width": 32, "height": 32}
    assert PreprocessingSpec.model_validate(spec).white == FULL_WHITE
    assert "white" not in PreprocessingSpec.model_validate(spec).model_dump(mode="json")


def test_a_bundle_keeps_its_white_level(tmp_path):
    bundle = make_bundle(tmp_path / "deep", white=4095)
    assert ModelBundle.load(bundle.folder).card.preprocessing.white == 4095
    assert bundle.digest != make_bundle(tmp_path / "full").digest
