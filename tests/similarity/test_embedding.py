"""Embeddings: close for copies of a picture, far for others, whatever the file format."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from tests.helpers.pictures import copies, encode, picture
from visionops.errors import ImageError
from visionops.similarity.embedding import ShapeEmbedder

SHAPE = ShapeEmbedder()


def test_an_embedding_is_of_its_size_and_length_one():
    found = SHAPE.embed(encode(picture(1)))
    assert (found.dtype, found.shape) == (np.float32, (SHAPE.size,))
    assert np.linalg.norm(found) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("name", copies(picture(1)))
@pytest.mark.parametrize("number", range(5))
def test_copies_are_near(name: str, number: int):
    image = picture(number)
    distance = 1 - float(SHAPE.embed(encode(image)) @ SHAPE.embed(copies(image)[name]))
    assert distance <= SHAPE.near


def test_other_pictures_are_not_near():
    found = np.stack([SHAPE.embed(encode(picture(number))) for number in range(30)])
    distances = 1 - found @ found.T
    assert distances[~np.eye(len(found), dtype=bool)].min() > 3 * SHAPE.near


@pytest.mark.parametrize("size", [(64, 48), (1, 1), (5000, 3), (3, 5000)])
def test_a_blank_image_shows_nothing_to_compare(size: tuple[int, int]):
    assert not SHAPE.embed(encode(Image.new("RGB", size, (90, 90, 90)))).any()


@pytest.mark.parametrize("size", [(2, 2), (3000, 2), (64, 64)])
def test_images_of_any_size_have_an_embedding(size: tuple[int, int]):
    image = Image.effect_noise(size, 80)
    assert np.isfinite(SHAPE.embed(encode(image))).all()


def test_what_is_no_image_is_refused():
    with pytest.raises(ImageError):
        SHAPE.embed(b"no image")
