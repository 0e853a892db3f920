"""Near duplicates: the definition of alike, and a search that misses none."""

from __future__ import annotations

import io
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance

from tests.helpers.images import picture
from visionops.data.duplicates import (
    MIN_CORRELATION,
    copies_of_files,
    duplicate_boxes,
    look_alike,
    near_duplicate_groups,
    perceptual_hash,
)


def _hash(image: Image.Image) -> int:
    return perceptual_hash(np.asarray(image.convert("RGB")))


def _recompressed(image: Image.Image) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=35)
    return Image.open(buffer)


@pytest.mark.parametrize(
    "change",
    [
        _recompressed,
        lambda image: image.resize((image.width // 2, image.height // 2), Image.Resampling.BICUBIC),
        lambda image: image.resize((image.width * 3, image.height * 3), Image.Resampling.BICUBIC),
        lambda image: ImageEnhance.Contrast(image).enhance(0.8),
        lambda image: image.convert("L"),
    ],
    ids=["recompressed", "halved", "tripled", "paler", "grey"],
)
def test_a_copy_that_was_edited_keeps_its_hash_nearly(change):
    pictures = [picture(seed, 320, 240) for seed in range(20)]
    distances = sorted((_hash(image) ^ _hash(change(image))).bit_count() for image in pictures)
    assert distances[17] <= 4
    assert distances[-1] <= 8


def test_different_pictures_have_distant_hashes():
    hashes = [_hash(picture(seed, 200, 200)) for seed in range(40)]
    assert min((a ^ b).bit_count() for a, b in itertools.combinations(hashes, 2)) > 8


def test_the_hash_fits_64_bits_for_any_size():
    for size in ((1, 1), (1, 700), (3000, 2)):
        assert 0 <= _hash(Image.new("RGB", size, (9, 9, 9))) < 2**64


def _groups_by_brute_force(hashes: list[int], distance: int, looks=None) -> list[list[int]]:
    parent = list(range(len(hashes)))
    alike = np.ones((len(hashes), len(hashes))) if looks is None else np.corrcoef(looks.reshape(len(looks), -1))

    def find(row):
        return row if parent[row] == row else find(parent[row])

    for a, b in itertools.combinations(range(len(hashes)), 2):
        close = (hashes[a] ^ hashes[b]).bit_count() <= distance and alike[a, b] >= MIN_CORRELATION
        if close or (looks is not None and alike[a, b] >= 0.99):
            low, high = sorted((find(a), find(b)))
            parent[high] = low
    groups: dict[int, list[int]] = {}
    for row in range(len(hashes)):
        groups.setdefault(find(row), []).append(row)
    return [group for group in groups.values() if len(group) > 1]


_FAMILIES = st.lists(st.tuples(st.integers(0, 4), st.lists(st.integers(0, 63), max_size=5)), max_size=30)


@settings(max_examples=60, deadline=None)
@given(_FAMILIES, st.integers(0, 16))
def test_groups_are_those_of_a_brute_force_search(members, distance):
    bases = np.random.default_rng(0).integers(0, 2**64, 5, dtype=np.uint64).tolist()
    hashes = [_flip(bases[base], bits) for base, bits in members]
    found = near_duplicate_groups(np.array(hashes, dtype=np.uint64), distance)
    assert found == _groups_by_brute_force(hashes, distance)


def _flip(value: int, bits: list[int]) -> int:
    for bit in bits:
        value ^= 1 << bit
    return value


def _turned(plane: int, degrees: float) -> np.ndarray:
    """Return a thumbnail in one of a few planes: two in one plane correlate by the cosine of the angle between them."""
    random = np.random.default_rng(plane)
    first, second = np.linalg.qr(np.column_stack([np.ones(256), *random.normal(size=(2, 256))]))[0].T[1:]
    waves = np.cos(np.radians(degrees)) * first + np.sin(np.radians(degrees)) * second
    return np.clip(np.round(128 + waves * 600), 0, 255).astype(np.uint8).reshape(16, 16)


_TURNED = st.lists(
    st.tuples(st.integers(0, 1), st.sampled_from([0, 10, 20, 30, 40]), st.lists(st.integers(0, 3), max_size=3)),
    min_size=1,
    max_size=25,
)


@settings(max_examples=100, deadline=None)
@given(_TURNED)
def test_groups_are_transitive_whatever_hashes_collide(members):
    hashes = [_flip(12345, bits) for _, _, bits in members]
    looks = np.stack([_turned(plane, degrees) for plane, degrees, _ in members])
    found = near_duplicate_groups(np.array(hashes, dtype=np.uint64), 1, looks)
    assert found == _groups_by_brute_force(hashes, 1, looks)


def test_the_search_in_chunks_is_transitive_too():
    # 2,400 rows use the search by chunks: 40 slow films, each a chain of frames in which only neighbours correlate.
    random = np.random.default_rng(0)
    film = np.repeat(np.arange(40), 60)
    bases = random.integers(0, 2**64, 40, dtype=np.uint64)[film]
    flips = np.array([1 << int(bit) for bit in random.integers(0, 3, len(film))], dtype=np.uint64)
    looks = np.stack([_turned(int(f), 9 * (i % 60)) for i, f in enumerate(film)])
    order = random.permutation(len(film))
    groups = near_duplicate_groups((bases ^ flips)[order], 4, looks[order])
    assert sorted(sorted(film[order[g]]) for g in groups) == [[f] * 60 for f in range(40)]


def test_a_link_through_an_equal_hash_is_kept():
    # The second has the same hash as the first and correlates with it; only the second correlates with the third.
    looks = np.stack([_turned(0, degrees) for degrees in (0, 12, 24)])
    assert near_duplicate_groups(np.array([5, 5, 4], dtype=np.uint64), 4, looks) == [[0, 1, 2]]


@pytest.mark.parametrize("change", ["half", "JPEG 50", "larger"])
def test_every_copy_is_found_among_different_pictures(change):
    def altered(image: Image.Image) -> Image.Image:
        if change == "JPEG 50":
            return _recompressed(image)
        factor = 0.5 if change == "half" else 1.25
        return image.resize((int(image.width * factor), int(image.height * factor)))

    pictures = [picture(seed) for seed in range(150)]
    found = [look_alike(image) for image in [*pictures, *map(altered, pictures)]]
    hashes = np.array([phash for phash, _ in found], dtype=np.uint64)
    groups = near_duplicate_groups(hashes, 4, np.stack([look for _, look in found]))
    assert groups == [[row, row + 150] for row in range(150)]


@pytest.mark.parametrize("factor", [0.5, 0.75, 1.25])
def test_a_resized_copy_of_a_large_texture_looks_the_same(factor):
    # Like grass: pixels at even distances are from other blades at each size.
    grain = np.random.default_rng(0).normal(0, 60, (600, 800, 1))
    pixels = np.clip(np.asarray(picture(3, 800, 600), dtype=float) + grain, 0, 255).astype(np.uint8)
    image = Image.fromarray(pixels)
    looks = [look_alike(i)[1] for i in (image, image.resize((int(800 * factor), int(600 * factor))))]
    assert np.corrcoef([look.ravel() for look in looks])[0, 1] > 0.99


@pytest.mark.parametrize("distance", [0, 3, 4, 7, 9])
def test_the_search_in_chunks_misses_no_pair(distance):
    random = np.random.default_rng(distance)
    hashes = random.integers(0, 2**64, 3000, dtype=np.uint64)
    for row in range(200):
        bits = random.choice(64, size=distance, replace=False).tolist()
        hashes[2000 + row] = _flip(int(hashes[row]), bits)
    assert near_duplicate_groups(hashes, distance) == [[row, 2000 + row] for row in range(200)]


def test_a_fixed_camera_is_searched_quickly():
    # 20,000 frames of one scene: every pair is close, so the search must not handle each pair individually.
    _, look = look_alike(picture(0))
    hashes = np.full(20_000, 12345, dtype=np.uint64)
    hashes[::3] ^= np.uint64(1 << 40)
    groups = near_duplicate_groups(hashes, 4, np.repeat(look[None], 20_000, axis=0))
    assert [len(group) for group in groups] == [20_000]


def test_a_close_hash_of_different_pictures_is_not_a_duplicate():
    hashes = np.array([7, 7, 6], dtype=np.uint64)
    looks = np.stack([look_alike(picture(seed))[1] for seed in (0, 1, 0)])
    assert near_duplicate_groups(hashes, 4, looks) == [[0, 2]]


def test_blank_images_are_like_no_other():
    looks = np.full((3, 16, 16), 200, dtype=np.uint8)
    assert near_duplicate_groups(np.zeros(3, dtype=np.uint64), 4, looks) == []


def test_no_images_have_no_groups():
    assert near_duplicate_groups(np.empty(0, dtype=np.uint64), 4, np.empty((0, 16, 16), dtype=np.uint8)) == []


def test_the_copy_in_the_most_protected_split_comes_first():
    splits = ["train", "test", "val", "train", "train", "unlabelled", "", "train"]
    hashes = ["a", "a", "a", "b", "b", "a", "b", ""]
    assert copies_of_files(hashes, splits) == [[1, 2, 0], [3, 4, 6], [5], [7]]


def test_unknown_hashes_are_not_copies_of_each_other():
    assert copies_of_files(["", ""], ["train", "test"]) == [[0], [1]]


def test_a_repeated_box_points_at_the_first():
    rows = np.array([0, 0, 1, 0])
    classes = np.array([1, 1, 1, 2], dtype=np.int32)
    boxes = np.array([[1.0, 2, 3, 4]] * 4)
    assert duplicate_boxes(rows, classes, boxes) == [(1, 0)]
    assert duplicate_boxes(rows[:0], classes[:0], boxes[:0]) == []
