"""Changes of images in a drill, and the selection of images."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from visionops.errors import ConfigError, DataError
from visionops.monitoring.features import image_features
from visionops.monitoring.simulate import MAX_SEVERITY, Kind, class_shift, draw_images, modify

SIDES = st.integers(1, 24)
IMAGES = st.tuples(SIDES, SIDES, st.just(3)).flatmap(lambda shape: arrays.arrays(np.uint8, shape))
KINDS = st.sampled_from(Kind)
PIXEL_KINDS = [kind for kind in Kind if kind is not Kind.CLASS_SHIFT]
SEVERITIES = st.floats(0, MAX_SEVERITY)
FEW = settings(max_examples=60, deadline=None)


def rng(seed=0):
    return np.random.default_rng(seed)


def scene(side=192):
    """Return a smooth image with edges and grain, mid-grey on average."""
    y, x = np.mgrid[:side, :side] / side
    shape = 128 + 60 * np.sin(7 * x) * np.cos(5 * y) + 30 * ((x * 8).astype(int) % 2)
    grain = rng(1).normal(0, 2, (side, side))
    return np.repeat(np.clip(shape + grain, 0, 255).astype(np.uint8)[:, :, None], 3, axis=2)


@FEW
@given(IMAGES, KINDS)
def test_severity_0_changes_nothing(rgb, kind):
    assert modify(rgb, kind, 0.0, rng()) is rgb


@FEW
@given(IMAGES, KINDS, SEVERITIES)
def test_size_and_type_stay_the_original_too_and_a_seed_gives_one_image(rgb, kind, severity):
    before = rgb.copy()
    changed = modify(rgb, kind, severity, rng(3))
    assert (changed.shape, changed.dtype) == (rgb.shape, np.uint8)
    assert np.array_equal(rgb, before)
    assert np.array_equal(modify(rgb, kind, severity, rng(3)), changed)


@FEW
@given(SIDES, SIDES, SEVERITIES, st.sampled_from([Kind.BRIGHTNESS, Kind.NOISE, Kind.BLUR]))
def test_grey_stays_grey_but_for_another_camera(height, width, severity, kind):
    grey = np.repeat(rng(height).integers(0, 256, (height, width, 1), dtype=np.uint8), 3, axis=2)
    changed = modify(grey, kind, severity, rng())
    assert np.array_equal(changed, np.repeat(changed[:, :, :1], 3, axis=2))


@pytest.mark.parametrize("kind", PIXEL_KINDS)
@pytest.mark.parametrize("shape", [(1, 1), (1, 5000), (5000, 1)])
@pytest.mark.parametrize("value", [0, 255])
def test_the_thinnest_and_the_plainest_images_pass_at_every_severity(kind, shape, value):
    rgb = np.full((*shape, 3), value, np.uint8)
    for severity in (1e-9, 1.0, MAX_SEVERITY):
        assert modify(rgb, kind, severity, rng()).shape == rgb.shape


def test_severity_1_is_what_it_says():
    rgb = scene()
    before = image_features(rgb)

    def after(kind, severity=1.0):
        return image_features(modify(rgb, kind, severity, rng()))

    assert after(Kind.BRIGHTNESS)["brightness"] == pytest.approx(before["brightness"] / 2, abs=0.01)
    flat = np.full((64, 64, 3), 50, np.uint8)
    assert np.unique(modify(flat, Kind.BRIGHTNESS, -1, rng())).tolist() == [100]
    noise = modify(np.full((400, 400, 3), 128, np.uint8), Kind.NOISE, 1, rng()) - 128.0
    assert noise.std() == pytest.approx(25, rel=0.02)
    step = np.zeros((9, 101, 3), np.uint8)
    step[:, 50:] = 200
    slope = np.diff(modify(step, Kind.BLUR, 1, rng())[4, :, 0].astype(float))
    place = np.arange(100)
    centre = (place * slope).sum() / slope.sum()
    assert ((place - centre) ** 2 * slope).sum() / slope.sum() == pytest.approx(3**2, rel=0.05)


def test_another_camera_is_warmer_darker_in_the_corners_and_sees_less():
    flat = modify(np.full((200, 200, 3), 128, np.uint8), Kind.CAMERA, 1, rng()).astype(float)
    red, _, blue = flat.mean(axis=(0, 1))
    assert red > 1.2 * blue
    assert flat[:20, :20].mean() < 0.75 * flat[90:110, 90:110].mean()
    stripes = np.zeros((200, 200, 3), np.uint8)
    stripes[:, ::2] = 255
    assert image_features(modify(stripes, Kind.CAMERA, 1, rng()))["sharpness"] < 0.2


@pytest.mark.parametrize("kind", [Kind.NOISE, Kind.BLUR, Kind.CAMERA])
def test_more_severity_is_more_change(kind):
    rgb = scene().astype(float)
    changes = [np.abs(modify(scene(), kind, severity, rng()) - rgb).mean() for severity in (0.1, 0.3, 1, 3)]
    assert changes == sorted(changes)
    assert changes[0] > 0


def test_mixed_differs_from_image_to_image():
    rgb = scene()
    single = {kind: modify(rgb, kind, 1, rng()) for kind in (Kind.BRIGHTNESS, Kind.BLUR)}
    made = [modify(rgb, Kind.MIXED, 1, rng(seed)) for seed in range(60)]
    assert all(not np.array_equal(image, rgb) for image in made)
    assert all(any(np.array_equal(image, one) for image in made) for one in single.values())
    assert len({image.tobytes() for image in made}) > 30


@pytest.mark.parametrize(
    ("kind", "severity"),
    [(Kind.NOISE, -0.1), (Kind.BLUR, 10.5), (Kind.BRIGHTNESS, -11), (Kind.MIXED, float("nan")), (Kind.CAMERA, -1)],
)
def test_a_severity_without_a_meaning_is_refused(kind, severity):
    with pytest.raises(ConfigError, match=f"--severity {severity:g}: {kind} takes"):
        modify(scene(8), kind, severity, rng())


@FEW
@given(st.integers(2, 60), st.integers(1, 300), st.integers(0, 99))
def test_no_image_comes_a_second_time_before_all_have_come(images, number, seed):
    rows = draw_images(np.ones((images, 1), bool), Kind.NOISE, 1.0, number, rng(seed))
    assert len(rows) == number
    times = np.bincount(rows, minlength=images)
    assert times.max() - times.min() <= 1


@FEW
@given(st.integers(1, 59), st.floats(0, 2), st.integers(1, 300))
def test_the_rarest_class_reaches_the_share_that_it_is_to_have(few, severity, number):
    presence = np.zeros((60, 3), bool)
    presence[:few, 1] = True  # class 0 is on no image, class 2 on all
    presence[:, 2] = True
    shift = class_shift(presence, severity)
    assert shift == (1, few / 60, min(1, few / 60 + severity / 2))
    rows = draw_images(presence, Kind.CLASS_SHIFT, severity, number, rng())
    assert len(rows) == number
    assert presence[rows, 1].sum() == round(shift.after * number)


def test_of_several_classes_the_rarest_moves():
    presence = np.zeros((10, 2), bool)
    presence[:6, 0], presence[4:7, 1] = True, True
    assert class_shift(presence, 1.0) == (1, 0.3, 0.8)


@pytest.mark.parametrize("presence", [np.ones((5, 1), bool), np.zeros((5, 2), bool), np.zeros((5, 0), bool)])
def test_without_a_class_to_move_there_is_no_class_shift(presence):
    with pytest.raises(DataError, match="choose another --kind"):
        draw_images(presence, Kind.CLASS_SHIFT, 1.0, 10, rng())
